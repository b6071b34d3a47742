"""Which scalar training minimises."""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch

from tonnage.errors import SubjectFailed
from tonnage.workload.loss import loss_of


@dataclass
class Output:
    ids: torch.Tensor
    hidden: torch.Tensor


Pair = namedtuple("Pair", ["scores", "auxiliary"])
SCORES = torch.zeros(4, 8)


def test_cross_entropy_of_equal_scores_is_the_logarithm_of_the_classes():
    loss = loss_of(SCORES, None, 4)
    assert loss.value.item() == pytest.approx(math.log(8))
    assert loss.target is not None and loss.target.shape == (4,)
    assert loss.said == "cross-entropy with random class labels"


def test_labels_made_before_are_used():
    target = torch.tensor([0, 1, 2, 3])
    scores = torch.eye(4) * 100
    assert loss_of(scores, target, 4).value.item() == pytest.approx(0, abs=1e-6)
    assert loss_of(scores, target, 4).target is target


@pytest.mark.parametrize("outputs", [{"loss": torch.tensor(3.0), "logits": SCORES}], ids=["mapping"])
def test_a_loss_that_the_model_returns(outputs):
    loss = loss_of(outputs, None, 4)
    assert (loss.value.item(), loss.said) == (3.0, "the model's own")


@pytest.mark.parametrize(
    ("outputs", "value", "said"),
    [
        (torch.full((2, 3, 4), 5.0), 5.0, "mean of the output, for lack of a loss"),
        (torch.full((4, 1), 5.0), 5.0, "mean of the output, for lack of a loss"),
        (torch.full((3, 8), 5.0), 5.0, "mean of the output, for lack of a loss"),
        (torch.tensor(7.0), 7.0, "the scalar that the model returned"),
        ((torch.ones(2, dtype=torch.int64), torch.full((2,), 5.0)), 5.0, "mean of [1], for lack of a loss"),
        (Pair(torch.full((4, 8), 5.0), SCORES), 5.0, "mean of [0], for lack of a loss"),
        ({"a": {"b": torch.full((2,), 5.0)}}, 5.0, "mean of a.b, for lack of a loss"),
        (Output(torch.ones(2, dtype=torch.int64), torch.full((2,), 5.0)), 5.0, "mean of hidden, for lack of a loss"),
        (torch.full((2, 3), 5.0, dtype=torch.bfloat16), 5.0, "mean of the output, for lack of a loss"),
    ],
    ids=["3d", "one column", "other rows", "scalar", "tuple", "namedtuple", "nested", "dataclass", "bf16"],
)
def test_otherwise_the_mean_of_the_first_floating_output(outputs, value, said):
    loss = loss_of(outputs, None, 4)
    assert (loss.value.item(), loss.said, loss.target) == (value, said, None)
    assert loss.value.dtype == torch.float32


@pytest.mark.parametrize("outputs", [None, "text", torch.ones(2, dtype=torch.int64), []], ids=str)
def test_nothing_to_minimise(outputs):
    with pytest.raises(SubjectFailed, match="without a floating tensor"):
        loss_of(outputs, None, 4)
