"""Reading PYTORCH_CUDA_ALLOC_CONF."""

from __future__ import annotations

import pytest

from tonnage.allocator import Settings
from tonnage.errors import BadOption
from tonnage.units import GiB, KiB, MiB


def test_nothing_is_the_default():
    assert Settings.parse("") == Settings()


def test_every_option():
    settings = Settings.parse(
        "large_segment_size_mb:32, max_split_size_mb:128,max_non_split_rounding_mb:64,"
        "garbage_collection_threshold:0.8,expandable_segments:True,per_process_memory_fraction:0.5"
    )
    assert settings == Settings(
        large_segment_size=32 * MiB,
        max_split_size=128 * MiB,
        max_non_split_rounding=64 * MiB,
        garbage_collection_threshold=0.8,
        expandable_segments=True,
        per_process_memory_fraction=0.5,
    )


def test_non_split_rounding_follows_the_large_segment():
    assert Settings.parse("large_segment_size_mb:32").max_non_split_rounding == 32 * MiB


def test_host_options_change_nothing():
    assert Settings.parse("pinned_use_background_threads:True,backend:native") == Settings()


@pytest.mark.parametrize(
    ("text", "divisions"),
    [
        ("8", (8,) * 16),
        # boundaries in MiB: 2^8 and 2^9; what is below the first follows it, `>` is what is above the last
        ("[256:1,512:2,>:4]", (1,) * 9 + (2,) + (4,) * 6),
        # PyTorch's own example: 128 and 512 are passed over and stay 0
        ("[64:8,256:4,1024:4,>:1]", (8,) * 7 + (0, 4, 0, 4) + (1,) * 5),
        # beyond the last interval of 32 GiB
        ("[131072:2]", (2,) * 16),
        ("[1:0,>:4]", (0,) + (4,) * 15),
    ],
)
def test_roundup_intervals(text, divisions):
    assert Settings.parse(f"roundup_power2_divisions:{text}").roundup_power2_divisions == divisions


@pytest.mark.parametrize(
    ("nbytes", "rounded"),
    [
        (1, 512),
        (512, 512),
        (513, 1024),
        (2048, 2048),  # not above 512 x 4: plain rounding
        (2049, 2560),  # steps of 2048 / 4 = 512
        (5000, 5120),  # steps of 4096 / 4 = 1024
        (1200 * KiB, 1280 * KiB),
        (2 * MiB, 2 * MiB),  # powers of two stay
        (2 * MiB + 1, 2 * MiB + 512 * KiB),
        (33 * GiB, 40 * GiB),
    ],
)
def test_rounding_with_four_divisions(nbytes, rounded):
    assert Settings.parse("roundup_power2_divisions:4").rounded(nbytes) == rounded


def test_the_interval_is_that_of_the_request():
    settings = Settings.parse("roundup_power2_divisions:[1:0,2:4,>:0]")
    assert settings.rounded(1200 * KiB) == 1200 * KiB  # 1 to 2 MiB: off
    assert settings.rounded(2 * MiB + 1) == 2 * MiB + 512 * KiB  # 2 to 4 MiB: four steps
    assert settings.rounded(4 * MiB + 1) == 4 * MiB + 512  # above: off


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("backend:cudaMallocAsync", "not modelled"),
        ("throw_on_cudamalloc_oom:True", "not modelled"),
        ("expandable_segment:True", "no option"),
        ("expandable_segments:true", "True or False"),
        ("expandable_segments", "cannot read"),
        ("expandable_segments:", "cannot read"),
        ("max_split_size_mb:19", "at least 20"),
        ("max_split_size_mb:20.5", "at least 20"),
        ("large_segment_size_mb:10", "at least 11"),
        ("large_segment_size_mb:64,max_split_size_mb:32", "at least 64"),
        ("garbage_collection_threshold:1.0", "between 0 and 1"),
        ("garbage_collection_threshold:often", "between 0 and 1"),
        ("per_process_memory_fraction:1.5", "from 0 to 1"),
        ("roundup_power2_divisions:3", "powers of two"),
        ("roundup_power2_divisions:[3:4]", "powers of two"),
        ("roundup_power2_divisions:[4]", "powers of two"),
        ("roundup_power2_divisions:[256:1", "cannot read"),
    ],
)
def test_refuses_with_a_hint(text, says):
    with pytest.raises(BadOption, match=says) as caught:
        Settings.parse(text)
    assert caught.value.hint


def test_a_misspelt_option_is_guessed():
    with pytest.raises(BadOption) as caught:
        Settings.parse("expandable_segment:True")
    assert caught.value.hint == "did you mean expandable_segments?"
