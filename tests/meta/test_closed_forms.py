"""The page of closed forms shows what is derived now, and what it says in short is what it shows at length."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from tonnage.workload.catalogue import all_entries

DOCS = Path(__file__).parents[2] / "docs"
CHEAP = ("DistilBertModel", "OlmoForCausalLM")
"""With one formula for all its models, and with one for each setting."""


def _script():
    spec = importlib.util.spec_from_file_location("closed_forms_table", DOCS / "closed_forms_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "closed-forms.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parameters(page) -> str:
    begin, end = script.PARAMETERS
    return page.partition(begin)[2].partition(end)[0]


@pytest.mark.parametrize("architecture", CHEAP)
def test_a_section_is_what_is_derived_now(parameters, architecture):
    section = script.section(architecture, script.formulas(script.architectures()[architecture]))
    assert f"\n{section}\n" in parameters, "run `python docs/closed_forms_table.py`"


def test_every_model_has_its_place_once(parameters):
    lines = re.findall(r"^(?:Derived from|The same for|`[^`]+`: no formula).*", parameters, re.M)
    named = Counter(name for line in lines for name in re.findall(r"`([^`]+)`", line))
    assert {entry.name: named[entry.name] for entry in all_entries()} == {entry.name: 1 for entry in all_entries()}
    assert re.findall(r"^### (\w+)$", parameters, re.M) == list(script.architectures())


def test_the_summary_adds_up(parameters):
    having, models, share, formulas, architectures, proofs, others = re.search(
        r"(\d+) of the (\d+) models .*?\(([\d.]+)%\): (\d+) formulas for (\d+) architectures, "
        r"proved at (\d+) configurations, and held against the counts of (\d+) models",
        parameters,
    ).groups()
    proved = re.findall(r"^Derived from .* proved at (\d+) of (\d+) other", parameters, re.M)
    assert int(models) == len(all_entries())
    assert int(formulas) == len(proved)
    assert int(proofs) == sum(int(right) for right, _ in proved)
    assert int(architectures) == len(script.architectures())
    assert int(having) == int(formulas) + int(others)
    assert float(share) == round(100 * int(having) / int(models), 1)


def test_every_shown_formula_of_work_is_proved(page):
    begin, end = script.MACS
    macs = page.partition(begin)[2].partition(end)[0]
    assert re.findall(r"^### (\S+)$", macs, re.M) == list(script.WITH_MACS)
    assert "not proved" not in macs


def test_a_long_formula_is_wrapped_between_its_terms():
    formula = " + ".join(f"{number}*some_long_name_{number}" for number in range(20))
    block = script.section("Any", [_made(formula)]).partition("```text\n")[2].partition("\n```")[0]
    lines = block.split("\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= script.WIDTH
    assert " ".join(line.strip() for line in lines) == formula


def _made(formula: str):
    from tonnage.analyses.forms import ParameterForm

    form = ParameterForm(
        formula=formula,
        substituted="",
        latex="",
        total=0,
        symbols=[],
        components=[],
        proofs=[],
        sizes={},
        held={},
        settings={},
        moves={},
        whole=[],
    )
    return script.Formula(form, [all_entries()[0]])
