"""Small cases, each of one operator or habit: what its kernels take, and when it is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.truth.recorded.cases import Case, Mark

MiB = 1 << 20
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Make = Callable[[], tuple[Callable[..., Any], tuple[torch.Tensor, ...]]]
"""Makes a function and its inputs, on the card."""


def cases() -> Iterator[Case]:
    yield from _allocations()
    yield from _linear()
    yield from _embeddings()
    for dtype in ("float32", "bfloat16"):
        yield from _norms(dtype)
        yield from _activations(dtype)
        yield from _attention(dtype)
        yield from _convolutions(dtype)
    yield from _losses()
    yield from _pooling_and_recurrence()
    yield from _indexing_and_sorting()
    yield from _reductions()
    yield from _optimizers()
    yield from _habits()


def _case(name: str, run: Callable[[Mark], None], **config: Any) -> Case:
    return Case(name, "probes", run, config)


def _two_passes(name: str, make: Make, **config: Any) -> Case:
    """Forward and backward once to load kernels and take workspaces, then again, marked."""

    def run(mark: Mark) -> None:
        function, inputs = make()
        _pass(function, inputs, lambda name: None)
        for tensor in inputs:
            tensor.grad = None
        mark("warm")
        _pass(function, inputs, mark)

    return _case(name, run, **config)


def _pass(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...], mark: Mark) -> None:
    out = function(*inputs)
    out = out if torch.is_tensor(out) else out[0]
    mark("forward")
    if out.requires_grad:
        gradient = torch.ones_like(out)
        mark("gradient ready")
        out.backward(gradient)
        mark("backward")


def _tensor(*shape: int, dtype: str = "float32") -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=DTYPES[dtype], requires_grad=True)


def _integers(most: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, most, shape, device="cuda")


def _bytes(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.uint8, device="cuda")


def _allocations() -> Iterator[Case]:
    """Sizes at the borders of the allocator's rules."""
    for nbytes in (1, 512, 513, MiB, MiB + 1, 3 * MiB, 10 * MiB, 10 * MiB + 1, 11 * MiB, 21 * MiB):

        def run(mark: Mark, nbytes: int = nbytes) -> None:
            kept = _bytes(nbytes)
            mark("one")
            del kept

        yield _case(f"allocate_{nbytes}", run, nbytes=nbytes)


def _linear() -> Iterator[Case]:
    def first(mark: Mark) -> None:
        nn.Linear(1, 1, device="cuda")(torch.randn(1, 1, device="cuda"))
        mark("forward")

    yield _case("first_linear", first)
    for dtype in DTYPES:
        for rows, width in ((64, 64), (1024, 768), (4096, 768), (4096, 4096), (16384, 1024)):
            for bias in (True, False):

                def make(rows: int = rows, width: int = width, dtype: str = dtype, bias: bool = bias) -> Any:
                    layer = nn.Linear(width, width, bias=bias, device="cuda", dtype=DTYPES[dtype])
                    return layer, (_tensor(rows, width, dtype=dtype),)

                name = f"linear_{dtype}_{rows}x{width}_{'bias' if bias else 'plain'}"
                yield _two_passes(name, make, dtype=dtype, rows=rows, width=width, bias=bias)

    yield _two_passes(
        "mm_expanded_gradient",
        lambda: (lambda x, w: (x @ w).sum().expand(4), (_tensor(2048, 768), _tensor(768, 3072))),
    )


def _embeddings() -> Iterator[Case]:
    for tokens in (512, 4096, 32768):

        def make(tokens: int = tokens) -> Any:
            return lambda w, i: F.embedding(i, w), (_tensor(32128, 512), _integers(32128, tokens))

        yield _two_passes(f"embedding_{tokens}", make, tokens=tokens)


def _norms(dtype: str) -> Iterator[Case]:
    for rows, width in ((512, 768), (8192, 768), (131072, 768), (8192, 4096)):
        for kind in (nn.LayerNorm, nn.RMSNorm):

            def make(kind: Any = kind, rows: int = rows, width: int = width) -> Any:
                return kind(width, device="cuda", dtype=DTYPES[dtype]), (_tensor(rows, width, dtype=dtype),)

            yield _two_passes(f"{kind.__name__}_{dtype}_{rows}x{width}", make, dtype=dtype, rows=rows, width=width)
    images = {"GroupNorm": (8, 256, 64, 64), "BatchNorm2d": (32, 256, 56, 56)}
    for name, shape in images.items():

        def make_image(name: str = name, shape: tuple[int, ...] = shape) -> Any:
            arguments = (32, 256) if name == "GroupNorm" else (256,)
            layer = getattr(nn, name)(*arguments, device="cuda", dtype=DTYPES[dtype])
            return layer, (_tensor(*shape, dtype=dtype),)

        yield _two_passes(f"{name}_{dtype}", make_image, dtype=dtype, shape=shape)


def _activations(dtype: str) -> Iterator[Case]:
    functions: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
        "softmax": (lambda x: F.softmax(x, -1), (32, 12, 256, 256)),
        "gelu": (F.gelu, (4096, 3072)),
        "dropout": (lambda x: F.dropout(x, 0.1, True), (4096, 3072)),
    }
    for name, (function, shape) in functions.items():

        def make(function: Any = function, shape: tuple[int, ...] = shape) -> Any:
            return function, (_tensor(*shape, dtype=dtype),)

        yield _two_passes(f"{name}_{dtype}", make, dtype=dtype, shape=shape)


def _attention(dtype: str) -> Iterator[Case]:
    for tokens in (128, 512, 2048):
        for kind in ("plain", "causal", "mask", "dropout"):

            def make(tokens: int = tokens, kind: str = kind) -> Any:
                mask = torch.ones(4, 1, tokens, tokens, device="cuda", dtype=torch.bool) if kind == "mask" else None
                chance = 0.1 if kind == "dropout" else 0.0

                def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
                    return F.scaled_dot_product_attention(
                        q, k, v, attn_mask=mask, is_causal=kind == "causal", dropout_p=chance
                    )

                return attend, tuple(_tensor(4, 12, tokens, 64, dtype=dtype) for _ in range(3))

            yield _two_passes(f"sdpa_{dtype}_{tokens}_{kind}", make, dtype=dtype, tokens=tokens, kind=kind)

    def make_grouped() -> Any:
        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        return attend, tuple(_tensor(2, heads, 1024, 128, dtype=dtype) for heads in (32, 8, 8))

    yield _two_passes(f"sdpa_grouped_{dtype}", make_grouped, dtype=dtype)


_LAYERS = (
    # channels in, channels out, pixels to a side, kernel, stride, groups
    (3, 64, 224, 3, 1, 1),
    (64, 64, 224, 3, 1, 1),
    (256, 512, 28, 3, 1, 1),
    (512, 512, 14, 3, 1, 1),
    (3, 64, 224, 7, 2, 1),
    (256, 64, 56, 1, 1, 1),
    (96, 96, 56, 7, 1, 96),
    (3, 768, 224, 16, 16, 1),
)


def _convolutions(dtype: str) -> Iterator[Case]:
    for layer in _LAYERS:
        for batch in (1, 8, 32):

            def make(layer: tuple[int, ...] = layer, batch: int = batch) -> Any:
                inside, outside, pixels, kernel, stride, groups = layer
                padding = kernel // 2 if stride < kernel else 0
                module = nn.Conv2d(
                    inside, outside, kernel, stride, padding, groups=groups, device="cuda", dtype=DTYPES[dtype]
                )
                return module, (_tensor(batch, inside, pixels, pixels, dtype=dtype),)

            name = "conv_{}_{}-{}-{}-k{}s{}g{}-b{}".format(dtype, *layer, batch)
            yield _two_passes(name, make, dtype=dtype, layer=layer, batch=batch)


def _losses() -> Iterator[Case]:
    for rows, words in ((1024, 50257), (4096, 32128), (2048, 128256)):

        def make(rows: int = rows, words: int = words) -> Any:
            return lambda x, y: F.cross_entropy(x, y), (_tensor(rows, words), _integers(words, rows))

        yield _two_passes(f"cross_entropy_{rows}x{words}", make, rows=rows, words=words)


def _pooling_and_recurrence() -> Iterator[Case]:
    yield _two_passes("max_pool", lambda: (lambda x: F.max_pool2d(x, 2), (_tensor(32, 64, 224, 224),)))
    yield _two_passes(
        "adaptive_avg_pool", lambda: (lambda x: F.adaptive_avg_pool2d(x, (7, 7)), (_tensor(32, 512, 7, 7),))
    )
    yield _two_passes(
        "lstm",
        lambda: (
            nn.LSTM(256, 512, 2, bidirectional=True, batch_first=True, device="cuda"),
            (_tensor(16, 64, 256),),
        ),
    )
    yield _two_passes("gru", lambda: (nn.GRU(256, 512, 2, batch_first=True, device="cuda"), (_tensor(16, 64, 256),)))


def _indexing_and_sorting() -> Iterator[Case]:
    yield _two_passes("index_put_accumulate", lambda: (lambda x, i: x[i], (_tensor(4096, 512), _integers(4096, 8192))))
    yield _two_passes("topk", lambda: (lambda x: x.topk(8)[0], (_tensor(4096, 1024),)))
    yield _two_passes("sort", lambda: (lambda x: x.sort()[0], (_tensor(4096, 1024),)))
    yield _two_passes("cumsum", lambda: (lambda x: x.cumsum(-1), (_tensor(4096, 1024),)))


def _reductions() -> Iterator[Case]:
    yield _two_passes("sum_all", lambda: (lambda x: x.sum(), (_tensor(16384, 4096),)))
    yield _two_passes("sum_rows", lambda: (lambda x: x.sum(0), (_tensor(16384, 4096),)))


_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 1e-3}),
    "momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "adamw_loop": ("AdamW", {"foreach": False}),
    "adamw_fused": ("AdamW", {"fused": True}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "adafactor": ("Adafactor", {}),
}


def _stack() -> nn.Module:
    return nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(8)]).cuda()


def _optimizers() -> Iterator[Case]:
    for name, (kind, options) in _OPTIMIZERS.items():

        def run(mark: Mark, kind: str = kind, options: dict[str, Any] = options) -> None:
            model = _stack()
            optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
            for step in range(2):
                model(torch.randn(4, 1024, device="cuda")).sum().backward()
                mark(f"backward {step}")
                optimizer.step()
                mark(f"step {step}")
                optimizer.zero_grad()
                mark(f"zeroed {step}")

        yield _case(f"optimizer_{name}", run, kind=kind, **options)


def _habits() -> Iterator[Case]:
    yield _case("clip_grad_norm", _clip)
    yield _case("amp_scaler", _scaled)
    yield _case("checkpointing", _checkpointed)


def _clip(mark: Mark) -> None:
    model = _stack()
    model(torch.randn(4, 1024, device="cuda")).sum().backward()
    mark("backward")
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    mark("clipped")


def _scaled(mark: Mark) -> None:
    model, scaler = _stack(), torch.amp.GradScaler("cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(64, 1024, device="cuda")
    for step in range(2):
        with torch.autocast("cuda", dtype=torch.float16):
            loss = model(x).float().pow(2).mean()
            mark(f"inside {step}")
        mark(f"forward {step}")
        scaler.scale(loss).backward()
        mark(f"backward {step}")
        scaler.step(optimizer)
        scaler.update()
        mark(f"step {step}")
        optimizer.zero_grad()
        del loss


def _checkpointed(mark: Mark) -> None:
    from torch.utils.checkpoint import checkpoint

    blocks = [nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)).cuda() for _ in range(6)]
    x = torch.randn(2048, 1024, device="cuda", requires_grad=True)
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False)
    mark("forward")
    x.sum().backward()
    mark("backward")
