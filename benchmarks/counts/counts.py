"""Who counts the models of tests/truth/zoo.json right, and in what time.

    make counts                                                  every peer, in an environment of its own
    python benchmarks/counts/counts.py                           the peers that are installed
    python benchmarks/counts/counts.py --tools torch tonnage --models bert vgg16
    python benchmarks/counts/counts.py --write docs/benchmarks/counts.md

Each tool counts each model in a fresh process, once on CPU and once on `meta`. The model and its inputs are built
before the clock starts. The first call stands apart; the times are the median, the smallest and the largest of the
calls after it, five at most and as many as begin within five seconds. The tools take turns, model by model, so a
machine whose speed drifts moves all of them. What each call is: `tools.py`. What is right: the numbers of the zoo,
which were derived by hand.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from models import build
from table import Outcome, page
from tools import TOOLS, installed

ROOT = Path(__file__).parents[2]
ZOO = {model["name"]: model for model in json.loads((ROOT / "tests/truth/zoo.json").read_text("utf-8"))["models"]}
DEVICES = ("cpu", "meta")
REPEATS = 5
SECONDS = 5.0
PATIENCE = 300


def count_here(tool: str, device: str, model: str) -> dict[str, Any]:
    """The answer of one tool on one model, in this process; an exception of the tool is an answer too."""
    subject = build(model, device)
    seconds: list[float] = []
    began = time.perf_counter()
    try:
        while len(seconds) <= REPEATS and (not seconds or time.perf_counter() - began < SECONDS):
            start = time.perf_counter()
            count = TOOLS[tool](subject)
            seconds.append(time.perf_counter() - start)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
    return {**count._asdict(), "seconds": seconds}


def count(tool: str, device: str, model: str) -> Outcome:
    """The same in a fresh process."""
    missing = _missing_memory(device, model)
    if missing:
        return Outcome(missing=missing)
    command = [sys.executable, __file__, "--one", tool, device, model]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    except subprocess.TimeoutExpired:
        return Outcome(error=f"no answer in {PATIENCE} s")
    if ran.returncode:
        return Outcome(error=f"exit code {ran.returncode}: {ran.stderr.strip().rpartition(chr(10))[2]}")
    return Outcome(**json.loads(ran.stdout.splitlines()[-1]))


def _missing_memory(device: str, model: str) -> str:
    """Why the weights of `model` cannot be had on this machine, "" if they can."""
    weights = 4 * ZOO[model]["parameters"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device == "meta" or weights < 0.8 * memory:
        return ""
    return f"{weights / 2**30:.0f} GiB of weights"


def compile_tonnage() -> None:
    """Compiles tonnage, as pip has the others: it may be an editable install whose bytecode nobody has written."""
    origin = find_spec("tonnage").origin
    compileall.compile_dir(Path(origin).parent, quiet=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--models", nargs="+", choices=ZOO, default=list(ZOO))
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--one", nargs=3, metavar=("TOOL", "DEVICE", "MODEL"), help="one answer, here, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(count_here(*options.one)))
        return
    compile_tonnage()
    versions = {tool: installed(tool) for tool in options.tools}
    present = [(tool, device) for tool in options.tools if versions[tool] for device in DEVICES]
    outcomes: dict[tuple[str, str, str], Outcome] = {}
    for model in options.models:
        for tool, device in present:
            print(f"{model}: {tool} on {device}", file=sys.stderr)
            outcomes[tool, device, model] = count(tool, device, model)
    text = page([ZOO[model] for model in options.models], versions, outcomes)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
