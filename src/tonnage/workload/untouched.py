"""Leaves the user's random number generators as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SEED = 0


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Seeds the generators of torch (CPU), `random` and NumPy inside the block; puts their states back after it.

    NumPy is left alone unless it is imported already: nothing else can have used its generator.
    """
    torch_state = bytearray(torch.default_generator.get_state().tolist())  # a tensor would be memory of the step
    python_state = random.getstate()
    numpy_random = sys.modules.get("numpy.random")
    numpy_state = numpy_random.get_state() if numpy_random else None
    torch.default_generator.manual_seed(_SEED)
    random.seed(_SEED)
    if numpy_random:
        numpy_random.seed(_SEED)
    try:
        yield
    finally:
        torch.default_generator.set_state(torch.frombuffer(torch_state, dtype=torch.uint8))
        random.setstate(python_state)
        if numpy_random:
            numpy_random.set_state(numpy_state)
