"""The command alone, on a pipeline that has forms made by hand."""

from __future__ import annotations

import json
import re
import sys
from types import ModuleType

import click
import msgspec
import pytest

import tonnage
from tonnage.analyses.forms import Component, ParameterForm, Proof, Symbol
from tonnage.analyses.parameters import ParameterCount
from tonnage.cli import tonnage as command_line
from tonnage.errors import BadFile, BadOption
from tonnage.report import ParameterReport, Subject

FORM = ParameterForm(
    formula="L*(H*F + F) + V*H",
    substituted="3*(8*16 + 16) + 100*8",
    latex=r"L \left(H F + F\right) + V H",
    total=3 * 144 + 800,
    symbols=[
        Symbol(symbol="V", field="vocab_size", value=100),
        Symbol(symbol="H", field="hidden_size", value=8),
        Symbol(symbol="L", field="num_layers", value=3),
        Symbol(symbol="F", field="ffn_dim", value=16),
    ],
    components=[
        Component(
            path="embed",
            kind="Embedding",
            parameters=["weight"],
            formula="V*H",
            substituted="100*8",
            times="1",
            each=800,
            repeats=1,
            total=800,
        ),
        Component(
            path="layer.{0-2}.up",
            kind="Linear",
            parameters=["weight", "bias"],
            formula="H*F + F",
            substituted="8*16 + 16",
            times="L",
            each=144,
            repeats=3,
            total=432,
        ),
    ],
    proofs=[Proof(changes={"hidden_size": 16, "num_layers": 2}, predicted=2144, counted=2144)],
    sizes={"vocab_size": 100, "hidden_size": 8, "num_layers": 3, "ffn_dim": 16},
    held={},
    settings={},
    moves={},
    whole=[],
)
COUNT = ParameterCount(
    total=1232,
    trainable=1232,
    frozen=0,
    tied=0,
    embedding=800,
    buffers=0,
    total_bytes=4928,
    buffer_bytes=0,
    bytes_by_dtype={"float32": 4928},
    derived=FORM,
)


@pytest.fixture
def pipeline(monkeypatch):
    stub = ModuleType("tonnage.pipeline")
    stub.calls = []

    def params(subject, *, progress, **options):
        stub.calls.append((subject, options))
        progress("building the model")
        print("what the user's own code prints")
        return ParameterReport(
            tonnage_version="0",
            subject=Subject(name=subject, kind="module", class_name="Net", library="", description=""),
            parameters=COUNT,
            guesses=[],
        )

    def count_at(subject, sizes, *, trust_remote_code):
        stub.built.append(sizes)
        return FORM.evaluate(**sizes) + stub.wrong

    stub.params, stub.count_at = params, count_at
    stub.built, stub.wrong = [], 0
    monkeypatch.setitem(sys.modules, "tonnage.pipeline", stub)
    monkeypatch.setattr(tonnage, "pipeline", stub, raising=False)
    return stub


def run(*words: str) -> int:
    return command_line.main(args=["params", *words], prog_name="tonnage", standalone_mode=False)


def test_the_page_goes_to_stdout_and_nothing_else(pipeline, capsys):
    assert run("net") == 0
    out, err = capsys.readouterr()
    assert out.startswith("net · Net\n")
    assert "L*(H*F + F) + V*H" in out and "3*(8*16 + 16) + 100*8 = 1,232" in out
    assert err == "what the user's own code prints\n"
    assert pipeline.calls == [("net", {"trust_remote_code": False})]


def test_code_of_others_runs_where_it_is_allowed(pipeline, capsys):
    run("net", "--trust-remote-code")
    assert pipeline.calls == [("net", {"trust_remote_code": True})]


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ("num_layers=5", 5 * 144 + 800),
        ("hidden_size=16,num_layers=2", 2 * (16 * 16 + 16) + 1600),
        (" H = 1 , F=1", 3 * 2 + 100),
        ("V=1", 432 + 8),
    ],
)
def test_at_other_sizes(pipeline, capsys, sizes, count):
    assert run("net", "--at", sizes) == 0
    assert capsys.readouterr().out == f"{count:,}\n"


def test_a_count_at_other_sizes_is_held_against_a_model_with_these_fields(pipeline, capsys):
    run("net", "--at", "H=16,num_layers=2")
    assert pipeline.built == [{"hidden_size": 16, "num_layers": 2}]
    pipeline.wrong = 1
    with pytest.raises(AssertionError, match="there are"):
        run("net", "--at", "H=16")


@pytest.mark.parametrize("sizes", ["", "H", "H=", "H=x", "H=-1", "H=1.5", "=3", "H=1,,F=2", "nothing=3", "H=0"])
def test_sizes_that_make_no_sense(pipeline, sizes):
    with pytest.raises(BadOption) as caught:
        run("net", "--at", sizes)
    assert caught.value.hint


@pytest.mark.parametrize(
    "words",
    [["--at", "H=1", "--check", "H"], ["--worksheet", "x", "--grade", "y"], ["--at", "H=1", "--worksheet", "x"]],
)
def test_one_thing_at_a_time(pipeline, words):
    with pytest.raises(BadOption, match="at once"):
        run("net", *words)
    assert pipeline.calls == [], "nothing is built for that"


def test_json(pipeline, capsys):
    assert run("net", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["total"] == 1232
    assert found["parameters"]["formula"] == FORM.formula
    again = msgspec.json.decode(json.dumps(found["parameters"]["form"]), type=ParameterForm)
    assert again == FORM and again.evaluate(H=1) == FORM.evaluate(H=1)
    run("net", "--format", "json")
    assert json.loads(capsys.readouterr().out) == found


def test_markdown(pipeline, capsys):
    run("net", "--format", "markdown")
    out = capsys.readouterr().out
    assert out.startswith("# Parameters of net\n")
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| `")]
    assert [int(row[-1].rstrip(" |").replace(",", "")) for row in rows] == [800, 432]


def test_latex(pipeline, capsys):
    run("net", "--format", "latex")
    out = capsys.readouterr().out
    assert rf"N = {FORM.latex} = 1{{,}}232" in out
    assert len(re.findall(r"\\begin", out)) == len(re.findall(r"\\end", out)) == 2


@pytest.mark.parametrize(("derivation", "code"), [("L*(H*F + F) + V*H", 0), ("3*144 + 800", 0), ("L*H*F + V*H", 1)])
def test_checking(pipeline, capsys, derivation, code):
    assert run("net", "--check", derivation) == code
    assert capsys.readouterr().out


def test_checking_in_chinese(pipeline, capsys):
    run("net", "--check", "L*H*F + V*H", "--lang", "zh")
    assert re.search("[\u4e00-\u9fff]", capsys.readouterr().out)


@pytest.mark.parametrize("derivation", ["L*(H", "nonsense_symbol*3", "H +", "no-such.yaml"])
def test_a_derivation_that_cannot_be_read(pipeline, derivation):
    with pytest.raises((BadOption, BadFile)) as caught:
        run("net", "--check", derivation)
    assert caught.value.hint


def test_worksheet_and_its_grading(pipeline, capsys, tmp_path):
    folder = tmp_path / "made" / "here"
    assert run("net", "--worksheet", str(folder)) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / n) for n in ("worksheet.md", "worksheet.yaml", "answers.json")
    ]
    assert run("net", "--grade", str(folder / "answers.json")) == 0
    assert run("net", "--grade", str(folder / "worksheet.yaml")) == 1, "nothing is filled in"


def test_a_folder_that_cannot_be_made(pipeline, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOption, match="cannot be made"):
        run("net", "--worksheet", str(tmp_path / "file" / "folder"))


def test_a_worksheet_that_is_not_there(pipeline, tmp_path):
    with pytest.raises((BadFile, BadOption)):
        run("net", "--grade", str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize("words", [[], ["net", "--format", "pdf"], ["net", "--lang", "fr"], ["net", "other"]])
def test_what_makes_no_sense(pipeline, words):
    with pytest.raises(click.ClickException):
        run(*words)
