"""A pipeline that weighs nothing, so that the command line is tested alone and without torch."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import tonnage


@pytest.fixture
def pipeline(monkeypatch, handmade, handmade_recording):
    """The stub: `calls` is what it was called with, `answers` what it gives by subject (or raises)."""
    stub = ModuleType("tonnage.pipeline")
    stub.calls = []
    stub.answers = {}

    def weigh(subject, *, progress, **options):
        stub.calls.append((subject, options))
        progress("forward done")
        answer = stub.answers.get(subject) or handmade(name=subject)
        if isinstance(answer, BaseException):
            raise answer
        return answer.with_recording(lambda: handmade_recording(answer))

    stub.weigh = weigh
    monkeypatch.setitem(sys.modules, "tonnage.pipeline", stub)
    monkeypatch.setattr(tonnage, "pipeline", stub, raising=False)
    return stub
