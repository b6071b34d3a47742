from __future__ import annotations

import pytest

from tonnage.analyses.closed_form.symbols import is_width, letters, rank


def test_the_letters_of_papers():
    fields = [
        "vocab_size",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
    ]
    assert list(letters(fields).values()) == ["V", "H", "h", "g", "d", "F"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["text_config.hidden_size", "vision_config.hidden_size"], ["H_t", "H_v"]),
        (["depths[0]", "depths[1]"], ["L_1", "L_2"]),
        (["hidden_sizes[2]"], ["H_3"]),
        (["dim", "hidden_dim"], ["H", "F"]),
        (["hidden_dim", "mlp_dim"], ["H", "F"]),
        (["num_layers", "num_decoder_layers"], ["L", "L_d"]),
        (["adapter_rank"], ["adapter_rank"]),
        (["mask_decoder_config.hidden_size"], ["H_mask_decoder"]),
    ],
)
def test_parts_places_and_names_without_a_letter(fields, expected):
    assert list(letters(fields).values()) == expected


def test_no_two_letters_are_alike():
    """Two fields that are usually called H: the second keeps its name."""
    fields = ["hidden_size", "d_model", "n_embd", "text_config.hidden_size", "hidden_size_t"]
    found = letters(fields)
    assert len(set(found.values())) == len(fields)
    assert found["hidden_size"] == "H" and found["d_model"] == "d_model"


@pytest.mark.parametrize(
    ("field", "width"), [("hidden_sizes[1]", True), ("text_config.d_model", True), ("d_ff", False)]
)
def test_widths(field, width):
    assert is_width(field) is width


def test_the_order_within_a_product():
    assert sorted(["p", "F", "H", "H_t", "V", "L", "rank", "B"], key=rank) == [
        "L",
        "B",
        "V",
        "rank",
        "H",
        "H_t",
        "F",
        "p",
    ]
