"""Tokens are spread evenly over experts where their scores are unknown."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import tonnage
from tonnage.virtual import routing


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("T4") as card:
        yield card


def scores(tokens=300, experts=8):
    """More floats than are followed."""
    return torch.randn(tokens, experts, device="cuda").softmax(-1)


def said(gpu):
    return {a.what for a in gpu.recording.assumptions}


CHOICES = {
    "topk": lambda s: s.topk(2).indices,
    "topk of the first dimension": lambda s: s.T.topk(2, 0).indices,
    "argmax": lambda s: s.argmax(-1),
    "max": lambda s: s.max(-1).indices,
}


@pytest.mark.parametrize("name", CHOICES)
def test_every_expert_is_chosen_as_often(gpu, name):
    chosen = CHOICES[name](scores())
    counts = torch.bincount(chosen.flatten(), minlength=8).tolist()
    assert sum(counts) == chosen.numel()
    assert max(counts) - min(counts) <= 1
    assert said(gpu) == {routing.SAYS}


@pytest.mark.parametrize("top", [2, 3])
def test_the_experts_of_a_token_differ(gpu, top):
    chosen = scores().topk(top).indices
    assert functional.one_hot(chosen, 8).sum(1).max().item() == 1


def test_each_expert_is_given_the_tokens_that_chose_it(gpu):
    chosen = scores().topk(2).indices
    x = torch.zeros(300, 16, device="cuda")
    given = [x[torch.where(chosen == expert)[0]].shape[0] for expert in range(8)]
    assert given == [75] * 8


def test_known_scores_are_routed_as_they_are(gpu):
    known = torch.tensor([[0.1, 0.9], [0.8, 0.2]]).cuda()
    assert known.argmax(-1).tolist() == [1, 0]
    assert not said(gpu)


@pytest.mark.parametrize("choose", [lambda x: x.argmax(-1), lambda x: x.argmax(), lambda x: x.topk(2).indices[0, 0]])
def test_a_choice_among_words_is_unknown(gpu, choose):
    assert choose(scores(2, routing.MOST_EXPERTS + 1)).max().item() == 1
    assert said(gpu) == {"an unknown int64 was asked for: 1 stands in"}


def test_a_histogram_of_the_choice_does_not_need_its_values(gpu):
    """transformers counts tokens per expert with one of integers, which a CPU has not."""
    counts = torch.histc(scores().topk(2).indices.int(), bins=8, min=0, max=7)
    assert counts.cumsum(0).shape == (8,)
