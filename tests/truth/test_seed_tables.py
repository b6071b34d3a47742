"""The published RTX 3060 tables with the libraries installed; `make tables` runs those of the report's month."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tonnage.units import MiB

pytest.importorskip("transformers")

TABLES = Path(__file__).parents[2] / "benchmarks" / "tables" / "tables.py"


@cache
def tables() -> Any:
    spec = importlib.util.spec_from_file_location("tables", TABLES)
    assert spec is not None and spec.loader is not None
    sys.modules["tables"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def cells() -> list[Any]:
    return [cell for cell in tables().run() if cell.published is not None]


def test_every_published_cell_is_measured() -> None:
    assert len({(c.model, c.batch, c.seq) for c in cells()}) == 11


def test_cells_agree_or_are_explained_to_the_byte() -> None:
    for cell in cells():
        if not cell.agrees:
            assert cell.slack, cell
            assert round(cell.without_slack / MiB, 2) == cell.published, cell


def test_blocks_handed_out_whole_had_no_more_than_a_mebibyte_too_much() -> None:
    for cell in cells():
        assert all(0 < slack.extra <= MiB for slack in cell.slack)


def test_the_sequence_column_is_linear() -> None:
    """26,640 B for each encoder token and 153,088 B for each sample, derived in docs/tables.md."""
    for cell in cells():
        if cell.model == "t5_small":
            exact = cell.batch * (26_640 * cell.seq + 153_088)
            unrounded_pieces = 1 + 6 * 4 + 6 * 4 + 1 + 3
            assert 0 <= cell.without_slack - exact < 512 * unrounded_pieces, cell


def test_the_first_vgg_cell_holds_a_third_of_a_workspace() -> None:
    first = next(cell for cell in cells() if cell.model == "vgg16" and cell.batch == 1)
    image, logits, workspace = 3 * 224 * 224 * 4, 1000 * 4 + 96, 8_519_680
    assert first.measured == pytest.approx(image + logits + workspace / 3)


def test_a_wrong_cell_would_be_seen() -> None:
    cell = tables().Cell("vgg16", 1, None, 3.29, 3.29 * MiB + 20_000, ())
    assert not cell.agrees
