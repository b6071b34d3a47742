"""Segments as plain data, in the shape of torch.cuda.memory_snapshot()."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tonnage.allocator.blocks import Block


def snapshot(heads: Iterable[Block], *, waiting: Collection[Block], expandable: bool) -> list[dict[str, Any]]:
    """One dictionary per stretch of mapped memory of the segments that begin with `heads`, by address.

    The blocks in `waiting` were freed and are still in use on another stream.
    """
    stretches = [stretch for head in heads for stretch in _mapped_stretches(head)]
    stretches.sort(key=lambda blocks: blocks[0].address)
    return [_segment(blocks, waiting, expandable=expandable) for blocks in stretches]


def _mapped_stretches(head: Block) -> list[list[Block]]:
    stretches: list[list[Block]] = []
    block: Block | None = head
    while block is not None:
        if block.mapped and (block.prev is None or not block.prev.mapped):
            stretches.append([])
        if block.mapped:
            stretches[-1].append(block)
        block = block.next
    return stretches


def _segment(blocks: list[Block], waiting: Collection[Block], *, expandable: bool) -> dict[str, Any]:
    described = [_block(block, _state(block, waiting)) for block in blocks]
    active = [block for block in described if block["state"] != "inactive"]
    pool = blocks[0].pool
    return {
        "device": 0,
        "address": blocks[0].address,
        "total_size": sum(block["size"] for block in described),
        "allocated_size": sum(block["size"] for block in active if block["state"] == "active_allocated"),
        "active_size": sum(block["size"] for block in active),
        "requested_size": sum(block["requested_size"] for block in active),
        "stream": pool.stream,
        "segment_type": "small" if pool.small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": expandable,
        "frames": [],
        "blocks": described,
    }


def _block(block: Block, state: str) -> dict[str, Any]:
    return {
        "address": block.address,
        "size": block.size,
        "requested_size": 0 if block.free else block.requested,
        "state": state,
        "frames": [],
    }


def _state(block: Block, waiting: Collection[Block]) -> str:
    if block.free:
        return "inactive"
    return "active_pending_free" if block in waiting else "active_allocated"
