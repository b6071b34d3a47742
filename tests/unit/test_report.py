from __future__ import annotations

import json
import zipfile
from importlib.resources import files

import jsonschema
import pytest

from tonnage.errors import BadFile
from tonnage.report import VERSION, Report, json_schema, load_saved, reports_to_json, save_reports

HOSTILE = "[bold]x[/] </script> \x1b[31m naïve 模型"


def test_json_and_back(handmade):
    report = handmade(name=HOSTILE)
    assert Report.from_json(report.to_json()) == report


def test_the_keys_of_the_contract(handmade):
    plain = json.loads(handmade().to_json())
    assert plain["parameters"]["total"] == 2**20
    assert {"trainable", "tied"} <= plain["parameters"].keys()
    peak = plain["memory"]["peak"]
    assert {"allocated_bytes", "reserved_bytes", "process_bytes", "instant", "by_category"} <= peak.keys()
    assert sum(peak["by_category"].values()) == peak["allocated_bytes"]


def test_without_a_card_the_json_has_no_verdict(handmade):
    plain = json.loads(handmade(total=None).to_json())
    assert plain["card"] is None and plain["verdict"] is None


def test_the_published_schema_is_the_schema_of_the_code():
    published = json.loads(files("tonnage").joinpath("data/report.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(), "write it again: python -m tonnage.report > src/tonnage/data/report.schema.json"


@pytest.mark.parametrize("total", [None, 2**30, 1])
def test_a_report_is_valid_by_the_published_schema(handmade, total):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(handmade(total=total).to_json()), schema)


def test_the_schema_refuses_what_is_no_report(handmade):
    plain = json.loads(handmade().to_json())
    plain["memory"]["peak"]["allocated_bytes"] = "13 MiB"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, json_schema())


def test_a_report_of_a_later_0_x_with_more_names_is_read(handmade):
    plain = json.loads(handmade().to_json())
    plain["plane"] = {"peak": 1}
    plain["memory"]["peak"]["new"] = 1
    assert Report.from_json(json.dumps(plain)) == handmade()


class TestSavedFiles:
    def test_reports_and_recordings_come_back(self, tmp_path, handmade, handmade_recording):
        report, other = handmade(), handmade(name="other", scale=3)
        recording = handmade_recording(report)
        save_reports(tmp_path / "saved", [report.with_recording(lambda: recording), other])
        first, second = load_saved(tmp_path / "saved")
        assert (first, second) == (report, other)
        assert first.recording == recording
        assert second.recording is None

    def test_the_same_reports_give_the_same_file(self, tmp_path, handmade):
        for name in ("a", "b"):
            save_reports(tmp_path / name, [handmade()])
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("count", [1, 2])
    def test_plain_json_is_read_too(self, tmp_path, handmade, count):
        reports = [handmade()] * count
        (tmp_path / "r.json").write_text(reports_to_json(reports))
        assert load_saved(tmp_path / "r.json") == reports

    def test_nothing_is_left_of_a_file_that_could_not_be_finished(self, tmp_path, handmade):
        # GIVEN a file from before, WHEN writing the next one breaks off, THEN the old one is whole
        save_reports(tmp_path / "saved", [handmade()])
        before = (tmp_path / "saved").read_bytes()

        def fails():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            save_reports(tmp_path / "saved", [handmade(scale=2).with_recording(fails)])
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]
        assert (tmp_path / "saved").read_bytes() == before

    def test_a_folder_that_is_not_there(self, tmp_path, handmade):
        with pytest.raises(BadFile, match="cannot be written"):
            save_reports(tmp_path / "no" / "saved", [handmade()])

    def test_a_folder_in_the_way(self, tmp_path, handmade):
        with pytest.raises(BadFile, match="cannot be written"):
            save_reports(tmp_path, [handmade()])


class TestDamage:
    def saved(self, tmp_path, handmade, handmade_recording):
        report = handmade()
        recording = handmade_recording(report)
        path = tmp_path / "saved"
        save_reports(path, [report.with_recording(lambda: recording)])
        return path

    def test_every_truncation_is_told(self, tmp_path, handmade, handmade_recording):
        path = self.saved(tmp_path, handmade, handmade_recording)
        whole = path.read_bytes()
        assert load_saved(path)
        for length in range(0, len(whole), 97):
            path.write_bytes(whole[:length])
            with pytest.raises(BadFile) as caught:
                load_saved(path)
            assert caught.value.hint

    def test_every_truncation_of_json_is_told(self, tmp_path, handmade):
        text = handmade().to_json()
        for length in range(0, len(text), 97):
            (tmp_path / "r.json").write_text(text[:length])
            with pytest.raises(BadFile):
                load_saved(tmp_path / "r.json")

    def test_flipped_bytes_are_told_or_harmless(self, tmp_path, handmade, handmade_recording):
        path = self.saved(tmp_path, handmade, handmade_recording)
        whole = bytearray(path.read_bytes())
        expected = handmade()
        for position in range(0, len(whole), 31):
            damaged = whole.copy()
            damaged[position] ^= 0xFF
            path.write_bytes(damaged)
            try:
                (report,) = load_saved(path)
                report.recording  # noqa: B018 - reads it from the file
            except BadFile:
                continue
            assert report == expected

    def test_a_newer_report(self, handmade):
        plain = json.loads(handmade().to_json()) | {"tonnage_report": VERSION + 1}
        with pytest.raises(BadFile, match=f"version {VERSION + 1}") as caught:
            Report.from_json(json.dumps(plain), name="r.json")
        assert "upgrade" in caught.value.hint

    def test_a_newer_report_that_means_something_else_by_its_names(self):
        with pytest.raises(BadFile, match="this tonnage reads up to"):
            Report.from_json(json.dumps({"tonnage_report": VERSION + 1, "memory": "see elsewhere"}))

    @pytest.mark.parametrize("text", ["", "{}", "[]", "null", "3", '{"tonnage_report": "1"}', '{"tonnage_report": 1}'])
    def test_json_that_is_no_report(self, tmp_path, text):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(BadFile):
            load_saved(tmp_path / "r.json")

    def test_a_scenario_that_makes_no_sense(self, handmade):
        plain = json.loads(handmade().to_json())
        plain["scenario"]["batch"] = -1
        with pytest.raises(BadFile, match="batch"):
            Report.from_json(json.dumps(plain))

    def test_another_zip(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(BadFile, match="no tonnage report"):
            load_saved(tmp_path / "other.zip")

    def test_a_bare_recording(self, tmp_path, handmade, handmade_recording):
        handmade_recording(handmade()).save(tmp_path / "r")
        with pytest.raises(BadFile, match="no tonnage report"):
            load_saved(tmp_path / "r")

    def test_no_file(self, tmp_path):
        with pytest.raises(BadFile, match="cannot be read"):
            load_saved(tmp_path / "nothing")
