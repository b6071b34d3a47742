from __future__ import annotations

import json

import pytest

from tonnage.cli import main
from tonnage.errors import SubjectFailed, UnknownModel
from tonnage.report import Report, load_saved

MiB = 2**20
DEFAULTS = {
    "batch": 1,
    "seq": None,
    "image_size": None,
    "mode": "inference",
    "optimizer": "adamw",
    "precision": "fp32",
    "attention": None,
    "checkpointing": False,
    "gpu": None,
    "gpu_memory": None,
    "torch_version": None,
    "alloc_conf": None,
    "trust_remote_code": False,
}


def test_the_report_goes_to_stdout_and_nothing_to_stderr(pipeline, capsys):
    assert main(["weigh", "bert"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("bert ")
    assert "= allocated" in out
    assert err == ""


def test_defaults_are_those_of_the_function(pipeline, capsys):
    main(["weigh", "bert"])
    assert pipeline.calls == [("bert", DEFAULTS)]


def test_the_options_of_the_function_are_those_of_the_command():
    """GIVEN the real function, THEN every option that makes sense in a shell is there with the same default."""
    import inspect

    from tonnage import pipeline

    parameters = list(inspect.signature(pipeline.weigh).parameters.values())[1:]
    named = {p.name: p.default for p in parameters if p.name not in ("inputs", "progress")}
    assert named == DEFAULTS


def test_every_option_arrives(pipeline, capsys):
    words = (
        "--batch 8 --seq 128 --image-size 224 --mode training --optimizer sgd --precision amp-bf16 --attention eager "
        "--checkpointing --gpu T4 --gpu-memory 6GiB --torch-version 2.7.1 --alloc-conf expandable_segments:True "
        "--trust-remote-code"
    )
    main(["weigh", "bert", *words.split()])
    assert pipeline.calls[0][1] == {
        "batch": 8,
        "seq": 128,
        "image_size": 224,
        "mode": "training",
        "optimizer": "sgd",
        "precision": "amp-bf16",
        "attention": "eager",
        "checkpointing": True,
        "gpu": "T4",
        "gpu_memory": "6GiB",
        "torch_version": "2.7.1",
        "alloc_conf": "expandable_segments:True",
        "trust_remote_code": True,
    }


def test_several_subjects_are_compared(pipeline, capsys):
    assert main(["weigh", "one", "two"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["subject", "parameters", "allocated", "reserved", "process", "verdict"]
    assert [line.split()[0] for line in lines[1:3]] == ["one", "two"]


class TestExitCodes:
    @pytest.mark.parametrize(
        "total, code",
        # 20 MiB in a context of 100 to 150, typically 120
        [(1024 * MiB, 0), (140 * MiB, 0), (139 * MiB, 1), (50 * MiB, 1), (None, 0)],
        ids=["fits", "tight", "tight, and a typical card runs out", "does not fit", "no card"],
    )
    def test_of_a_verdict(self, pipeline, handmade, capsys, total, code):
        pipeline.answers["bert"] = handmade(total=total)
        assert main(["weigh", "bert"]) == code
        assert capsys.readouterr().out

    def test_one_of_several_does_not_fit(self, pipeline, handmade, capsys):
        pipeline.answers["two"] = handmade(total=50 * MiB)
        assert main(["weigh", "one", "two"]) == 1

    def test_of_an_error(self, pipeline, capsys):
        pipeline.answers["bort"] = UnknownModel("no model called bort", hint="did you mean bert?")
        assert main(["weigh", "bort"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == "error: no model called bort\n\nhint: did you mean bert?\n"

    def test_a_mistake_of_ours_keeps_its_traceback(self, pipeline, capsys):
        pipeline.answers["bert"] = ZeroDivisionError("division by zero")
        assert main(["weigh", "bert"]) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err and "ZeroDivisionError" in err and "report it" in err

    def test_interrupted(self, pipeline, capsys):
        pipeline.answers["bert"] = KeyboardInterrupt()
        assert main(["weigh", "bert"]) == 130
        out, err = capsys.readouterr()
        assert (out, err.strip()) == ("", "")


def test_a_failing_factory_keeps_the_users_words(pipeline, capsys):
    pipeline.answers["my.py:make"] = SubjectFailed(
        'the factory my.py:make failed\n  File "my.py", line 3\nKeyError: "hidden"', hint="run it by itself"
    )
    assert main(["weigh", "my.py:make"]) == 2
    err = capsys.readouterr().err
    assert 'KeyError: "hidden"' in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["weigh", "bert", "--bach", "3"], "did you mean --batch?"),
        (["weigh", "bert", "--batch", "many"], "`tonnage weigh --help`"),
        (["weigh"], "`tonnage weigh --help`"),
        (["wiegh", "bert"], "did you mean weigh?"),
        (["show"], "`tonnage show --help`"),
        (["--nonsense"], "`tonnage --help`"),
    ],
)
def test_a_misspelt_command_line(pipeline, capsys, arguments, said):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and "\n\nhint: " in err
    assert said in err
    assert "Traceback" not in err
    assert pipeline.calls == []


class TestFiles:
    def test_json_on_stdout_is_the_report_alone(self, pipeline, capsys):
        assert main(["weigh", "bert", "--json", "-"]) == 0
        out, err = capsys.readouterr()
        assert Report.from_json(out).subject.name == "bert"
        assert err == ""

    def test_json_of_several_is_a_list(self, pipeline, capsys):
        main(["weigh", "one", "two", "--json", "-"])
        assert [plain["subject"]["name"] for plain in json.loads(capsys.readouterr().out)] == ["one", "two"]

    def test_json_in_a_file_beside_the_page(self, pipeline, capsys, tmp_path):
        assert main(["weigh", "bert", "--json", str(tmp_path / "r.json")]) == 0
        assert "= allocated" in capsys.readouterr().out
        assert load_saved(tmp_path / "r.json")[0].subject.name == "bert"

    def test_saved_with_its_recording(self, pipeline, handmade, handmade_recording, capsys, tmp_path):
        assert main(["weigh", "bert", "--save", str(tmp_path / "s")]) == 0
        (report,) = load_saved(tmp_path / "s")
        assert report.recording == handmade_recording(handmade())

    def test_what_does_not_fit_is_saved_too(self, pipeline, handmade, capsys, tmp_path):
        pipeline.answers["bert"] = handmade(total=50 * MiB)
        assert main(["weigh", "bert", "--save", str(tmp_path / "s"), "--json", str(tmp_path / "r.json")]) == 1
        assert load_saved(tmp_path / "s") == load_saved(tmp_path / "r.json")

    @pytest.mark.parametrize("option", ["--save", "--json"])
    def test_a_folder_that_is_not_there(self, pipeline, capsys, tmp_path, option):
        assert main(["weigh", "bert", option, str(tmp_path / "no" / "file")]) == 2
        assert "cannot be written" in capsys.readouterr().err

    def test_an_error_leaves_no_file(self, pipeline, capsys, tmp_path):
        pipeline.answers["two"] = UnknownModel("no model called two")
        assert main(["weigh", "one", "two", "--save", str(tmp_path / "s")]) == 2
        assert list(tmp_path.iterdir()) == []
