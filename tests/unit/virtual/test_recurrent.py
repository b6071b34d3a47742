"""Recurrent layers as cuDNN runs them: weights in one buffer, a reserve until backward, gradients in one buffer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.ledger import Category

KiB = 2**10
STEPS, BATCH, SIZE, HIDDEN = 8, 4, 32, 64
VECTORS = STEPS * BATCH


def names(gpu) -> list[str]:
    return [op.name for op in gpu.recording.trace.ops]


def run(layer: nn.RNNBase, *, training: bool = True, dtype: torch.dtype = torch.float32, **options):
    """The card, and the bytes that the call makes: output, states, reserve, and anything else."""
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = layer.to("cuda", dtype).train(training)
        x = torch.empty(STEPS, BATCH, SIZE, device="cuda", dtype=dtype)
        start = len(gpu.ledger.sizes)
        with torch.set_grad_enabled(training):
            out = layer(x, **options)
        made = list(gpu.ledger.sizes)[start:]
        assert out[0].shape[:2] == (STEPS, BATCH)
    return gpu, made


def test_the_weights_move_into_one_buffer() -> None:
    """4 gates of 64 units read 32 inputs, 64 states and two biases: 4 * 64 * (32 + 64 + 2) numbers."""
    with tonnage.virtual_gpu("A100") as gpu:
        layer = nn.LSTM(SIZE, HIDDEN).cuda()
        held = [gpu.ledger.sizes[i] for i in gpu.ledger.live()]
        assert held == [4 * HIDDEN * (SIZE + HIDDEN + 2) * 4]
        assert layer.weight_hh_l0.shape == (4 * HIDDEN, HIDDEN)


def test_cudnn_has_biases_where_the_layer_has_none() -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        layer = nn.GRU(SIZE, HIDDEN, bias=False).cuda()
        held = [gpu.ledger.sizes[i] for i in gpu.ledger.live()]
    assert held == [3 * HIDDEN * (SIZE + HIDDEN + 2) * 4]
    assert layer.weight_ih_l0.numel() == 3 * HIDDEN * SIZE


@pytest.mark.parametrize(
    ("layer", "kept", "states"),
    [
        pytest.param(nn.LSTM, 5, 2, id="LSTM: four gates and the cell"),
        pytest.param(nn.GRU, 4, 1, id="GRU: three gates and the state's part of the new one"),
    ],
)
def test_a_training_call_keeps_what_backward_needs(layer, kept, states) -> None:
    """Zeros for the states, output, new states, reserve."""
    gpu, made = run(layer(SIZE, HIDDEN))
    state, output = BATCH * HIDDEN * 4, VECTORS * HIDDEN * 4
    assert made == [*[state] * states, output, *[state] * states, VECTORS * kept * HIDDEN * 4]
    assert [m.times for m in gpu.recording.not_counted] == [1]


def test_a_plain_layer_keeps_its_inner_outputs_alone() -> None:
    """Two layers, both directions: what the first gave for the second is in the reserve."""
    _, made = run(nn.RNN(SIZE, HIDDEN, 2, bidirectional=True))
    assert made[-1] == VECTORS * 2 * HIDDEN * 4


def test_inference_keeps_nothing_and_has_the_gates_in_a_workspace() -> None:
    gpu, made = run(nn.LSTM(SIZE, HIDDEN), training=False)
    state, output = BATCH * HIDDEN * 4, VECTORS * HIDDEN * 4
    assert made == [state, state, output, state, state, VECTORS * 4 * HIDDEN * 4]
    assert gpu.ledger.categories[len(gpu.ledger.sizes) - 1] == Category.WORKSPACE


def test_gradients_of_the_weights_are_one_buffer() -> None:
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = nn.LSTM(SIZE, HIDDEN).cuda()
        x = torch.empty(STEPS, BATCH, SIZE, device="cuda")
        out, _ = layer(x)
        gradient = torch.empty_like(out)
        before, start = gpu.memory_allocated(), len(gpu.ledger.sizes)
        out.backward(gradient)
        weights = 4 * HIDDEN * (SIZE + HIDDEN + 2) * 4
        assert len({p.grad.untyped_storage()._cdata for p in layer.parameters()}) == 1
        assert [p.grad.shape for p in layer.parameters()] == [p.shape for p in layer.parameters()]
        assert weights in list(gpu.ledger.sizes)[start:]
        reserve = VECTORS * 5 * HIDDEN * 4
        assert gpu.memory_allocated() == before + weights - reserve - 2 * BATCH * HIDDEN * 4


def test_published_bytes_of_an_lstm() -> None:
    """pytorch_memlab's README: 32.52 MiB with an LSTM and its input (32.42 by tensors), 65.11 after backward."""
    with tonnage.virtual_gpu("V100", torch_version="1.13") as gpu:
        layer = nn.LSTM(1024, 1024).cuda()
        x = torch.empty(10, 10, 1024, device="cuda")
        assert gpu.memory_allocated() / 2**20 == pytest.approx(32.52, rel=0.004)
        out, _ = layer(x)
        out.mean().backward()
        assert gpu.memory_allocated() / 2**20 == pytest.approx(65.11, rel=0.004)


def test_weights_that_lie_apart_are_gathered_at_each_call() -> None:
    weights = 4 * HIDDEN * (SIZE + HIDDEN + 2) * 4
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = nn.LSTM(SIZE, HIDDEN).cuda()
        layer.weight_ih_l0.data = layer.weight_ih_l0.data.clone()
        start = len(gpu.ledger.sizes)
        layer(torch.empty(STEPS, BATCH, SIZE, device="cuda"))
    assert weights in list(gpu.ledger.sizes)[start:]


def test_packed_sequences_and_batch_first() -> None:
    with tonnage.virtual_gpu("A100", torch_version="2.6.0") as gpu:
        layer = nn.GRU(SIZE, HIDDEN, batch_first=True).cuda()
        out, state = layer(torch.empty(BATCH, STEPS, SIZE, device="cuda"))
        assert (out.shape, state.shape) == ((BATCH, STEPS, HIDDEN), (1, BATCH, HIDDEN))
        lengths = torch.tensor([8, 6, 3, 1])
        packed = nn.utils.rnn.pack_padded_sequence(torch.empty(STEPS, BATCH, SIZE, device="cuda"), lengths)
        out, _ = layer(packed)
        assert out.data.shape == (18, HIDDEN)
    assert names(gpu).count("aten._cudnn_rnn.default") == 2


def test_a_projection_narrows_output_and_state_but_not_the_cell() -> None:
    with tonnage.virtual_gpu("A100", torch_version="2.6.0"):
        layer = nn.LSTM(SIZE, HIDDEN, proj_size=16).cuda()
        out, (state, cell) = layer(torch.empty(STEPS, BATCH, SIZE, device="cuda"))
        out.sum().backward()
    assert (out.shape[-1], state.shape[-1], cell.shape[-1]) == (16, 16, HIDDEN)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        pytest.param(nn.LSTM, "LSTM", id="LSTM"),
        pytest.param(nn.GRU, "GRU", id="GRU"),
        pytest.param(nn.RNN, "RNN TANH", id="RNN"),
    ],
)
def test_a_type_that_cudnn_does_not_take_runs_step_by_step(layer, name) -> None:
    gpu, _ = run(layer(SIZE, HIDDEN), dtype=torch.bfloat16)
    assert "aten._cudnn_rnn.default" not in names(gpu)
    assert [m.what for m in gpu.recording.not_counted] == [f"cuDNN's {name}"]


def test_dropout_between_layers_has_a_state_that_is_listed() -> None:
    gpu, _ = run(nn.LSTM(SIZE, HIDDEN, 2, dropout=0.5))
    assert "cuDNN's dropout state" in [m.what for m in gpu.recording.not_counted]


def test_a_layer_on_the_host_is_left_alone() -> None:
    with tonnage.virtual_gpu("A100") as gpu:
        layer = nn.LSTM(SIZE, HIDDEN)
        layer(torch.randn(STEPS, BATCH, SIZE))
    assert gpu.recording.not_counted == []
    assert "aten._cudnn_rnn.default" not in names(gpu)
