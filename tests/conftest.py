"""The surroundings of every test, and reports made by hand for whatever reads one."""

from __future__ import annotations

import os
import socket

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it once, when it is imported

import msgspec
import pytest

from tonnage.analyses.compute import Compute, ModuleWork, Work
from tonnage.analyses.memory import Instant, Memory, Peak
from tonnage.analyses.parameters import ParameterCount
from tonnage.analyses.place import Place
from tonnage.analyses.verdict import Verdict
from tonnage.ledger import Category, Ledger
from tonnage.recording import Assumption, Environment, NotCounted, Recording
from tonnage.report import Input, Report, Subject
from tonnage.scenario import Scenario
from tonnage.trace import Trace

LOCAL = {"", "localhost", "127.0.0.1", "::1"}
MiB = 2**20
CATEGORIES = [*(category.name.lower() for category in Category), "rounding"]
RULES = ("activation", "temporary", "workspace")


@pytest.fixture(autouse=True)
def same_surroundings(monkeypatch):
    """80 columns, no colour asked for or forbidden, and PyTorch's own allocator settings."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """A test that asks for another machine's address fails, unless it is marked `network`."""
    if request.node.get_closest_marker("network"):
        monkeypatch.delenv("HF_HUB_OFFLINE")
        return
    real = socket.getaddrinfo

    def local_only(host, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name not in LOCAL:
            raise OSError(f"a test asked for the address of {name}")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)


def make_peak(scale: int = 1, **by_category: int) -> Peak:
    """A peak of `scale` times 4 + 1 + 8.125 MiB, in segments of 20 MiB, in a context of 120 MiB (100 to 150)."""
    found = by_category or {"parameter": 4 * MiB, "activation": 1 * MiB, "workspace": 8_519_680}
    sizes = {name: scale * found.get(name, 0) for name in CATEGORIES}
    allocated = sum(sizes.values())
    reserved = -(-allocated // (20 * MiB)) * 20 * MiB
    place = Place(
        phase="backward",
        module="encoder.layer.11.output.dense",
        operator="aten.mm.default",
        after="step 2: forward done",
        before="step 2: backward done",
    )
    return Peak(
        allocated_bytes=allocated,
        allocated_known="modelled",
        reserved_bytes=reserved,
        context_bytes=120 * MiB,
        process_bytes=reserved + 120 * MiB,
        process_low=reserved + 100 * MiB,
        process_high=reserved + 150 * MiB,
        instant=str(place),
        place=place,
        by_category=sizes,
        by_category_known={name: "modelled" if name in RULES else "exact" for name in CATEGORIES},
    )


def make_verdict(peak: Peak, total: int) -> Verdict:
    """The verdict for a card of which every specimen has `total` bytes."""
    least, most = total - peak.process_high, total - peak.process_low
    return Verdict(
        answer="fits" if least >= 0 else "tight" if most >= 0 else "does not fit",
        card="RTX 3060 Laptop",
        total_bytes=total,
        total_low=total,
        total_high=total,
        total_known="assumed",
        available_bytes=total,
        needed_bytes=peak.process_bytes,
        gives_back=False,
        headroom_bytes=total - peak.process_bytes,
        headroom_low=least,
        headroom_high=most,
        runs_out="" if total >= peak.process_bytes else "forward, layer.3, aten.add.Tensor, after 'inputs made'",
    )


def make_work(macs: int) -> Work:
    return Work(
        macs=macs, flops=2 * macs, other={"bias": 64}, textbook_flops=2 * macs, bytes_moved=4096, at_least=False
    )


def make_compute(scale: int = 1) -> Compute:
    """A step of `scale` times 1000 + 2000 multiply-accumulates, all of them in one module."""
    idle = msgspec.structs.replace(make_work(0), other={})
    module = ModuleWork(
        path="", type="BertForMaskedLM", calls=1, own_macs=0, macs=scale * 1000, backward_macs=scale * 2000, share=1.0
    )
    return Compute(
        macs=scale * 1000,
        flops=scale * 2000,
        at_least=False,
        forward=make_work(scale * 1000),
        recomputation=idle,
        backward=make_work(scale * 2000),
        optimizer=idle,
        step_macs=scale * 3000,
        by_module=[module],
        by_operator=[],
        unsupported=[],
    )


def make_report(
    *, name: str = "bert-base-uncased", scale: int = 1, total: int | None = 1024 * MiB, **changes
) -> Report:
    peak = make_peak(scale)
    report = Report(
        tonnage_version="0.1.0",
        subject=Subject(
            name=name,
            kind="transformers",
            class_name="BertForMaskedLM",
            library="transformers 5.23.0",
            description="from the catalogue",
        ),
        scenario=Scenario(mode="training", batch=8, seq=128),
        card=None if total is None else "RTX 3060 Laptop",
        parameters=ParameterCount(
            total=scale * MiB,
            trainable=scale * MiB,
            frozen=0,
            tied=512,
            buffers=16,
            total_bytes=scale * 4 * MiB,
            buffer_bytes=128,
            bytes_by_dtype={"float32": scale * 4 * MiB},
        ),
        compute=make_compute(scale),
        memory=Memory(peak=peak, instants=[Instant(name="start", allocated_bytes=0, reserved_bytes=0, peak_bytes=0)]),
        verdict=None if total is None else make_verdict(peak, total),
        inputs=[Input(name="input_ids", shape=(8, 128), dtype="int64", origin="the model's signature")],
        guesses=["ids drawn below 30522"],
        assumptions=[Assumption("bool(mask) taken as True", "train.py:12", 3)],
        not_counted=[NotCounted("aten.foo", "no rule")],
        environment=Environment(
            device="RTX 3060 Laptop",
            compute_capability=(8, 6),
            sm_count=30,
            total_memory=total or 6144 * MiB,
            context_bytes=120 * MiB,
            context_bytes_low=100 * MiB,
            context_bytes_high=150 * MiB,
            torch_rules="2.7.1",
            torch_running="2.13.0",
            python="3.11.2",
        ),
    )
    return msgspec.structs.replace(report, **changes)


def make_recording(report: Report) -> Recording:
    ledger = Ledger()
    ledger.mark("start")
    ledger.alloc(report.parameters.total_bytes, category=Category.PARAMETER)
    return Recording(ledger, Trace(), report.environment)


@pytest.fixture
def handmade():
    """`make_report`: a report by hand; what it is called with replaces what it would say."""
    return make_report


@pytest.fixture
def handmade_peak():
    return make_peak


@pytest.fixture
def handmade_recording():
    return make_recording
