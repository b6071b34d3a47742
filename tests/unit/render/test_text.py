from __future__ import annotations

import io

import pytest

from tonnage.render.notes import listed, wrapped
from tonnage.render.text import Glyphs, bar, console_for, glyphs_for, without_trailing_spaces


@pytest.mark.parametrize(
    "encoding, plain", [("utf-8", False), ("UTF8", False), ("utf_16", False), ("ascii", True), ("cp1252", True)]
)
def test_glyphs_are_ascii_unless_the_stream_is_unicode(encoding, plain):
    assert (glyphs_for(encoding).bar + glyphs_for(encoding).dot).isascii() is plain


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("\u202ereversed", "\\u202ereversed"),
        ("模型", "模型"),
        ("\ud800", "\\ud800"),
    ],
)
def test_user_text_is_one_line_without_control(text, shown):
    assert Glyphs("utf-8").clean(text) == shown


def test_user_text_in_an_encoding_that_lacks_it():
    assert Glyphs("ascii").clean("naïve 模") == "na\\xefve \\u6a21"
    assert Glyphs("ascii").clean("1 × 8") == "1 x 8"
    assert Glyphs("utf-8", unicode=True).clean("1 × 8") == "1 × 8"


@pytest.mark.parametrize("share, cells", [(0, 0), (1e-9, 1), (0.5, 4), (1, 8)])
def test_a_bar(share, cells):
    assert bar(share, 8, Glyphs("ascii")) == "#" * cells


class TestNotes:
    console = console_for(io.StringIO(), width=40)

    def test_what_fits_is_untouched(self):
        assert wrapped(self.console, "some words", 20, most=2) == ["some words"]

    def test_what_does_not_fit_is_marked(self):
        assert wrapped(self.console, "one two three four", 8, most=2) == ["one two", "three..."]

    def test_no_line_is_wider_than_asked(self):
        lines = wrapped(self.console, "模型" * 40, 9, most=3)
        assert len(lines) == 3
        assert all(console_cells(line) <= 9 for line in lines)

    def test_everything_is_listed_where_there_is_room(self):
        assert listed(self.console, ["a", "b", "c"], 30, most=3) == ["a", "b", "c"]

    def test_what_is_left_out_is_counted(self):
        assert listed(self.console, list("abcde"), 30, most=3) == ["a", "b", "and 3 more; --json FILE has all"]

    def test_a_long_item_leaves_room_for_the_count(self):
        lines = listed(self.console, ["word " * 30, "b", "c"], 20, most=3)
        assert len(lines) == 3
        assert lines[1].endswith("...")
        assert lines[2].startswith("and 2 more")


def console_cells(line):
    from rich.cells import cell_len

    return cell_len(line)


def test_trailing_spaces_go_line_by_line():
    assert without_trailing_spaces("a  \n\n b \nc") == "a\n\n b\nc"
