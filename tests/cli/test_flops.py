"""The command alone, on a pipeline that has a count made by hand."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import click
import msgspec
import pytest

import tonnage
from tonnage.analyses.findings import Finding
from tonnage.cli import tonnage as command_line
from tonnage.errors import BadOption
from tonnage.report import ComputeReport, Subject
from tonnage.scenario import Scenario

DEFAULTS = {
    "batch": 1,
    "seq": None,
    "image_size": None,
    "mode": "inference",
    "precision": "fp32",
    "attention": None,
    "checkpointing": False,
    "gpu": None,
    "what_if": False,
    "trust_remote_code": False,
}


@pytest.fixture
def pipeline(monkeypatch, handmade):
    stub = ModuleType("tonnage.pipeline")
    stub.calls, stub.error = [], None

    def flops(subject, *, progress, **options):
        stub.calls.append((subject, options))
        progress("deriving the closed forms")
        print("what the user's own code prints")
        if stub.error:
            raise stub.error
        return ComputeReport(
            tonnage_version="0",
            subject=Subject(name=subject, kind="module", class_name="Net", library="", description=""),
            scenario=Scenario(batch=1, seq=128),
            compute=handmade().compute,
            config_form=None,
            finding=Finding(sentence="", shares=[]),
            inputs=[],
            guesses=[],
            assumptions=[],
        )

    stub.flops = flops
    monkeypatch.setitem(sys.modules, "tonnage.pipeline", stub)
    monkeypatch.setattr(tonnage, "pipeline", stub, raising=False)
    return stub


def run(*words: str) -> int:
    return command_line.main(args=["flops", *words], prog_name="tonnage", standalone_mode=False)


def test_the_page_goes_to_stdout_and_nothing_else(pipeline, capsys):
    assert run("net") == 0
    out, err = capsys.readouterr()
    assert out.startswith("net") and "1,000 MACs" in out and "2,000 FLOPs" in out
    assert err == "what the user's own code prints\n"


def test_defaults(pipeline, capsys):
    run("net")
    assert pipeline.calls == [("net", DEFAULTS)]


def test_every_option_arrives(pipeline, capsys):
    words = "--batch 8 --seq 512 --image-size 64 --mode training --precision bf16 --attention eager --checkpointing"
    run("net", *words.split(), "--gpu", "T4", "--what-if", "--trust-remote-code")
    wanted = {"batch": 8, "seq": 512, "image_size": 64, "mode": "training", "precision": "bf16", "attention": "eager"}
    wanted |= {"checkpointing": True, "gpu": "T4", "what_if": True, "trust_remote_code": True}
    assert pipeline.calls == [("net", wanted)]
    assert wanted.keys() == DEFAULTS.keys()


def test_json(pipeline, capsys):
    assert run("net", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["compute"]["macs"], found["compute"]["flops"]) == (1000, 2000)
    assert msgspec.json.decode(json.dumps(found), type=ComputeReport).subject.name == "net"


def test_what_cannot_be_done_is_raised_as_it_is(pipeline):
    pipeline.error = BadOption("no such mode", hint="try another")
    with pytest.raises(BadOption, match="no such mode"):
        run("net", "--mode", "dreaming")


@pytest.mark.parametrize("words", [[], ["net", "--batch", "many"], ["net", "--nothing"]])
def test_what_makes_no_sense(pipeline, words):
    with pytest.raises(click.ClickException):
        run(*words)
