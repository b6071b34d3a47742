"""What is found out about each size by asking."""

from __future__ import annotations

import pytest

from tonnage.analyses.closed_form.survey import Direction, Survey, indices_of, is_regular, pattern_of


@pytest.mark.parametrize(
    ("name", "pattern", "indices"),
    [
        ("embed.weight", "embed.weight", []),
        ("layer.3.weight", "layer.{}.weight", [3]),
        ("encoder_layer_11.weight", "encoder_layer_{}.weight", [11]),
        ("stage.2.block.0.conv", "stage.{}.block.{}.conv", [2, 0]),
        ("conv3.weight", "conv3.weight", []),
        ("layer1.0.conv2.weight", "layer1.{}.conv2.weight", [0]),
        ("weight_hh_l3_reverse", "weight_hh_l{}_reverse", [3]),
        ("7", "{}", [7]),
    ],
)
def test_the_numbers_of_repeats(name, pattern, indices):
    assert pattern_of(name) == pattern
    assert list(indices_of(name)) == indices


def test_what_moves_together_stays_in_proportion():
    direction = Direction("H", {"H": 8, "d": 4}, (8, 16))
    assert direction.at(24) == {"H": 24, "d": 12}


def test_each_size_of_a_model(small_encoder):
    survey = Survey(small_encoder.ask, small_encoder.sizes)
    directions, held = survey.directions()
    found = {d.field: d for d in directions}
    assert found.keys() == {"V", "H", "L", "F"}
    assert [name for name, d in found.items() if d.repeats] == ["L"]
    assert survey.settled == {"L": 2}, "two layers are the fewest with every kind of layer"
    assert found["H"].levels[0] == 8
    assert held == {}


def test_a_size_that_nothing_follows(toy):
    model = toy({"H": 8, "dropout_layers": 4}, lambda s: {"w": (s["H"], 3)})
    directions, held = Survey(model.ask, model.sizes).directions()
    assert [d.field for d in directions] == ["H"]
    assert held == {}


def test_a_size_that_is_rounded_is_followed(toy):
    """Up to a multiple of 8: 2, 3 and 4 all make 8."""
    model = toy({"H": 2}, lambda s: {"w": (-(-s["H"] // 8) * 8,)})
    survey = Survey(model.ask, model.sizes)
    assert survey.near({"H": 4}) == survey.near({"H": 3}) == survey.base
    directions, _ = survey.directions()
    assert [d.field for d in directions] == ["H"]


def test_a_size_that_can_have_no_other_value(toy):
    model = toy({"H": 8, "version": 2}, lambda s: {"w": (s["H"],)} if s["version"] == 2 else None)
    directions, held = Survey(model.ask, model.sizes).directions()
    assert [d.field for d in directions] == ["H"]
    assert held == {"version": "no other value of it builds the same architecture"}


def test_sizes_that_have_to_move_together(toy):
    """A width that has to be h*d, where all three are given."""
    model = toy({"H": 8, "O": 8}, lambda s: {"w": (s["H"], 5)} if s["H"] == s["O"] else None)
    directions, held = Survey(model.ask, model.sizes).directions()
    assert [(d.field, dict(d.moved)) for d in directions] == [("H", {"H": 8, "O": 8})]
    assert held == {}


def test_one_answer_is_asked_for_once(small_encoder):
    survey = Survey(small_encoder.ask, small_encoder.sizes)
    assert survey.at({"H": 16}) is survey.at({"H": 16}) is survey.near({"H": 16})
    assert small_encoder.asked == 1


def test_a_value_that_is_the_subjects_own_is_no_change(small_encoder):
    survey = Survey(small_encoder.ask, small_encoder.sizes)
    assert survey.at({"H": 8}) is survey.at({})
    assert small_encoder.asked == 1


BASE = {"layer.0.w": (4,), "layer.1.w": (4,), "head": (2,)}


@pytest.mark.parametrize(
    ("table", "regular"),
    [
        (BASE, True),
        ({**BASE, "layer.2.w": (4,)}, True),
        ({"layer.0.w": (6,), "head": (2,)}, True),
        ({"layer.0.w": (6,), "layer.1.w": (6,), "layer.2.w": (6,), "head": (2,)}, True),
        ({**BASE, "layer.2.w": (5,)}, False),
        ({**BASE, "norm": (4,)}, False),
        ({"layer.0.w": (4,)}, False),
        ({"layer.2.w": (4,), "head": (2,)}, False),
    ],
)
def test_tables_of_the_same_architecture(table, regular):
    assert is_regular(BASE, table) is regular


def test_a_size_that_has_to_divide_is_looked_at_downwards(toy):
    """n/p patches to a side: with p twice or thrice as large what n has is cut off."""
    model = toy({"n": 32, "p": 16}, lambda s: {"position": ((s["n"] // s["p"]) ** 2, 4)})
    survey = Survey(model.ask, model.sizes)
    patch = next(d for d in survey.directions()[0] if d.field == "p")
    below = survey.downwards(patch)
    assert below is not None
    assert all(level <= 16 and 32 % level == 0 for level in below.levels)
    assert survey.downwards(below) is None
