#!/usr/bin/env python3
"""Records what this machine's card does: about 200 small cases and 45 models, each into a file of its own.

    python benchmarks/truth/record.py                        into tests/truth/<card>-torch<version>/
    python benchmarks/truth/record.py --match linear         some of them
    python benchmarks/truth/record.py --seconds 600          stops to begin new cases after ten minutes

Needs a card, PyTorch with CUDA, and this checkout; transformers and torchvision for the models. What is there already
is not recorded again, so an interrupted run goes on where it stopped. Commit the folder: the tests replay it without a
card (tests/truth/test_recordings.py).
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]  # so that it runs as a file, and without being installed

import torch  # noqa: E402

from benchmarks.truth.recorded.cases import Case, all_cases  # noqa: E402
from benchmarks.truth.recorded.kept import (  # noqa: E402
    CARD,
    END,
    default_folder,
    is_kept,
    kept_case,
    load_card,
    save,
    save_card,
)
from tonnage.errors import TonnageError  # noqa: E402
from tonnage.measuring.cuda import CudaRecorder, environment  # noqa: E402
from tonnage.recording import Environment  # noqa: E402

_LONGEST_ERROR = 2000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder; default: tests/truth/<card>-torch<version>")
    parser.add_argument("--match", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after so many seconds")
    chosen = parser.parse_args(argv)
    try:
        card = _card()
    except TonnageError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    folder = chosen.out or default_folder(card)
    if trouble := prepare(folder, card):
        print(f"error: {trouble}", file=sys.stderr)
        return 2
    cases = [case for case in all_cases().values() if re.search(chosen.match, case.name)]
    left = record(cases, folder, seconds=chosen.seconds)
    print(f"{len(cases) - left} of {len(cases)} cases are in {folder}")
    return 1 if left else 0


def record(cases: Iterable[Case], folder: Path, *, seconds: float = float("inf")) -> int:
    """Records what `folder` does not have yet; returns how many cases are left when the time is over."""
    began, left = time.monotonic(), 0
    for case in cases:
        if is_kept(folder, case.name):
            continue
        if time.monotonic() - began > seconds:
            left += 1
            continue
        error = record_case(case, folder)
        print(f"{case.name}{f': {error.splitlines()[-1]}' if error else ''}", flush=True)
    return left


def record_case(case: Case, folder: Path) -> str:
    """Runs one case and keeps what the card did; returns what it raised, "" for nothing."""
    error = ""
    _clear()
    with CudaRecorder(stacks=False) as recorder:
        try:
            case.run(recorder.mark)
        except Exception:  # a case that fails is kept with its error
            error = traceback.format_exc()[-_LONGEST_ERROR:]
        recorder.mark(END)
    snapshot, said = recorder.kept
    save(kept_case(case, snapshot, said, device=torch.cuda.current_device(), error=error), folder)
    return error


def _clear() -> None:
    """Leaves nothing to the next case: it begins as a process does that has just begun."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _card() -> Environment:
    with CudaRecorder():
        pass
    return environment()


def prepare(folder: Path, card: Environment) -> str:
    """Makes the folder; says what is wrong where it has the recordings of another card or PyTorch."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CARD).exists():
        save_card(card, folder)
        return ""
    known = load_card(folder)
    before, now = ((known.device, known.torch_running), (card.device, card.torch_running))
    if before == now:
        return ""
    return f"{folder} holds {before[0]} with PyTorch {before[1]}, this is {now[0]} with {now[1]}: name another --out"


if __name__ == "__main__":
    raise SystemExit(main())
