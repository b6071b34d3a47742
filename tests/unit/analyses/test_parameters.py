from __future__ import annotations

import msgspec
import pytest

from tonnage.analyses.deferred import deferring
from tonnage.analyses.parameters import ParameterCount, count_parameters
from tonnage.errors import BadOption
from tonnage.trace import Module, Parameter, Trace


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


# Embeddings and experts -----------------------------------------------------------------------------------------------


def test_tables_and_the_head_tied_to_one_are_embedding():
    modules = [
        Module("", "Net"),
        Module("tokens", "Embedding", "", {"num_embeddings": 100}),
        Module("positions", "Embedding", "", {"num_embeddings": 30}),
        Module("head", "Linear", "", {"out_features": 100}),
    ]
    names = [("tokens.weight", 100, 0), ("positions.weight", 30, 1), ("head.weight", 100, 0), ("up.weight", 7, 2)]
    trace = Trace(modules=modules, parameters=[weight(name, (rows, 8), i) for name, rows, i in names])
    counted = count_parameters(trace)
    assert (counted.total, counted.embedding, counted.tied) == (137 * 8, 130 * 8, 100 * 8)


def test_a_model_that_is_an_embedding():
    trace = Trace(
        modules=[Module("", "Embedding", "", {"num_embeddings": 9})], parameters=[weight("weight", (9, 2), 0)]
    )
    assert count_parameters(trace).embedding == 18


def moe(experts, chosen, *, facts=None):
    """A block with a router of 8 and experts one by one of 24 each, and 10 besides."""
    modules = [Module("", "Net"), Module("block", "MoE", "", facts or {}), Module("block.gate", "Router", "", chosen)]
    modules += [Module("block.experts", "ModuleList", "", {})]
    modules += [Module(f"block.experts.{n}", "MLP") for n in range(experts)]
    modules += [Module(f"block.experts.{n}.up", "Linear") for n in range(experts)]
    parameters = [weight("norm.weight", (10,), 0), weight("block.gate.weight", (8,), 1)]
    parameters += [weight(f"block.experts.{n}.up.weight", (4, 6), 2 + n) for n in range(experts)]
    return Trace(modules=modules, parameters=parameters)


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (4, 1), (3, 3), (128, 8)])
def test_a_token_meets_those_experts_that_it_is_sent_to(experts, chosen):
    counted = count_parameters(moe(experts, {"top_k": chosen}))
    assert counted.total == 10 + 8 + experts * 24
    assert counted.active == 10 + 8 + chosen * 24


def test_the_block_itself_may_say_how_many():
    assert count_parameters(moe(4, {}, facts={"num_experts_per_tok": 2})).active == 10 + 8 + 48


def test_experts_in_one_tensor():
    modules = [
        Module("mlp", "MoE"),
        Module("mlp.gate", "Router", "", {"top_k": 2}),
        Module("mlp.experts", "Experts", "", {"num_experts": 8}),
    ]
    trace = Trace(
        modules=modules, parameters=[weight("mlp.experts.up", (8, 5, 3), 0), weight("mlp.gate.weight", (8, 3), 1)]
    )
    assert count_parameters(trace).active == 24 + 2 * 15


def test_how_many_are_active_is_unknown_where_nobody_says():
    assert count_parameters(moe(4, {})).active is None


def test_without_experts_nothing_is_said_of_active():
    assert count_parameters(Trace(parameters=[weight("w", (3,), 0)])).active is None


# The form -------------------------------------------------------------------------------------------------------------


def test_a_count_without_a_form_says_so():
    counted = count_parameters(Trace(parameters=[weight("w", (3,), 0)]))
    assert (counted.form, counted.formula) == (None, "")
    with pytest.raises(BadOption, match="nothing says"):
        counted.evaluate(hidden_size=3)


def test_a_form_is_derived_when_it_is_asked_for_and_written_down(forms):
    calls = []
    counted = deferring(
        count_parameters(Trace(parameters=[weight("w", (3,), 0)])),
        lambda: calls.append(1) or forms["bert-base-uncased"],
    )
    assert calls == []
    assert counted.evaluate() == 109_482_240
    settled = counted.settled()
    assert settled.formula == forms["bert-base-uncased"].formula and calls == [1]
    again = msgspec.json.decode(msgspec.json.encode(settled), type=ParameterCount)
    assert again.formula == settled.formula
    assert again.evaluate(num_hidden_layers=24) == settled.evaluate(num_hidden_layers=24) > 109_482_240
