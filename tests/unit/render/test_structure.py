from __future__ import annotations

import io
import re
import string

import pytest
import torch
from rich.cells import cell_len
from torch import nn

import tonnage
from tonnage.analyses.structure import Structure, read_structure, select
from tonnage.render.sentences import LANGUAGES, fill
from tonnage.render.structure import structure_page
from tonnage.render.wrapping import wrap
from tonnage.scenario import Scenario
from tonnage.trace import Module, Parameter
from tonnage.workload import resolve
from tonnage.workload.blueprint import members_of, modules_of

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "[bold]x[/] \x1b[31m naïve 模型"


class Stream(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def of_model(model: nn.Module, **said: str) -> Structure:
    return read_structure(modules_of(model), list(members_of(model)), **said)


def built(name: str, **said: str) -> Structure:
    with torch.device("meta"):
        return of_model(resolve(name).build(Scenario()), **said)


def page(structure: Structure, width: int = 80, **options) -> str:
    return structure_page(structure, Stream(), width=width, **options)


def small() -> nn.Module:
    """Three equal blocks in a list, a raw parameter, a tied head and a module that does nothing."""
    model = nn.Module()
    model.wte = nn.Embedding(100, 8)
    model.position = nn.Parameter(torch.zeros(5, 8))
    model.h = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Identity()) for _ in range(3))
    model.head = nn.Linear(8, 100, bias=False)
    model.head.weight = model.wte.weight
    return model


GOLDEN = """\
small
1,056 parameters (1.056 K), each counted once; float32; 800 more under second
names (tied)

module                      parameters  share
Module                           1,056 100.0%
├ position: 5 x 8                   40   3.8%
├ wte: Embedding(100 x 8)          800  75.8%
├ h.0-2: 3 x Sequential         3 x 72  20.5%
│ ├ 0: Linear(8 -> 8, bias)         72  20.5%
│ └ 1: Tanh
└ head: Linear(8 -> 100)             0
  └ weight = wte.weight

a row N x Type stands for N equal blocks: parameters are of one, shares and the
columns after them of all
modules that do nothing (Identity) have no row

what each part is
wte
    token embedding: a learned vector of 8 for each of 100 tokens, 100 x 8 = 800
    parameters
h.0-2.1
    activation: Tanh of each value, nothing learned
head
    language model head: from 8 a score for each of 100 tokens; tied: its weight
    is wte.weight, counted there
"""


def test_a_whole_page():
    assert page(of_model(small(), name="small")) == GOLDEN


def test_without_sentences():
    text = page(of_model(small(), name="small"), explain=False)
    assert text == GOLDEN.partition("\nwhat each part is")[0]


def test_the_issues_words():
    text = page(built("bert-base-uncased"), 100)
    assert "layer.0-11: 12 x BertLayer" in text
    text = page(built("t5-small"), 100)
    assert "block 0 alone has relative_attention_bias 32 x 8 = 256; otherwise as 1-5" in text
    assert "weight = shared.weight" in text
    text = page(built("answerdotai/ModernBERT-base"), 120)
    assert "layer 0 alone has no attn_norm; " in text


def test_the_differences_in_chinese():
    assert "唯独第 0 块：有 relative_attention_bias 32 x 8 = 256；其余与 1-5 相同" in page(built("t5-small"), lang="zh")
    assert "唯独第 0 层：没有 attn_norm；" in page(built("answerdotai/ModernBERT-base"), lang="zh")


@pytest.mark.parametrize(
    "name, words",
    [
        ("bert-base-uncased", ["词嵌入", "位置嵌入", "层归一化", "自注意力", "每头维度 64", "23,440,896 个参数"]),
        ("t5-small", ["交叉注意力", "相对位置偏置", "前馈网络", "语言模型头", "权重共享"]),
        ("meta-llama/Llama-3.1-8B", ["分组查询注意力", "32 个查询头", "门控前馈网络", "旋转位置编码"]),
        ("mistralai/Mixtral-8x7B-v0.1", ["路由", "专家"]),
        ("torchvision:vgg16", ["卷积", "最大池化", "分类头"]),
    ],
)
def test_chinese_terms(name, words):
    text = page(built(name), 120, lang="zh")
    assert [word for word in words if word not in text] == []


def test_an_odd_block_shows_only_what_it_alone_has():
    text = page(built("t5-small"), 100)
    encoder = text[text.index("├ encoder: ") : text.index("├ decoder: ")]
    assert [line.split(":")[0].lstrip("│├└ ") for line in encoder.splitlines()[3:8]] == [
        "block.0",
        "block 0 alone has relative_attention_bias 32 x 8 = 256; otherwise as 1-5",
        "layer.0",
        "SelfAttention",
        "relative_attention_bias",
    ]
    assert encoder.count(" q: Linear") == 1


def test_an_odd_block_whose_siblings_are_not_selected_is_shown_whole():
    text = page(select(built("t5-small"), "encoder.block.0"), 100)
    assert "block 0 alone has relative_attention_bias" in text
    assert "q: Linear(512 -> 512)" in text


def rows(text: str) -> list[tuple[int, int, float]]:
    """The number in the column of parameters, the repeats before it and the share of each row, where it has them."""
    found = re.findall(r" (?:(\d+) x )?([\d,]+) +(<?[\d.]+)%$", text, flags=re.MULTILINE)
    return [(int(n or 1), int(count.replace(",", "")), share) for n, count, share in found]


@pytest.mark.parametrize("name", ["bert-base-uncased", "t5-small", "torchvision:resnet50", "openai/whisper-tiny"])
def test_the_first_level_adds_up(name):
    structure = built(name)
    (_, total, _), *parts = rows(page(structure, depth=1, explain=False))
    assert total == structure.parameters
    assert sum(n * count for n, count, _ in parts) == total


@pytest.mark.parametrize("depth, deepest", [(0, 0), (1, 1), (2, 2)])
def test_depth(depth, deepest):
    text = page(of_model(small()), depth=depth, explain=False)
    assert ("wte" in text, "Linear(8 -> 8" in text) == (deepest >= 1, deepest >= 2)


def test_what_is_selected_is_what_is_shown():
    text = page(select(built("bert-base-uncased"), "*Pooler"))
    assert "BertPooler" in text
    assert "BertEmbeddings" not in text
    assert "109,482,240" in text


class TestColumns:
    @pytest.fixture
    def trained(self) -> Structure:
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8).half().float())
        recording = tonnage.weigh(model, inputs=((torch.zeros(4, 16),), {}), mode="training").recording
        trace = recording.trace
        macs = {"0": 4 * 16 * 32, "2": 4 * 32 * 8}
        return read_structure(trace.modules, trace.parameters, recording=recording, macs=macs, macs_missing={"2"})

    def test_narrow_has_the_first_ones(self, trained):
        heading = page(trained, 60).splitlines()[3]
        assert heading.split() == ["module", "output", "parameters", "share"]

    def test_wide_has_more(self, trained):
        lines = page(trained, 100, explain=False).splitlines()
        assert lines[3].split() == ["module", "output", "parameters", "share", "MACs", "kept"]
        cells = [re.split(r"  +", line) for line in lines[4:8]]
        assert cells == [
            ["Sequential", "[4, 8]", "808", "100.0%", ">= 3,072", "512 B"],
            ["├ 0: Linear(16 -> 32, bias)", "[4, 32]", "544", "67.3%", "2,048"],
            ["├ 1: ReLU", "[4, 32]", "512 B"],
            ["└ 2: Linear(32 -> 8, bias)", "[4, 8]", "264", "32.7%", ">= 1,024"],
        ]

    def test_remarks_say_what_they_mean(self, trained):
        text = page(trained, 100, explain=False)
        assert "kept: activations held for backward when the forward is done" in text
        assert ">= some work of it has no rule and is not counted" in text

    def test_dtypes_only_where_they_differ(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).to(torch.bfloat16))
        assert "dtype" in page(of_model(model), 100)
        assert "dtype" not in page(of_model(small()), 100)

    def test_a_loss_beside_other_outputs_is_not_the_shape(self):
        recording = tonnage.weigh("t5-small", seq=16, mode="training").recording
        trace = recording.trace
        text = page(read_structure(trace.modules, trace.parameters, recording=recording), depth=0)
        assert re.search(r"T5ForConditionalGeneration +\[1, \d+, 32128\]", text)

    def test_how_often_a_module_is_called(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.lin = nn.Linear(3, 3)

            def forward(self, x):
                return self.lin(self.lin(x))

        recording = tonnage.weigh(Twice(), inputs=((torch.zeros(2, 3),), {})).recording
        text = page(read_structure(recording.trace.modules, recording.trace.parameters, recording=recording))
        assert "lin: Linear(3 -> 3, bias) 2 x [2, 3]" in text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("name", ["bert-base-uncased", "t5-small", "answerdotai/ModernBERT-base", "torchvision:vgg16"])
def test_no_line_is_wider_than_the_terminal(name, width, lang):
    text = page(built(name), width, lang=lang)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r" $", text, re.MULTILINE)


class TestLanguages:
    def test_they_have_words_for_the_same(self):
        en, zh = LANGUAGES["en"], LANGUAGES["zh"]
        for part in ("sentences", "differences", "words"):
            ours, theirs = getattr(en, part), getattr(zh, part)
            assert list(ours) == list(theirs)
            assert {key: fields(text) for key, text in ours.items()} == {
                key: fields(text) for key, text in theirs.items()
            }

    def test_chinese_is_chinese(self):
        for key, text in LANGUAGES["zh"].sentences.items():
            assert re.search(r"[\u4e00-\u9fff]", text), key
            assert not re.search(r"[\u4e00-\u9fff] ?[,;:(]", text), f"{key}: half-width marks"

    def test_numbers(self):
        assert fill("{a} {b} {c}", a=9999, b=10_000, c="768") == "9999 10,000 768"


def fields(text: str) -> list[str]:
    return sorted({field for _, field, _, _ in string.Formatter().parse(text) if field})


class TestSafety:
    def hostile(self) -> Structure:
        modules = [Module("", HOSTILE), Module("a", "Linear", "", {"in_features": 1, "out_features": 1})]
        weights = [Parameter("a.weight", (1, 1), "float32", 4, True, 1, "parameter")]
        return read_structure(modules, weights, name=HOSTILE, ran=HOSTILE)

    def test_user_text_is_never_markup_nor_control(self):
        text = page(self.hostile())
        assert text.count("[bold]x[/]") == 3
        assert "\x1b" not in text

    def test_a_stream_without_unicode(self):
        stream = Stream(encoding="ascii")
        stream.write(structure_page(self.hostile(), stream, width=80))
        stream.write(structure_page(of_model(small()), stream, width=80))
        stream.flush()
        written = stream.buffer.getvalue()
        assert b"na\\xefve" in written
        assert b"|-h.0-2: 3 x Sequential" in written
        assert b"`-head: Linear(8 -> 100)" in written

    def test_colour_changes_no_text(self):
        coloured = structure_page(of_model(small()), Stream(terminal=True), width=80)
        assert ANSI.search(coloured)
        assert [line.rstrip() for line in ANSI.sub("", coloured).splitlines()] == page(of_model(small())).splitlines()


class TestWrapping:
    def test_at_spaces(self):
        assert wrap("a learned vector for each token", 12, indent=2) == ["a learned", "  vector for", "  each token"]

    def test_chinese_breaks_anywhere_but_before_a_closing_mark(self):
        assert wrap("层归一化，缩放", 8) == ["层归一", "化，缩放"]
        assert wrap("将数值归一化", 5) == ["将数", "值归", "一化"]

    def test_products_and_equations_stay_in_one_piece(self):
        assert wrap("it is 12 x 64 = 768 wide", 16) == ["it is", "12 x 64 = 768", "wide"]
        assert wrap("it is 12 x 64 = 768 wide", 10) == ["it is 12 x", "64 = 768", "wide"]

    def test_a_word_that_is_too_long_is_cut(self):
        assert wrap("relative_position", 10) == ["relative_p", "osition"]

    def test_nothing(self):
        assert wrap("", 10) == [""]
