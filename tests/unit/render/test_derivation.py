"""The pages of derivations and worksheets are read back: what they print must add up, fit and say what was found."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from tonnage.analyses.derivation import Derivation, Term, check, read_derivation
from tonnage.analyses.worksheet import grade, make_worksheet, parse_worksheet
from tonnage.render.derivation import CAUSES, PARTS, SAY, checked_page, graded_page

DOCS = Path(__file__).parents[3] / "docs" / "derivations"
FILES = ("t5-small", "bert-base-uncased", "vgg16")
HOSTILE = "[bold]x[/] \x1b[31m naïve 模型"
AMOUNT = re.compile(r"([+-]?[\d,]+)$")


def stream(encoding="utf-8"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def checked(forms, name):
    return check(read_derivation(str(DOCS / f"{name}.yaml")), forms[name])


def amounts(lines):
    return [int(found[1].replace(",", "")) for line in lines if (found := AMOUNT.search(line))]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", FILES)
def test_the_printed_reconciliation_adds_up(forms, name, width, lang):
    result = checked(forms, name)
    page = checked_page(result, stream(), name=name, lang=lang, width=width)
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if SAY[lang]["reconciled"] in line)
    claimed, *steps, true = amounts(lines[start:])
    assert (claimed, true) == (result.claimed_total, result.true_total)
    assert claimed + sum(steps) == true
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("name", FILES)
def test_every_term_is_on_the_page_with_both_numbers_and_its_mark(forms, name):
    result = checked(forms, name)
    lines = checked_page(result, stream(), name=name, width=80).splitlines()
    for term in result.terms:
        numbers = rf" {term.claimed:,} +{term.true:,}$"
        (line,) = [line for line in lines if term.label in line and re.search(numbers, line)]
        assert line.startswith("✓" if term.ok else "✗")


def test_the_page_of_bert_says_what_is_missing(forms):
    page = checked_page(checked(forms, "bert-base-uncased"), stream(), name="bert-base-uncased", width=80)
    assert page.startswith("bert-base-uncased: 2 of 7 terms differ; 673,536 too few\n")
    assert "left out: biases (12 × 3,072)" in page
    assert re.search(r"counted by no term\n +left out: pooler +\+590,592\n +pooler\.dense: 590,592\n", page)


def test_a_right_derivation_says_so_and_corrects_nothing(forms):
    form = forms["bert-base-uncased"]
    page = checked_page(check(read_derivation("109482240"), form), stream(), width=80)
    assert page.startswith("every term and the total are right\n")
    assert "✗" not in page


def test_ascii_where_the_stream_has_no_more(forms):
    page = checked_page(checked(forms, "t5-small"), stream("ascii"), lang="zh", width=80)
    assert page.isascii()
    assert "\nok " in page and "\nno " in page
    assert "32100 should be 32128" in page, "English, as ASCII has no Chinese"
    assert "算错" in checked_page(checked(forms, "t5-small"), stream("gb18030"), lang="zh", width=80)


def test_hostile_labels_are_shown_not_obeyed(forms):
    made = Derivation(terms=[Term(label=HOSTILE, formula="30522*768")])
    page = checked_page(check(made, forms["bert-base-uncased"]), stream(), name=HOSTILE, width=80)
    assert "\x1b" not in page and "[bold]x[/] \\x1b[31m naïve 模型" in page


def test_every_cause_and_part_has_words_in_both_languages():
    for words in (SAY, CAUSES, PARTS):
        assert words["en"].keys() == words["zh"].keys()
        for key in words["en"]:
            assert set(re.findall(r"{\w+}", words["en"][key])) == set(re.findall(r"{\w+}", words["zh"][key]))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_graded_worksheet(forms, lang):
    form = forms["t5-small"]
    key = json.loads(make_worksheet(form).key)
    key["components"][0] |= {"count": "16,435,200", "formula": "", "times": "2"}
    key["components"][1] |= {"formula": "3H^2"}
    page = graded_page(grade(parse_worksheet(json.dumps(key)), form), stream(), name="T5", lang=lang, width=80)
    lines = page.splitlines()
    asked = 4 * len(form.components) + 1
    assert lines[0] == "T5: " + SAY[lang]["score"].format(right=asked - 4, asked=asked)
    assert page.count("✗") == 4 and page.count("✓") == asked - 4
    assert SAY[lang]["expected"].format(expected="16,449,536") in page
    assert SAY[lang]["blank"].format(expected="V*H") in page
    assert SAY[lang]["here"].format(expected="3*H*h*d") in page
    assert max(map(cell_len, lines)) <= 80
