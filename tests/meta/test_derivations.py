"""The worked examples of docs/derivations.md, on the forms that are derived from the real models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tonnage
from tonnage.analyses.derivation import check, parse_derivation, read_derivation

DOCS = Path(__file__).parents[2] / "docs"
FACTS = {
    "t5-small": (94_260_224, 60_506_624),
    "bert-base-uncased": (108_808_704, 109_482_240),
    "torchvision:vgg16": (138_357_544, 138_357_544),
}
"""Published totals, and the counts of tests/truth/seed_tables.json."""


@pytest.mark.parametrize("model", FACTS)
def test_the_worked_examples_are_reconciled_with_nothing_left_over(model):
    file = DOCS / "derivations" / f"{model.rpartition(':')[2]}.yaml"
    result = check(read_derivation(str(file)), tonnage.params(model).parameters.form)
    assert (result.claimed_total, result.true_total) == FACTS[model]
    assert result.claimed_total + sum(step.cause.amount for step in result.corrections) == result.true_total
    assert "unexplained" not in {step.cause.kind for step in result.corrections}
    assert result.exit_code == 1


def test_the_file_of_the_page_is_one_and_adds_up():
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / "derivations.md").read_text("utf-8"), re.M | re.S)
    made = parse_derivation(example)
    assert made.total == sum(term.claimed * int(term.times) for term in made.terms)
    assert 4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768 == made.terms[0].claimed
