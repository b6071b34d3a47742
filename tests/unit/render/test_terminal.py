"""The page is read back: what it prints must add up, fit and say what the report says."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.cells import cell_len

from tonnage.recording import Assumption, NotCounted
from tonnage.render.terminal import page
from tonnage.report import Input

MiB = 2**20
SCREEN = 45
HOSTILE = "[bold]x[/] </script> \x1b[31m naïve 模型"
ROW = re.compile(r"^  (?P<label>.+?) +(?P<bytes>-?[\d,]+) +-?[\d,.]+ [KMGT]?i?B\b")
ANSI = re.compile(r"\x1b\[[\d;]*m")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8", terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture(autouse=True)
def terminal_with_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(params=["small", "large", "does not fit", "tight", "no card"])
def report(request, handmade):
    return {
        "small": lambda: handmade(),
        "large": lambda: crowded(handmade(scale=20_000, total=80 * 1024**3 * 10)),
        "does not fit": lambda: crowded(handmade(scale=300, total=6144 * MiB // 5)),
        "tight": lambda: handmade(total=(20 + 120) * MiB),
        "no card": lambda: handmade(total=None),
    }[request.param]()


def crowded(report):
    """`report` with all categories, and with more of everything than a screen has room for."""
    peak = report.memory.peak
    sizes = {name: max(size, 512) for name, size in peak.by_category.items()}
    allocated = sum(sizes.values())
    peak = msgspec.structs.replace(peak, by_category=sizes, allocated_bytes=allocated)
    return msgspec.structs.replace(
        report,
        subject=msgspec.structs.replace(report.subject, name="some/organisation/" + "a-long-name-" * 20),
        memory=msgspec.structs.replace(report.memory, peak=peak),
        inputs=[Input(name=f"input_{n}", shape=(8, 3, 224, 224), dtype="float32", origin="given") for n in range(20)],
        guesses=["a guess that takes " + "many words " * 20] * 3,
        assumptions=[Assumption("an assumption " * 30, f"train.py:{n}") for n in range(9)],
        not_counted=[NotCounted(f"aten.op{n}.default", "no rule") for n in range(9)],
    )


def rows(text):
    """The bytes of each row of the ledger by its label, in order."""
    found = (ROW.match(line) for line in text.splitlines())
    return {match["label"]: int(match["bytes"].replace(",", "")) for match in found if match}


@pytest.mark.parametrize("width", [80, 120])
def test_the_printed_table_adds_up(report, width):
    printed = rows(page([report], Stream(), width=width))
    labels = list(printed)
    categories = labels[: labels.index("= allocated")]
    assert categories
    assert sum(printed[label] for label in categories) == printed["= allocated"]
    assert printed["= allocated"] + printed["+ cached"] == printed["= reserved"]
    assert printed["= reserved"] + printed["+ context, libraries"] == printed["= process"]
    if report.verdict is not None:
        needed = printed.get("least it runs in", printed["= process"])
        assert printed["card offers"] - needed == printed["headroom"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_printed_table_is_the_report(report, width):
    printed = rows(page([report], Stream(), width=width))
    peak = report.memory.peak
    assert printed["= allocated"] == peak.allocated_bytes
    assert printed["= reserved"] == peak.reserved_bytes
    assert printed["= process"] == peak.process_bytes
    assert len(list(printed)) == sum(size > 0 for size in peak.by_category.values()) + (7 if report.verdict else 5)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(report, width):
    assert max(cell_len(line) for line in page([report], Stream(), width=width).splitlines()) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_one_model_is_one_screen(report, width):
    assert len(page([report], Stream(), width=width).splitlines()) <= SCREEN


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_of_the_ledger_says_how_it_is_known(report, width):
    lines = [line for line in page([report], Stream(), width=width).splitlines() if ROW.match(line)]
    assert lines
    assert all(line.split()[-1] in ("exact", "modelled", "assumed", "measured") for line in lines)


def test_units_are_binary(report):
    assert not re.search(r"\d [KMGT]B\b", page([report], Stream(), width=80))


def test_what_the_page_says(handmade):
    text = page([handmade()], Stream(), width=80)
    for said in (
        "bert-base-uncased · BertForMaskedLM · transformers 5.23.0",
        "training, batch 8, seq 128, fp32, adamw; RTX 3060 Laptop, torch 2.7.1",
        "1,048,576 (1.049 M), each counted once",
        "512 more under second names (tied)",
        "float32 4.00 MiB",
        "backward, encoder.layer.11.output.dense",
        "FITS RTX 3060 Laptop: headroom 854.00 MiB to 904.00 MiB",  # 1024 - 20 - 150 and 1024 - 20 - 100
        "nvidia-smi: 120.00 MiB to 170.00 MiB",
        "input_ids int64 [8, 128] (from the model's signature)",
        "ids drawn below 30522",
        "bool(mask) taken as True (train.py:12), 3 times",
        "aten.foo (no rule)",
    ):
        assert said in text


@pytest.mark.parametrize(
    "total, said", [(1024, "FITS"), (20 + 150, "FITS"), (20 + 120, "TIGHT"), (20 + 99, "DOES NOT FIT"), (None, "none")]
)
def test_the_verdict(handmade, total, said):
    text = page([handmade(total=total and total * MiB)], Stream(), width=80)
    assert re.search(rf"^verdict +{said}\b", text, re.MULTILINE)


def test_what_does_not_fit_says_by_how_much_and_where(handmade):
    text = page([handmade(total=(20 + 90) * MiB)], Stream(), width=80)
    assert "short by 30.00 MiB" in text
    assert "runs out in forward, layer.3, aten.add.Tensor" in text


def test_cached_blocks_given_back_are_said(handmade):
    report = handmade(total=300 * MiB)
    verdict = msgspec.structs.replace(report.verdict, gives_back=True, needed_bytes=130 * MiB, headroom_bytes=170 * MiB)
    text = page([msgspec.structs.replace(report, verdict=verdict)], Stream(), width=80)
    assert rows(text)["least it runs in"] == 130 * MiB
    assert "give cached blocks back" in text


def test_without_a_card_the_page_says_whose_kernels(handmade):
    text = page([handmade(total=None)], Stream(), width=120)
    assert "no card was named, so kernels are those of RTX 3060 Laptop and memory has no limit" in text


def test_nothing_assumed_is_said_too(handmade):
    text = page([handmade(assumptions=[], not_counted=[], guesses=[])], Stream(), width=80)
    for label in ("guessed", "assumed", "not counted"):
        assert re.search(rf"^{label} +nothing$", text, re.MULTILINE)


@pytest.mark.parametrize("several", [False, True])
def test_user_text_is_never_markup(handmade, several):
    reports = [handmade(name=HOSTILE)] * (1 + several)
    text = page(reports, Stream(), width=120)
    assert "[bold]x[/] </script> \\x1b[31m naïve 模型" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("several", [False, True])
def test_a_stream_without_unicode(handmade, several):
    reports = [crowded(handmade(name=HOSTILE)), handmade(name=HOSTILE)]
    stream = Stream(encoding="ascii")
    stream.write(page(reports if several else reports[1:], stream, width=80))
    stream.flush()
    assert b"na\\xefve" in stream.buffer.getvalue()


class TestColour:
    def test_a_terminal_gets_it(self, report):
        assert COLOUR.search(page([report], Stream(terminal=True), width=80))

    def test_a_file_gets_none(self, report):
        assert not ANSI.search(page([report], Stream(), width=80))

    def test_no_color_is_respected(self, report, monkeypatch):
        monkeypatch.setenv("NO_COLOR", "1")
        assert not COLOUR.search(page([report], Stream(terminal=True), width=80))

    def test_it_changes_no_text(self, report):
        coloured = ANSI.sub("", page([report], Stream(terminal=True), width=80))
        plain = page([report], Stream(), width=80)
        assert [line.rstrip() for line in coloured.splitlines()] == plain.splitlines()


class TestComparison:
    def test_a_row_for_each(self, handmade):
        text = page([handmade(name="one"), handmade(name="two", scale=300)], Stream(), width=80)
        # 13.125 MiB in 20, and 3937.5 in 3940, each in a context of 120
        assert re.search(r"^one +1.049 M +13.1[23] MiB +20.00 MiB +140.00 MiB +fits$", text, re.MULTILINE)
        assert re.search(r"^two +314.6 M +3.85 GiB +3.85 GiB +3.96 GiB +does not fit$", text, re.MULTILINE)

    def test_what_they_share_is_said_once(self, handmade):
        text = page([handmade(), handmade(name="two")], Stream(), width=120)
        assert text.count("training, batch 8, seq 128") == 1

    def test_what_they_do_not_share_is_said_for_each(self, handmade):
        text = " ".join(page([handmade(), handmade(name="two", total=None)], Stream(), width=120).split())
        assert text.count("training, batch 8, seq") == 2

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_no_line_is_wider_than_the_terminal(self, handmade, width):
        reports = [handmade(name=HOSTILE), crowded(handmade(scale=20_000)), handmade(total=None)]
        assert max(cell_len(line) for line in page(reports, Stream(), width=width).splitlines()) <= width
