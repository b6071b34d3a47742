"""What cub's radix sorts take for themselves.

cub/device/dispatch/dispatch_radix_sort.cuh of CCCL 2.3 (CUDA 12.4, of PyTorch 2.6) to 3.0 (CUDA 13.0), which agree: few
items are sorted in one tile with a byte of scratch; more by passes of 8 bits, with second buffers for keys and values
wherever there is more than one pass. PyTorch hands the number of items over in 64 bits; cub of CUDA 11.3, of PyTorch
1.11, took it in 32.
"""

from __future__ import annotations

from math import ceil

SHARED_MEMORY = 48 * 1024
ALIGNMENT = 256
DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
COUNTER = 4
"""Bytes of AtomicOffsetT."""
_SINGLE_TILE = 256, 19
"""Threads and nominal items of a thread, for every card."""


def radix_sort(
    items: int, *, key: int, value: int = 0, bits: int | None = None, offset: int = 8, capability: tuple[int, int]
) -> int:
    """Bytes of scratch of DeviceRadixSort for `items` keys of `key` bytes, with values of `value` bytes.

    `offset` is the bytes of the type that items are numbered in.

    Keys of fewer than 4 bytes are sorted in an older way before Hopper, whose histograms depend on how many blocks run
    at a time: without them, the two buffers are counted.

    >>> radix_sort(2304, key=8, value=8, capability=(8, 0))
    1
    >>> radix_sort(8192, key=8, value=8, capability=(8, 0))   # bins, look-back of 3 tiles, keys, values, counters
    151039
    """
    threads, per_thread = _scaled(*_SINGLE_TILE, max(key, value))
    if items <= threads * per_thread:
        return 1
    buffers = [items * key, items * value]
    if not in_one_sweep(key, capability):
        return aliased(buffers)
    threads, per_thread = _scaled(*_sweep(key, value, offset, capability), max(key, value))
    tile = threads * per_thread
    portion = ((1 << 28) - 1) // tile * tile
    passes, portions = ceil((bits or 8 * key) / DIGIT_BITS), -(-items // portion)
    blocks = -(-min(items, portion) // tile)
    bins, lookback = portions * passes * DIGITS * offset, blocks * DIGITS * COUNTER
    return aliased([bins, lookback, *(buffers if passes > 1 else []), portions * passes * COUNTER])


def segmented_radix_sort(items: int, *, key: int, value: int) -> int:
    """Bytes of scratch of DeviceSegmentedRadixSort: second buffers for keys and values."""
    return aliased([items * key, items * value])


def bits_of(greatest: int) -> int:
    """get_num_bits of ATen/cuda/cub.h."""
    return max(greatest.bit_length(), 1)


def in_one_sweep(key: int, capability: tuple[int, int]) -> bool:
    return key >= 4 or capability >= (9, 0)


def aliased(sizes: list[int]) -> int:
    """AliasTemporaries of cub/util_temporary_storage.cuh: one block, each part of which begins at 256 bytes."""
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes) + ALIGNMENT - 1


def _sweep(key: int, value: int, offset: int, capability: tuple[int, int]) -> tuple[int, int]:
    """OnesweepPolicy of the card: threads, and nominal items of a thread."""
    if capability >= (9, 0):
        return _SMALL_KEYS[key] if key < 4 else (384, _sweep_items(key, value))
    if capability >= (8, 0):
        return 384, 17 if offset == 8 and key == 4 and value else 21
    if capability >= (7, 0):
        return 256, 46 if key == value == 4 else 23
    return 256, 29 if capability == (6, 0) else 30


def _sweep_items(key: int, value: int) -> int:
    """Policy900 and Policy1000: OnesweepPolicyKey32, whose keys alone are never sorted here, and Key64."""
    if key == 4:
        return 17 if value < 8 else 29
    return 30 if value < 8 else 24


_SMALL_KEYS = {1: (384, 18), 2: (512, 23)}
"""sm90_small_key_tuning with values of 8 bytes; Blackwell's own differs in the look-back alone."""


def _scaled(threads: int, items: int, size: int) -> tuple[int, int]:
    """RegBoundScaling of cub/util_arch.cuh: nominal figures are for 4 bytes."""
    per_thread = max(1, items * 4 // max(4, size))
    return min(threads, (SHARED_MEMORY // (size * per_thread) + 31) // 32 * 32), per_thread
