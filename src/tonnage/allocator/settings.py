"""What PYTORCH_CUDA_ALLOC_CONF can change, and the size rules that follow from it.

The constants are those of c10/core/AllocatorConfig.h (PyTorch 2.13); they have not moved since 2.6.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tonnage.errors import BadOption
from tonnage.units import MiB

MIN_BLOCK_SIZE = 512
"""kMinBlockSize: every request is rounded up to a multiple of it."""
SMALL_SIZE = 1 * MiB
"""kSmallSize: the largest block of the small pool, and the largest rest that a large block keeps unsplit."""
SMALL_BUFFER = 2 * MiB
"""kSmallBuffer: the segments of the small pool."""
LARGE_BUFFER = 20 * MiB
"""kLargeBuffer: the segments for requests above SMALL_SIZE and below MIN_LARGE_ALLOC."""
MIN_LARGE_ALLOC = 10 * MiB
"""kMinLargeAlloc: requests from here on get a segment of their own."""
ROUND_LARGE = 2 * MiB
"""kRoundLarge: segments of such requests are multiples of it."""
INTERVALS = 16
"""Powers of two from 1 MiB on that roundup_power2_divisions tells apart; the last one holds 32 GiB and more."""

_OPTION = re.compile(r"(\w+):(\[[^\[\]]*\]|[^,:\[\]]+)(?:,|$)")
_HOST_ONLY = (
    "pinned_use_cuda_host_register",
    "pinned_num_register_threads",
    "pinned_use_background_threads",
    "pinned_reserve_segment_size_mb",
    "pinned_max_round_threshold_mb",
    "pinned_max_cached_size_mb",
    "pinned_free_catch_all",
    "release_lock_on_cudamalloc",
    "graph_capture_record_stream_reuse",
)
"""Options that PyTorch knows and that move no byte of the device outside of CUDA graphs."""
_READERS = (
    "large_segment_size_mb",
    "max_split_size_mb",
    "max_non_split_rounding_mb",
    "roundup_power2_divisions",
    "garbage_collection_threshold",
    "expandable_segments",
    "per_process_memory_fraction",
    "backend",
    "throw_on_cudamalloc_oom",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of the native caching allocator; sizes in bytes.

    >>> Settings.parse("expandable_segments:True,max_split_size_mb:128").max_split_size
    134217728

    `max_split_size` None: every block may be split. `roundup_power2_divisions` holds one number per power of two:
    the first for everything below 2 MiB, the next for 2 MiB up to 4 MiB, and so on to the last for 32 GiB and more.
    `per_process_memory_fraction` 1.0 sets no limit, and garbage collection runs only under a limit.
    """

    max_split_size: int | None = None
    roundup_power2_divisions: tuple[int, ...] = (0,) * INTERVALS
    garbage_collection_threshold: float = 0.0
    expandable_segments: bool = False
    large_segment_size: int = LARGE_BUFFER
    max_non_split_rounding: int = LARGE_BUFFER
    per_process_memory_fraction: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Settings:
        """The settings that the environment variable PYTORCH_CUDA_ALLOC_CONF=`text` asks for.

        BadOption where PyTorch would refuse `text`, and for what is not modelled (backend:cudaMallocAsync). Options
        that concern pinned host memory, locks or the capture of CUDA graphs are accepted and change nothing.
        """
        options = _split(text)
        large = _megabytes(options, "large_segment_size_mb", LARGE_BUFFER, above=MIN_LARGE_ALLOC)
        split = _megabytes(options, "max_split_size_mb", None, at_least=large)
        rounding = _megabytes(options, "max_non_split_rounding_mb", large, at_least=large)
        assert large is not None and rounding is not None
        _check_unmodelled(options)
        return cls(
            max_split_size=split,
            roundup_power2_divisions=_divisions(options.get("roundup_power2_divisions", "")),
            garbage_collection_threshold=_threshold(options),
            expandable_segments=_flag(options, "expandable_segments"),
            large_segment_size=large,
            max_non_split_rounding=rounding,
            per_process_memory_fraction=_fraction(options),
        )

    def rounded(self, nbytes: int) -> int:
        """The size of the block that a request for `nbytes` looks for.

        >>> Settings().rounded(1), Settings().rounded(1200 * 1024)
        (512, 1228800)
        >>> Settings.parse("roundup_power2_divisions:4").rounded(1200 * 1024)
        1310720
        """
        divisions = self.roundup_power2_divisions[min(max(nbytes.bit_length() - 21, 0), INTERVALS - 1)]
        if divisions > 1 and nbytes > MIN_BLOCK_SIZE * divisions:
            step = 1 << (nbytes.bit_length() - divisions.bit_length())
            return -(-nbytes // step) * step
        return max(-(-nbytes // MIN_BLOCK_SIZE), 1) * MIN_BLOCK_SIZE

    def segment_size(self, size: int) -> int:
        """The bytes asked of the driver when no cached block holds `size` (a rounded size).

        >>> [Settings().segment_size(n * MiB) // MiB for n in (1, 2, 10, 11)]
        [2, 20, 10, 12]
        """
        if size <= SMALL_SIZE:
            return SMALL_BUFFER
        if size < MIN_LARGE_ALLOC:
            return self.large_segment_size
        return -(-size // ROUND_LARGE) * ROUND_LARGE


def _split(text: str) -> dict[str, str]:
    """The options of `text` by name, whitespace dropped."""
    text = "".join(text.split())
    options: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise BadOption(
                f"allocator settings: cannot read `{text[position:]}`",
                hint="write name:value pairs with commas between, such as expandable_segments:True",
            )
        _check_known(match[1])
        options[match[1]] = match[2]
        position = match.end()
    return options


def _check_known(name: str) -> None:
    known = _READERS + _HOST_ONLY
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise BadOption(
            f"allocator settings: `{name}` is no option of PyTorch's allocator",
            hint=f"did you mean {close[0]}?" if close else f"choose from {', '.join(_READERS)}",
        )


def _check_unmodelled(options: Mapping[str, str]) -> None:
    if options.get("backend", "native") != "native":
        raise BadOption(
            f"allocator settings: backend:{options['backend']} is not modelled, only PyTorch's native allocator is",
            hint="drop the backend option",
        )
    if _flag(options, "throw_on_cudamalloc_oom"):
        raise BadOption(
            "allocator settings: throw_on_cudamalloc_oom:True is not modelled",
            hint="drop the option; running out raises after the usual release and retry",
        )


def _malformed(name: str, value: str, wanted: str) -> BadOption:
    return BadOption(f"allocator settings: {name} must be {wanted}, not {value!r}", hint=f"correct or drop {name}")


def _megabytes(
    options: Mapping[str, str], name: str, default: int | None, *, above: int = 0, at_least: int | None = None
) -> int | None:
    if name not in options:
        return default
    value = options[name]
    lowest = above // MiB + 1 if at_least is None else at_least // MiB
    if not value.isdecimal() or int(value) < lowest:
        raise _malformed(name, value, f"a whole number of MiB of at least {lowest}")
    return int(value) * MiB


def _flag(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "False")
    if value not in ("True", "False"):
        raise _malformed(name, value, "True or False")
    return value == "True"


def _number(name: str, value: str, wanted: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise _malformed(name, value, wanted) from None


def _threshold(options: Mapping[str, str]) -> float:
    name, wanted = "garbage_collection_threshold", "a number between 0 and 1"
    if name not in options:
        return 0.0
    value = _number(name, options[name], wanted)
    if not 0 < value < 1:
        raise _malformed(name, options[name], wanted)
    return value


def _fraction(options: Mapping[str, str]) -> float:
    name, wanted = "per_process_memory_fraction", "a number from 0 to 1"
    value = _number(name, options.get(name, "1.0"), wanted)
    if not 0 <= value <= 1:
        raise _malformed(name, options[name], wanted)
    return value


def _divisions(value: str) -> tuple[int, ...]:
    """roundup_power2_divisions as one number per interval.

    `[256:1,512:2,>:4]` names boundaries in MiB. As parseRoundUpPower2Divisions of c10/core/AllocatorConfig.cpp has
    it (pytorch/pytorch@0ac71663): what lies below the first boundary follows it, powers of two that are passed over
    between two boundaries keep 0, and `>` is what lies above the last one. (Up to PyTorch 2.8 `>` took the last
    boundary too.)
    """
    if not value:
        return (0,) * INTERVALS
    if not value.startswith("["):
        return (_power_of_two(value),) * INTERVALS
    divisions = [0] * INTERVALS
    last = 0
    for number, pair in enumerate(value[1:-1].split(",")):
        boundary, _, count_text = pair.partition(":")
        count = 0 if count_text == "0" else _power_of_two(count_text)
        if boundary == ">":
            divisions[last + 1 :] = [count] * (INTERVALS - last - 1)
            continue
        last = min(_power_of_two(boundary).bit_length() - 1, INTERVALS - 1)
        if number == 0:
            divisions[:last] = [count] * last
        divisions[last] = count
    return tuple(divisions)


def _power_of_two(text: str) -> int:
    if not text.isdecimal() or int(text) < 1 or int(text) & (int(text) - 1):
        raise _malformed("roundup_power2_divisions", text, "made of powers of two, such as 8 or [64:8,256:4,>:1]")
    return int(text)
