"""Every error can be looked up in docs/messages.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tonnage import errors

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ERRORS = [errors.TonnageError, *errors.TonnageError.__subclasses__()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.slug)
def test_every_slug_has_a_cause_and_a_remedy(error):
    section = SECTIONS[error.slug]
    assert "**Cause.**" in section and "**What to do.**" in section


def test_no_heading_without_an_error():
    assert set(SECTIONS) == {error.slug for error in ERRORS}


def test_slugs_are_their_own():
    assert len({error.slug for error in ERRORS}) == len(ERRORS)
