"""Many forward passes of one model."""

from __future__ import annotations

import gc

import pytest
import torch

from tonnage.analyses.side_form import Product
from tonnage.pipeline.forwards import forwards
from tonnage.scenario import Scenario
from tonnage.workload import resolve


@pytest.fixture
def runs():
    """The passes of a layer of 3 x 5 weights that is given 4 rows."""
    inputs = ((torch.zeros(4, 3),), {})
    return forwards(resolve(torch.nn.Linear(3, 5)), Scenario(), inputs, card="T4")


def test_a_pass_of_another_size(runs):
    with runs as passes:
        (rows,) = passes.sizes
        assert rows.value == 4
        assert [passes.products({rows.symbol: n}) for n in (4, 7)] == [[Product(4 * 15, 0)], [Product(7 * 15, 0)]]


def test_the_garbage_collector_is_put_back(runs):
    with pytest.raises(KeyError), runs:
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert gc.get_freeze_count() == 0


def test_what_somebody_froze_stays_frozen(runs):
    gc.freeze()
    try:
        with runs:
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
