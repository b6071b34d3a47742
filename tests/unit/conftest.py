"""Closed forms made by hand from the architectures: T5-small, BERT-base and VGG16, component by component."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import Component, ParameterForm, Symbol


def make_form(symbols, rows):
    """Rows of (path, kind, names of parameters, formula of one, how often, the same as a textbook works it out)."""
    values = {symbol: value for symbol, (_, value) in symbols.items()}
    components = []
    for path, kind, parameters, formula, times, worked in rows:
        each, repeats = (int(parse(text, values).evaluate(values)) for text in (formula, times))
        assert not worked or parse(worked).evaluate({}) == each
        components.append(
            Component(
                path=path,
                kind=kind,
                parameters=parameters.split(),
                formula=formula,
                substituted=parse(formula, values).substituted(values),
                times=times,
                each=each,
                repeats=repeats,
                total=each * repeats,
                worked=worked,
            )
        )
    formula = " + ".join(f"{c.times}*({c.formula})" for c in components)
    return ParameterForm(
        formula=formula,
        substituted=parse(formula, values).substituted(values),
        latex="",
        total=sum(c.total for c in components),
        symbols=[Symbol(symbol=s, field=field, value=value) for s, (field, value) in symbols.items()],
        components=components,
        proofs=[],
        sizes=dict(symbols.values()),
        held={},
        settings={},
        moves={},
        whole=[],
    )


def t5_half(half, layers, attentions):
    """The rows of one half of T5: its attentions, a feed-forward, a norm before each of them and one at the end."""
    block = f"{half}.block.{{0-5}}.layer"
    norms = len(attentions) + 1
    return [
        *(
            row
            for place, attention in enumerate(attentions)
            for row in (
                (f"{block}.{place}.{attention}.{{q,k,v}}", "Linear", "weight", "3*H*h*d", layers, "3*512*512"),
                (f"{block}.{place}.{attention}.o", "Linear", "weight", "H*h*d", layers, "512*512"),
            )
        ),
        (f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias", "Embedding", "weight", "b*h", "1", "32*8"),
        (f"{block}.{norms - 1}.DenseReluDense.wi", "Linear", "weight", "H*F", layers, "512*2048"),
        (f"{block}.{norms - 1}.DenseReluDense.wo", "Linear", "weight", "H*F", layers, "2048*512"),
        (f"{block}.{{0-{norms - 1}}}.layer_norm", "T5LayerNorm", "weight", "H", f"{norms}*{layers}", ""),
        (f"{half}.final_layer_norm", "T5LayerNorm", "weight", "H", "1", ""),
    ]


def t5_small():
    """Raffel et al. 2020: no biases, norms with a scale alone, relative positions held by the first blocks."""
    symbols = {
        "V": ("vocab_size", 32128),
        "H": ("d_model", 512),
        "d": ("d_kv", 64),
        "F": ("d_ff", 2048),
        "L": ("num_layers", 6),
        "L_d": ("num_decoder_layers", 6),
        "h": ("num_heads", 8),
        "b": ("relative_attention_num_buckets", 32),
    }
    shared = ("shared", "Embedding", "weight", "V*H", "1", "32128*512")
    decoder = t5_half("decoder", "L_d", ["SelfAttention", "EncDecAttention"])
    return make_form(symbols, [shared, *t5_half("encoder", "L", ["SelfAttention"]), *decoder])


def bert_base():
    """Devlin et al. 2019, with the pooler: every matrix has a bias, every norm a scale and a shift."""
    symbols = {
        "V": ("vocab_size", 30522),
        "H": ("hidden_size", 768),
        "L": ("num_hidden_layers", 12),
        "F": ("intermediate_size", 3072),
        "P": ("max_position_embeddings", 512),
        "T": ("type_vocab_size", 2),
    }
    layer, square = "encoder.layer.{0-11}", "(768 + 1)*768"
    linear, norm = ("Linear", "weight bias"), ("LayerNorm", "weight bias", "2*H")
    rows = [
        ("embeddings.word_embeddings", "Embedding", "weight", "V*H", "1", "30522*768"),
        ("embeddings.position_embeddings", "Embedding", "weight", "P*H", "1", "512*768"),
        ("embeddings.token_type_embeddings", "Embedding", "weight", "T*H", "1", "2*768"),
        ("embeddings.LayerNorm", *norm, "1", "2*768"),
        (f"{layer}.attention.self.{{query,key,value}}", *linear, "3*(H^2 + H)", "L", f"3*({square})"),
        (f"{layer}.attention.output.dense", *linear, "H^2 + H", "L", square),
        (f"{layer}.attention.output.LayerNorm", *norm, "L", "2*768"),
        (f"{layer}.intermediate.dense", *linear, "H*F + F", "L", "(768 + 1)*3072"),
        (f"{layer}.output.dense", *linear, "H*F + H", "L", "(3072 + 1)*768"),
        (f"{layer}.output.LayerNorm", *norm, "L", "2*768"),
        ("pooler.dense", *linear, "H^2 + H", "1", square),
    ]
    return make_form(symbols, rows)


def vgg16():
    """Simonyan and Zisserman 2015, configuration D: 13 convolutions of 3 by 3, 3 linear layers, all with biases.

    Biases of equal length beside each other are one component here, apart from the weights.
    """
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    weights, biases = {}, {}
    for place, (inward, outward) in zip(places, pairwise(widths), strict=True):
        weights.setdefault((inward, outward), []).append(place)
        biases.setdefault(outward, []).append(place)
    rows = [
        (at("features", found), "Conv2d", "weight", str(9 * a * b), str(len(found)), f"3*3*{a}*{b}")
        for (a, b), found in weights.items()
    ]
    rows += [(at("features", found), "Conv2d", "bias", str(b), str(len(found)), "") for b, found in biases.items()]
    rows += [
        ("classifier.0", "Linear", "weight", "102760448", "1", "25088*4096"),
        ("classifier.3", "Linear", "weight", "16777216", "1", "4096*4096"),
        ("classifier.{0,3}", "Linear", "bias", "4096", "2", ""),
        ("classifier.6", "Linear", "weight bias", "4097*C", "1", "(4096 + 1)*1000"),
    ]
    return make_form({"C": ("num_classes", 1000)}, rows)


def at(name, places):
    return f"{name}.{places[0]}" if len(places) == 1 else f"{name}.{{{','.join(map(str, places))}}}"


TOTALS = {"t5-small": 60_506_624, "bert-base-uncased": 109_482_240, "vgg16": 138_357_544}


@pytest.fixture(scope="session", name="make_form")
def make_form_fixture():
    return make_form


@pytest.fixture(scope="session")
def forms():
    made = {"t5-small": t5_small(), "bert-base-uncased": bert_base(), "vgg16": vgg16()}
    assert {name: form.total for name, form in made.items()} == TOTALS
    return made
