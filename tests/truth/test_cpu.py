"""The CPU is at hand everywhere: what is predicted for it is held against what this machine's allocator reports.

The same step is run twice: without data, on the virtual CPU, and for real, recorded by PyTorch's profiler from the
allocator's own reports. Bytes of the living tensors are equal at every mark, and so is the most between any two. What
kernels take for themselves (category WORKSPACE, given back before they end) is not predicted, and left out.
"""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tonnage.ledger import Category, Kind
from tonnage.measuring import recorder_for
from tonnage.scenario import Scenario
from tonnage.virtual import virtual_cpu
from tonnage.workload import resolve, run
from tonnage.workload.libraries import load

SMALL = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT2 = {"vocab_size": 500, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
T5 = {"vocab_size": 500, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
VIT = {"image_size": 32, "patch_size": 8}
TOKENS, IMAGES = {"batch": 2, "seq": 16}, {"batch": 2}


def config(name, **sizes):
    """Made when it is needed: importing transformers takes a while."""
    return lambda: getattr(load("transformers"), f"{name}Config")(**sizes)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.dropout, self.last = nn.Linear(64, 128), nn.Dropout(0.1), nn.Linear(128, 10)

    def forward(self, x):
        return self.last(self.dropout(torch.relu(self.first(x))))


class Lstm(nn.Module):
    """Two layers in both directions, with dropout between them."""

    def __init__(self, **options):
        super().__init__()
        self.words = nn.Embedding(100, 32)
        self.lstm = nn.LSTM(32, 48, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True, **options)
        self.last = nn.Linear(96, 100)

    def forward(self, x):
        return self.last(self.lstm(self.words(x))[0])


class Cnn(nn.Module):
    """Norms, groups, pooling with indices, and activations that `meta` takes apart."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, groups=4)
        self.group, self.batch = nn.GroupNorm(2, 8), nn.BatchNorm2d(16)
        self.last = nn.Linear(16 * 14 * 14, 10)

    def forward(self, x):
        x = F.max_pool2d(F.gelu(self.group(self.a(x))), 2)
        return self.last(F.silu(self.batch(self.b(x))).flatten(1))


class Mine(nn.Module):
    """A scalar parameter from data, a mask, an index, numbers that meet tensors, and a tied weight."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 64)
        self.weight, self.gain = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.tensor(0.5))
        self.register_buffer("mask", torch.ones(10, 10).tril())

    def forward(self, ids):
        x = self.words(ids)
        scores = (x @ self.weight @ x.transpose(-1, -2)) / 8.0
        x = torch.softmax(scores.masked_fill(self.mask == 0, -1e9), -1) @ x * self.gain + x * 2 + 1
        x = x[:, torch.arange(10).flip(0)] + torch.where(x > 0, x, 0.0).pow(2)
        best = x.topk(3, -1)[0].sum() + torch.einsum("bld,de->ble", x, self.weight).max(1)[0].mean()
        return F.cross_entropy(F.linear(x, self.words.weight).flatten(0, 1), ids.flatten()) + best * 0.1


def ids(*shape):
    return torch.randint(0, 50, shape)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Kernels this small gain nothing by a second thread, and lose twenty seconds where other work has its core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


MODELS = {
    "bert": (config("Bert", **SMALL, intermediate_size=128), TOKENS, None),
    "gpt2": (config("GPT2", **GPT2), TOKENS, None),
    "t5": (config("T5", **T5), TOKENS, None),
    "llama": (config("Llama", **SMALL, intermediate_size=128, num_key_value_heads=2), TOKENS, None),
    "mixtral": (
        config("Mixtral", **SMALL, intermediate_size=64, num_key_value_heads=2, num_local_experts=4),
        TOKENS,
        None,
    ),
    "vit": (config("ViT", **SMALL, **VIT, intermediate_size=128), IMAGES, None),
    "resnet18": ("torchvision:resnet18", {"batch": 2, "image_size": 32}, None),
    "mobilenet_v2": ("torchvision:mobilenet_v2", {"batch": 2, "image_size": 32}, None),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), {}, (torch.ones(2, 10, 32),)),
    "mlp": (Mlp, {}, (torch.ones(32, 64),)),
    "lstm": (Lstm, {}, (ids(4, 12),)),
    "lstm without bias": (lambda: Lstm(bias=False), {}, (ids(4, 12),)),
    "cnn": (Cnn, {}, (torch.ones(2, 3, 32, 32),)),
    "mine": (Mine, {}, (ids(4, 10),)),
}
OTHERWISE = {
    "bf16": {"precision": "bf16"},
    "checkpointing": {"mode": "training", "checkpointing": True},
    "eager attention": {"attention": "eager"},
    "bf16 training": {"mode": "training", "precision": "bf16"},
}


def subject_of(name):
    subject, sizes, inputs = MODELS[name]
    return (subject() if callable(subject) else subject), sizes, None if inputs is None else (inputs, {})


def predicted(name, **scenario):
    subject, sizes, inputs = subject_of(name)
    models = []
    with virtual_cpu() as cpu:

        def watch(model):
            cpu.watch(model)
            models.append(model)

        run(resolve(subject), Scenario(**sizes, **scenario), device="cpu", inputs=inputs, mark=cpu.mark, watch=watch)
    return cpu.recording


def measured(name, **scenario):
    subject, sizes, inputs = subject_of(name)
    with recorder_for("cpu") as recorder:
        run(
            resolve(subject),
            Scenario(**sizes, **scenario),
            device="cpu",
            inputs=inputs,
            mark=recorder.mark,
            watch=recorder.watch,
        )
    return recorder.recording


def held(recording):
    """By mark, what tensors hold there and the most they held since the mark before; from "start" on."""
    found, now, most = {}, 0, 0
    ledger = recording.ledger
    for kind, number in ledger.events():
        if kind is Kind.MARK:
            found[ledger.marks[number]] = (now, most) if found else (now, now)
            most = now
        elif ledger.categories[number] != Category.WORKSPACE:
            now += ledger.sizes[number] if kind is Kind.ALLOC else -ledger.sizes[number]
            most = max(most, now)
    return found


def assert_equal(name, **scenario):
    expected, found = held(measured(name, **scenario)), held(predicted(name, **scenario))
    assert next(iter(expected)) == "start" and max(most for _, most in expected.values()) > 0
    assert found == expected


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_bytes_at_every_mark(name, mode):
    assert_equal(name, mode=mode)


@pytest.mark.parametrize("otherwise", OTHERWISE)
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_same_bytes_otherwise(name, otherwise):
    assert_equal(name, **OTHERWISE[otherwise])


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "adam", "adagrad", "rmsprop", "radam", "nadam", "adamax", "adadelta", "adafactor"]
)
def test_the_same_bytes_with(optimizer):
    assert_equal("mlp", mode="training", optimizer=optimizer)


@pytest.mark.parametrize("name", ["mlp", "bert", "cnn"])
def test_the_same_categories(name):
    """What the weights, their gradients and the optimizer take is told alike from the rest."""

    def totals(recording):
        found = dict.fromkeys((Category.PARAMETER, Category.BUFFER, Category.GRADIENT, Category.OPTIMIZER), 0)
        for size, category in zip(recording.ledger.sizes, recording.ledger.categories, strict=True):
            if category in found:
                found[Category(category)] += size
        return found

    expected = totals(measured(name, mode="training"))
    assert expected[Category.GRADIENT] > 0 and expected[Category.OPTIMIZER] > 0
    assert totals(predicted(name, mode="training")) == expected


def test_what_is_measured_is_what_python_finds():
    """A second method without a profiler: the storages of all tensors that the garbage collector knows of.

    Where nothing is kept for backward alone, Python can reach every tensor.
    """
    found = {}

    def storages():
        alive = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors()}
        return sum(size for address, size in alive.items() if address not in before)

    def tensors():
        gc.collect()
        found = [t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter)]
        found += [t.grad for t in found if t.is_leaf and t.grad is not None]  # Python has not seen them yet
        return [t for t in found if t.layout is torch.strided and t.device.type == "cpu" and t.numel()]

    def mark(name):
        recorder.mark(name)
        if name in ("model loaded", "inputs made") or name.endswith(("backward done", "optimizer done")):
            found[name] = storages()

    subject, sizes, inputs = subject_of("mlp")
    before = {t.untyped_storage().data_ptr() for t in tensors()}
    with recorder_for("cpu") as recorder:
        scenario = Scenario(mode="training", **sizes)
        run(resolve(subject), scenario, device="cpu", inputs=inputs, mark=mark, watch=recorder.watch)
    expected = {name: now for name, (now, _) in held(recorder.recording).items() if name in found}
    assert len(found) == 6 and found == expected
