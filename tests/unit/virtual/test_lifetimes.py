"""When memory is taken and given back, and what it turns out to have been."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import tonnage
from tonnage.ledger import Category

SIDE = 512
EACH = SIDE * SIDE * 4


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("A100") as card:
        yield card


def zeros(**options) -> torch.Tensor:
    return torch.zeros(SIDE, SIDE, device="cuda", **options)


def tensors() -> int:
    """How many matrices are alive."""
    count, rest = divmod(torch.cuda.memory_allocated(), EACH)
    assert rest % 512 == 0
    return count


def by_category(gpu) -> dict[str, int]:
    ledger = gpu.recording.ledger
    found: dict[str, int] = {}
    for i in ledger.live():
        name = Category(ledger.categories[i]).name
        found[name] = found.get(name, 0) + ledger.sizes[i]
    return found


def test_a_view_keeps_the_whole_storage(gpu):
    x = zeros()
    row = x[0]
    del x
    assert tensors() == 1
    del row
    assert tensors() == 0


def test_in_place_operators_take_nothing(gpu):
    x = zeros()
    x.add_(1).mul_(2).relu_()
    x[0] = 3
    assert tensors() == 1


def test_data_shares_and_replaces(gpu):
    x, y = zeros(), zeros()
    x.data = y
    assert tensors() == 1
    del y
    assert tensors() == 1


def test_set_lets_go_of_what_was_there(gpu):
    x, y = zeros(), zeros()
    x.set_(y)
    assert tensors() == 1


def test_resizing_takes_the_new_before_the_old_goes(gpu):
    x = zeros()
    torch.cuda.reset_peak_memory_stats()
    x.resize_(2 * SIDE, SIDE)
    assert tensors() == 2
    assert torch.cuda.max_memory_allocated() == 3 * EACH


def test_an_activation_dies_when_its_node_has_run(gpu):
    """Three results saved by exp; after each node its saved result has gone, and one gradient has come."""
    x = zeros(requires_grad=True)
    seen: list[int] = []
    a = x.exp()
    b = a.exp()
    c = b.exp()
    for tensor in (c, b, a):
        tensor.grad_fn.register_hook(lambda inputs, outputs: seen.append(tensors()))
    loss = c.sum()
    del a, b, c, tensor
    assert tensors() == 4
    loss.backward()
    # x, the other saved results, the one of this node (let go when it returns), and two gradients at most.
    assert seen == [5, 5, 4]
    assert tensors() == 2


def test_nothing_is_saved_without_gradients(gpu):
    x = zeros(requires_grad=True)
    with torch.no_grad():
        x.exp().exp().exp()
    assert tensors() == 1


def test_checkpointing_keeps_the_input_and_computes_again(gpu):
    def region(x):
        return x.exp().exp().exp().exp()

    x = zeros(requires_grad=True)
    y = checkpoint(region, x, use_reentrant=False)
    assert tensors() == 2
    torch.cuda.reset_peak_memory_stats()
    y.sum().backward()
    assert torch.cuda.max_memory_allocated() >= 6 * EACH
    del y
    assert tensors() == 2


def test_tied_weights_are_one_parameter(gpu):
    a, b = (nn.Linear(SIDE, SIDE, bias=False, device="cuda") for _ in range(2))
    b.weight = a.weight
    assert tensors() == 1


def test_categories_follow_the_object(gpu):
    """After a step: parameters, buffers, gradients, two moments each; the square roots of the step are neither."""
    model = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False), nn.BatchNorm1d(SIDE)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.zeros(4, SIDE, device="cuda")
    model(x).sum().backward()
    start = len(gpu.recording.ledger.sizes)
    optimizer.step()
    ledger = gpu.recording.ledger
    parameters = EACH + 2 * SIDE * 4
    found = by_category(gpu)
    assert found["PARAMETER"] == parameters
    assert found["GRADIENT"] == parameters
    assert found["OPTIMIZER"] == 2 * parameters
    assert found["BUFFER"] == 2 * SIDE * 4 + 8
    assert found["INPUT"] == 4 * SIDE * 4
    states = sum(ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.OPTIMIZER)
    assert states == 2 * parameters
    assert EACH in [
        ledger.sizes[i] for i in range(start, len(ledger.sizes)) if ledger.categories[i] == Category.TEMPORARY
    ]


def test_what_forward_made_and_backward_needs_is_an_activation(gpu):
    model = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False), nn.Sigmoid()).cuda()
    out = model(torch.zeros(SIDE, SIDE, device="cuda"))
    out.sum().backward()
    ledger = gpu.recording.ledger
    made = {op.name: i for i, op in enumerate(gpu.recording.trace.ops)}
    of = {name: [Category(ledger.categories[n]).name for n in range(len(ledger.sizes)) if ledger.ops[n] == i]
          for name, i in made.items()}  # fmt: skip
    assert of["aten.sigmoid.default"] == ["OUTPUT"]
    assert "GRADIENT" in of["aten.mm.default"]


def test_backward_belongs_to_the_module_whose_forward_made_it(gpu):
    model = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Sigmoid()).cuda()
    model(torch.zeros(4, SIDE, device="cuda")).sum().backward()
    trace = gpu.recording.trace
    backward = {op.name: trace.modules[op.module].path for op in trace.ops if op.phase == 2}
    assert backward["aten.sigmoid_backward.default"] == "1"
    assert backward["aten.mm.default"] == "0"


def test_inference_mode_takes_composites_apart(gpu):
    layer = nn.Linear(SIDE, SIDE).cuda()
    with torch.inference_mode():
        layer(torch.zeros(4, SIDE, device="cuda"))
    names = [op.name for op in gpu.recording.trace.ops]
    assert "aten.addmm.default" in names
    assert "aten.linear.default" not in names


def test_an_index_out_of_a_list_is_known_before_it_is_saved():
    """A checkpoint compares what is saved in the first run with what is saved in the second, devices included."""
    with tonnage.virtual_gpu("A100"):
        x = torch.randn(4, 6, 8, device="cuda", requires_grad=True)
        y = checkpoint(lambda t: t[..., [-2], :].square().sum(), x, use_reentrant=False)
        y.backward()
        assert x.grad.device.type == "cuda"
