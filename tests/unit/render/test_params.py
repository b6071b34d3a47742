"""The parameter page is read back: its numbers are those of the form, and it fits."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.cells import cell_len

from tonnage.analyses.forms import Component, Proof
from tonnage.analyses.parameters import ParameterCount
from tonnage.render.params import params_latex, params_markdown, params_page
from tonnage.report import ParameterReport, Subject

HOSTILE = "[bold]x[/] </script> \x1b[31m naïve 模型"
TOTALS = {"t5-small": 60_506_624, "bert-base-uncased": 109_482_240, "vgg16": 138_357_544}


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)


def reported(form, name="net", guesses=(), **counts):
    total = form.total if form else 7
    usual = {"trainable": total, "frozen": 0, "tied": 0, "buffers": 0, "buffer_bytes": 0}
    usual |= {"total_bytes": 4 * total, "bytes_by_dtype": {"float32": 4 * total}}
    return ParameterReport(
        tonnage_version="0",
        subject=Subject(name=name, kind="module", class_name="Net", library="", description=""),
        parameters=ParameterCount(total=total, derived=form, **{**usual, **counts}),
        guesses=list(guesses),
    )


def page(form, encoding="utf-8", width=80, **options):
    return params_page(reported(form, **options), Stream(encoding), width=width)


def paragraphs(text):
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


def changed(form, **changes):
    return msgspec.structs.replace(form, **changes)


@pytest.fixture
def bert(forms):
    proofs = [
        Proof(changes={"hidden_size": 24}, predicted=1234, counted=1234),
        Proof(changes={"hidden_size": 36, "num_hidden_layers": 2}, predicted=5678, counted=5678),
    ]
    return changed(forms["bert-base-uncased"], proofs=proofs)


def test_formula_numbers_and_sum(bert):
    found = paragraphs(page(bert, width=400))
    assert found["parameters"] == ["109,482,240 (109.5 M), each tensor counted once; exact"]
    assert found["formula"] == [bert.formula]
    assert found["in numbers"] == [
        f"{bert.substituted} = 109,482,240",
        "✓ the sum over the model's own tensors: 109,482,240",
    ]


def test_the_proof_with_most_changes_is_shown(bert):
    proved = paragraphs(page(bert, width=200))["proved"]
    assert proved == [
        "✓ 2 of 2 configurations that it was not derived from, such as",
        "H=36, L=2: 5,678 predicted, 5,678 counted",
    ]


def test_a_proof_that_fails(bert):
    proofs = [
        *bert.proofs,
        Proof(changes={"vocab_size": 3, "hidden_size": 1, "num_hidden_layers": 2}, predicted=1, counted=2),
    ]
    proved = paragraphs(page(changed(bert, proofs=proofs), width=200))["proved"]
    assert proved[0].startswith("✗ 2 of 3") and "1 predicted, 2 counted" in proved[1]


def test_nothing_proved(bert):
    assert paragraphs(page(changed(bert, proofs=[])))["proved"] == ["✗ no other configuration could be built"]


def test_a_sum_that_does_not_agree(bert):
    report = reported(bert)
    wrong = changed(report, parameters=changed(report.parameters, total=7))
    assert "✗ the sum over the model's own tensors: 7" in params_page(wrong, Stream(), width=200)


def test_symbols_with_their_fields_and_definitions(bert):
    symbols = [changed(s, definition="4*H") if s.symbol == "F" else s for s in bert.symbols]
    where = paragraphs(page(changed(bert, symbols=symbols), width=120))["where"]
    assert "V = 30,522 vocab_size" in where
    assert "F = 3,072 intermediate_size, which is 4*H unless it is given" in where


def test_what_it_holds_for(bert):
    limited = changed(
        bert,
        settings={"bias": "True", "tied": "True", "odd": "False"},
        switches={"bias": "-L*H", "tied": "V*H"},
        apart=[("E", "H")],
        least={"num_hidden_layers": 2},
        whole=["H/h"],
        moves={"word_embed": "hidden_size"},
        sizes={**bert.sizes, "version": 3},
        held={"version": "no other value of it builds the same architecture"},
    )
    assert paragraphs(page(limited, width=120))["holds for"] == [
        "odd=False",
        "bias=True; otherwise - L*H",
        "tied=True; otherwise + V*H",
        "E other than H",
        "num_hidden_layers of 2 and more",
        "sizes with which H/h is a whole number",
        "word_embed in proportion to hidden_size",
        "version=3: no other value of it builds the same architecture",
    ]
    assert "holds for" not in paragraphs(page(bert))


@pytest.mark.parametrize("name", TOTALS)
def test_the_rows_add_up(forms, name):
    """Bold rows and those that stand by themselves have the share of the model beside their count."""
    text = page(forms[name], width=160)
    rows = [line for line in text.splitlines() if re.search(r"\d  +<?[\d.]+%$", line)]
    assert sum(int(re.search(r"([\d,]+)  +<?[\d.]+%$", row)[1].replace(",", "")) for row in rows) == TOTALS[name]


def test_once_in_a_block_and_how_many_blocks(forms):
    text = page(forms["bert-base-uncased"], width=160)
    (block,) = [line for line in text.splitlines() if line.startswith("encoder.layer.{0-11}")]
    assert "L = 12 × 7,087,872" in block and "85,054,464" in block
    linear, norm = (768 + 1) * 768, 2 * 768
    each = [3 * linear, linear, norm, (768 + 1) * 3072, (3072 + 1) * 768, norm]
    assert sum(each) == 7_087_872 and 12 * sum(each) == 85_054_464
    inside = [line for line in text.splitlines() if line.startswith("  ") and not line.endswith("%")]
    shown = [int(line.split()[-1].replace(",", "")) for line in inside if re.search(r" [\d,]+$", line)]
    assert [number for number in shown if number in each] == each


def test_where_nothing_varies_the_arithmetic_of_textbooks(forms):
    form = forms["vgg16"]
    plain = changed(
        form,
        formula="",
        symbols=[],
        reason="nothing says which sizes the model was built from",
        components=[
            Component(
                path="0",
                kind="Conv2d",
                parameters=["weight", "bias"],
                formula="1792",
                substituted="1792",
                times="1",
                each=1792,
                repeats=1,
                total=1792,
                arithmetic="(k*k*C_in + 1)*C_out",
                worked="(3*3*3 + 1)*64",
            )
        ],
        total=1792,
    )
    text = page(plain, width=120)
    assert "(k*k*C_in + 1)*C_out = (3*3*3 + 1)*64" in text
    assert "none of sizes: nothing says which sizes" in paragraphs(text)["formula"][0]
    assert "proved" not in paragraphs(text)


def test_counts_beside_each_other(bert):
    counts = {"tied": 23_440_896, "embedding": 23_837_184, "active": 5_000_000, "buffers": 512, "buffer_bytes": 2048}
    text = page(bert, width=160, trainable=109_482_000, frozen=240, **counts)
    assert paragraphs(text)["counts"] == [
        "109,482,240 unique tensors: what sum(p.numel() for p in model.parameters()) gives",
        "132,923,136 with tied tensors counted under each of their names, as sums over modules do",
        "5,000,000 active for one token, the others in experts that it is not sent to",
        "109,482,000 trainable, 240 frozen",
        "23,837,184 in embedding tables, 85,645,056 elsewhere",
        "512 in buffers, not counted above (2.00 KiB)",
        "float32 417.64 MiB",
    ]


def test_without_a_form():
    text = page(None)
    assert paragraphs(text)["parameters"][0].startswith("7 (")
    assert "formula" not in paragraphs(text)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", TOTALS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_every_terminal(forms, name, width, encoding):
    text = page(forms[name], encoding=encoding, width=width)
    text.encode(encoding)
    assert all(cell_len(line) <= width and line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_of_the_users_is_no_markup(bert, encoding):
    rows = [changed(bert.components[0], path=HOSTILE), *bert.components[1:]]
    text = page(changed(bert, components=rows), encoding=encoding, name=HOSTILE, guesses=[HOSTILE], width=120)
    text.encode(encoding)
    assert "\x1b" not in text and text.count("[bold]x[/]") == 3


def test_markdown_has_every_row_and_the_total(forms):
    for name, form in forms.items():
        text = params_markdown(reported(form, name=name), Stream())
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        counts = [int(row.rstrip(" |").rpartition("| ")[2].replace(",", "")) for row in rows]
        assert counts == [c.total for c in form.components]
        assert f"**{TOTALS[name]:,}** |" in text


def test_markdown_cells_stay_cells(bert):
    rows = [changed(bert.components[0], path="a|b")]
    text = params_markdown(reported(changed(bert, components=rows)), Stream())
    (row,) = [line for line in text.splitlines() if "a\\|b" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_latex_escapes_names(bert):
    rows = [changed(bert.components[0], path="layer.{0-3}.up_proj%#&$")]
    text = params_latex(reported(changed(bert, components=rows)), Stream())
    assert r"\texttt{layer.\{0-3\}.up\_proj\%\#\&\$}" in text


def test_latex_balances(forms):
    for form in forms.values():
        text = params_latex(reported(form), Stream())
        assert text.count(r"\left(") == text.count(r"\right)")
        assert text.replace(r"\{", "").replace(r"\}", "").count("{") == text.replace(r"\{", "").replace(
            r"\}", ""
        ).count("}")
        assert all(
            text.count(f"begin{{{name}}}") == text.count(f"end{{{name}}}") == 1 for name in ("equation", "tabular")
        )
