"""The page of FLOPs is read back: its numbers are those of the compute, and it fits."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.cells import cell_len

from tonnage.analyses.compute import Compute, ModuleWork, OperatorWork, Unsupported, Work
from tonnage.analyses.findings import Finding
from tonnage.analyses.forms import ComputeForm, Proof, Step, Symbol
from tonnage.render.flops import compute_page
from tonnage.render.folding import folded
from tonnage.report import ComputeReport, Subject
from tonnage.scenario import Scenario

HOSTILE = "[bold]x[/] </script> \x1b[31m naïve 模型"
TITLE = "bert-base-uncased"


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)


def work(macs=0, at_least=False, **other):
    """Every dot product of 16 terms."""
    textbook = 2 * macs - macs // 16 + sum(other.values())
    return Work(macs=macs, flops=2 * macs, other=other, textbook_flops=textbook, bytes_moved=0, at_least=at_least)


def module(path, macs, type="Linear", calls=1, backward=0, total=1600):
    return ModuleWork(
        path=path, type=type, calls=calls, own_macs=macs, macs=macs, backward_macs=backward, share=macs / total
    )


LAYERS = [module(f"layer.{n}", 500, "Block", backward=1000) for n in range(3)]
MODULES = [
    module("", 100, ""),
    module("", 1500, "Net", backward=3000),
    *[m for n, block in enumerate(LAYERS) for m in (block, module(f"layer.{n}.linear", 500, backward=1000))],
    module("dropout", 0, "Dropout"),
]
OPERATORS = [
    OperatorWork(operator="aten.mm.default", kind="matrix product", during="backward", times=6, macs=3000),
    OperatorWork(operator="aten.addmm.default", kind="matrix product", during="forward", times=4, macs=1600),
    OperatorWork(operator="aten.relu.default", kind="elementwise", during="forward", times=3, macs=0),
]


def handmade(**changes):
    compute = Compute(
        macs=1600,
        flops=3200,
        at_least=False,
        forward=work(1600, elementwise=48, bias=100),
        recomputation=work(),
        backward=work(3000),
        optimizer=work(elementwise=7),
        step_macs=4600,
        by_module=MODULES,
        by_operator=OPERATORS,
        unsupported=[],
    )
    return msgspec.structs.replace(compute, **changes)


UNKNOWN = Unsupported(operator="mylib.scan.default", module="layer.0", during="forward", times=12, reason="no rule")


def crowded():
    """More of everything than there is room for, and wide numbers and names."""
    huge = 10**18
    modules = [module(f"{'deep.' * 5}part{n}.{n % 7}", huge + n, "Linear" * 9, backward=huge) for n in range(90)]
    operators = [
        msgspec.structs.replace(OPERATORS[0], operator=f"aten.{'long' * 20}{n}.default", macs=huge) for n in range(40)
    ]
    return handmade(
        macs=90 * huge,
        forward=work(90 * huge, at_least=True, norm=huge),
        recomputation=work(huge),
        optimizer=work(huge),
        by_module=modules,
        by_operator=operators,
        unsupported=[msgspec.structs.replace(UNKNOWN, module="deep." * 30 + str(n)) for n in range(40)],
        at_least=True,
    )


def reported(compute, name=TITLE, formula=""):
    form = ComputeForm(
        formula=formula,
        latex="",
        symbols=[Symbol(symbol="B", field="batch", value=1), Symbol(symbol="S", field="seq", value=128)],
        steps=[Step(symbol="S", step=16)],
        proofs=[Proof(changes={"B": 2}, predicted=7, counted=7)],
        held={},
        reason="it runs a loop",
    )
    return ComputeReport(
        tonnage_version="0",
        subject=Subject(name=name, kind="module", class_name="Net", library="", description=""),
        scenario=Scenario(batch=1, seq=128),
        compute=msgspec.structs.replace(compute, derived=form),
        config_form=None,
        finding=Finding(sentence="", shares=[]),
        inputs=[],
        guesses=[],
        assumptions=[],
    )


def page(compute, formula="", **options):
    return compute_page(reported(compute, formula=formula), Stream(), **{"width": 80, **options})


def paragraphs(text):
    """The lines of each labelled paragraph."""
    found, label = {}, ""
    for line in text.splitlines():
        if match := re.match(r"(\w[\w ]{0,11}?)  +(\S.*)", line):
            label = match[1]
            found[label] = [match[2]]
        elif line.startswith(" " * 13) and label:
            found[label].append(line.strip())
        else:
            label = ""
    return found


def test_macs_and_both_conventions_are_said_apart():
    forward = paragraphs(page(handmade()))["forward"]
    assert forward == [
        "1,600 MACs (1.6 kMAC); exact",
        "3,200 FLOPs (3.2 kFLOP), 2 per MAC",
        "3,248 FLOPs (3.248 kFLOP), textbook convention",  # 3200 - 100 products + 148
    ]


def test_the_passes_sum_to_the_step():
    said = paragraphs(page(handmade(recomputation=work(160), optimizer=work(32), step_macs=4792)))
    macs = {
        label: int(lines[0].split()[0].replace(",", ""))
        for label, lines in said.items()
        if re.match(r"[\d,]+ MACs", lines[0])
    }
    assert macs == {"forward": 1600, "recomputed": 160, "backward": 3000, "optimizer": 32, "step": 4792}
    assert macs.pop("step") == sum(macs.values())


def test_inference_is_forward_alone():
    said = paragraphs(page(handmade(backward=work(), step_macs=1600)))
    assert {"recomputed", "backward", "optimizer", "step"}.isdisjoint(said)
    assert "backward MACs" not in page(handmade(backward=work()))


def test_the_formula_has_its_sizes_its_proof_and_its_domain():
    said = paragraphs(page(handmade(), formula="B*(16*S + 84)"))
    assert said["formula"] == ["B*(16*S + 84)", "forward MACs, where B = 1 batch, S = 128 seq"]
    assert said["proved"] == ["✓ 1 of 1 sizes that it was not derived from", "holds for whole S/16"]


def test_no_formula_has_a_reason():
    assert paragraphs(page(handmade()))["formula"] == ["none: it runs a loop"]


def test_other_work_by_kind():
    text = page(handmade())
    assert re.search(r"^other work, forward +FLOPs\nelementwise +48\nbias +100$", text, re.MULTILINE)


def test_modules_that_repeat_are_one_row_of_their_sum():
    text = page(handmade())
    for row in (
        r"outside of every module +1 +100 +0 +6\.2%",
        r"Net +1 +1,500 +3,000 +93\.8%",
        r"  layer\.\{0-2\}\.linear: 3 x Linear +3 +1,500 +3,000 +93\.8%",
        r"1 without MACs",
    ):
        assert re.search(f"^{row}$", text, re.MULTILINE), row


@pytest.mark.parametrize(
    ("depth", "shown"), [(1, []), (2, ["  layer.{0-2}: 3 x Block"]), (3, ["  layer.{0-2}.linear: 3 x Linear"])]
)
def test_a_row_that_only_passes_on_gives_way_to_what_it_passes_to(depth, shown):
    text = page(handmade(), depth=depth)
    assert re.findall(r"^( +layer\S*: 3 x \w+)", text, re.MULTILINE) == shown


def test_rows_stand_under_what_holds_them():
    modules = [
        module("", 1600, "Net"),
        module("block", 1500, "Block"),
        module("block.up", 1000),
        module("block.down", 500),
        module("head", 100),
    ]
    text = page(handmade(by_module=modules), depth=3)
    assert re.findall(r"^( *[\w.]+): ", text, re.MULTILINE) == ["  block", "    up", "    down", "  head"]


def test_the_most_work_and_the_others():
    text = page(handmade())
    assert re.search(
        r"^aten\.mm +backward +6 +3,000\naten\.addmm +forward +4 +1,600\n1 others +3 +0$", text, re.MULTILINE
    )


def test_what_is_not_known_is_listed_and_the_headline_says_so():
    forward = work(1600, at_least=True)
    said = paragraphs(page(handmade(forward=forward, unsupported=[UNKNOWN], at_least=True), width=120))
    assert said["not counted"] == ["mylib.scan.default in layer.0, forward, 12 times: no rule"]
    assert [line.startswith("at least ") for line in said["forward"]] == [True] * 3
    assert said["step"][0].startswith("at least ")
    assert not said["backward"][0].startswith("at least ")
    assert paragraphs(page(handmade()))["not counted"] == ["nothing"]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("compute", [handmade, crowded])
def test_no_line_is_wider_than_the_terminal(compute, width):
    text = page(compute(), width=width, formula="B*(" + "84934656*S + " * 30 + "1)")
    assert max(map(cell_len, text.splitlines())) <= width


def test_a_crowded_page_says_what_it_leaves_out():
    text = page(crowded(), width=120)
    assert "32 others" in text
    assert re.search(r"and \d+ more; --json FILE has all", text)
    assert len(text.splitlines()) < 100


def test_user_text_is_never_markup():
    modules = [module("", 1600, "Net"), module(HOSTILE, 1600)]
    compute = handmade(by_module=modules, unsupported=[msgspec.structs.replace(UNKNOWN, module=HOSTILE)])
    text = compute_page(reported(compute, name=HOSTILE), Stream(), width=80)
    assert text.count("[bold]x[/] </script> \\x1b[31m naïve 模型") == 3
    assert "\x1b" not in text


def test_a_stream_without_unicode():
    stream = Stream("ascii")
    stream.write(compute_page(reported(handmade(), name=HOSTILE), stream, width=80))
    stream.flush()
    assert b"na\\xefve" in stream.buffer.getvalue()


# Folding --------------------------------------------------------------------------------------------------------------


def paths(*modules):
    return [(row.path, len(row.modules)) for row in folded(modules)]


def test_nothing_to_fold():
    assert paths() == []
    assert paths(module("", 8), module("a", 8), module("b", 8)) == [("", 1), ("a", 1), ("b", 1)]


def test_what_differs_is_not_folded():
    assert paths(module("a.0", 8), module("a.1", 9), module("a.2", 8)) == [("a.{0,2}", 2), ("a.1", 1)]
    assert paths(module("a.0", 8), module("a.1", 8, "Conv2d")) == [("a.0", 1), ("a.1", 1)]
    assert paths(module("a.0", 8), module("b.1", 8)) == [("a.0", 1), ("b.1", 1)]


def test_numbers_in_two_places():
    whole = [module(f"stage.{i}.block.{j}", 8) for i in range(2) for j in range(3)]
    assert paths(*whole) == [("stage.{0,1}.block.{0-2}", 6)]
    assert paths(*whole, module("stage.1.block.3", 8)) == [("stage.0.block.{0-2}", 3), ("stage.1.block.{0-3}", 4)]


def test_ranges():
    assert paths(*[module(f"a.{n}", 8) for n in (0, 1, 2, 5, 7, 8)]) == [("a.{0-2,5,7,8}", 6)]
