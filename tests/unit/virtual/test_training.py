"""The habits of training loops that move bytes: each in a step small enough to be worked out by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import tonnage

SIDE = 1024
EACH = SIDE * SIDE * 4
BLOCK = 512
aten = torch.ops.aten


@pytest.fixture
def gpu():
    """An A100 on which cuBLAS takes nothing, so that sums are of tensors alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
        patch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # blocks as large as was asked for
        with tonnage.virtual_gpu("A100") as card:
            yield card


def chain(layers: int, **options) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False, device="cuda", **options) for _ in range(layers)))


def batch(rows: int = SIDE, **options) -> torch.Tensor:
    return torch.zeros(rows, SIDE, device="cuda", **options)


def over(run) -> tuple[int, int]:
    """Bytes that stay after `run`, and the most it had above what was there."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before


# Gradients over several steps ----------------------------------------------------------------------------------------


def test_gradients_that_are_set_to_zero_stay_and_to_none_go(gpu):
    model = chain(2)
    model(batch()).sum().backward()
    assert over(lambda: model.zero_grad(set_to_none=False)) == (0, 0)
    assert over(model.zero_grad) == (-2 * EACH, 0)


@pytest.mark.parametrize(("dtype", "each"), [(torch.float32, EACH), (torch.bfloat16, EACH // 2)])
def test_a_second_micro_batch_adds_one_layers_gradient_at_a_time(gpu, dtype, each):
    """The first leaves a gradient for each of 3 layers. The second holds, at the last layer, two activations, the
    gradient that comes in and its dense copy for BLAS, the one that goes down, and one new gradient."""
    model, x = chain(3, dtype=dtype), batch(dtype=dtype)

    def micro_batch():
        model(x).sum().backward()

    first, _ = over(micro_batch)
    assert first == 3 * each
    kept, peak = over(micro_batch)
    assert kept == 0
    _, forward = over(lambda: model(x))
    assert forward == 3 * each
    assert peak < forward + 3 * each


def test_an_optimizer_in_backward_holds_one_gradient_at_a_time(gpu):
    """register_post_accumulate_grad_hook: each gradient is applied and let go before the next is made."""
    model, x = chain(8), batch(4)
    steps = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def hook(parameter):
        steps[parameter].step()
        steps[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(hook)
    loss = model(x).sum()
    kept, peak = over(loss.backward)
    assert kept < EACH
    assert EACH <= peak < 2 * EACH
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_between_steps_keeps_gradients_and_no_activations(gpu):
    """Without grad, a layer's input goes as its output is there: two at once."""
    model, x = chain(4), batch()
    model(x).sum().backward()
    with torch.no_grad():
        kept, peak = over(lambda: model(x))
    assert (kept, peak) == (0, 2 * EACH)
    assert all(p.grad is not None for p in model.parameters())


def test_a_smaller_last_batch_needs_less_and_reserves_nothing(gpu):
    model = chain(2)

    def step(rows):
        model(batch(rows)).sum().backward()
        model.zero_grad()

    _, whole = over(lambda: step(SIDE))
    reserved = gpu.memory_reserved()
    _, last = over(lambda: step(SIDE // 2))  # still above 1 MiB, so from the same segments
    assert last < whole
    assert gpu.memory_reserved() == reserved


def test_losses_that_are_kept_keep_their_graph(gpu):
    """`total += loss` holds every step's graph, `total += loss.item()` none."""
    model, x = chain(2), batch()
    total = torch.zeros((), device="cuda")
    kept, _ = over(lambda: total.add_(model(x).sum().item()))
    assert kept == 0
    sums = []
    kept, _ = over(lambda: sums.append(model(x).sum()))
    assert kept == EACH + BLOCK  # the input of the second layer; a sum keeps nothing of its own


# Parameters that do not train, or twice -------------------------------------------------------------------------------


def test_a_frozen_base_keeps_no_inputs_for_its_weights(gpu):
    """Only the last of 4 layers trains: its input is kept, and no other; backward makes one gradient."""
    model, x = chain(4), batch()
    model[:3].requires_grad_(False)
    outputs = []
    kept, _ = over(lambda: outputs.append(model(x)))
    assert kept == 2 * EACH  # the last layer's input and the output
    grad = batch()
    kept, peak = over(lambda: outputs[0].backward(grad))
    assert peak == EACH
    assert [p.grad is not None for p in model.parameters()] == [False, False, False, True]


class LoRA(nn.Module):
    """A linear layer with an adapter, as peft.tuners.lora makes it."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.base_layer = nn.Linear(SIDE, SIDE, bias=False, device="cuda").requires_grad_(False)
        self.lora_A = nn.Linear(SIDE, rank, bias=False, device="cuda")
        self.lora_B = nn.Linear(rank, SIDE, bias=False, device="cuda")

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x)) * 2.0


def test_an_adapter_keeps_its_input_and_its_narrow_middle(gpu):
    """Rank 8: the input for A, 8 columns for B; the base's own product and the adapter's are let go."""
    model, x = nn.Sequential(LoRA(8), LoRA(8)), batch()
    narrow = SIDE * 8 * 4
    outputs = []
    kept, _ = over(lambda: outputs.append(model(x)))
    assert kept == 2 * narrow + 2 * EACH  # the second layer's input and the output
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    outputs[0].backward(batch())
    kept, _ = over(optimizer.step)
    assert kept == 2 * 2 * 2 * narrow  # two moments of A and B, of two layers


def test_a_tied_heads_gradient_meets_the_embeddings_in_a_third(gpu):
    """The head's gradient waits through the whole of backward. It is a view of a product, whose storage has two
    owners therefore, and so the embedding's is not added into it (torch/csrc/autograd/input_buffer.cpp,
    can_accumulate_inplace): V x D three times, as torch.profiler sees on a CPU. The head's own input has gone by then.
    """
    table = nn.Embedding(SIDE, SIDE, device="cuda")
    head = nn.Linear(SIDE, SIDE, bias=False, device="cuda")
    head.weight = table.weight
    ids = torch.zeros(16, dtype=torch.int64, device="cuda")
    out = head(table(ids))
    grad = torch.zeros_like(out)
    looked_up = 16 * SIDE * 4
    assert over(lambda: out.backward(grad)) == (EACH - looked_up, 3 * EACH - looked_up)


def test_an_activation_in_place_keeps_no_input(gpu):
    model = nn.Sequential(nn.Linear(SIDE, SIDE, device="cuda"), nn.ReLU(inplace=True))
    outputs = []
    kept, _ = over(lambda: outputs.append(model(batch())))
    assert kept == 2 * EACH  # the layer's input and the one output
    kept, _ = over(lambda: outputs.append(nn.Sequential(model[0], nn.ReLU())(batch())))
    assert kept == 2 * EACH  # ReLU saves its result: the linear output is let go all the same
    kept, _ = over(lambda: outputs.append(nn.Sequential(model[0], nn.GELU())(batch())))
    assert kept == 3 * EACH


# What is kept elsewhere, or made again --------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not"])
def test_a_checkpoint_keeps_its_input_alone(gpu, reentrant):
    """8 layers in one region: in forward the region's input and output, in backward its 7 inner activations too."""
    model, x = chain(8), batch(requires_grad=True)
    outputs = []
    kept, _ = over(lambda: outputs.append(checkpoint(model, x, use_reentrant=reentrant)))
    assert kept == EACH
    grad = batch()
    _, peak = over(lambda: outputs[0].backward(grad))
    recomputed = 8 if reentrant else 7  # early stop: the last output is not made again
    assert peak >= recomputed * EACH
    products = [op for op in gpu.recording.trace.ops if op.name == "aten.mm.default" and op.phase == 2]
    assert len(products) == recomputed + 2 * 8


class Counted(TorchDispatchMode):
    """Counts the products that run."""

    products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.products += func is aten.mm.default
        return func(*args, **(kwargs or {}))


def test_checkpoints_within_a_checkpoint_multiply_as_often_as_on_a_cpu(gpu):
    def backward(device: str) -> None:
        layers = [nn.Linear(4, 4, bias=False, device=device) for _ in range(4)]
        first, second = (
            partial(checkpoint, nn.Sequential(*half), use_reentrant=False) for half in (layers[:2], layers[2:])
        )
        x = torch.zeros(4, 4, device=device, requires_grad=True)
        checkpoint(lambda x: second(first(x)), x, use_reentrant=False).sum().backward()

    with Counted() as real:
        backward("cpu")
    start = len(gpu.recording.trace.ops)
    backward("cuda")
    found = [op for op in gpu.recording.trace.ops[start:] if op.name == "aten.mm.default"]
    assert len(found) == real.products


def test_a_selective_checkpoint_keeps_what_its_policy_saves(gpu):
    """Products are saved and activations made again: backward multiplies for gradients alone."""
    model = nn.Sequential(nn.Linear(SIDE, SIDE, device="cuda"), nn.GELU(), nn.Linear(SIDE, SIDE, device="cuda"))

    def policy(context, op, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE if op is aten.addmm.default else CheckpointPolicy.PREFER_RECOMPUTE

    outputs = []

    def forward():
        contexts = lambda: create_selective_checkpoint_contexts(policy)  # noqa: E731
        outputs.append(checkpoint(model, batch(requires_grad=True), use_reentrant=False, context_fn=contexts))

    kept, _ = over(forward)
    assert kept == 3 * EACH  # the input, both products, of which one is the output
    outputs[0].sum().backward()
    names = [op.name for op in gpu.recording.trace.ops if op.phase == 2]
    assert "aten.addmm.default" not in names
    assert "aten.gelu.default" in names


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "paged"])
def test_what_is_saved_on_the_host_comes_back_one_by_one(gpu, pinned):
    """Weights are saved for backward too, and go over as activations do (torch.autograd.graph.save_on_cpu)."""
    model, x = chain(4), batch(requires_grad=True)
    outputs = []

    def forward():
        with torch.autograd.graph.save_on_cpu(pin_memory=pinned):
            outputs.append(model(x))

    kept, _ = over(forward)
    assert kept == EACH  # the output
    grad = batch()
    _, peak = over(lambda: outputs[0].backward(grad))
    # four gradients, the one going down, and for the first layer its weight and input back from the host
    assert peak <= (4 + 1 + 1 + 2) * EACH


def test_hooks_for_saved_tensors_may_be_refused(gpu):
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"), pytest.raises(RuntimeError, match="not here"):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
            batch(requires_grad=True).square()
