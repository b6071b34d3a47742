"""What several commands say of their options."""

from __future__ import annotations


def choices(names: tuple[str, ...]) -> str:
    """How an option that takes one of `names` is shown; the Scenario checks it, with a better message than click's."""
    return f"[{'|'.join(names)}]"
