"""What is run, and what makes no sense to run."""

from __future__ import annotations

import pytest

from tonnage.errors import EXIT_NOT_DONE, BadOption
from tonnage.scenario import Scenario


def test_the_default_is_one_forward_pass_of_one_sample() -> None:
    scenario = Scenario()
    assert (scenario.batch, scenario.mode, scenario.precision, scenario.training) == (1, "inference", "fp32", False)
    assert Scenario(mode="training").training


@pytest.mark.parametrize("name", ["batch", "seq", "image_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_sizes_are_whole_numbers_of_at_least_one(name: str, value: object) -> None:
    with pytest.raises(BadOption, match=f"{name} must be a whole number of at least 1") as caught:
        Scenario(**{name: value})
    assert caught.value.exit_code == EXIT_NOT_DONE
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value", "choice"),
    [
        ("mode", "train", "training"),
        ("optimizer", "adamww", "adamw"),
        ("precision", "int8", "bf16"),
        ("attention", "flash", "sdpa"),
    ],
)
def test_an_unknown_choice_names_the_known_ones(name: str, value: str, choice: str) -> None:
    with pytest.raises(BadOption, match=f"{name} '{value}' is not known") as caught:
        Scenario(**{name: value})
    assert choice in caught.value.hint
