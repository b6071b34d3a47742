"""The real pipeline through the command line, on models whose numbers are derived by hand."""

from __future__ import annotations

import json

import pytest

from tonnage.cli import main

MODELS = """
from torch import nn

def mlp():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

def chatty():
    print("hello from the factory")
    return mlp()

def broken():
    raise KeyError("hidden_size")

def nothing():
    return 3
"""
# 784 * 128 + 128 + 128 * 10 + 10 parameters of 4 B
PARAMETERS = 101_770
PARAMETER_BYTES = 407_080


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    return str(tmp_path / "models.py")


def weighed(capsys, *arguments):
    assert main(["weigh", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_inference(models, capsys):
    report = weighed(capsys, f"{models}:mlp", "--batch", "4", "--gpu", "T4")
    assert report["parameters"]["total"] == PARAMETERS
    categories = report["memory"]["peak"]["by_category"]
    assert categories["parameter"] == PARAMETER_BYTES
    assert categories["input"] == 4 * 784 * 4
    assert categories["gradient"] == categories["optimizer"] == 0
    assert report["verdict"]["answer"] == "fits"
    assert report["environment"]["total_memory"] == report["verdict"]["total_bytes"]


def test_what_the_factory_prints_is_no_part_of_the_report(models, capsys):
    assert main(["weigh", f"{models}:chatty", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parameters"]["total"] == PARAMETERS
    assert "hello from the factory" in err


def test_training_with_adam_holds_two_states_for_each_parameter(models, capsys):
    report = weighed(capsys, f"{models}:mlp", "--mode", "training", "--optimizer", "adam", "--batch", "4")
    peak = report["memory"]["peak"]
    assert peak["by_category"]["parameter"] == PARAMETER_BYTES
    assert peak["by_category"]["optimizer"] == 2 * PARAMETER_BYTES
    assert sum(peak["by_category"].values()) == peak["allocated_bytes"]
    assert report["verdict"] is None
    assert any("A100-SXM4-80GB" in assumption["what"] for assumption in report["assumptions"])
    names = [instant["name"] for instant in report["memory"]["instants"]]
    assert names[0] == "start" and names[-1] == "step 2: optimizer done"


def test_a_card_too_small_for_the_weights(models, capsys):
    assert main(["weigh", f"{models}:mlp", "--gpu", "T4", "--gpu-memory", "20MiB"]) == 1
    out = capsys.readouterr().out
    assert "DOES NOT FIT T4" in out
    assert "runs out in" in out


def test_saved_and_shown(models, capsys, tmp_path):
    assert main(["weigh", f"{models}:mlp", "--gpu", "T4", "--save", str(tmp_path / "saved")]) == 0
    page = capsys.readouterr().out
    assert main(["show", str(tmp_path / "saved")]) == 0
    assert capsys.readouterr().out == page


@pytest.mark.parametrize(
    "factory, said", [("broken", "KeyError: 'hidden_size'"), ("nothing", "int"), ("missing", "missing")]
)
def test_a_factory_that_does_not_make_a_module(models, capsys, factory, said):
    assert main(["weigh", f"{models}:{factory}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and "\n\nhint: " in err
    assert "mistake in tonnage" not in err


@pytest.mark.parametrize(
    "options, said",
    [
        (["--batch", "-1"], "batch"),
        (["--gpu", "RTX 3061"], "RTX 3061"),
        (["--gpu-memory", "6GiB"], "--gpu"),
        (["--gpu", "T4", "--gpu-memory", "6 potatoes"], "6 potatoes"),
        (["--precision", "fp8"], "fp8"),
        (["--torch-version", "latest"], "latest"),
        (["--alloc-conf", "nonsense:1"], "nonsense"),
    ],
)
def test_options_that_make_no_sense(models, capsys, options, said):
    assert main(["weigh", f"{models}:mlp", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and "\n\nhint: " in err
    assert "Traceback" not in err
