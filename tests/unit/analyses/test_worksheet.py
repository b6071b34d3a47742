"""Worksheets: what is asked, that the answers are right, and what is said about wrong ones."""

from __future__ import annotations

import json
import re

import pytest

from tonnage.analyses.worksheet import Answers, Filled, grade, make_worksheet, parse_worksheet, read_worksheet
from tonnage.errors import BadFile, BadOption

MODELS = ("t5-small", "bert-base-uncased", "vgg16")
ATTENTION = "encoder.block.{0-5}.layer.0.SelfAttention.{q,k,v}"
BIASES = "encoder.layer.{0-11}.attention.self.{query,key,value}"


def filled(form, *, total="", **blanks):
    """The key of `form` with the answers for one path replaced."""
    path = blanks.pop("path")
    answers = parse_worksheet(make_worksheet(form).key)
    components = [
        Answers(path=path, **{"formula": a.formula, "numbers": a.numbers, "times": a.times, "count": a.count} | blanks)
        if a.path == path
        else a
        for a in answers.components
    ]
    return Filled(components=components, total=total or answers.total)


def marks(graded, path):
    (item,) = [item for item in graded.items if item.path == path]
    return {blank.blank: blank.mark for blank in item.blanks}


def causes(graded, path, blank):
    (item,) = [item for item in graded.items if item.path == path]
    (found,) = [b for b in item.blanks if b.blank == blank]
    return [(cause.kind, cause.what, cause.amount) for cause in found.causes]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("model", MODELS)
def test_the_key_is_right_and_the_sheet_is_blank(forms, model, lang):
    form = forms[model]
    worksheet = make_worksheet(form, lang, name=model)
    asked = 4 * len(form.components) + 1
    key = grade(parse_worksheet(worksheet.key), form)
    assert (key.right, key.asked, key.exit_code) == (asked, asked, 0)
    sheet = grade(parse_worksheet(worksheet.sheet), form)
    assert (sheet.right, sheet.asked, sheet.exit_code) == (0, asked, 1)
    assert {blank.mark for item in sheet.items for blank in item.blanks} == {"blank"}


@pytest.mark.parametrize("model", MODELS)
def test_the_answers_multiply_and_add_up_to_the_total(forms, model):
    key = json.loads(make_worksheet(forms[model]).key)
    assert sum(int(component["count"]) for component in key["components"]) == int(key["total"]) == forms[model].total


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_sheet_does_not_give_the_answers_away(forms, lang):
    form = forms["bert-base-uncased"]
    worksheet = make_worksheet(form, lang, name="BERT")
    for text in (worksheet.markdown, worksheet.sheet):
        for component in form.components:
            assert component.path in text and f"{component.total:,}" not in text
            assert component.formula not in text and component.substituted not in text
        assert all(f"{symbol.symbol}" in text and symbol.field in text for symbol in form.symbols)
    assert bool(re.search("[一-鿿]", worksheet.markdown)) == (lang == "zh")


def test_the_markdown_is_a_table_of_equal_rows(forms):
    lines = make_worksheet(forms["vgg16"]).markdown.splitlines()
    table = [line for line in lines if line.startswith("|")][-len(forms["vgg16"].components) - 2 :]
    assert {line.count("|") for line in table} == {9}


def test_another_way_to_write_it_is_right(forms):
    form = forms["bert-base-uncased"]
    graded = grade(
        filled(form, path=BIASES, formula="3H(hidden_size + 1)", numbers="2,304 × 769", times="12", count="21,261,312"),
        form,
    )
    assert marks(graded, BIASES) == dict.fromkeys(["formula", "numbers", "times", "count"], "right")
    assert graded.exit_code == 0


def test_a_formula_that_is_right_for_this_model_alone_is_told_apart(forms):
    graded = grade(filled(forms["t5-small"], path=ATTENTION, formula="3H²"), forms["t5-small"])
    assert marks(graded, ATTENTION)["formula"] == "here"
    assert graded.right == graded.asked - 1 and graded.exit_code == 1


@pytest.mark.parametrize(
    ("blanks", "blank", "found"),
    [
        ({"formula": "3H^2"}, "formula", [("left out", "bias", 3 * 768)]),
        ({"numbers": "3*768*768"}, "numbers", [("left out", "bias", 3 * 768)]),
        ({"numbers": "3*(512^2 + 768)"}, "numbers", [("constant", "", 3 * (768**2 - 512**2))]),
        ({"numbers": "4*(768^2 + 768)"}, "numbers", [("constant", "", -(768**2 + 768))]),
        ({"times": "6"}, "times", [("repeats", "", 6)]),
        ({"count": "21,261,321"}, "count", [("slip", "", -9)]),
        ({"count": "21,233,664", "numbers": "", "formula": ""}, "count", [("left out", "bias", 12 * 3 * 768)]),
        ({"count": "7"}, "count", [("slip", "", 21_261_312 - 7)]),
    ],
)
def test_why_an_answer_is_wrong(forms, blanks, blank, found):
    form = forms["bert-base-uncased"]
    graded = grade(filled(form, path=BIASES, **blanks), form)
    assert marks(graded, BIASES)[blank] == "wrong"
    assert causes(graded, BIASES, blank) == found


def test_biases_that_do_not_exist(forms):
    form = forms["t5-small"]
    graded = grade(filled(form, path=ATTENTION, numbers="3*(512*512 + 512)"), form)
    assert causes(graded, ATTENTION, "numbers") == [("invented", "bias", -3 * 512)]


def test_a_total_that_is_not_the_sum_of_the_counts(forms):
    form = forms["vgg16"]
    graded = grade(filled(form, path="features.0", total="138,357,554"), form)
    assert graded.total.mark == "wrong"
    assert [(c.kind, c.amount) for c in graded.total.causes] == [("sum", -10)]


def test_components_that_were_not_handed_in_are_blank(forms):
    graded = grade(Filled(components=[]), forms["t5-small"])
    assert graded.right == 0 and graded.asked == 4 * len(forms["t5-small"].components) + 1


def test_the_worksheet_of_another_model_is_refused(forms):
    answers = parse_worksheet(make_worksheet(forms["vgg16"]).sheet)
    with pytest.raises(BadOption, match="worksheet of another model"):
        grade(answers, forms["t5-small"])


@pytest.mark.parametrize(
    ("answer", "message"), [("4H^2 +", "ends too early"), ("4*Q", "unknown symbol"), ("1/0", "zero")]
)
def test_an_answer_that_cannot_be_read_says_where(forms, answer, message):
    with pytest.raises(BadOption, match=message) as raised:
        grade(filled(forms["bert-base-uncased"], path=BIASES, formula=answer), forms["bert-base-uncased"])
    assert BIASES in raised.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list of `components`"),
        ("terms: {a: 1}", "no list of `components`"),
        ("components: [3]", "component 1 in it has no path"),
        ("components: [{path: a, answer: 3}]", "`answer`, which means nothing"),
        ("components: [{path: a, formula: [3]}]", "`formula` of component 1 in it is a list"),
        ("components: []\ntotal: 1.5", "the total in it is a decimal number"),
        ("components: [", "neither JSON nor YAML"),
    ],
)
def test_a_malformed_worksheet_gets_one_message(text, message):
    with pytest.raises(BadFile) as raised:
        parse_worksheet(text, name="it")
    assert message in raised.value.message and raised.value.hint


def test_a_file_is_read(forms, tmp_path):
    file = tmp_path / "bert.yaml"
    file.write_text(make_worksheet(forms["bert-base-uncased"], "zh").sheet, encoding="utf-8")
    assert len(read_worksheet(file).components) == len(forms["bert-base-uncased"].components)
