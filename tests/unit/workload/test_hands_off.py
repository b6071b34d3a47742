"""A module that is weighed is not changed, not by a bit."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from tonnage.scenario import Scenario
from tonnage.workload import resolve, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*non-full backward hooks:FutureWarning"),
]


class Awkward(nn.Module):
    """Everything that tools have been caught changing, in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.old = nn.utils.weight_norm(nn.Linear(16, 16))
        self.new = parametrizations.weight_norm(nn.Linear(16, 16))
        self.spectral = nn.utils.spectral_norm(nn.Linear(16, 16))
        self.pruned = prune.l1_unstructured(nn.Linear(16, 16), "weight", 0.25)
        self.rnn = nn.LSTM(16, 16, batch_first=True)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(16.0))
        self.view = self.table[4:8]
        self.cached = self.frozen(torch.zeros(1, 16)) * self.norm.weight
        self.calls = 0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.drop(self.norm(self.embed(ids).transpose(1, 2)).transpose(1, 2))
        x = self.pruned(self.spectral(self.new(self.old(x)))) + self.table
        x = self.frozen(self.rnn(x)[0])
        self.table.add_(1)
        self.cached = x
        return self.head(x)


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def awkward(heard: list[str]) -> Awkward:
    torch.manual_seed(1)
    model = Awkward()
    model(torch.randint(50, (3, 5))).sum().backward()
    model.train()
    model.norm.eval()
    model.register_forward_hook(lambda *_: heard.append("forward"))
    model.old.register_forward_pre_hook(lambda *_: heard.append("pre"))
    model.new.register_full_backward_hook(lambda *_: heard.append("backward"))
    model.frozen.weight.requires_grad_(True).register_hook(lambda grad: heard.append("gradient"))
    return model


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    found = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    for path, module in model.named_modules():
        found |= {f"{path}!{name}": v for name, v in vars(module).items() if isinstance(v, torch.Tensor)}
    found |= {f"{name}.grad": t.grad for name, t in found.items() if t.is_leaf and t.grad is not None}
    return found


def picture(model: nn.Module) -> dict[str, object]:
    """Everything about `model` and the generators that could be changed; tensors by identity, version and content."""
    tensors = tensors_of(model)
    return {
        "identity": {name: id(t) for name, t in tensors.items()},
        "version": {name: t._version for name, t in tensors.items()},
        "content": {name: t.detach().numpy().tobytes() for name, t in tensors.items()},
        "place": {name: (t.device, t.data_ptr(), t.requires_grad, t.dtype) for name, t in tensors.items()},
        "state": {name: t.numpy().tobytes() for name, t in model.state_dict().items()},
        "modules": {path: (id(m), type(m), m.training, sorted(vars(m))) for path, m in model.named_modules()},
        "hooks": {
            f"{path}.{name}": [(number, id(hook)) for number, hook in table.items()]
            for path, m in model.named_modules()
            for name, table in vars(m).items()
            if name.endswith("_hooks")
        },
        "calls": model.calls,
        "torch generator": torch.get_rng_state().numpy().tobytes(),
        "python generator": random.getstate(),
        "numpy generator": numpy.random.get_state()[1].tobytes(),
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
    }


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "amp-bf16"])
def test_nothing_changes(awkward, heard, mode, precision):
    heard.clear()
    before = picture(awkward)

    run(resolve(awkward), Scenario(batch=2, seq=7, mode=mode, precision=precision), device="cpu")

    after = picture(awkward)
    assert {key for key in before if before[key] != after[key]} == set()
    assert heard == []


def test_the_picture_sees_a_change(awkward):
    """The test above could not fail if running the module itself left the picture as it was."""
    before = picture(awkward)
    awkward(torch.randint(50, (2, 7)))
    after = picture(awkward)
    changed = {key for key in before if before[key] != after[key]}
    assert {"version", "content", "state", "calls", "torch generator"} <= changed


def test_hooks_left_out_are_listed(awkward):
    guesses = resolve(awkward).guesses
    assert sum("not run" in guess for guess in guesses) == 4
    for what in ("forward hook", "forward pre-hook", "backward hook", "gradient hook"):
        assert any(guess.startswith(what) and "heard" not in guess for guess in guesses), what
    assert any("of old not run" in guess for guess in guesses)
    assert any("of the model not run" in guess for guess in guesses)
    assert any("of frozen.weight not run" in guess for guess in guesses)


def test_failing_inside_the_step_changes_nothing(awkward):
    before = picture(awkward)
    with pytest.raises(Exception, match="failed"):
        run(resolve(awkward), Scenario(), inputs=((torch.full((1, 3), 99),), {}), device="cpu")
    after = picture(awkward)
    assert {key for key in before if before[key] != after[key]} == set()


def test_given_inputs_stay_as_they_are():
    class InPlace(nn.Module):
        def forward(self, x, extras):
            return x.mul_(2) + extras["bias"].add_(1)

    x, bias = torch.ones(3), torch.zeros(3)
    run(resolve(InPlace()), Scenario(), inputs=((x,), {"extras": {"bias": bias}}), device="cpu")
    assert x.tolist() == [1, 1, 1] and bias.tolist() == [0, 0, 0]
    assert (x._version, bias._version) == (0, 0)
