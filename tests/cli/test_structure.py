"""The command alone, on a pipeline that reads a structure made by hand."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import click
import pytest

import tonnage
from tonnage.analyses.structure import Structure, read_structure
from tonnage.cli import tonnage as command_line
from tonnage.errors import BadOption
from tonnage.trace import Module, Parameter

DEFAULTS = {
    "run": True,
    "batch": 1,
    "seq": None,
    "image_size": None,
    "mode": "inference",
    "trust_remote_code": False,
}


def read() -> Structure:
    modules = [Module("", "Net"), Module("norm", "LayerNorm"), Module("layers", "ModuleList")]
    modules += [Module(f"layers.{n}", "Linear", "", {"in_features": 4, "out_features": 4}) for n in (0, 1)]
    parameters = [Parameter(f"layers.{n}.weight", (4, 4), "float32", 64, True, n, "parameter") for n in (0, 1)]
    return read_structure(modules, parameters, name="net")


@pytest.fixture
def pipeline(monkeypatch):
    stub = ModuleType("tonnage.pipeline")
    stub.calls = []

    def structure(subject, *, progress, **options):
        stub.calls.append((subject, options))
        progress("forward done")
        print("what the user's own code prints")
        return read()

    stub.structure = structure
    monkeypatch.setitem(sys.modules, "tonnage.pipeline", stub)
    monkeypatch.setattr(tonnage, "pipeline", stub, raising=False)
    return stub


def run(*words: str) -> int:
    return command_line.main(args=["structure", *words], prog_name="tonnage", standalone_mode=False)


def test_the_page_goes_to_stdout_and_nothing_else(pipeline, capsys):
    assert run("net") == 0
    out, err = capsys.readouterr()
    assert out.startswith("net\n32 parameters")
    assert "layers.0-1: 2 x Linear(4 -> 4)" in out
    assert err == "what the user's own code prints\n"


def test_defaults(pipeline, capsys):
    run("net")
    assert pipeline.calls == [("net", DEFAULTS)]


def test_every_option_arrives(pipeline, capsys):
    run(*"net --no-run --batch 8 --seq 128 --image-size 64 --mode training --trust-remote-code".split())
    assert pipeline.calls[0][1] == {
        "run": False,
        "batch": 8,
        "seq": 128,
        "image_size": 64,
        "mode": "training",
        "trust_remote_code": True,
    }


def test_depth_language_and_sentences(pipeline, capsys):
    run("net", "--depth", "0", "--lang", "zh", "--no-explain")
    out = capsys.readouterr().out
    assert "Net" in out
    assert "参数" in out
    assert "Linear" not in out


def test_filter(pipeline, capsys):
    run("net", "--filter", "Linear")
    out = capsys.readouterr().out
    assert "Linear" in out
    assert "LayerNorm" not in out


def test_a_filter_that_nothing_matches(pipeline):
    with pytest.raises(BadOption, match="Conv2d"):
        run("net", "--filter", "Conv2d")


def test_json_alone_on_stdout(pipeline, capsys):
    run("net", "--json", "-")
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["parameters"], found["root"]["type"]) == (1, 32, "Net")


def test_json_to_a_file_beside_the_page(pipeline, capsys, tmp_path):
    run("net", "--json", str(tmp_path / "net.json"))
    assert json.loads((tmp_path / "net.json").read_text("utf-8"))["name"] == "net"
    assert capsys.readouterr().out.startswith("net\n")


@pytest.mark.parametrize("words", [["--lang", "fr"], ["--depth", "-1"], []])
def test_what_makes_no_sense(pipeline, words):
    with pytest.raises(click.ClickException):
        run(*(["net", *words] if words else []))
