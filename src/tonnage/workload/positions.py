"""How many positions a model has room for, found in the model itself."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import nn

# The names that transformers gives to tables of absolute positions; GPT-J and CodeGen hold theirs as a buffer.
_TABLE = re.compile(r"(^|\.)(wpe|position_embeddings?|positions_embed|embed_positions)$")
_OTHER_SENSES = re.compile(r"vision|visual|image|audio|speech")


class Positions(NamedTuple):
    """Room for `room` tokens, in the table at `path`."""

    room: int
    path: str


def absolute_positions(model: nn.Module, *, decoder: bool | None = None) -> Positions | None:
    """The smallest table of absolute token positions, or None where positions are relative or rotary.

    `decoder` says which half of an encoder-decoder model to look at; None: the whole of any other.
    """
    tables = [*_embeddings(model), *_buffers(model)]
    fitting = [table for table in tables if decoder is None or ("decoder" in table.path) == decoder]
    return min((table for table in fitting if not _OTHER_SENSES.search(table.path)), default=None)


def _embeddings(model: nn.Module) -> list[Positions]:
    return [
        Positions(_usable(module), path)
        for path, module in model.named_modules()
        if _TABLE.search(path) and isinstance(module, nn.Embedding)
    ]


def _usable(table: nn.Embedding) -> int:
    """Rows that tokens can have: BART and OPT leave `offset` rows out, RoBERTa counts from padding_idx + 1."""
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return table.num_embeddings - offset
    return table.num_embeddings if table.padding_idx is None else table.num_embeddings - table.padding_idx - 1


def _buffers(model: nn.Module) -> list[Positions]:
    return [Positions(buffer.shape[0], path) for path, buffer in model.named_buffers() if _TABLE.search(path)]
