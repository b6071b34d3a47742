"""The virtual CPU: sizes by hand, and its choices against what this machine's PyTorch says of real tensors."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tonnage.errors import CannotRecord
from tonnage.ledger import Category
from tonnage.virtual import virtual_cpu, virtual_gpu
from tonnage.virtual.kernels.attention.call import Call
from tonnage.virtual.kernels.cpu import attention, autocast
from tonnage.virtual.kernels.cpu.recurrent import workspace_bytes

aten = torch.ops.aten


def live(cpu):
    ledger = cpu.ledger
    return sum(ledger.sizes[number] for number in ledger.live())


def test_nothing_is_rounded():
    with virtual_cpu() as cpu:
        x = torch.empty(3, dtype=torch.int8)
        assert live(cpu) == 3 and x.device.type == "cpu" and not x.is_meta and x.is_cpu
        del x
        assert live(cpu) == 0


def test_a_products_bias_and_no_workspace():
    with virtual_cpu() as cpu:
        F.linear(torch.zeros(8, 16), torch.zeros(4, 16), torch.zeros(4))
        assert Category.WORKSPACE not in cpu.ledger.categories
        assert sorted(cpu.ledger.sizes) == sorted([4 * 8 * 16, 4 * 4 * 16, 4 * 4, 4 * 8 * 4])


def test_dropout_draws_a_mask_of_the_inputs_type():
    with virtual_cpu() as cpu:
        x = torch.zeros(100, requires_grad=True)
        y = F.dropout(x, 0.5)
        assert live(cpu) == x.nbytes + y.nbytes + 4 * 100


def test_a_number_that_meets_a_tensor_is_one_of_eight_bytes_for_the_call():
    with virtual_cpu() as cpu:
        x = torch.zeros(100)
        y = x + 1.5
        cpu.mark("done")
        assert cpu.ledger.sizes.tolist() == [400, 8, 400]
        assert live(cpu) == x.nbytes + y.nbytes


def test_a_number_that_autograd_keeps_lives_as_long_as_the_graph():
    with virtual_cpu() as cpu:
        x = torch.zeros(100, requires_grad=True)
        y = x * 1.5
        cpu.mark("made")
        assert live(cpu) == x.nbytes + y.nbytes + 8
        del y
        cpu.mark("gone")
        assert live(cpu) == x.nbytes


def test_optimizers_go_one_parameter_at_a_time():
    with virtual_cpu() as cpu:
        model = nn.Linear(64, 64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.zeros(2, 64)).sum().backward()
        optimizer.step()
    names = [op.name for op in cpu.recording.trace.ops]
    assert "aten.add_.Tensor" in names and not any("_foreach_" in name for name in names)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_keeps_statistics_only_in_training(training):
    with virtual_cpu() as cpu:
        x = torch.zeros(2, 3, 4, 4, requires_grad=True)
        norm = nn.BatchNorm2d(3).train(training)
        before = live(cpu)
        y = norm(x)
        assert live(cpu) - before == y.nbytes + (2 * 4 * 3 if training else 0)


def test_data_is_known_and_counted():
    with virtual_cpu() as cpu:
        x = torch.tensor([1.0, 2.0, 3.0])
        assert live(cpu) == 12
        assert (x * 2).sum().item() == 12.0
    assert cpu.recording.assumptions == []


def test_what_was_there_before_is_used_and_not_counted():
    before = torch.arange(6.0)
    with virtual_cpu() as cpu:
        y = before * before
        assert y.tolist() == [0, 1, 4, 9, 16, 25]
        assert live(cpu) == y.nbytes
    assert before.sum() == 15


def test_the_generators_state_is_a_tensor():
    with virtual_cpu() as cpu:
        state = torch.get_rng_state()
        assert live(cpu) == state.nbytes
        del state
        assert live(cpu) == 0


def test_meta_is_still_meta():
    with virtual_cpu() as cpu:
        x = torch.empty(100, device="meta")
        assert x.is_meta and live(cpu) == 0


@pytest.mark.parametrize("move", [lambda t: t.cuda(), lambda t: t.to("cuda:0")], ids=["cuda()", "to"])
def test_there_is_no_other_device(move):
    with virtual_cpu(), pytest.raises(CannotRecord, match="weighed for the CPU alone"):
        move(torch.zeros(1))


def test_shared_storages_have_one_address_and_others_another():
    with virtual_cpu():
        x, y = torch.zeros(10), torch.zeros(10)
        assert x.data_ptr() == x.view(2, 5).data_ptr() != y.data_ptr()
        assert x[3:].data_ptr() == x.data_ptr() + 12


def test_everything_is_put_back_and_blocks_nest():
    rng, resize = torch.get_rng_state, torch.UntypedStorage.resize_
    with virtual_gpu("T4"):
        with virtual_cpu() as cpu:
            assert torch.zeros(10).is_cpu and live(cpu) == 40
        assert torch.zeros(10, device="cuda").is_cuda
    assert torch.get_rng_state is rng and torch.UntypedStorage.resize_ is resize
    assert torch.zeros(2).tolist() == [0, 0]


# Attention ------------------------------------------------------------------------------------------------------------

SHAPES = {
    "four": ((2, 4, 8, 16), (2, 4, 8, 16), (2, 4, 8, 16)),
    "three": ((4, 8, 16),) * 3,
    "groups": ((2, 4, 8, 16), (2, 2, 8, 16), (2, 2, 8, 16)),
    "other values": ((2, 4, 8, 16), (2, 4, 8, 16), (2, 4, 8, 32)),
    "one query": ((2, 4, 1, 16), (2, 4, 8, 16), (2, 4, 8, 16)),
    "batches": ((2, 4, 8, 16), (1, 4, 8, 16), (1, 4, 8, 16)),
}
MASKS = {"none": None, "square": (8, 8), "four": (2, 1, 8, 8), "row": (2, 1, 1, 8), "three": (4, 8, 8)}
FLASH = 1
"""at::SDPBackend::flash_attention."""


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_backend_is_the_one_that_pytorch_chooses(shape, mask, dtype, dropout):
    tensors = [torch.zeros(size, dtype=dtype) for size in SHAPES[shape]]
    given = None if MASKS[mask] is None else torch.zeros(MASKS[mask], dtype=dtype)
    gqa = shape == "groups"
    chosen = torch._fused_sdp_choice(*tensors, given, dropout, False, enable_gqa=gqa)
    assert attention.takes_flash(Call(*tensors, given, dropout, False, gqa)) == (chosen == FLASH)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_the_cpu_is_one_kernel(causal):
    """It returns the output, and the log of the sum of each row in fp32."""
    with virtual_cpu() as cpu:
        q = torch.zeros(2, 4, 8, 16, requires_grad=True)
        before = live(cpu)
        out = F.scaled_dot_product_attention(q, q, q, is_causal=causal)
        assert live(cpu) - before == out.nbytes + 4 * 2 * 4 * 8


# Autocast -------------------------------------------------------------------------------------------------------------

LISTS = {"lower": autocast.LOWER, "fp32": autocast.FULL, "widest": autocast.WIDEST}


def test_the_lists_are_those_that_pytorch_registers():
    """Every operator with a kernel for autocast on the CPU, but those with named dimensions, is in one list."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    registered = {
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and "imname" not in name and has(name, "AutocastCPU")
    }
    listed = [name for names in LISTS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert registered == {*listed, "scaled_dot_product_attention"}


@pytest.mark.parametrize(
    ("run", "inputs"),
    [
        (torch.mm, ((4, 4), (4, 4))),
        (F.linear, ((2, 4), (3, 4))),
        (F.mse_loss, ((4,), (4,))),
        (lambda a, b: torch.cat([a, b.bfloat16()]), ((4,), (4,))),
        (lambda a: F.layer_norm(a, (4,)), ((2, 4),)),
        (lambda a: F.softmax(a, 0), ((4,),)),
        (lambda a: F.scaled_dot_product_attention(a, a, a), ((1, 1, 4, 4),)),
        (lambda a: F.conv2d(a, torch.zeros(1, 1, 1, 1)), ((1, 1, 4, 4),)),
    ],
    ids=["mm", "linear", "mse_loss", "cat", "layer_norm", "softmax", "attention", "conv2d"],
)
def test_autocast_gives_the_type_that_it_gives_real_tensors(run, inputs):
    def dtype():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run(*(torch.zeros(shape) for shape in inputs)).dtype

    expected = dtype()
    with virtual_cpu():
        assert dtype() is expected


# LSTM -----------------------------------------------------------------------------------------------------------------


def real_workspace(steps, batch, width, hidden):
    """What oneDNN says, on this machine."""
    x, state = torch.zeros(steps, batch, width), torch.zeros(1, batch, hidden)
    weights = (torch.zeros(4 * hidden, width), torch.zeros(4 * hidden, hidden), *[torch.zeros(4 * hidden)] * 2)
    options = (False, [], 2, hidden, 1, True, False, False, True)
    return aten.mkldnn_rnn_layer.default(x, *weights, state, state, *options)[3].numel()


SIZES = random.Random(0).sample(
    list(itertools.product((1, 2, 7, 30), (1, 5, 16), (8, 33, 64, 256), (10, 16, 64, 100, 256))), 40
)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(("steps", "batch", "width", "hidden"), SIZES)
def test_the_workspace_of_an_lstm_is_what_onednn_says(steps, batch, width, hidden):
    assert workspace_bytes(steps, batch, width, hidden) == real_workspace(steps, batch, width, hidden)


def test_a_recurrent_layer_that_is_not_exact_says_so():
    with virtual_cpu() as cpu:
        nn.GRU(4, 4)(torch.zeros(3, 2, 4))
    assert [missing.what for missing in cpu.recording.not_counted] == ["the CPU's GRU"]
