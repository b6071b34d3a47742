"""Inputs in other sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonnage.workload.resizing import NAMES, of_given
from tonnage.workload.workload import Inputs


def resizable(*args, model=None, **kwargs):
    return of_given(model or nn.Identity(), Inputs.given((args, kwargs)))


def shapes(made):
    return [
        tuple(value.shape) if isinstance(value, torch.Tensor) else value
        for value in (*made.args, *made.kwargs.values())
    ]


IDS = torch.zeros(2, 7, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "kwargs", "sizes"),
    [
        ((IDS,), {}, {"B": 2, "S": 7}),
        ((torch.zeros(2, 7, 16),), {}, {"B": 2, "S": 7}),
        ((torch.zeros(2, 16),), {}, {"B": 2}),
        ((torch.zeros(2, 3, 32, 32),), {}, {"B": 2, "n": 32}),
        ((torch.zeros(2, 3, 32, 64),), {}, {"B": 2}),
        ((torch.zeros(16),), {}, {}),
        ((), {"input_ids": IDS, "attention_mask": torch.ones(2, 7, dtype=torch.int64)}, {"B": 2, "S": 7}),
        ((), {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}, {"B": 2, "S": 7, "T": 5}),
        ((), {"input_ids": IDS, "decoder_input_ids": IDS}, {"B": 2, "S": 7, "T": 7}),
        ((torch.zeros(2, 7, 16), torch.zeros(2, 4, 16)), {}, {"B": 2, "S": 7, "T": 4}),
        ((torch.zeros(2, 3, 32, 32), IDS), {}, {"B": 2, "n": 32, "S": 7}),
        ((torch.zeros(2, 16), torch.zeros(3, 16)), {}, {}),
        ((torch.zeros(2, 7, 16), torch.zeros(5)), {}, {"B": 2, "S": 7}),
    ],
)
def test_the_letters_of_what_was_given(args, kwargs, sizes):
    assert dict(resizable(*args, **kwargs).sizes) == sizes
    assert set(sizes) <= set(NAMES)


def test_equal_lengths_of_two_sides_move_apart():
    made = resizable(input_ids=IDS, decoder_input_ids=IDS).at(nn.Identity(), {"B": 3, "S": 9, "T": 4})
    assert shapes(made) == [(3, 9), (3, 4)]


def test_what_has_no_letter_stays():
    made = resizable(torch.zeros(2, 7, 16), torch.zeros(16), 0.5, flag=True)
    assert shapes(made.at(nn.Identity(), {"B": 5, "S": 3})) == [(5, 3, 16), (16,), 0.5, True]


def test_one_number_for_each_sample():
    """Lengths, or labels."""
    made = resizable(torch.zeros(2, 7, 16), torch.zeros(2, dtype=torch.int64), torch.zeros(()))
    assert shapes(made.at(nn.Identity(), {"B": 5, "S": 3})) == [(5, 3, 16), (5,), ()]


def test_a_third_length_stays_as_it_is():
    made = resizable(torch.zeros(2, 7, 4), torch.zeros(2, 5, 4), torch.zeros(2, 3, 4))
    assert dict(made.sizes) == {"B": 2, "S": 7, "T": 5}
    assert shapes(made.at(nn.Identity(), {"B": 1, "S": 8, "T": 9})) == [(1, 8, 4), (1, 9, 4), (1, 3, 4)]


def test_the_batch_of_a_recurrent_layer_may_come_second():
    lstm = nn.LSTM(4, 8)
    made = resizable(torch.zeros(10, 2, 4), model=lstm)
    assert dict(made.sizes) == {"B": 2, "S": 10}
    assert shapes(made.at(lstm, {"B": 5, "S": 3})) == [(3, 5, 4)]


def test_values_and_types_are_like_those_that_were_given():
    ids = torch.full((2, 3), 42)
    mask = torch.ones(2, 3, dtype=torch.bool)
    made = resizable(ids, mask).at(nn.Identity(), {"B": 4, "S": 6})
    assert made.args[0].dtype == torch.int64 and made.args[0].unique().tolist() == [42]
    assert made.args[1].dtype == torch.bool and made.args[1].all()


def test_tensors_without_data_stay_so():
    made = resizable(torch.zeros(2, 3, dtype=torch.int64, device="meta")).at(nn.Identity(), {"B": 1, "S": 1})
    assert made.args[0].device.type == "meta" and made.args[0].shape == (1, 1)


def test_nested_inputs():
    made = resizable([IDS, {"mask": IDS}]).at(nn.Identity(), {"B": 1, "S": 2})
    assert [tuple(t.shape) for t in (made.args[0][0], made.args[0][1]["mask"])] == [(1, 2), (1, 2)]
