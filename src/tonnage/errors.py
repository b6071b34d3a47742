"""What can go wrong, in the user's words.

TonnageError                      something could not be done as asked (exit code 2)
|- UnknownCard                    a GPU name that is not in the catalogue
|- UnknownModel                   a model name that nothing resolves
|- BadOption                      an option with a value that makes no sense (negative batch, seq too long)
|- SubjectFailed                  the user's own factory or module raised, or returned no module
|- MissingLibrary                 a model needs a library that is not installed
|- CannotRecord                   the step depends on values that no shape determines
|- CannotMeasure                  there is no such device, or it went away
|- BadFile                        a saved file that is corrupt, newer, or of another kind

Messages say what was asked and what was found; `hint` says the one thing to do about it. `slug` is the heading
of the same name in docs/messages.md.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_NOT_DONE = 2


class TonnageError(Exception):
    """Something that could not be done as asked, with a hint at what to do about it."""

    slug = "not-done"
    exit_code = EXIT_NOT_DONE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class UnknownCard(TonnageError):
    slug = "unknown-card"


class UnknownModel(TonnageError):
    slug = "unknown-model"


class BadOption(TonnageError, ValueError):
    slug = "bad-option"


class SubjectFailed(TonnageError):
    slug = "subject-failed"


class MissingLibrary(TonnageError):
    slug = "missing-library"


class CannotRecord(TonnageError):
    slug = "cannot-record"


class CannotMeasure(TonnageError):
    slug = "cannot-measure"


class BadFile(TonnageError):
    slug = "bad-file"
