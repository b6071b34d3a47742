from __future__ import annotations

import pytest

from tonnage.analyses.parameters import count_parameters
from tonnage.trace import Parameter, Trace


def weight(name, shape, identity, *, dtype="float32", width=4, trainable=True, kind="parameter"):
    elements = 1
    for size in shape:
        elements *= size
    return Parameter(name, shape, dtype, elements * width, trainable, identity, kind)


def test_a_model_without_parameters():
    counted = count_parameters(Trace())
    assert (counted.total, counted.trainable, counted.frozen, counted.tied, counted.buffers) == (0, 0, 0, 0, 0)
    assert counted.bytes_by_dtype == {}


def test_a_linear_layer():
    # nn.Linear(784, 128): 784 * 128 weights and 128 biases
    trace = Trace(parameters=[weight("weight", (128, 784), 0), weight("bias", (128,), 1)])
    counted = count_parameters(trace)
    assert counted.total == 100_480
    assert counted.total_bytes == 401_920
    assert counted.known == "exact"


def test_four_names_of_one_table_count_once():
    # T5's vocabulary table: shared, encoder.embed_tokens, decoder.embed_tokens, lm_head
    names = ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    trace = Trace(parameters=[weight(name, (32128, 512), 7) for name in names])
    counted = count_parameters(trace)
    assert counted.total == 16_449_536
    assert counted.tied == 3 * 16_449_536
    assert counted.total_bytes == 65_798_144


def test_frozen_and_buffers_are_apart():
    trace = Trace(
        parameters=[
            weight("backbone", (10, 10), 0, trainable=False),
            weight("head", (10,), 1),
            weight("running_mean", (6,), 2, kind="buffer", trainable=False),
            weight("steps", (), 3, kind="buffer", dtype="int64", width=8, trainable=False),
        ]
    )
    counted = count_parameters(trace)
    assert (counted.total, counted.trainable, counted.frozen) == (110, 10, 100)
    assert (counted.buffers, counted.buffer_bytes) == (7, 32)


def test_bytes_by_dtype_add_up_and_the_largest_comes_first():
    trace = Trace(
        parameters=[weight("norm", (8,), 0), weight("linear", (100, 8), 1, dtype="bfloat16", width=2)],
    )
    counted = count_parameters(trace)
    assert list(counted.bytes_by_dtype.items()) == [("bfloat16", 1600), ("float32", 32)]
    assert sum(counted.bytes_by_dtype.values()) == counted.total_bytes


@pytest.mark.parametrize("shape, elements", [((), 1), ((0, 5), 0), ((2, 3, 4), 24)])
def test_elements_of_a_shape(shape, elements):
    assert count_parameters(Trace(parameters=[weight("w", shape, 0)])).total == elements
