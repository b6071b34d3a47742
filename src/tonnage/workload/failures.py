"""Whose fault it was: turns what the user's code or a library raised into this project's errors.

Running out of the card's memory is an answer and passes through unchanged.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tonnage.errors import CannotRecord, SubjectFailed, TonnageError

# How torch says that a value was needed which a tensor without data does not have.
_NEEDS_VALUES = re.compile(r"[Mm]eta tensor|'Meta' backend|[Dd]ata.dependent|unbacked|_local_scalar_dense")
_NO_RULE = re.compile(r"(\w+::[\w.]+): attempted to run this operator with Meta tensors")
_OWN = Path(__file__).resolve().parents[1]
_TORCH = Path(torch.__file__).resolve().parent


@contextmanager
def blaming(what: str, *, hint: str) -> Iterator[None]:
    """Raises SubjectFailed, or CannotRecord where a value was missing, for anything raised inside the block.

    `what` is the sentence's subject ("the forward pass of Net"). The original exception stays as `__cause__`.
    """
    try:
        yield
    except (TonnageError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if missing := _NO_RULE.search(str(error)):
            raise CannotRecord(
                f"{what} runs {missing[1]}, for which PyTorch has no rule without data\n{_excerpt(error)}",
                hint="leave that part out of the model, or measure it on a card",
            ) from error
        if _needs_values(error):
            raise CannotRecord(
                f"{what} depends on values that no shape determines\n{_excerpt(error)}",
                hint="take that decision outside of the model, or make it depend on shapes or on small CPU tensors",
            ) from error
        raise SubjectFailed(f"{what} failed\n{_excerpt(error)}", hint=hint) from error


def _needs_values(error: BaseException) -> bool:
    name = type(error).__name__
    return name in ("DataDependentOutputException", "GuardOnDataDependentSymNode", "DynamicOutputShapeException") or (
        isinstance(error, NotImplementedError | RuntimeError) and bool(_NEEDS_VALUES.search(str(error)))
    )


def _excerpt(error: BaseException) -> str:
    """The error and the innermost line that is neither torch's nor ours, as a traceback shows it."""
    said = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    if not frames:
        return said
    last = frames[-1]
    return f'  File "{last.filename}", line {last.lineno}, in {last.name}\n    {last.line}\n{said}'


def _is_machinery(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_OWN) or path.is_relative_to(_TORCH) or filename.startswith("<frozen")
