"""Parameter counts derived by hand, each through `tonnage.weigh`.

`tests/truth/zoo.json` and the counts of `tests/truth/seed_tables.json` say what each model is and how many parameters
it has; the builders in conftest make just that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tonnage

TRUTH = Path(__file__).parents[1] / "truth"
ZOO = {m["name"]: m for m in json.loads((TRUTH / "zoo.json").read_text(encoding="utf-8"))["models"]}
COUNTS = json.loads((TRUTH / "seed_tables.json").read_text(encoding="utf-8"))["counts"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


SEQUENCE = ((torch.zeros(16, 2, 512),), {})
GIVEN: dict[str, Inputs] = {
    "multihead_attention_512_8": ((torch.zeros(16, 2, 512),) * 3, {}),
    "layer_norm_512": SEQUENCE,
    "transformer_encoder_layer_512_8": SEQUENCE,
    "transformer_decoder_layer_512_8": ((torch.zeros(16, 2, 512),) * 2, {}),
}


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str, subjects: Any) -> None:
    make, inputs = subjects[name]
    assert tonnage.weigh(make(), inputs=inputs).parameters.total == ZOO[name]["parameters"]


@pytest.mark.parametrize("name", COUNTS)
def test_the_counts_of_the_report(name: str, counted: Any) -> None:
    report = tonnage.weigh(counted[name](), inputs=GIVEN.get(name))
    assert report.parameters.total == COUNTS[name]


def test_nothing_of_the_truth_is_left_out(subjects: Any, counted: Any) -> None:
    assert set(subjects) == set(ZOO) and set(counted) == set(COUNTS)
