"""Derivations of T5-small, BERT-base and VGG16, right and wrong, against forms made by hand.

Sizes of what people get wrong are worked out here from the architectures, with Python's integers.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.analyses.derivation import Derivation, Term, check, parse_derivation, read_derivation
from tonnage.analyses.derivation.labels import roles_of_label
from tonnage.analyses.derivation.parts import expanded, parts_of
from tonnage.errors import BadFile, BadOption

DOCS = Path(__file__).parents[3] / "docs" / "derivations"
H, F, V, L = 768, 3072, 30522, 12  # BERT-base
D, D_F, T5_V = 512, 2048, 32128  # T5-small


def derivation(*terms, total=None, **symbols):
    """Terms as (label, formula), (label, formula, claimed) or (label, formula, claimed, times)."""
    made = []
    for label, formula, *rest in terms:
        claimed, times = (*rest, None, None)[:2]
        made.append(Term(label=label, formula=formula, claimed=claimed, times=times or "1"))
    return Derivation(terms=made, total=total, symbols=symbols)


BERT = {
    "token": ("word embeddings", "V*H"),
    "position": ("position embeddings", "P*H"),
    "segment": ("token type embeddings", "T*H"),
    "embedding norm": ("embedding norm", "2H"),
    "layer": ("encoder layer", "4(H² + H) + 2HF + F + H + 4H", None, "L"),
    "pooler": ("pooler", "H^2 + H"),
}


def bert_with(**changes):
    """The right derivation of BERT with some terms replaced; None takes a term out."""
    terms = {**BERT, **changes}
    return derivation(*(term for term in terms.values() if term))


def causes(checked, label):
    (term,) = [term for term in checked.terms if term.label == label]
    return [(cause.kind, cause.what, cause.amount) for cause in term.causes]


def paths(covers):
    return {cover.path for cover in covers}


def reconciles(checked):
    amounts = [correction.cause.amount for correction in checked.corrections]
    in_terms = [cause.amount for term in checked.terms for cause in term.causes]
    assert checked.claimed_total + sum(amounts) == checked.true_total
    assert sum(term.true for term in checked.terms) + sum(c.amount for c in checked.missing) == checked.true_total
    assert all(term.claimed + sum(c.amount for c in term.causes) == term.true for term in checked.terms)
    assert sum(amounts) == sum(in_terms) + sum(c.amount for c in checked.missing) + (
        checked.written_sum - checked.claimed_total
    )
    return True


# -- the three worked examples ------------------------------------------------------------------------------------


def test_the_published_derivation_of_t5(forms):
    checked = check(read_derivation(str(DOCS / "t5-small.yaml")), forms["t5-small"])
    assert (checked.claimed_total, checked.written_sum, checked.true_total) == (94_260_224, 94_260_224, 60_506_624)
    assert causes(checked, "vocabulary") == [("constant", "", (32128 - 32100) * D)]
    assert causes(checked, "positions") == [
        ("does not exist", "position", -D * D),
        ("left out", "position", 2 * 32 * 8),
    ]
    layer = 4 * D**2 + 2 * D * D_F + D_F + 7 * D
    assert causes(checked, "encoder layer") == [
        ("slip", "", 6 * (layer - 4_720_640)),
        ("invented", "bias", -6 * (4 * D + D_F + D)),
    ]
    layer = 8 * D**2 + 2 * D * D_F + D_F + 15 * D
    assert causes(checked, "decoder layer") == [
        ("slip", "", 6 * (layer - 8_206_336)),
        ("invented", "bias", -6 * (8 * D + D_F + D)),
        ("invented", "norm bias", -6 * 3 * D),
    ]
    assert causes(checked, "final norms") == []
    assert checked.missing == []
    assert checked.exit_code == 1 and reconciles(checked)


def test_the_published_derivation_of_bert(forms):
    checked = check(read_derivation(str(DOCS / "bert-base-uncased.yaml")), forms["bert-base-uncased"])
    assert (checked.claimed_total, checked.written_sum, checked.true_total) == (108_808_704, 108_808_704, 109_482_240)
    assert causes(checked, "attention") == [("left out", "bias", L * 4 * H)]
    assert causes(checked, "feed-forward") == [("left out", "bias", L * (F + H))]
    assert [(c.kind, c.what, c.amount) for c in checked.missing] == [("left out", "pooler", H * H + H)]
    assert [term.label for term in checked.terms if not term.ok] == ["attention", "feed-forward"]
    assert checked.exit_code == 1 and reconciles(checked)


def test_the_published_derivation_of_vgg(forms):
    checked = check(read_derivation(str(DOCS / "vgg16.yaml")), forms["vgg16"])
    assert checked.claimed_total == checked.true_total == 138_357_544
    assert [(c.label, c.cause.kind, c.cause.amount) for c in checked.corrections] == [
        ("", "sum", 3 * 10_000),
        ("conv5_1", "slip", -10_000),
        ("conv5_2", "slip", -10_000),
        ("conv5_3", "slip", -10_000),
    ]
    assert checked.exit_code == 1 and reconciles(checked)


def test_a_worked_example_that_is_put_right_is_right(forms):
    checked = check(bert_with(), forms["bert-base-uncased"])
    assert checked.ok and checked.exit_code == 0 and checked.corrections == []
    assert {term.label: sum(c.total for c in term.covers) for term in checked.terms}["encoder layer"] == L * 7_087_872


# -- mistakes one by one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "label", "found"),
    [
        ({"token": ("word embeddings", "30000*H")}, "word embeddings", [("constant", "", 522 * H)]),
        ({"token": ("word embeddings", "v*H")}, "word embeddings", [("constant", "", 522 * H)]),
        ({"position": ("position embeddings", "514*768")}, "position embeddings", [("constant", "", -2 * H)]),
        (
            {"layer": ("encoder layer", "4H²+2HF+4H", None, "L")},
            "encoder layer",
            [("left out", "bias", L * (5 * H + F))],
        ),
        (
            {"layer": ("encoder layer", "4H²+2HF+F+H+4H", None, "L")},
            "encoder layer",
            [("left out", "bias", L * 4 * H)],
        ),
        (
            {"layer": ("encoder layer", "4(H²+H)+2HF+4H", None, "L")},
            "encoder layer",
            [("left out", "bias", L * (F + H))],
        ),
        (
            {"layer": ("encoder layer", "4(H²+H)+2HF+F+H", None, "L")},
            "encoder layer",
            [("left out", "norm", L * 4 * H)],
        ),
        (
            {"layer": ("encoder layer", "4H²+2HF", None, "L")},
            "encoder layer",
            [("left out", "norm", L * 4 * H), ("left out", "bias", L * (5 * H + F))],
        ),
        (
            {"layer": ("encoder layer", "4(H²+H)+2HF+F+H+2H", None, "L")},
            "encoder layer",
            [("left out", "norm bias", L * 2 * H)],
        ),
        (
            {"layer": ("encoder layer", "4(H²+H)+2HF+F+H+4H", None, "10")},
            "encoder layer",
            [("repeats", "", 2 * 7_087_872)],
        ),
        ({"layer": ("encoder layer", "4(H²+H)+2HF+F+H+4H")}, "encoder layer", [("repeats", "", 11 * 7_087_872)]),
        (
            {"layer": ("encoder layer", "3(H²+H)+2HF+F+H+4H", None, "L")},
            "encoder layer",
            [("left out", "attention", L * (H * H + H))],
        ),
        (
            {"layer": ("encoder layer", "8H²+4H+2HF+F+H+4H", None, "L")},
            "encoder layer",
            [("constant", "", -L * 4 * H * H)],
        ),
        ({"pooler": ("pooler", "H^2 + H", 590_593)}, "pooler", [("slip", "", -1)]),
        ({"pooler": ("pooler", "H^2", 590_592)}, "pooler", [("formula", "", 0)]),
        ({"pooler": ("池化层", "H^2")}, "池化层", [("left out", "bias", H)]),
    ],
)
def test_each_mistake_is_named_with_its_exact_amount(forms, changes, label, found):
    own = {"v": 30000} if "v*H" in str(changes) else {}
    made = Derivation(terms=bert_with(**changes).terms, symbols=own)
    checked = check(made, forms["bert-base-uncased"])
    assert sorted(causes(checked, label)) == sorted(found)
    assert [term.label for term in checked.terms if not term.ok] == [label]
    assert checked.exit_code == 1 and reconciles(checked)


def test_what_no_term_counts_is_listed(forms):
    checked = check(bert_with(pooler=None, segment=None), forms["bert-base-uncased"])
    assert all(term.ok for term in checked.terms)
    assert {(c.what, c.amount) for c in checked.missing} == {("pooler", H * H + H), ("segment", 2 * H)}
    assert checked.exit_code == 1 and reconciles(checked)


def test_the_second_attention_of_a_decoder_and_the_tied_head(forms):
    checked = check(
        derivation(
            ("词嵌入", "V*H"),
            ("编码器层", "4H² + 2HF + 2H", None, "L"),
            ("解码器层", "4H² + 2HF + 3H", None, "L_d"),
            ("相对位置偏置", "2*b*h"),
            ("最终归一化", "2H"),
            ("LM head", "V*H"),
        ),
        forms["t5-small"],
    )
    assert causes(checked, "解码器层") == [("left out", "cross", 6 * 4 * D * D)]
    assert causes(checked, "LM head") == [("tied", "", -T5_V * D)]
    assert [term.label for term in checked.terms if not term.ok] == ["解码器层", "LM head"]
    assert reconciles(checked)


def test_a_number_that_no_size_can_stand_for_is_no_obstacle(forms):
    made = derivation(("pooler", "H^n + H + 5"), total=None, n=2)
    checked = check(made, forms["bert-base-uncased"])
    assert causes(checked, "pooler") == [("unexplained", "", -5)] and reconciles(checked)


def test_an_attention_with_fewer_heads_for_keys_and_values(make_form):
    size, kv = 4096, 1024
    rows = [
        ("layers.{0-31}.self_attn.q_proj", "Linear", "weight", "H*H", "L", f"{size}*{size}"),
        ("layers.{0-31}.self_attn.{k_proj,v_proj}", "Linear", "weight", "2*H*K", "L", f"2*{size}*{kv}"),
        ("layers.{0-31}.self_attn.o_proj", "Linear", "weight", "H*H", "L", f"{size}*{size}"),
    ]
    form = make_form({"H": ("hidden_size", size), "K": ("kv", kv), "L": ("layers", 32)}, rows)
    checked = check(derivation(("attention", "4H²", None, "L")), form)
    assert causes(checked, "attention") == [("heads", "", -32 * 2 * size * (size - kv))]


def test_a_component_counted_twice(forms):
    checked = check(
        bert_with(again=("pooler", "H^2 + H"), token=("word embeddings", "V*H")), forms["bert-base-uncased"]
    )
    assert [[c.kind for c in term.causes] for term in checked.terms] == [[], [], [], [], [], [], ["twice"]]
    assert checked.corrections[0].cause.amount == -(H * H + H) and reconciles(checked)


def test_weights_and_biases_may_be_terms_of_their_own(forms):
    checked = check(
        bert_with(
            layer=("attention", "4H²", None, "L"),
            biases=("attention biases", "4H", None, "L"),
            ffn=("feed-forward", "2HF", None, "L"),
            other=("feed-forward biases", "H + F", None, "L"),
            norms=("layer norms", "4H", None, "L"),
        ),
        forms["bert-base-uncased"],
    )
    assert checked.ok, checked


def test_one_number_of_several_layers_of_equal_size_counts_one(forms):
    form = forms["vgg16"]
    checked = check(derivation(("conv4_2", "(9*512 + 1)*512"), ("conv4_3", "9*512*512")), form)
    assert [sum(c.count * c.each for c in term.covers) for term in checked.terms] == [9 * 512**2 + 512] * 2
    assert causes(checked, "conv4_3") == [("left out", "bias", 512)]


def test_a_formula_without_labels_is_matched_by_size_and_by_formula(forms):
    checked = check(read_derivation("V*H + P*H + T*H + 2H + L(4H² + 2HF + 9H + F)"), forms["bert-base-uncased"])
    assert [paths(term.covers) for term in checked.terms[:4]] == [
        {"embeddings.word_embeddings"},
        {"embeddings.position_embeddings"},
        {"embeddings.token_type_embeddings"},
        {"embeddings.LayerNorm"},
    ]
    assert all(term.ok for term in checked.terms)
    assert [(c.what, c.amount) for c in checked.missing] == [("pooler", H * H + H)]
    assert reconciles(checked)


@pytest.mark.parametrize(
    "source", ["V*H + P*H + H² + L(4H² + 2HF + 9H + F) + 5H", "23440896 + 86041344", "2(54741120)"]
)
def test_a_formula_without_labels_that_is_right_may_be_collected_in_any_way(forms, source):
    checked = check(read_derivation(source), forms["bert-base-uncased"])
    assert checked.ok and sum(cover.total for cover in checked.terms[0].covers) == 109_482_240


def test_a_total_alone_is_compared(forms):
    form = forms["bert-base-uncased"]
    assert check(read_derivation("109,482,240"), form).exit_code == 0
    near = check(read_derivation("110,000,000"), form)
    assert [(c.cause.kind, c.cause.amount) for c in near.corrections] == [("unexplained", -517_760)]
    assert near.exit_code == 1 and reconciles(near)


def test_a_formula_with_its_total_after_an_equals_sign(forms):
    made = read_derivation("30522*768 + 512*768 ＝ 23,834,113")
    assert [term.formula for term in made.terms] == ["30522*768", "512*768"]
    checked = check(made, forms["bert-base-uncased"])
    assert checked.corrections[0].cause.kind == "sum" and checked.corrections[0].cause.amount == -1


# -- what cannot be checked ---------------------------------------------------------------------------------------


def test_an_unknown_symbol_names_the_known_ones_by_symbol_and_field(forms):
    with pytest.raises(BadOption) as raised:
        check(derivation(("vocabulary", "V*Q"), Q2=3), forms["t5-small"])
    assert "`Q`" in raised.value.message
    assert {"V", "H", "d_model", "num_layers", "Q2"} <= set(re.findall(r"\w+", raised.value.hint))


@pytest.mark.parametrize(
    ("model", "file"), [("vgg16", "t5-small"), ("vgg16", "bert-base-uncased"), ("t5-small", "vgg16")]
)
def test_the_derivation_of_another_model_is_refused(forms, model, file):
    with pytest.raises(BadOption, match="no derivation of this model"):
        check(read_derivation(str(DOCS / f"{file}.yaml")), forms[model])


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (("pooler", "H/5"), "no whole number"),
        (("pooler", "4H^2 + * 3"), "cannot read"),
        (("pooler", "H", None, "0"), "occurs 0 times"),
        (("pooler", "H", None, "1/2"), "no whole number"),
        (("pooler", "9^9^9"), "no count can be"),
    ],
)
def test_a_term_that_makes_no_sense(forms, term, message):
    with pytest.raises(BadOption, match=message):
        check(derivation(term), forms["bert-base-uncased"])


# -- files --------------------------------------------------------------------------------------------------------


def test_yaml_json_and_short_form_say_the_same(tmp_path):
    long = (
        "symbols: {H: 512}\nterms:\n  - {label: pooler, formula: H^2, claimed: '262,144', times: 2}\ntotal: 524_288\n"
    )
    same = parse_derivation(
        '{"symbols": {"H": 512}, "total": "524,288", "terms": '
        '[{"label": "pooler", "formula": "H^2", "claimed": 262144, "times": "2"}]}'
    )
    file = tmp_path / "mine.YAML"
    file.write_bytes(b"\xef\xbb\xbf" + long.encode())
    assert read_derivation(str(file)) == parse_derivation(long) == same
    short = parse_derivation("terms:\n  pooler: H^2 = 262,144\n  number: 12\n")
    assert short.terms == [
        Term(label="pooler", formula="H^2", claimed=262_144),
        Term(label="number", formula="12"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, not a derivation"),
        ("- 1\n- 2\n", "is a list, not a derivation"),
        ("12", "is a number, not a derivation"),
        ("terms: []", "`terms` in it is a list"),
        ("total: 3", "`terms` in it is empty"),
        ("terms: [3]", "term 1 in it is a number"),
        ("terms: [{label: a}]", "neither a formula nor a number"),
        ("terms: [{label: a, formula: 1, count: 2}]", "`count`, which means nothing"),
        ("terms: [{label: [a], formula: 1}]", "label of term 1 in it is a list"),
        ("terms: [{label: a, formula: 1.5}]", "is a decimal number"),
        ("terms: [{label: a, formula: yes}]", "is a yes or no"),
        ("terms: {a: 1}\nsymbols: [H]", "`symbols`"),
        ("terms: {a: 1}\nsymbols: {H: x}", "`symbols`"),
        ("terms: {a: 1}\ntotal: [1]", "no whole number"),
        ("terms: {a: 1}\ntotal: 3/2", "no whole number"),
        ("terms: {a: 1}\nsum: 3", "`sum`, which means nothing"),
        ("terms:\n  - label: a\n  formula: *b\n", "line 3"),
        ("terms: {a: !!python/object/apply:os.system [ls]}", "neither JSON nor YAML"),
        ('{"terms": ', "neither JSON nor YAML"),
        ("[" * 5000, "neither JSON nor YAML"),
        ("terms: {" + ", ".join(f"a{n}: 1" for n in range(600)) + "}", "600 terms"),
    ],
)
def test_a_malformed_file_gets_one_message(text, message):
    with pytest.raises((BadFile, BadOption)) as raised:
        parse_derivation(text, name="it")
    assert message in raised.value.message and raised.value.hint


def test_files_that_are_missing_too_large_or_no_text(tmp_path):
    with pytest.raises(BadFile, match="no file"):
        read_derivation(str(tmp_path / "none.yaml"))
    file = tmp_path / "file.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="UTF-8"):
        read_derivation(str(file))
    file.write_bytes(b" " * 300_000)
    with pytest.raises(BadFile, match="300,000 bytes"):
        read_derivation(str(file))


@pytest.mark.parametrize("source", ["\0", "1+" * 400 + "1", "(" * 3000])
def test_a_formula_that_no_file_can_be_called_is_a_formula(source):
    try:
        assert read_derivation(source).terms
    except BadOption as refused:
        assert refused.hint


@given(st.text(max_size=80))
def test_any_text_is_a_derivation_or_refused(text):
    try:
        parse_derivation(text)
    except (BadFile, BadOption) as refused:
        assert refused.message


# -- matching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5-small", "bert-base-uncased", "vgg16"])
def test_the_parts_of_a_model_add_up_to_it(forms, name):
    parts = parts_of(forms[name].components)
    assert sum(part.total for part in parts) == forms[name].total


def test_biases_are_told_from_weights(forms):
    biases = {part.path: part.each for part in parts_of(forms["bert-base-uncased"].components) if part.what == "bias"}
    layer = "encoder.layer.{0-11}"
    assert biases == {
        "embeddings.LayerNorm": H,
        f"{layer}.attention.self.{{query,key,value}}": H,
        f"{layer}.attention.output.dense": H,
        f"{layer}.attention.output.LayerNorm": H,
        f"{layer}.intermediate.dense": F,
        f"{layer}.output.dense": H,
        f"{layer}.output.LayerNorm": H,
        "pooler.dense": H,
    }
    convolutions = [part for part in parts_of(forms["vgg16"].components) if part.what == "bias"]
    assert {(part.path, part.each, part.count) for part in convolutions} >= {
        ("features.0", 64, 1),
        ("features.{12,14}", 256, 2),
        ("features.{19,21,24,26,28}", 512, 5),
        ("classifier.6", 1000, 1),
    }


def test_a_folded_path_is_unfolded():
    assert expanded("h.{0-1}.ln_{1,2}") == ["h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2"]


@pytest.mark.parametrize(
    ("label", "roles"),
    [
        ("vocabulary", {"token"}),
        ("Token embeddings", {"token"}),
        ("position_embeddings", {"position"}),
        ("token type embeddings", {"segment"}),
        ("embeddings", {"embedding"}),
        ("layer norm", {"norm"}),
        ("final LayerNorm", {"norm", "final"}),
        ("multi-head attention", {"attention"}),
        ("decoder cross-attention", {"decoder", "cross", "attention"}),
        ("decoder self-attention", {"decoder", "self", "attention"}),
        ("encoder layers", {"encoder", "block"}),
        ("Feed-forward network", {"ffn"}),
        ("LM head", {"head"}),
        ("conv3_2", {"conv"}),
        ("fc6", {"linear"}),
        ("词嵌入", {"token"}),
        ("位置编码", {"position"}),
        ("解码器交叉注意力", {"decoder", "cross", "attention"}),
        ("编码器层", {"encoder", "block"}),
        ("层归一化", {"norm"}),
        ("前馈网络", {"ffn"}),
        ("卷积层", {"conv"}),
        ("全连接层 1", {"linear"}),
        ("注意力偏置", {"attention", "bias"}),
        ("my first guess", set()),
    ],
)
def test_words_of_a_label(label, roles):
    assert roles_of_label(label) == roles
