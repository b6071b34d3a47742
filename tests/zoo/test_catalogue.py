"""Every catalogue entry, built and counted, against the figure that the outside world gives for it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tonnage.scenario import Scenario
from tonnage.workload import libraries, resolve
from tonnage.workload.catalogue import Entry, all_entries, find_entry, names

DOCS = Path(__file__).parents[2] / "docs"
FIGURE = re.compile(r"(?P<number>[\d,.]+)(?P<unit>[MB]?)(?P<corrections>( [+-] [\d,]+)*): .")
UNITS = {"": 1, "M": 10**6, "B": 10**9}


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    module = libraries.load("transformers")
    if int(module.__version__.split(".")[0]) < 5:
        pytest.skip("the counts are those of transformers 5, see docs/models.md")
    return module


def build(entry: Entry) -> nn.Module:
    with torch.device("meta"):
        return resolve(entry.name).build(Scenario())


def figure(entry: Entry) -> tuple[float, float]:
    """The published figure, and half a unit of its last digit. Zeros at the end of a rounded one are no digits."""
    found = FIGURE.match(entry.published)
    assert found, entry.published
    number = found["number"].replace(",", "")
    digits = number if entry.exact or "." in number else number.rstrip("0")
    last = 10.0 ** (len(number) - len(digits)) / 10 ** len(number.partition(".")[2])
    corrections = sum(int(sign.replace(" ", "").replace(",", "")) for sign in re.findall("[+-] [0-9,]+", found[0]))
    unit = UNITS[found["unit"]]
    return float(number) * unit + corrections, 0 if entry.exact else last * unit / 2


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: entry.name)
def test_the_model_that_is_built_has_the_parameters_the_entry_says(transformers: ModuleType, entry: Entry) -> None:
    model = build(entry)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: entry.name)
def test_the_parameters_are_the_published_ones(entry: Entry) -> None:
    published, tolerance = figure(entry)
    assert abs(entry.parameters - published) <= tolerance
    assert entry.exact == (FIGURE.match(entry.published)["unit"] == "")


@pytest.mark.parametrize(
    ("published", "exact", "expected"),
    [
        ("109,482,240: x", True, (109_482_240, 0)),
        ("100 + 20 - 3: x", True, (117, 0)),
        ("3.8M: x", False, (3.8e6, 0.05e6)),
        ("82M: x", False, (82e6, 0.5e6)),
        ("790M: x", False, (790e6, 5e6)),
    ],
)
def test_how_a_published_figure_is_read(published: str, exact: bool, expected: tuple[float, float]) -> None:
    entry = Entry("x", (), "X", {}, 1, published, exact)
    assert figure(entry) == pytest.approx(expected)


def test_no_two_entries_answer_to_one_name() -> None:
    owners: dict[str, set[str]] = {}
    for entry in all_entries():
        for name in (entry.name, *entry.aliases):
            owners.setdefault(name.rpartition("/")[2].casefold(), set()).add(entry.name)
    assert {name: found for name, found in owners.items() if len(found) > 1} == {}


def test_a_name_is_found_in_any_case_by_its_alias_and_without_its_organisation() -> None:
    bert = find_entry("bert-base-uncased")
    assert bert is not None and bert.architecture == "BertModel" and bert.parameters == 109_482_240
    assert find_entry("google-bert/BERT-base-uncased") == bert
    assert find_entry("llama-3.1-8b") == find_entry("meta-llama/Llama-3.1-8B-Instruct")
    assert find_entry("someone/bert-base-uncased") is None
    assert find_entry("") is None
    assert {"bert-base-uncased", "google-bert/bert-base-uncased"} <= set(names())


def test_the_config_is_the_callers_own() -> None:
    entry = find_entry("google/gemma-3-4b-pt")
    entry.config["text_config"]["hidden_size"] = 1  # type: ignore[index]
    assert find_entry("google/gemma-3-4b-pt").config["text_config"]["hidden_size"] == 2560


def test_there_are_at_least_sixty_models() -> None:
    assert len({entry.name for entry in all_entries()}) == len(all_entries()) >= 60


def test_the_page_shows_the_present_catalogue() -> None:
    spec = importlib.util.spec_from_file_location("models_table", DOCS / "models_table.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    assert script.page(text) == text, "run `python docs/models_table.py`"
