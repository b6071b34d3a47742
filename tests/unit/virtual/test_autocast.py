"""`torch.autocast("cuda")`: what is cast, and how long the casts of weights live."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import tonnage
from tonnage.virtual.kernels import autocast

MiB = 2**20
HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"


def listed(macro: str) -> set[str]:
    """The operators of a list in PyTorch's own header, as `name` or `name.overload`."""
    text = HEADER.read_text()
    body = re.search(rf"#define {macro}\(_\)(.*?)\n\n", text, re.DOTALL)
    assert body is not None
    return {".".join(found.replace(" ", "").split(",")) for found in re.findall(r"_\(([\w, ]+)\)", body[1])}


ELSEWHERE = {"scaled_dot_product_attention"}
"""Cast in kernels/attention, where the backend is chosen."""


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the lists are those of 2.13")
@pytest.mark.parametrize(
    ("macro", "names"),
    [
        ("AT_FORALL_LOWER_PRECISION_FP", autocast._LOWER),
        ("AT_FORALL_FP32", autocast._FULL),
        ("AT_FORALL_FP32_SET_OPT_DTYPE", autocast._FULL_BY_DTYPE),
        ("AT_FORALL_PROMOTE", autocast._WIDEST),
    ],
)
def test_the_lists_are_those_of_the_header(macro, names):
    assert set(names.split()) == listed(macro) - ELSEWHERE


def dtypes(run, *, dtype=torch.float16, card="A100", **options):
    with tonnage.virtual_gpu(card), torch.autocast("cuda", dtype=dtype, **options):
        return run()


def zeros(*shape, dtype=torch.float32, **options):
    return torch.zeros(*shape, device="cuda", dtype=dtype, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_are_lower_and_sums_are_full(dtype):
    def run():
        x = zeros(4, 8)
        product = x @ zeros(8, 8)
        return product.dtype, F.softmax(product, -1).dtype, product.sum().dtype, (product + 1).dtype, x.exp().dtype

    full = torch.float32
    assert dtypes(run, dtype=dtype) == (dtype, full, full, dtype, full)


def test_layer_norm_and_losses_are_full():
    def run():
        hidden = nn.Linear(8, 8, device="cuda")(zeros(4, 8))
        target = torch.zeros(4, dtype=torch.int64, device="cuda")
        norm = nn.LayerNorm(8, device="cuda")
        return hidden.dtype, norm(hidden).dtype, F.cross_entropy(hidden, target).dtype, hidden.norm().dtype

    assert dtypes(run) == (torch.float16, torch.float32, torch.float32, torch.float32)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize(("version", "result"), [("2.11.0", torch.bfloat16), ("2.12.0", torch.float32)])
def test_rms_norm_is_full_from_2_12(version, result):
    """Before, a bf16 input beside an fp32 weight went by a chain of operators, whose result has the input's type."""
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu:
        norm, x = nn.RMSNorm(64, device="cuda"), zeros(8, 64, dtype=torch.bfloat16)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert norm(x).dtype is result
    fused = "aten._fused_rms_norm.default" in [op.name for op in gpu.recording.trace.ops]
    assert fused == (result is torch.float32)


def test_a_region_that_is_off_inside_runs_in_full_and_keeps_the_casts():
    """The cast of the outer region lives on through the inner one, which is not the outermost."""
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512)
        with torch.no_grad(), torch.autocast("cuda"):
            module(x)
            before = allocated()
            with torch.autocast("cuda", enabled=False):
                assert module(x).dtype is torch.float32
            assert allocated() == before


def test_a_bias_is_cast_and_kept_as_a_weight_is():
    """512 x 512 and 512 halves until the region ends."""
    with tonnage.virtual_gpu("A100"):
        module, x = nn.Linear(512, 512, device="cuda"), zeros(2, 512, dtype=torch.float16)
        x @ zeros(512, 1, dtype=torch.float16)
        before = allocated()
        with torch.no_grad(), torch.autocast("cuda"):
            module(x)
            assert allocated() == before + CAST + 512 * 2
        assert allocated() == before


def test_a_weights_gradient_is_cast_back_beside_the_half_one():
    """Backward makes the gradient of the cast, then its fp32 copy, and lets the first go; the cast goes with it."""
    with tonnage.virtual_gpu("A100") as gpu:
        module, x = layer(), zeros(2, 512, dtype=torch.float16)
        with torch.autocast("cuda"):
            loss = module(x).sum()
        start = len(gpu.recording.ledger)
        loss.backward()
        ledger = gpu.recording.ledger
        found = [(kind.name, ledger.sizes[n]) for kind, n in list(ledger.events())[start:] if ledger.sizes[n] >= CAST]
        workspace = gpu.rules.cublas_workspace
    assert [entry for entry in found if entry[1] != workspace] == [("ALLOC", CAST), ("ALLOC", WEIGHT), ("FREE", CAST)]


def test_a_recomputed_region_casts_anew_for_itself():
    """A checkpointed layer under autocast: once in forward, once for backward, and nothing stays but the gradient."""
    with tonnage.virtual_gpu("A100") as gpu:
        module, x = layer(), zeros(2, 512, requires_grad=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            y = checkpoint(module, x, use_reentrant=False)
        y.sum().backward()
        casts = [op for op in gpu.recording.trace.ops if op.name == "aten._to_copy.default" and op.phase in (1, 2)]
        of_the_weight = [op for op in casts if op.inputs[0].shape == (512, 512) and op.inputs[0].dtype == "float32"]
    assert [op.phase for op in of_the_weight] == [1, 2]


def test_a_function_may_ask_for_its_own_precision():
    """custom_fwd casts what it is given and runs outside of autocast, and so does custom_bwd."""
    seen = []

    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
        def forward(ctx, x):
            seen.append((x.dtype, torch.is_autocast_enabled("cuda")))
            return x * 2

        @staticmethod
        @torch.amp.custom_bwd(device_type="cuda")
        def backward(ctx, grad):
            seen.append((grad.dtype, torch.is_autocast_enabled("cuda")))
            return grad * 2

    with tonnage.virtual_gpu("A100"):
        x = zeros(4, 4, dtype=torch.float16, requires_grad=True)
        with torch.autocast("cuda"):
            y = Double.apply(x)
        y.sum().backward()
    assert seen == [(torch.float32, False), (torch.float32, False)]


def test_the_widest_type_wins_where_types_meet():
    def run():
        half, full = zeros(4, dtype=torch.float16), zeros(4)
        return torch.atan2(half, full).dtype, torch.atan2(half, half).dtype

    assert dtypes(run) == (torch.float32, torch.float16)


def test_integers_and_doubles_are_left_alone():
    def run():
        double = zeros(4, 4, dtype=torch.float64)
        return (double @ double).dtype, torch.zeros(4, 4, dtype=torch.int64, device="cuda").sum().dtype

    assert dtypes(run) == (torch.float64, torch.int64)


def test_tensors_of_the_host_are_left_alone():
    assert dtypes(lambda: (torch.zeros(4, 4) @ torch.zeros(4, 4)).dtype) == torch.float32


def test_attention_is_lower():
    def run():
        q = zeros(1, 2, 64, 64)
        return F.scaled_dot_product_attention(q, q, q).dtype

    assert dtypes(run, dtype=torch.bfloat16) == torch.bfloat16


def test_a_region_may_be_switched_off_inside():
    def run():
        a = zeros(4, 4)
        with torch.autocast("cuda", enabled=False):
            inner = (a @ a).dtype
            with torch.autocast("cuda", dtype=torch.bfloat16):
                innermost = (a @ a).dtype
        return inner, innermost, (a @ a).dtype

    assert dtypes(run) == (torch.float32, torch.bfloat16, torch.float16)


def test_binary_cross_entropy_is_refused_as_on_a_card():
    with pytest.raises(RuntimeError, match=r"binary_cross_entropy .* are unsafe to autocast"):
        dtypes(lambda: F.binary_cross_entropy(zeros(4), zeros(4)))
    with tonnage.virtual_gpu("A100"):
        F.binary_cross_entropy(zeros(4), zeros(4))
    assert dtypes(lambda: F.binary_cross_entropy_with_logits(zeros(4), zeros(4)).dtype) == torch.float32


# Weights -------------------------------------------------------------------------------------------------------------

WEIGHT = 512 * 512 * 4
CAST = 512 * 512 * 2


def allocated() -> int:
    return torch.cuda.memory_allocated()


def layer() -> nn.Linear:
    return nn.Linear(512, 512, bias=False, device="cuda")


def test_a_weight_is_cast_once_in_a_region():
    with tonnage.virtual_gpu("A100") as gpu:
        module = layer()
        with torch.autocast("cuda"):
            x = zeros(2, 512, dtype=torch.float16)
            module(x)
            module(x)
    assert [op.name for op in gpu.recording.trace.ops].count("aten._to_copy.default") == 1


def test_the_cast_lives_until_the_outermost_region_ends():
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512, dtype=torch.float16)
        x @ zeros(512, 1, dtype=torch.float16)
        before = allocated()
        with torch.no_grad(), torch.autocast("cuda"):
            with torch.autocast("cuda"):
                module(x)
            assert allocated() == before + CAST
        assert allocated() == before


def test_autograd_holds_the_cast_beyond_the_region():
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512, dtype=torch.float16, requires_grad=True)
        x.detach() @ zeros(512, 1, dtype=torch.float16)
        before = allocated()
        with torch.autocast("cuda"):
            y = module(x)
        assert allocated() == before + CAST + 2 * 512 * 2
        del y
        assert allocated() == before


def test_without_the_cache_each_use_casts_anew():
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512, dtype=torch.float16)
        x @ zeros(512, 1, dtype=torch.float16)
        before = allocated()
        with torch.no_grad(), torch.autocast("cuda", cache_enabled=False):
            module(x)
            assert allocated() == before


def test_another_type_than_the_regions_first_is_cast_for_itself():
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512)
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.float16):
            half = module(x).dtype
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
            assert (half, module(x).dtype) == (torch.float16, torch.bfloat16)


def test_activations_and_frozen_weights_are_not_kept():
    with tonnage.virtual_gpu("A100"):
        module, x = layer().requires_grad_(False), zeros(512, 512)
        with torch.autocast("cuda"):
            y = module(x)
            assert y.shape == (512, 512)
            before = allocated()
            del y
            module(x)
            assert allocated() == before - CAST


def test_a_weight_that_goes_takes_only_itself():
    """The cache knows the weight weakly (cached_casts): its memory goes with its last owner, the cast stays."""
    with tonnage.virtual_gpu("A100"):
        module, x = layer(), zeros(2, 512, dtype=torch.float16)
        with torch.no_grad(), torch.autocast("cuda"):
            module(x)
            before = allocated()
            del module
            assert allocated() == before - WEIGHT


def test_a_scaled_step_unscales_in_place_and_goes_on():
    """GradScaler keeps its scale and its growth, 512-byte blocks; a step makes nothing of the gradients' size."""
    with tonnage.virtual_gpu("A100") as gpu:
        module = layer()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cuda")
        with torch.autocast("cuda", dtype=torch.float16):
            loss = module(zeros(2, 512)).sum()
        scaler.scale(loss).backward()
        before = allocated()
        torch.cuda.reset_peak_memory_stats()
        scaler.step(optimizer)
        scaler.update()
        assert torch.cuda.max_memory_allocated() - before < WEIGHT
        assert scaler.get_scale() == 65536.0
    assert any("finite" in a.what for a in gpu.recording.assumptions)
