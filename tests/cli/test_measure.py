from __future__ import annotations

import json

import msgspec
import pytest

from tonnage.analyses.measurement import Failure, Measurement
from tonnage.cli import main
from tonnage.errors import CannotMeasure
from tonnage.report import Report, load_saved

DEFAULTS = {
    "device": None,
    "repeats": 3,
    "warmup": 1,
    "batch": 1,
    "seq": None,
    "image_size": None,
    "mode": "inference",
    "optimizer": "adamw",
    "precision": "fp32",
    "attention": None,
    "checkpointing": False,
    "trust_remote_code": False,
}


class Measured(msgspec.Struct, kw_only=True):
    measurement: Measurement
    report: Report | None
    predicted: Report

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


@pytest.fixture
def measuring(pipeline, handmade, handmade_recording):
    """The stub measures nothing; `failure` is what ended it early."""
    pipeline.failure, pipeline.measured, pipeline.calls = None, True, []

    def measure(subject, *, progress, **options):
        pipeline.calls.append((subject, options))
        report = handmade(name=subject)
        report.with_recording(lambda: handmade_recording(report))
        measurement = Measurement(
            device="cpu", repeats=3, warmup=1, in_process=False, runs=[], spread={}, failure=pipeline.failure
        )
        return Measured(measurement=measurement, report=report if pipeline.measured else None, predicted=report)

    pipeline.measure = measure
    return pipeline


def test_defaults_are_those_of_the_function(measuring, capsys):
    assert main(["measure", "bert"]) == 0
    assert measuring.calls == [("bert", DEFAULTS)]
    assert capsys.readouterr().out.startswith("bert ")


def test_options_reach_the_function(measuring, capsys):
    main(
        ["measure", "bert", "--device", "cpu", "--repeats", "5", "--warmup", "0", "--batch", "8", "--mode", "training"]
    )
    given = {"device": "cpu", "repeats": 5, "warmup": 0, "batch": 8, "mode": "training"}
    assert measuring.calls == [("bert", DEFAULTS | given)]


@pytest.mark.parametrize(("trouble", "code"), [("out of memory", 1), ("died", 2), ("failed", 2), ("interrupted", 130)])
def test_exit_codes(measuring, capsys, trouble, code):
    measuring.failure = Failure(trouble=trouble, run=1, message="the reason")
    assert main(["measure", "bert"]) == code
    assert "the reason" in capsys.readouterr().out


def test_json_on_stdout_is_all_there_is(measuring, capsys):
    assert main(["measure", "bert", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["measurement"]["device"] == "cpu"


def test_what_is_saved_is_shown(measuring, capsys, tmp_path):
    file = str(tmp_path / "it.tonnage")
    assert main(["measure", "bert", "--save", file]) == 0
    assert load_saved(file)[0].recording is not None
    capsys.readouterr()
    assert main(["show", file]) == 0
    assert "= allocated" in capsys.readouterr().out


def test_nothing_to_save(measuring, capsys, tmp_path):
    measuring.measured = False
    assert main(["measure", "bert", "--save", str(tmp_path / "it.tonnage")]) == CannotMeasure.exit_code
    assert "nothing was measured that could be saved" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
