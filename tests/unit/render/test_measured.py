"""The page of a measurement, read back: figures, what was predicted for them, and what went wrong."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import msgspec
import pytest
from rich.cells import cell_len

from tonnage.analyses.measurement import Failure, Figures, Measurement, Spread
from tonnage.analyses.memory import Instant, Memory
from tonnage.render.measured import page

MiB = 2**20
ROW = re.compile(r"^  (?P<label>\S.*?) +(?P<mean>[\d,]+) +[\d.]+ [KMG]?i?B +(?P<rest>.*)$", re.MULTILINE)


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)


def spread(mean, deviation=0):
    return Spread(mean=mean, deviation=deviation, least=mean - deviation, most=mean + deviation)


def run(complete=True):
    return Figures(
        complete=complete,
        before=4 * MiB,
        after=5 * MiB,
        increase=MiB,
        peak_allocated=7 * MiB,
        peak_reserved=7 * MiB,
        peak_tensors=6 * MiB,
        process_before=100 * MiB,
        process_after=101 * MiB,
        process_peak=102 * MiB,
    )


def measurement(device="cpu", failure=None, runs=3):
    figures = {"before": 4, "after": 5, "increase": 1, "peak_allocated": 7, "peak_reserved": 7, "peak_tensors": 6}
    return Measurement(
        device=device,
        repeats=3,
        warmup=1,
        in_process=False,
        runs=[run()] * runs,
        spread={name: spread(size * MiB) for name, size in figures.items()} | {"process_peak": spread(102 * MiB, MiB)}
        if runs
        else {},
        failure=failure,
    )


@pytest.fixture
def predicted(handmade, handmade_peak):
    """4 MiB loaded, 5 after forward, a peak of 6 MiB of tensors: on a CPU, where reserved is allocated."""
    report = handmade()
    marks = (("model loaded", 4), ("forward done", 5))
    instants = [
        Instant(name=name, allocated_bytes=size * MiB, reserved_bytes=size * MiB, peak_bytes=size * MiB)
        for name, size in marks
    ]
    peak = msgspec.structs.replace(handmade_peak(), allocated_bytes=6 * MiB, reserved_bytes=9 * MiB)
    return msgspec.structs.replace(report, memory=Memory(peak=peak, instants=instants))


def on(report, device_type):
    return msgspec.structs.replace(report, environment=replace(report.environment, device_type=device_type))


def rows(text):
    return {
        found["label"]: (int(found["mean"].replace(",", "")), found["rest"].split()) for found in ROW.finditer(text)
    }


def test_figures_and_what_was_predicted(predicted):
    found = rows(page(measurement(), predicted, on(predicted, "cpu"), Stream()))
    assert found["model loaded"] == (4 * MiB, ["none", f"{4 * MiB:,}", "equal"])
    assert found["after forward"] == (5 * MiB, ["none", f"{5 * MiB:,}", "equal"])
    assert found["= increase"] == (MiB, ["none", f"{MiB:,}", "equal"])
    assert found["tensors alone"] == (6 * MiB, ["none", f"{6 * MiB:,}", "equal"])
    assert found["peak"] == (7 * MiB, ["none"])  # what kernels take for themselves is not predicted on a CPU
    assert found["process peak"] == (102 * MiB, ["1.00", "MiB", "sd"])
    assert "peak reserved" not in found


def test_a_card_has_reserved_bytes_and_says_how_far_off(predicted):
    found = rows(page(measurement("cuda"), predicted, on(predicted, "cuda"), Stream()))
    assert found["peak"] == (7 * MiB, ["none", f"{6 * MiB:,}", "-14.29%"])  # 6/7 - 1
    assert found["peak reserved"] == (7 * MiB, ["none", f"{9 * MiB:,}", "+28.57%"])  # 9/7 - 1


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("out of memory", "OUT OF MEMORY in run 2 of 3"),
        ("died", "THE PROCESS DIED in run 2 of 3"),
        ("failed", "FAILED in run 2 of 3"),
        ("interrupted", "INTERRUPTED in run 2 of 3"),
    ],
)
def test_what_went_wrong(predicted, trouble, words):
    failure = Failure(trouble=trouble, run=2, message="the reason", hint="the way out")
    text = page(measurement(failure=failure, runs=1), predicted, on(predicted, "cpu"), Stream())
    assert words in text and "the reason" in text and "hint: the way out" in text
    assert "1 of 3 runs on cpu" in text


def test_nothing_was_measured(predicted):
    failure = Failure(trouble="died", run=1, message="ended by SIGKILL")
    text = page(measurement(failure=failure, runs=0), None, on(predicted, "cpu"), Stream())
    assert "0 of 3 runs on cpu" in text and "ended by SIGKILL" in text and not rows(text)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_and_can_be_written(predicted, encoding, width):
    stream = Stream(encoding)
    hostile = "naïve 模型 \x1b[31m [bold]"
    failure = Failure(trouble="failed", run=1, message=hostile, hint=hostile)
    text = page(measurement(failure=failure), predicted, on(predicted, "cpu"), stream, width=width)
    stream.write(text)
    stream.flush()
    assert "\x1b[31m" not in text and "[bold]" in text
    assert width < 80 or max(map(cell_len, text.splitlines())) <= width
