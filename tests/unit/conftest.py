"""Closed forms made by hand from the architectures: T5-small, BERT-base and VGG16, component by component."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import Component, ParameterForm, Symbol


def make_form(symbols, fields, rows):
    """Rows of (path, kind, names of parameters, formula of one, times)."""
    components = []
    for path, kind, parameters, formula, times in rows:
        each, repeats = (int(parse(text, symbols).evaluate(symbols)) for text in (formula, times))
        components.append(
            Component(
                path=path,
                kind=kind,
                parameters=parameters.split(),
                formula=formula,
                substituted=parse(formula, symbols).substituted(symbols),
                times=times,
                each=each,
                repeats=repeats,
                total=each * repeats,
            )
        )
    formula = " + ".join(f"{c.times}*({c.formula})" for c in components)
    return ParameterForm(
        formula=formula,
        substituted=parse(formula, symbols).substituted(symbols),
        latex="",
        total=sum(c.total for c in components),
        symbols=[Symbol(symbol=s, field=fields.get(s, ""), value=value) for s, value in symbols.items()],
        components=components,
        proofs=[],
        held={},
    )


def t5_small():
    """Raffel et al. 2020: no biases, norms with a scale alone, relative positions held by the first blocks."""
    symbols = {"V": 32128, "H": 512, "F": 2048, "L": 6, "L_d": 6, "h": 8, "d_kv": 64, "B": 32}
    fields = {
        "V": "vocab_size",
        "H": "d_model",
        "F": "d_ff",
        "L": "num_layers",
        "L_d": "num_decoder_layers",
        "h": "num_heads",
        "d_kv": "d_kv",
        "B": "relative_attention_num_buckets",
    }
    encoder, decoder = "encoder.block.{0-5}.layer", "decoder.block.{0-5}.layer"
    rows = [
        ("shared", "Embedding", "weight", "V*H", "1"),
        (f"{encoder}.0.SelfAttention.{{q,k,v,o}}", "Linear", "weight", "H*h*d_kv", "4*L"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "Embedding", "weight", "B*h", "1"),
        (f"{encoder}.1.DenseReluDense.{{wi,wo}}", "Linear", "weight", "H*F", "2*L"),
        (f"{encoder}.{{0,1}}.layer_norm", "T5LayerNorm", "weight", "H", "2*L"),
        ("encoder.final_layer_norm", "T5LayerNorm", "weight", "H", "1"),
        (f"{decoder}.0.SelfAttention.{{q,k,v,o}}", "Linear", "weight", "H*h*d_kv", "4*L_d"),
        ("decoder.block.0.layer.0.SelfAttention.relative_attention_bias", "Embedding", "weight", "B*h", "1"),
        (f"{decoder}.1.EncDecAttention.{{q,k,v,o}}", "Linear", "weight", "H*h*d_kv", "4*L_d"),
        (f"{decoder}.2.DenseReluDense.{{wi,wo}}", "Linear", "weight", "H*F", "2*L_d"),
        (f"{decoder}.{{0,1,2}}.layer_norm", "T5LayerNorm", "weight", "H", "3*L_d"),
        ("decoder.final_layer_norm", "T5LayerNorm", "weight", "H", "1"),
    ]
    return make_form(symbols, fields, rows)


def bert_base():
    """Devlin et al. 2019, with the pooler: every matrix has a bias, every norm a scale and a shift."""
    symbols = {"V": 30522, "P": 512, "T": 2, "H": 768, "F": 3072, "L": 12}
    fields = {
        "V": "vocab_size",
        "P": "max_position_embeddings",
        "T": "type_vocab_size",
        "H": "hidden_size",
        "F": "intermediate_size",
        "L": "num_hidden_layers",
    }
    layer = "encoder.layer.{0-11}"
    rows = [
        ("embeddings.word_embeddings", "Embedding", "weight", "V*H", "1"),
        ("embeddings.position_embeddings", "Embedding", "weight", "P*H", "1"),
        ("embeddings.token_type_embeddings", "Embedding", "weight", "T*H", "1"),
        ("embeddings.LayerNorm", "LayerNorm", "weight bias", "2*H", "1"),
        (f"{layer}.attention.self.{{query,key,value}}", "Linear", "weight bias", "H^2 + H", "3*L"),
        (f"{layer}.attention.output.dense", "Linear", "weight bias", "H^2 + H", "L"),
        (f"{layer}.attention.output.LayerNorm", "LayerNorm", "weight bias", "2*H", "L"),
        (f"{layer}.intermediate.dense", "Linear", "weight bias", "H*F + F", "L"),
        (f"{layer}.output.dense", "Linear", "weight bias", "F*H + H", "L"),
        (f"{layer}.output.LayerNorm", "LayerNorm", "weight bias", "2*H", "L"),
        ("pooler.dense", "Linear", "weight bias", "H^2 + H", "1"),
    ]
    return make_form(symbols, fields, rows)


def vgg16():
    """Simonyan and Zisserman 2015, configuration D: 13 convolutions of 3 by 3, 3 linear layers, all with biases."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    same = {}
    for place, shape in zip(places, pairwise(widths), strict=True):
        same.setdefault(shape, []).append(place)
    rows = [
        (
            f"features.{at[0]}" if len(at) == 1 else f"features.{{{','.join(map(str, at))}}}",
            "Conv2d",
            "weight bias",
            f"(3*3*{inward} + 1)*{outward}",
            str(len(at)),
        )
        for (inward, outward), at in same.items()
    ]
    rows += [
        (f"classifier.{at}", "Linear", "weight bias", f"({inward} + 1)*{outward}", "1")
        for at, inward, outward in ((0, 512 * 7 * 7, 4096), (3, 4096, 4096), (6, 4096, 1000))
    ]
    return make_form({}, {}, rows)


TOTALS = {"t5-small": 60_506_624, "bert-base-uncased": 109_482_240, "vgg16": 138_357_544}


@pytest.fixture(scope="session")
def forms():
    made = {"t5-small": t5_small(), "bert-base-uncased": bert_base(), "vgg16": vgg16()}
    assert {name: form.total for name, form in made.items()} == TOTALS
    return made
