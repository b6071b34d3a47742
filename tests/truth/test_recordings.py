"""Every recorded card of tests/truth, replayed: the allocator's error and the events' error, each by itself.

`python benchmarks/truth/record.py` records a card. What it keeps and how it is held against the virtual GPU is tested
here too, with a virtual card that stands in for a real one.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import torch

import tonnage
from benchmarks.truth import record
from benchmarks.truth.recorded import held, kept
from benchmarks.truth.recorded.cases import Case, all_cases
from tests.virtual_history import HistoryOfVirtualCard
from tonnage.measuring import cuda, nvml

TRUTH = Path(__file__).parent
RECORDED = [(folder, name) for folder in kept.folders(TRUTH) for name in kept.names(folder)]
STANDS_IN = "T4"


def ids(value: Path | str) -> str:
    return value.name if isinstance(value, Path) else value


@pytest.mark.parametrize(("folder", "name"), RECORDED, ids=ids)
def test_the_allocator_gives_the_card_s_figures(folder, name):
    case = kept.load(kept.file_of(folder, name))
    assert held.wrong_figures(kept.history(case, kept.load_card(folder))) == []


@pytest.mark.parametrize(("folder", "name"), RECORDED, ids=ids)
def test_the_virtual_gpu_does_what_the_card_did(folder, name):
    case, card = kept.load(kept.file_of(folder, name)), kept.load_card(folder)
    if case.error:
        pytest.skip(f"it raised on the card: {case.error.splitlines()[-1]}")
    measured = kept.history(case, card).recording
    difference = held.first_difference(measured, held.predicted(all_cases()[name], card))
    reason = kept.known_differences(folder).get(name)
    assert bool(difference) == bool(reason), difference or f"{name} is known to differ ({reason}) and does not"


CASES = (
    *("allocate_1048577", "allocate_11534336", "first_linear", "linear_float32_64x64_bias", "sdpa_bfloat16_128_causal"),
    *("embedding_512", "optimizer_adamw", "clip_grad_norm", "amp_scaler", "checkpointing"),
    *(["mobilenet_v3_large_infer_b1"] if find_spec("torchvision") else []),
)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A folder as `record.py` makes it, from a virtual card: no card did this."""
    folder = tmp_path_factory.mktemp("stand-in")
    with pytest.MonkeyPatch.context() as monkeypatch, tonnage.virtual_gpu(STANDS_IN) as gpu:
        monkeypatch.setattr(nvml, "process_bytes", lambda uuid: None)
        HistoryOfVirtualCard(gpu, monkeypatch)
        kept.save_card(cuda.environment(), folder)
        assert record.record([all_cases()[name] for name in CASES], folder) == 0
    return folder


def test_every_case_has_a_file(stand_in):
    assert kept.names(stand_in) == sorted(CASES)
    assert all(kept.load(kept.file_of(stand_in, name)).error == "" for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_stand_in_gives_its_own_figures(stand_in, name):
    test_the_allocator_gives_the_card_s_figures(stand_in, name)


@pytest.mark.parametrize("name", CASES)
def test_a_stand_in_does_the_same_again(stand_in, name):
    test_the_virtual_gpu_does_what_the_card_did(stand_in, name)


def test_each_case_begins_with_nothing_on_the_card(stand_in):
    for name in CASES:
        case = kept.load(kept.file_of(stand_in, name))
        assert case.events[0].action == "segment_alloc"
        assert kept.history(case, kept.load_card(stand_in)).reserved[0] == case.events[0].size


def changed(stand_in, tmp_path, name, **changes):
    """A copy of the folder whose case `name` is changed."""
    case = kept.load(kept.file_of(stand_in, name))
    kept.save_card(kept.load_card(stand_in), tmp_path)
    kept.save(msgspec.structs.replace(case, **{what: change(case) for what, change in changes.items()}), tmp_path)
    return tmp_path


def bigger(case):
    """The first allocation asks for one block more, and so does its free."""
    first = next(event for event in case.events if event.action == "alloc")
    return [
        msgspec.structs.replace(event, size=event.size + 512)
        if event.address == first.address and event.size == first.size and "segment" not in event.action
        else event
        for event in case.events
    ]


def test_other_events_are_found(stand_in, tmp_path):
    folder = changed(stand_in, tmp_path, "first_linear", events=bigger)
    with pytest.raises(AssertionError, match="the card did alloc 516, the virtual GPU alloc 4"):
        test_the_virtual_gpu_does_what_the_card_did(folder, "first_linear")
    (folder / kept.DIFFERENCES).write_text('{"first_linear": "made so in a test"}')
    test_the_virtual_gpu_does_what_the_card_did(folder, "first_linear")


def test_a_difference_that_is_gone_is_found(stand_in, tmp_path):
    folder = changed(stand_in, tmp_path, "first_linear")
    (folder / kept.DIFFERENCES).write_text('{"first_linear": "made so in a test"}')
    with pytest.raises(AssertionError, match="known to differ"):
        test_the_virtual_gpu_does_what_the_card_did(folder, "first_linear")


@pytest.mark.parametrize("field", ["allocated", "reserved", "max_allocated", "max_reserved"])
def test_other_figures_are_found(stand_in, tmp_path, field):
    def raised(case):
        return [msgspec.structs.replace(mark, **{field: getattr(mark, field) + 512}) for mark in case.marks]

    folder = changed(stand_in, tmp_path, "optimizer_adamw", marks=raised)
    with pytest.raises(AssertionError, match=f"backward 0: {field}"):
        test_the_allocator_gives_the_card_s_figures(folder, "optimizer_adamw")


def run_on(monkeypatch, cases, folder, **options):
    with tonnage.virtual_gpu(STANDS_IN) as gpu:
        monkeypatch.setattr(nvml, "process_bytes", lambda uuid: None)
        HistoryOfVirtualCard(gpu, monkeypatch)
        return record.record(cases, folder, **options)


def one_block(mark):
    block = torch.empty(512, dtype=torch.uint8, device="cuda")
    mark("made")
    del block


def test_a_case_that_fails_is_kept_and_the_next_one_runs(monkeypatch, tmp_path, capsys):
    def fails(mark):
        one_block(mark)
        raise RuntimeError("no such kernel")

    assert run_on(monkeypatch, [Case("fails", "probes", fails), Case("works", "probes", one_block)], tmp_path) == 0
    assert capsys.readouterr().out == "fails: RuntimeError: no such kernel\nworks\n"
    failed = kept.load(kept.file_of(tmp_path, "fails"))
    assert failed.error.endswith("RuntimeError: no such kernel\n")
    assert [mark.name for mark in failed.marks] == ["made", "end"]
    assert kept.load(kept.file_of(tmp_path, "works")).error == ""


def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(monkeypatch, tmp_path):
    ran = []

    def interrupted(mark):
        ran.append("second")
        if len(ran) == 1:
            raise KeyboardInterrupt
        one_block(mark)

    cases = [Case("first", "probes", one_block), Case("second", "probes", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        run_on(monkeypatch, cases, tmp_path)
    assert kept.names(tmp_path) == ["first"]
    before = kept.file_of(tmp_path, "first").stat().st_mtime_ns
    assert run_on(monkeypatch, cases, tmp_path) == 0
    assert kept.names(tmp_path) == ["first", "second"]
    assert kept.file_of(tmp_path, "first").stat().st_mtime_ns == before


def test_no_case_begins_after_the_time(monkeypatch, tmp_path):
    cases = [Case(name, "probes", one_block) for name in ("a", "b")]
    assert run_on(monkeypatch, cases, tmp_path, seconds=-1) == 2
    assert kept.names(tmp_path) == []


def test_the_command_records_into_a_folder_named_after_the_card(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kept, "TRUTH", tmp_path)
    with tonnage.virtual_gpu(STANDS_IN, torch_version="2.13.0") as gpu:
        monkeypatch.setattr(nvml, "process_bytes", lambda uuid: None)
        HistoryOfVirtualCard(gpu, monkeypatch)
        assert record.main(["--match", "^allocate_51[23]$"]) == 0
    version = torch.__version__.partition("+")[0]
    folder = tmp_path / f"tesla-t4-torch{version}"
    assert kept.folders(folder.parent) == [folder]
    assert kept.names(folder) == ["allocate_512", "allocate_513"]
    assert "2 of 2 cases" in capsys.readouterr().out


def test_another_card_is_not_mixed_in(stand_in, tmp_path):
    card = kept.load_card(stand_in)
    assert record.prepare(tmp_path, card) == ""
    assert record.prepare(tmp_path, card) == ""
    assert "name another --out" in record.prepare(tmp_path, replace(card, device="NVIDIA A100-SXM4-80GB"))


def test_without_a_card(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    assert record.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
