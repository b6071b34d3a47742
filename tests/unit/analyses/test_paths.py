"""Paths of modules as one text."""

from __future__ import annotations

import pytest

from tonnage.analyses.paths import folded


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        ([""], ""),
        (["head"], "head"),
        ([f"layer.{n}.q" for n in range(12)], "layer.{0-11}.q"),
        (["0", "2", "4"], "{0,2,4}"),
        (["0", "1"], "{0,1}"),
        ([f"layer.{n}.{name}" for name in "qk" for n in range(3)], "layer.{0-2}.{q,k}"),
        ([f"encoder_layer_{n}" for n in range(4)], "encoder_layer_{0-3}"),
        (["bn1", "bn2", "bn3"], "{bn1,bn2,bn3}"),
    ],
)
def test_paths_as_one(paths, text):
    assert folded(paths) == text
