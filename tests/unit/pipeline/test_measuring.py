"""Measuring: a child process and whatever becomes of it, and modules measured here."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
import torch
from torch import nn

import tonnage
from tonnage.errors import BadOption, CannotMeasure
from tonnage.pipeline import gathering
from tonnage.workload import resolve

WEIGHTS = 4 * (4 * 4 + 4)
INPUT = OUTPUT = 4 * 2 * 4
BEFORE = WEIGHTS + INPUT
"""The factory's own input is there as well; the model gets a copy."""
CODE = """
import os, sys, time
import torch
from torch import nn

class Model(nn.Module):
    runs = 0

    def __init__(self, trouble):
        super().__init__()
        self.linear, self.trouble = nn.Linear(4, 4), trouble

    def forward(self, x):
        Model.runs += 1
        print("the model's own words")
        out = self.linear(x)
        if "tonnage.measuring.child" in " ".join(sys.orig_argv) and Model.runs == 2:
            self.trouble()
        return out

def memory(): torch.empty(1 << 45)
def killed(): os.kill(os.getpid(), 9)
def left(): os._exit(3)
def slow(): time.sleep(600)
def wrong(): raise ValueError("of mine")
def nothing(): pass

def make(trouble):
    return lambda: (Model(trouble), ((torch.ones(2, 4),), {}))

for trouble in (memory, killed, left, slow, wrong, nothing):
    globals()[f"with_{trouble.__name__}"] = make(trouble)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("subject") / "models.py"
    path.write_text(CODE)
    return path


def measure(file, trouble, **options):
    return tonnage.measure(f"{file}:with_{trouble}", device="cpu", warmup=0, repeats=3, **options)


@pytest.fixture(scope="module")
def fine(file):
    return measure(file, "nothing")


def test_figures_by_hand(fine):
    figures = fine.measurement.spread
    assert len(fine.measurement.runs) == 3 and fine.measurement.failure is None
    assert figures["before"].mean == BEFORE
    assert figures["after"].mean == figures["peak_tensors"].mean == BEFORE + INPUT + OUTPUT
    assert figures["increase"].mean == INPUT + OUTPUT
    assert figures["before"].deviation == 0 and figures["before"].least == figures["before"].most


def test_the_prediction_stands_beside_it(fine):
    assert fine.predicted.memory.peak.allocated_bytes == fine.measurement.spread["peak_tensors"].mean
    assert not fine.predicted.environment.measured and fine.report.environment.measured
    assert set(fine.report.memory.peak.by_category_known.values()) == {"measured"}


def test_it_is_saved_as_any_report(fine, tmp_path):
    from tonnage.report import load_saved, save_reports

    save_reports(tmp_path / "it.tonnage", [fine.report])
    (loaded,) = load_saved(tmp_path / "it.tonnage")
    assert loaded.memory == fine.report.memory and loaded.recording == fine.report.recording


def test_it_is_json(fine):
    said = json.loads(fine.to_json())
    assert said["measurement"]["spread"]["before"]["mean"] == BEFORE
    assert said["report"]["environment"]["device_type"] == "cpu"


@pytest.mark.parametrize(
    ("trouble", "name", "words"),
    [
        ("memory", "out of memory", "can't allocate memory"),
        ("killed", "died", "SIGKILL, which is what Linux does when memory runs out"),
        ("left", "died", "exit code 3"),
        ("wrong", "failed", "of mine"),
    ],
)
def test_what_was_complete_is_kept(file, trouble, name, words):
    measured = measure(file, trouble)
    failure = measured.measurement.failure
    assert failure.trouble == name and words in failure.message and failure.run == 2
    assert [run.complete for run in measured.measurement.runs if run.complete] == [True]
    assert measured.measurement.spread["before"].mean == BEFORE
    assert measured.report.recording is not None


def test_a_run_that_ran_out_shows_how_far_it_got(file):
    measured = tonnage.measure(f"{file}:with_memory", device="cpu", warmup=1, repeats=1)
    assert [run.complete for run in measured.measurement.runs] == [False]
    assert measured.measurement.runs[0].before == BEFORE and measured.measurement.runs[0].after is None
    assert measured.measurement.spread == {}
    assert measured.report.memory.peak.allocated_bytes == BEFORE + INPUT + OUTPUT


@pytest.fixture
def heeding_ctrl_c():
    """A shell starts what runs in its background deaf to Ctrl-C, and so without Python's handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_child_and_keeps_what_is_complete(file, heeding_ctrl_c):
    children = []
    real = subprocess.Popen

    def starting(*args, **kwargs):
        children.append(real(*args, **kwargs))
        return children[-1]

    def interrupting(stage):
        if stage.startswith("run 2 of 3: inputs made"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering.subprocess, "Popen", starting)
        measured = measure(file, "slow", progress=interrupting)
    assert measured.measurement.failure.trouble == "interrupted"
    assert [run.complete for run in measured.measurement.runs] == [True]
    assert children[0].poll() is not None


def test_a_failure_before_the_model_is_there(tmp_path):
    (tmp_path / "never.py").write_text(
        "import sys, torch\n"
        "def make():\n"
        "    if 'tonnage.measuring.child' in ' '.join(sys.orig_argv): raise ValueError('only there')\n"
        "    return torch.nn.Linear(4, 4), ((torch.ones(2, 4),), {})\n"
    )
    measured = tonnage.measure(f"{tmp_path}/never.py:make", device="cpu")
    failure = measured.measurement.failure
    assert (failure.trouble, failure.run) == ("failed", 1) and "only there" in failure.message
    assert measured.measurement.spread == {}


def test_a_module_is_measured_here_and_never_changed():
    module = nn.Linear(4, 4)
    weight = module.weight.detach().clone()
    measured = tonnage.measure(module, inputs=((torch.ones(2, 4),), {}), device="cpu", mode="training", repeats=2)
    assert measured.measurement.in_process and len(measured.measurement.runs) == 2
    assert measured.measurement.spread["before"].mean == WEIGHTS
    assert torch.equal(module.weight, weight) and module.weight.grad is None


@pytest.mark.parametrize("trusted", [True, False])
def test_inputs_of_a_subject_whose_code_may_run(file, monkeypatch, trusted):
    """GIVEN inputs, so that it is measured here, THEN what was said of its code holds for the measurement too."""
    asked = []

    def resolving(subject, *, trust_remote_code=False):
        asked.append(trust_remote_code)
        return resolve(subject, trust_remote_code=trust_remote_code)

    monkeypatch.setattr(gathering, "resolve", resolving)
    inputs = ((torch.ones(2, 4),), {})
    tonnage.measure(f"{file}:with_nothing", inputs=inputs, device="cpu", repeats=1, trust_remote_code=trusted)
    assert asked == [trusted]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_there_is_no_card():
    with pytest.raises(CannotMeasure, match="found torch") as caught:
        tonnage.measure("t5-small", device="cuda")
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": -1}, {"repeats": True}, {"device": "tpu"}], ids=str)
def test_bad_options(wrong):
    with pytest.raises(BadOption):
        tonnage.measure("t5-small", **wrong)
