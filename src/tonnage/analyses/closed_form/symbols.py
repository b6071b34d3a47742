"""Letters for sizes, as papers write them."""

from __future__ import annotations

from collections.abc import Iterable

_LETTERS = {
    "V": "vocab_size",
    "P": "max_position_embeddings n_positions",
    "T": "type_vocab_size",
    "H": "hidden_size n_embd d_model dim embed_dim hidden_dim",
    "h": "num_attention_heads n_head num_heads n_heads encoder_attention_heads",
    "g": "num_key_value_heads num_kv_heads",
    "d": "head_dim d_kv",
    "F": "intermediate_size n_inner d_ff ffn_dim dim_feedforward mlp_dim encoder_ffn_dim ffn_hidden_size",
    "L": "num_hidden_layers n_layer num_layers n_layers depth encoder_layers layers",
    "L_d": "num_decoder_layers decoder_layers",
    "F_d": "decoder_ffn_dim",
    "h_d": "decoder_attention_heads",
    "P_d": "max_target_positions",
    "P_e": "max_source_positions",
    "E": "num_experts num_local_experts n_routed_experts",
    "F_e": "moe_intermediate_size",
    "F_s": "shared_expert_intermediate_size",
    "E_m": "embedding_size word_embed_proj_dim",
    "D": "projection_dim",
    "C": "num_labels num_classes",
    "n": "image_size img_size",
    "p": "patch_size",
    "c": "num_channels in_chans",
    "N": "state_size d_state",
    "e": "expand",
    "K": "conv_kernel d_conv",
    "R": "time_step_rank dt_rank",
    "b": "relative_attention_num_buckets position_buckets",
    "M": "num_mel_bins",
    "Q": "num_queries",
    "m": "mlp_ratio",
    "w": "window_size",
    "k": "kernel_size",
    "in": "in_features input_size",
    "out": "out_features",
    "C_in": "in_channels",
    "C_out": "out_channels",
}
_LETTER_OF = {field: letter for letter, fields in _LETTERS.items() for field in fields.split()}
_PARTS = {"text_config": "t", "vision_config": "v", "audio_config": "a", "encoder": "e", "decoder": "d"}
_ORDER = ("L", "L_d", "B", "S", "V", "P", "P_e", "P_d", "T", "E", "h", "h_d", "g", "d", "n", "c", "H", "F", "p")


def is_width(field: str) -> bool:
    """Whether `field` is the width of a model or of one of its stages."""
    return _letter(field) == "H"


def _letter(field: str) -> str:
    """The usual letter for the last part of `field`, or that part itself."""
    stem = field.rpartition(".")[2].partition("[")[0]
    return _LETTER_OF.get(stem) or _LETTER_OF.get(stem.removesuffix("s"), stem)


def letters(fields: Iterable[str]) -> dict[str, str]:
    """A letter for each field, no two alike; where none is usual or it is taken, the field's own name.

    >>> letters(["hidden_size", "num_hidden_layers", "text_config.hidden_size", "rank"])
    {'hidden_size': 'H', 'num_hidden_layers': 'L', 'text_config.hidden_size': 'H_t', 'rank': 'rank'}
    """
    fields = list(fields)
    found: dict[str, str] = {}
    for field in fields:
        part, _, name = field.rpartition(".")
        stem, _, index = name.rstrip("]").partition("[")
        suffix = [_PARTS.get(part, part.removesuffix("_config").replace(".", "_"))] if part else []
        suffix += [str(int(index) + 1)] if index else []
        usual = "F" if stem == "hidden_dim" and "dim" in fields else _letter(field)  # DistilBERT's names
        letter = "_".join([usual, *suffix])
        found[field] = letter if letter not in found.values() else "_".join([stem, *suffix])
    return found


def rank(letter: str) -> tuple[int, str]:
    """The place of a letter within a product: V*H and not H*V."""
    stem = letter if letter in _ORDER else letter.partition("_")[0]
    return (_ORDER.index(stem) if stem in _ORDER else _ORDER.index("H") - 1, letter)
