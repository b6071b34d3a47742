"""Recordings are compared wherever they are kept."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from tests.virtual_history import HistoryOfVirtualCard
from tonnage.errors import BadFile, BadOption
from tonnage.ledger import Category, Ledger
from tonnage.measuring import nvml, recorder_for
from tonnage.measuring.snapshots import write_snapshot
from tonnage.pipeline import compare, weigh
from tonnage.recording import Recording
from tonnage.report import save_reports
from tonnage.scenario import Scenario
from tonnage.trace import Trace
from tonnage.virtual import virtual_gpu
from tonnage.workload import resolve, run

MiB = 2**20


@pytest.fixture
def report(handmade):
    """A report of a recording with 30 MiB of weights and 4 MiB of output."""
    report = handmade()
    ledger = Ledger()
    ledger.mark("start")
    ledger.alloc(30 * MiB, category=Category.PARAMETER)
    ledger.alloc(4 * MiB, category=Category.OUTPUT)
    ledger.mark("forward done")
    recording = Recording(ledger, Trace(), report.environment)
    return report.with_recording(lambda: recording)


def measured(report):
    recording = report.recording
    return replace(recording, environment=replace(recording.environment, measured=True))


def test_reports_recordings_and_their_files(report, tmp_path):
    save_reports(tmp_path / "report", [report])
    measured(report).save(tmp_path / "recording")
    for predicted in (report, report.recording, tmp_path / "report"):
        for other in (measured(report), str(tmp_path / "recording")):
            found = compare(predicted, other)
            assert found.verdict.within and found.residuals == []
            assert found.tier("reserved").figure.predicted == 50 * MiB
    both = compare(report, report)
    assert both.predicted.scenario == report.scenario
    assert (both.predicted.name, both.measured.name) == ("the first report", "the second report")


def test_a_snapshot_says_what_the_card_reserved(report, tmp_path):
    write_snapshot(report.recording, tmp_path / "snapshot.pickle")
    reserved = compare(report, tmp_path / "snapshot.pickle").tier("reserved")
    assert (reserved.measured_known, reserved.allocator_error) == ("measured", 0)
    assert reserved.figure.measured == 50 * MiB


def test_a_run_that_was_measured_as_it_was_predicted(monkeypatch):
    # GIVEN a virtual card in the place of a real one, measured as that is
    monkeypatch.setattr(nvml, "process_bytes", lambda uuid: None)
    monkeypatch.setattr(nvml, "driver_version", lambda: None)
    module = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 256))
    options = {"inputs": ((torch.randn(64, 256),), {}), "mode": "training"}
    models = []
    with virtual_gpu("T4") as gpu:
        HistoryOfVirtualCard(gpu, monkeypatch)
        with recorder_for("cuda") as recorder:

            def watch(model):
                recorder.watch(model)
                models.append(model)

            scenario = Scenario(mode="training")
            run(resolve(module), scenario, inputs=options["inputs"], mark=recorder.mark, watch=watch)
    found = compare(weigh(module, gpu="T4", **options), recorder.recording)
    # THEN the card's own figures are those that were predicted, at every mark, and so is every allocation
    for tiers in [found.peak, *(moment.tiers for moment in found.moments)]:
        assert [tier.figure.difference for tier in tiers[:3]] == [0, 0, 0]
        assert [tier.measured_known for tier in tiers[:3]] == ["exact", "measured", "measured"]
    assert found.residuals == [] and found.verdict.within
    assert len(found.moments) == 9


@pytest.mark.parametrize("tolerance", [-0.1, 1, 2.0])
def test_a_tolerance_that_makes_no_sense(report, tolerance):
    with pytest.raises(BadOption, match="makes no sense"):
        compare(report, report, tolerance=tolerance)


def test_a_report_without_its_recording(handmade, tmp_path):
    (tmp_path / "report.json").write_text(handmade().to_json())
    with pytest.raises(BadFile, match="has no recording") as caught:
        compare(tmp_path / "report.json", tmp_path / "report.json")
    assert "--save" in caught.value.hint


def test_several_reports_in_one_file(report, tmp_path):
    save_reports(tmp_path / "two", [report, report])
    with pytest.raises(BadOption, match="holds 2 reports"):
        compare(tmp_path / "two", tmp_path / "two")


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"PK\x03\x04", b"tonnage recording 99\nx", b"tonnage recording 3\nx", pickle.dumps({"a": 1})],
    ids=["empty", "text", "zip", "newer", "damaged", "pickle"],
)
def test_files_that_are_something_else(report, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BadFile, match="file"):
        compare(report, tmp_path / "file")
