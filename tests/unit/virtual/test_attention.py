"""Scaled-dot-product attention: which backend, what it keeps, and what it takes for itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import tonnage
from tonnage.virtual.kernels.attention.buffers import efficient_tile, efficient_workspace, flash_splits

MiB = 2**20
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
OPERATORS = {
    "aten._scaled_dot_product_flash_attention.default": "flash",
    "aten._scaled_dot_product_efficient_attention.default": "efficient",
    "aten._scaled_dot_product_cudnn_attention.default": "cudnn",
    "aten._softmax.default": "math",
    "aten._safe_softmax.default": "math",
}


def heads(batch=2, count=4, length=32, size=64, dtype=BRAIN, *, grad=False, moved=True):
    """As models make them, (batch, length, heads, size) with the middle two swapped; or lying as they say."""
    if moved:
        made = torch.zeros(batch, length, count, size, device="cuda", dtype=dtype).transpose(1, 2)
    else:
        made = torch.zeros(batch, count, length, size, device="cuda", dtype=dtype)
    return made.requires_grad_(grad)


def backend(card, version="2.8.0", *, mask=None, keys=None, **options) -> str:
    call = {name: options.pop(name) for name in ("dropout_p", "is_causal", "enable_gqa") if name in options}
    with tonnage.virtual_gpu(card, torch_version=version) as gpu:
        query = heads(**options)
        other = heads(**{**options, **(keys or {})})
        shape = (query.shape[0], 1, query.shape[2], other.shape[2])
        given = None if mask is None else torch.ones(shape, device="cuda").to(mask)
        F.scaled_dot_product_attention(query, other, other, given, **call)
    names = [op.name for op in gpu.recording.trace.ops]
    found = {OPERATORS[name] for name in names if name in OPERATORS}
    assert len(found) == 1, names
    return found.pop()


@pytest.mark.parametrize(
    ("card", "dtype", "expected"),
    [
        ("A100", BRAIN, "flash"),
        ("A100", HALF, "flash"),
        ("A100", FULL, "efficient"),
        ("A100", torch.float64, "math"),
        ("RTX 3060", BRAIN, "flash"),
        ("RTX 3060", FULL, "efficient"),
        ("RTX 5090", BRAIN, "flash"),
        ("T4", HALF, "efficient"),
        ("T4", FULL, "efficient"),
        ("T4", BRAIN, "math"),
        ("V100", HALF, "efficient"),
    ],
)
def test_the_type_and_the_card_choose(card, dtype, expected):
    assert backend(card, dtype=dtype) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.6.0", "flash"), ("2.8.0", "flash"), ("2.9.1", "cudnn"), ("2.10.0", "flash"), ("2.13.0", "cudnn")],
)
def test_hopper_takes_cudnn_by_version(version, expected):
    assert backend("H100", version) == expected


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"mask": torch.bool}, "efficient"),
        ({"mask": BRAIN}, "efficient"),
        ({"is_causal": True}, "flash"),
        ({"is_causal": True, "keys": {"length": 48}}, "efficient"),
        ({"dropout_p": 0.1}, "flash"),
        ({"size": 20}, "flash"),
        ({"size": 20, "mask": BRAIN}, "math"),
        ({"size": 256}, "flash"),
        ({"size": 264}, "efficient"),
        ({"size": 6, "dtype": FULL}, "math"),
        ({"size": 4, "dtype": FULL}, "efficient"),
        ({"enable_gqa": True, "keys": {"count": 2}}, "flash"),
        ({"enable_gqa": True, "keys": {"count": 2}, "dtype": FULL}, "math"),
        ({"enable_gqa": True, "keys": {"count": 2}, "mask": BRAIN}, "math"),
        ({"keys": {"batch": 1}}, "math"),
    ],
)
def test_an_a100_takes_what_can(what, expected):
    assert backend("A100", **what) == expected


@pytest.mark.parametrize(
    ("card", "size", "dropout", "expected"),
    [
        ("A100", 224, 0.0, "flash"),
        ("RTX 4090", 192, 0.1, "flash"),
        ("RTX 4090", 224, 0.0, "efficient"),
        ("RTX 4090", 256, 0.0, "flash"),
        ("RTX 4090", 256, 0.1, "efficient"),
        ("RTX 5090", 224, 0.0, "efficient"),
    ],
)
def test_small_shared_memory_cannot_train_the_largest_heads(card, size, dropout, expected):
    """check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120."""
    assert backend(card, size=size, dropout_p=dropout, grad=True) == expected
    assert backend(card, size=size, dropout_p=dropout) == "flash"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({}, "cudnn"),
        ({"mask": BRAIN}, "cudnn"),
        ({"size": 136}, "cudnn"),
        ({"size": 20}, "flash"),
        ({"dtype": FULL}, "efficient"),
        ({"length": 1, "dropout_p": 0.1, "keys": {"length": 16}}, "flash"),
        ({"keys": {"length": 1}}, "flash"),
        ({"enable_gqa": True, "keys": {"count": 2}, "mask": BRAIN}, "cudnn"),
    ],
)
def test_a_preferred_cudnn_takes_what_it_can(what, expected):
    assert backend("H100", "2.13.0", **what) == expected


@pytest.mark.parametrize(
    ("version", "dropout", "expected"),
    [("2.11.0", 0.1, "cudnn"), ("2.12.0", 0.1, "flash"), ("2.12.0", 0.125, "cudnn"), ("2.13.0", 0.5, "cudnn")],
)
def test_cudnn_drops_by_sixteenths(version, dropout, expected):
    """check_cudnn_dropout, pytorch #174245."""
    assert backend("H100", version, dropout_p=dropout) == expected


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (SDPBackend.MATH, "math"),
        (SDPBackend.EFFICIENT_ATTENTION, "efficient"),
        (SDPBackend.FLASH_ATTENTION, "flash"),
        (SDPBackend.CUDNN_ATTENTION, "cudnn"),
    ],
)
def test_the_user_chooses_with_sdpa_kernel(chosen, name):
    with sdpa_kernel(chosen):
        assert backend("A100") == name


def test_the_users_order_is_followed():
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], set_priority=True):
        assert backend("A100") == "math"
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        assert backend("H100", "2.13.0") == "efficient"


def test_nothing_left_to_choose_is_an_error():
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(RuntimeError, match="No available kernel"):
        backend("A100", dtype=FULL)


# Bytes ----------------------------------------------------------------------------------------------------------------


def traffic(gpu, start: int) -> list[int]:
    ledger = gpu.recording.ledger
    return [(1 if kind.name == "ALLOC" else -1) * ledger.sizes[n] for kind, n in list(ledger.events())[start:]]


def recorded(card, run, *, version="2.8.0"):
    """What `run` gives, and the traffic that it caused from its first yield to its second."""
    with tonnage.virtual_gpu(card, torch_version=version) as gpu:
        steps = run()
        next(steps)
        start = len(gpu.recording.ledger)
        next(steps)
        return traffic(gpu, start)


def test_flash_keeps_the_output_the_sums_and_two_small_words():
    def forward():
        q, k, v = (heads(8, 12, 1024, 64, grad=True) for _ in range(3))
        yield
        out = F.scaled_dot_product_attention(q, k, v)
        yield out

    elements = 8 * 12 * 1024
    assert recorded("A100", forward) == [elements * 64 * 2, elements * 4, 16, 8]


@pytest.mark.parametrize(("version", "seeds"), [("2.4.0", []), ("2.6.0", []), ("2.7.0", [16, 8])])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_flash_kept_its_seeds_on_the_host_before_2_7(version, seeds, dropout):
    def forward():
        q, k, v = (heads(2, 4, 32, 64, grad=True) for _ in range(3))
        yield
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        yield out

    assert recorded("A100", forward, version=version) == [2 * 4 * 32 * 64 * 2, 2 * 4 * 32 * 4, *seeds]


def test_flash_backward_of_a_dense_gradient():
    """B8 H12 S1024 D64 bf16: dq, dk, dv of 12 MiB, row sums of 0.375 MiB, an fp32 dq of 24 MiB: 60.375 at once."""

    def backward():
        q, k, v = (heads(8, 12, 1024, 64, grad=True) for _ in range(3))
        out = F.scaled_dot_product_attention(q, k, v)
        yield
        grads = torch.autograd.grad(out, (q, k, v), torch.empty_like(out), retain_graph=True)
        yield grads

    found = recorded("A100", backward)

    each = 12 * MiB
    assert found == [each, each, each, each, 3 * MiB // 8, 24 * MiB, -24 * MiB, -3 * MiB // 8, -each]


def test_flash_backward_makes_dense_what_is_not_before_anything_else():
    """Heads that lie before rows: the incoming gradient and the saved output are copied first, in this order."""

    def backward():
        q, k, v = (heads(2, 4, 128, 64, grad=True, moved=False) for _ in range(3))
        out = F.scaled_dot_product_attention(q, k, v)
        grad = torch.empty_like(out)
        yield
        grads = torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
        yield grads

    each = 2 * 4 * 128 * 64 * 2
    sums, accumulator = 2 * 4 * 128 * 4, 2 * 128 * 4 * 64 * 4
    assert recorded("A100", backward) == [
        *[each] * 5, sums, accumulator, -accumulator, -sums, -each, -each
    ]  # fmt: skip


def test_flash_backward_expands_grouped_keys():
    def backward():
        q = heads(2, 8, 128, 64, grad=True)
        k, v = (heads(2, 2, 128, 64, grad=True) for _ in range(2))
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        grad = torch.empty_like(out)
        yield
        grads = torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
        yield grads

    every, group = 2 * 8 * 128 * 64 * 2, 2 * 2 * 128 * 64 * 2
    sums, accumulator = 2 * 8 * 128 * 4, 2 * 128 * 8 * 64 * 4
    taken = [every, group, group, sums, accumulator, every, every]
    assert recorded("A100", backward) == [*taken, -every, -every, -accumulator, -sums]


def test_flash_pads_heads_to_a_multiple_of_eight():
    """20 becomes 24: padded queries, keys and values are what is kept; the output is sliced, not copied."""

    def forward():
        q, k, v = (heads(1, 2, 16, 20, grad=True) for _ in range(3))
        yield
        out = F.scaled_dot_product_attention(q, k, v)
        yield out

    padded = 2 * 16 * 24 * 2
    assert recorded("A100", forward) == [padded, padded, padded, padded, 2 * 16 * 4, 16, 8]


def test_flash_splits_keys_where_the_grid_is_small():
    """1 x 1 x 1 block of queries on 108 SMs, 4096 keys in 16 blocks of 256: 16 splits fill the card best."""
    assert flash_splits(1, 64, 4096, 64, 108) == 16
    assert flash_splits(173, 64, 4096, 64, 108) == 1

    def forward():
        q = heads(1, 1, 64, 64)
        k, v = (heads(1, 1, 4096, 64) for _ in range(2))
        yield
        with torch.no_grad():
            out = F.scaled_dot_product_attention(q, k, v)
        yield out

    sums, outputs = 16 * 64 * 4, 16 * 64 * 64 * 4
    found = recorded("A100", forward)
    assert found[:8] == [64 * 64 * 2, 64 * 4, 16, 8, sums, outputs, -outputs, -sums]


def test_efficient_keeps_its_seed_on_the_host():
    """Row sums are rounded up to 32 rows, and there are none where no gradient is asked for."""

    def forward(grad):
        def steps():
            q, k, v = (heads(2, 4, 50, 64, FULL, grad=grad) for _ in range(3))
            yield
            out = F.scaled_dot_product_attention(q, k, v)
            yield out

        return steps

    out = 2 * 4 * 50 * 64 * 4
    assert recorded("RTX 3060", forward(True)) == [out, 2 * 4 * 64 * 4]
    assert recorded("RTX 3060", forward(False)) == [out]


def test_efficient_forward_adds_up_large_heads_in_fp32():
    def forward():
        q, k, v = (heads(1, 2, 32, 160, HALF) for _ in range(3))
        yield
        out = F.scaled_dot_product_attention(q, k, v)
        yield out

    elements = 2 * 32 * 160
    assert recorded("T4", forward) == [elements * 2, elements * 4, -elements * 4]


def test_efficient_backward_in_fp32_multiplies_gradient_and_output_first():
    """RTX 3060, heads of 64: the product, its sums, the sums laid out anew; product and sums die before the workspace
    of one 64 x 64 tile (and 16 bytes) for each 64 queries."""

    def backward():
        q, k, v = (heads(2, 4, 128, 64, FULL, grad=True) for _ in range(3))
        out = F.scaled_dot_product_attention(q, k, v)
        grad = torch.empty_like(out)
        yield
        grads = torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
        yield grads

    each, delta = 2 * 4 * 128 * 64 * 4, 2 * 4 * 128 * 4
    workspace = 2 * 4 * 2 * (64 * 64 * 4 + 16)
    assert recorded("RTX 3060", backward) == [
        each, each, each, each, delta, delta, -delta, -each, workspace, -workspace, -delta
    ]  # fmt: skip


def test_efficient_backward_in_16_bits_computes_delta_itself():
    """B8 H12 S1024 D64: 96 x 16 tiles of 16,400 bytes are 24.02 MiB."""
    tile = efficient_tile(64, 64, BRAIN, (8, 0), dropout=False)

    assert efficient_workspace(tile, 96, 1024, 1024, 64, 64, capability=(8, 0)) == 96 * 16 * 16_400
    assert round(96 * 16 * 16_400 / MiB, 2) == 24.02


@pytest.mark.parametrize(
    ("size", "dtype", "capability", "dropout", "nbytes"),
    [
        # One query tile of 128 x 128 for 128 queries; gradients of keys stay in registers.
        (128, HALF, (8, 0), False, 128 * 128 * 4 + 16),
        # Two of 64 x 64 in each direction, and 2 splits x 64 keys x 128 columns, for keys and for values.
        (128, HALF, (8, 6), False, 4 * 16_400 + 2 * (2 * 64 * 128) * 4),
        # A kernel made for 8.6 and 8.9: 128 x 64, two columns of tiles; not with dropout.
        (96, HALF, (8, 6), False, 2 * (128 * 64 * 4 + 16)),
        (96, HALF, (8, 6), True, 4 * 16_400 + 2 * (2 * 64 * 128) * 4),
        (96, HALF, (12, 0), False, 4 * 16_400 + 2 * (2 * 64 * 128) * 4),
        # fp32 adds up in its own gradients: 128 x 64 tiles since 8.0, 64 x 64 before.
        (128, FULL, (8, 6), False, 2 * (128 * 64 * 4 + 16)),
        (128, FULL, (7, 5), False, 4 * 16_400),
        # Before 7.0 keys are not split, and an fp32 gradient needs nothing beside itself.
        (64, FULL, (6, 1), False, 0),
    ],
)
def test_the_workspace_of_one_head_of_128_rows(size, dtype, capability, dropout, nbytes):
    tile = efficient_tile(size, size, dtype, capability, dropout=dropout)

    assert efficient_workspace(tile, 1, 128, 128, size, size, capability=capability) == nbytes


@pytest.mark.parametrize(
    ("columns", "extra"),
    [(72, 0), (80, 0), (70, 2), (77, 3)],
)
def test_masks_are_padded_to_rows_of_eight(columns, extra):
    """2.13 on a CPU shows 70 -> 72 and 77 -> 80; the numbers of a bool mask are written out before."""

    def forward():
        q = heads(2, 4, 32, 64, FULL)
        k = heads(2, 4, columns, 64, FULL)
        mask = torch.ones(2, 1, 32, columns, device="cuda", dtype=torch.bool)
        yield
        out = F.scaled_dot_product_attention(q, k, k, mask)
        yield out

    found = [n for n in recorded("RTX 3060", forward) if n > 0]

    written = 2 * 32 * columns * 4
    padded = [2 * 32 * (columns + extra) * 4] if extra else []
    assert found == [4, 4, written, *padded, 2 * 4 * 32 * 64 * 4]


def test_cudnn_backward_adds_up_queries_in_fp32():
    """dq, dk and dv; then 2 x 4 x 128 rows of 64 fp32 sums for dq and one of dO * O, in one workspace of the call."""

    def backward():
        q, k, v = (heads(2, 4, 128, 64, grad=True) for _ in range(3))
        out = F.scaled_dot_product_attention(q, k, v)
        grad = torch.empty_like(out)
        yield
        grads = torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
        yield grads

    each, workspace = 2 * 4 * 128 * 64 * 2, 2 * 4 * 128 * (64 + 1) * 4
    assert recorded("H100", backward, version="2.13.0") == [each, each, each, workspace, -workspace]


def test_the_math_path_writes_every_score():
    """bf16 on a T4 is computed in fp32: three casts, two scalings, scores, their softmax, the output; then the
    weights and the output are cast back. The softmax is made beside a plain one, minus infinity,
    where scores are it, the rows that are so throughout, and a zero."""

    def forward():
        q, k, v = (heads(2, 4, 32, 64, BRAIN, moved=False) for _ in range(3))
        yield
        out = F.scaled_dot_product_attention(q, k, v)
        yield out

    wide, scores, rows = 2 * 4 * 32 * 64 * 4, 2 * 4 * 32 * 32 * 4, 2 * 4 * 32
    taken = [n for n in recorded("T4", forward) if n > 0 and n != 8_519_680]
    assert taken == [
        *[wide] * 5, scores, scores, 4, scores // 4, rows, 4, scores, scores // 2, wide, wide // 2
    ]  # fmt: skip


def test_the_scale_does_not_change_what_is_taken():
    def forward(scale):
        def steps():
            q, k, v = (heads(grad=True) for _ in range(3))
            yield
            yield F.scaled_dot_product_attention(q, k, v, scale=scale)

        return steps

    assert recorded("A100", forward(None)) == recorded("A100", forward(1 / math.pi))
