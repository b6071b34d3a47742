"""litgpt's finetuning configs (config_hub/finetune) on one A10G, as litgpt and Fabric of April to September 2024 ran.

What is trained is batches of the micro batch size, padded to their longest sample. The longest sample of Alpaca2k is
cut at 512 tokens (tutorials/0_to_litgpt.md: "The longest sequence length in the train data is 512"), so the peak is
that of a batch of 512. litgpt prints max_memory_allocated() / 1e9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.reenacted.loading import default_dtype
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted

LENGTH, CHUNK, DROPOUT = 512, 128, 0.05
BF16 = torch.bfloat16


@dataclass(frozen=True)
class Config:
    """litgpt/config.py, with its defaults, and the LoRA part of the yaml."""

    torch: str = "2.3.0"
    vocabulary: int = 50_688
    layers: int = 16
    width: int = 4096
    heads: int = 32
    groups: int | None = None
    head: int | None = None
    mlp: int | None = None
    mlp_class: str = "GptNeoxMLP"
    rms: bool = False
    bias: bool = True
    head_bias: bool = False
    parallel: bool = True
    shared_norm: bool = False
    rotary: float = 0.25
    scaled_embeddings: bool = False
    unit_offset: bool = False
    gelu: str = "none"
    gemma2: bool = False
    rank: int = 32
    everywhere: bool = False
    """LoRA on queries and values alone, or on every projection."""
    quantized: bool = False

    def linear(self, into: int, out: int, *, bias: bool) -> nn.Module:
        return Linear4bit(into, out, bias=bias) if self.quantized else nn.Linear(into, out, bias=bias)

    @property
    def head_size(self) -> int:
        return self.head or self.width // self.heads

    @property
    def query_groups(self) -> int:
        return self.groups or self.heads

    @property
    def hidden(self) -> int:
        return self.mlp or 4 * self.width


def llama(**sizes: object) -> Config:
    shared: dict[str, object] = {
        "rms": True,
        "bias": False,
        "parallel": False,
        "rotary": 1.0,
        "mlp_class": "LLaMAMLP",
    }
    return Config(**{**shared, **sizes})  # type: ignore[arg-type]


LLAMA3 = {"vocabulary": 128_256, "groups": 8}
GEMMA = {"vocabulary": 256_000, "scaled_embeddings": True, "unit_offset": True, "mlp_class": "GemmaMLP", "gelu": "tanh"}
MISTRAL = llama(vocabulary=32_000, layers=32, groups=8, mlp=14_336)
LLAMA3_8B = llama(**LLAMA3, layers=32, mlp=14_336)
CONFIGS = {
    "falcon-7b": Config(
        vocabulary=65_024, layers=32, width=4544, heads=71, groups=1, rotary=1.0, bias=False, shared_norm=True
    ),
    "gemma-2b": llama(**GEMMA, width=2048, layers=18, heads=8, groups=1, mlp=16_384, rank=8, everywhere=True),
    "gemma2-2b": llama(
        **GEMMA,
        torch="2.4.0",
        width=2304,
        layers=26,
        heads=8,
        groups=4,
        head=256,
        mlp=9216,
        gemma2=True,
        rank=8,
        everywhere=True,
    ),
    "gemma-7b": llama(**GEMMA, width=3072, layers=28, heads=16, head=256, mlp=24_576, rank=8, everywhere=True),
    "gemma2-9b": llama(
        **GEMMA,
        torch="2.4.0",
        width=3584,
        layers=42,
        heads=16,
        groups=8,
        head=256,
        mlp=14_336,
        gemma2=True,
        rank=8,
        everywhere=True,
    ),
    "llama-2-7b": llama(vocabulary=32_000, layers=32, mlp=11_008),
    "llama-3-8b": LLAMA3_8B,
    "llama-3.1-8b": LLAMA3_8B,
    "llama-3.2-1b": llama(**LLAMA3, torch="2.4.1", layers=16, width=2048, mlp=8192),
    "llama-3.2-3b": llama(**LLAMA3, torch="2.4.1", layers=28, width=3072, heads=24, mlp=8192),
    "mistral-7b-v0.2": MISTRAL,
    "mistral-7b": MISTRAL,
    "phi-2": Config(
        vocabulary=51_200,
        width=2560,
        layers=32,
        rotary=0.4,
        shared_norm=True,
        head_bias=True,
        gelu="tanh",
        rank=8,
        everywhere=True,
    ),
    "phi-3": llama(torch="2.3.1", vocabulary=32_064, width=3072, layers=32, mlp=8192, rank=8, everywhere=True),
    "stablelm-base-alpha-3b": Config(),
    "tiny-llama": llama(vocabulary=32_000, layers=22, width=2048, groups=4, mlp=5632, everywhere=True),
}


class Linear4bit(nn.Module):
    """bitsandbytes 0.42's, as Fabric puts it in place of every nn.Linear: nf4 without double quantisation.

    Fabric quantises what it has cast to fp16 (plugins/precision/bitsandbytes.py, _Linear4bit.quantize), so a weight is
    read back as fp16 and then cast.
    """

    data: torch.Tensor
    absmax: torch.Tensor

    def __init__(self, into: int, out: int, *, bias: bool) -> None:
        super().__init__()
        weight = nn.Linear(into, out, bias=False).weight
        self.shape = weight.shape
        self.register_buffer("data", torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8))
        self.register_buffer("absmax", torch.zeros(weight.numel() // 64, dtype=torch.float32))
        self.register_buffer("code", torch.zeros(16, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def dequantized(self) -> torch.Tensor:
        return torch.empty(self.shape, dtype=torch.float16, device="cuda").to(BF16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return MatMul4Bit.apply(x, self)


class MatMul4Bit(torch.autograd.Function):
    """bitsandbytes/autograd/_functions.py. The input is kept as an attribute, and so until the graph is let go."""

    @staticmethod
    def forward(ctx, x, layer):  # type: ignore[no-untyped-def]
        output = F.linear(x, layer.dequantized(), layer.bias)
        ctx.layer = layer
        ctx.kept = x if ctx.needs_input_grad[0] else None
        return output

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return torch.matmul(grad, ctx.layer.dequantized()), None


class PagedAdamW(torch.optim.Optimizer):
    """bitsandbytes' PagedAdamW: states of 100,000 elements and more are in memory that the host and the card share."""

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            if p.grad is not None and p.numel() < 100_000 and not self.state[p]:
                self.state[p]["state1"] = torch.zeros_like(p, dtype=torch.float32)
                self.state[p]["state2"] = torch.zeros_like(p, dtype=torch.float32)


class LoRALinear(nn.Module):
    def __init__(self, config: Config, into: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.linear = config.linear(into, out, bias=bias)
        self.rank = rank = config.rank if config.everywhere else 0
        if rank:
            self.lora_A = nn.Parameter(torch.empty(rank, into))
            self.lora_B = nn.Parameter(torch.empty(out, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pretrained = self.linear(x)
        if not self.rank:
            return pretrained
        dropped = F.dropout(x, DROPOUT, self.training)
        lora = (dropped @ self.lora_A.transpose(0, 1) @ self.lora_B.transpose(0, 1)) * 0.5
        return pretrained + lora


class LoRAQKVLinear(nn.Module):
    """The fused projection, with LoRA for queries and values or for all three; the rest of its rows is zero."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.rank = config, config.rank
        query, group = config.head_size * config.heads, config.head_size * config.query_groups
        self.out = query + 2 * group
        self.shapes = [query, group, group] if config.everywhere else [query, group]
        self.linear = config.linear(config.width, self.out, bias=config.bias)
        if self.rank:
            self.lora_A = nn.Parameter(torch.empty(config.rank * len(self.shapes), config.width))
            self.lora_B = nn.Parameter(torch.empty(sum(self.shapes), config.rank))

    def zero_pad(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.everywhere:
            return x
        x = x.transpose(0, 1)
        result = x.new_zeros((*x.shape[:-1], self.out)).view(-1, self.out)
        places = torch.arange(sum(self.shapes), device=result.device)
        result = result.index_copy(1, places, x.reshape(-1, sum(self.shapes)))
        return result.view((*x.shape[:-1], self.out)).transpose(0, 1)

    def conv1d(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.config.heads == self.config.query_groups:
            return F.conv1d(x, weight, groups=len(self.shapes))
        inputs, weights = x.chunk(len(self.shapes), dim=1), weight.split(self.shapes)
        return torch.cat([F.conv1d(a, b) for a, b in zip(inputs, weights, strict=True)], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pretrained = self.linear(x)
        if not self.rank:
            return pretrained
        after_a = F.linear(F.dropout(x, DROPOUT, self.training), self.lora_A)
        after_b = self.conv1d(after_a.transpose(-2, -1), self.lora_B.unsqueeze(-1)).transpose(-2, -1)
        lora = self.zero_pad(after_b) * 0.5
        return pretrained + lora


class RMSNorm(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.unit_offset = config.unit_offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        x = x.float()
        norm_x = torch.mean(x * x, dim=-1, keepdim=True)
        x_normed = x * torch.rsqrt(norm_x + 1e-5)
        x_normed = x_normed.to(dtype=dtype)
        if self.unit_offset:
            return x_normed * (1 + self.weight)
        return x_normed * self.weight


def norm(config: Config) -> nn.Module:
    return RMSNorm(config) if config.rms else nn.LayerNorm(config.width)


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.size(-1) // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    roped = (x * cos) + (rotated * sin)
    return roped.to(dtype=x.dtype)


class Attention(nn.Module):
    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        self.config = config
        self.sliding = config.gemma2 and index % 2 == 0
        self.attn = LoRAQKVLinear(config)
        self.proj = LoRALinear(config, config.head_size * config.heads, config.width, bias=config.bias)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        config = self.config
        batch, length, _ = x.size()
        head, groups, each = config.head_size, config.query_groups, config.heads // config.query_groups
        qkv = self.attn(x)
        qkv = qkv.view(batch, length, groups, each + 2, head).permute(0, 2, 3, 1, 4)
        q, k, v = qkv.split((each, 1, 1), dim=2)
        if each > 1:
            k = k.expand(batch, groups, each, length, head)
            v = v.expand(batch, groups, each, length, head)
        q = q.reshape(batch, -1, length, head)
        k = k.reshape(batch, -1, length, head)
        v = v.reshape(batch, -1, length, head)
        part = cos.size(-1)
        q_roped = apply_rope(q[..., :part], cos, sin)
        k_roped = apply_rope(k[..., :part], cos, sin)
        q = torch.cat((q_roped, q[..., part:]), dim=-1)
        k = torch.cat((k_roped, k[..., part:]), dim=-1)
        y = self.softcapped(q, k, v) if config.gemma2 else self.plain(q, k, v)
        y = y.reshape(batch, length, head * config.heads)
        return self.proj(y)

    def plain(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scale = 1.0 / math.sqrt(self.config.head_size)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, scale=scale, is_causal=True)
        return y.transpose(1, 2)

    def softcapped(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        length = q.size(2)
        mask = None
        if self.sliding:
            mask = torch.ones(length, length, dtype=q.dtype, device=q.device).triu(diagonal=1)
            mask.masked_fill_(mask.bool(), float("-inf"))
            bias = torch.ones_like(mask).tril(diagonal=-4096)
            bias.masked_fill_(bias.bool(), float("-inf"))
            mask += bias
        scores = q @ k.mT * (1.0 / math.sqrt(256))
        scores = torch.tanh(scores / 50.0) * 50.0
        if mask is None:
            mask = torch.ones(length, length, dtype=q.dtype, device=q.device).triu(diagonal=1)
            mask.masked_fill_(mask.bool(), torch.finfo(q.dtype).min)
        scores = scores + mask
        scores = F.softmax(scores, dim=-1, dtype=torch.float).to(dtype=q.dtype)
        return (scores @ v).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fc_1 = LoRALinear(config, config.width, config.hidden, bias=config.bias)
        if config.mlp_class != "GptNeoxMLP":
            self.fc_2 = LoRALinear(config, config.width, config.hidden, bias=config.bias)
        self.proj = LoRALinear(config, config.hidden, config.width, bias=config.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.mlp_class == "GptNeoxMLP":
            x = self.fc_1(x)
            x = F.gelu(x, approximate=self.config.gelu)
            return self.proj(x)
        x_fc_1, x_fc_2 = self.fc_1(x), self.fc_2(x)
        if self.config.mlp_class == "GemmaMLP":
            x = F.gelu(x_fc_1, approximate=self.config.gelu) * x_fc_2
        else:
            x = F.silu(x_fc_1) * x_fc_2
        return self.proj(x)


class Block(nn.Module):
    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        self.config = config
        self.norm_1 = norm(config)
        self.attn = Attention(config, index)
        self.norm_2 = None if config.shared_norm else norm(config)
        self.mlp = Mlp(config)
        self.post_attention_norm = norm(config) if config.gemma2 else nn.Identity()
        self.post_mlp_norm = norm(config) if config.gemma2 else nn.Identity()

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x_normed = self.norm_1(x)
        attended = self.post_attention_norm(self.attn(x_normed, cos, sin))
        if self.config.parallel:
            x_normed = x_normed if self.norm_2 is None else self.norm_2(x)
            return self.mlp(x_normed) + attended + x
        x = attended + x
        assert self.norm_2 is not None
        return self.post_mlp_norm(self.mlp(self.norm_2(x))) + x


class GPT(nn.Module):
    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.lm_head = LoRALinear(config, config.width, config.vocabulary, bias=config.head_bias)
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.h = nn.ModuleList(Block(config, index) for index in range(config.layers))
        self.ln_f = norm(config)

    def set_rope(self) -> None:
        """`model.max_seq_length = ...`: the tables are made anew, in fp32."""
        size = int(self.config.rotary * self.config.head_size)
        theta = 1.0 / (10_000 ** (torch.arange(0, size, 2, device="cuda").float() / size))
        angles = torch.outer(torch.arange(LENGTH, device="cuda") / 1, theta).repeat(1, 2)
        self.register_buffer("cos", torch.cos(angles), persistent=False)
        self.register_buffer("sin", torch.sin(angles), persistent=False)

    def forward(self, ids: torch.Tensor, *, chunk: int) -> torch.Tensor | list[torch.Tensor]:
        cos, sin = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        x = self.wte(ids)
        if self.config.scaled_embeddings:
            x = x * (self.config.width**0.5)
        for block in self.h:
            x = block(x, cos, sin)
        x = self.ln_f(x)
        if chunk:
            return [self.lm_head(part) for part in x.split(chunk, dim=1)]
        x = self.lm_head(x)
        return torch.tanh(x / 30.0) * 30.0 if self.config.gemma2 else x  # chunks were not soft-capped (2b195c7)


def half_precision() -> AbstractContextManager[None]:
    """Fabric's "bf16-true": what is made inside is bf16 by default."""
    return default_dtype(BF16)


def through_fabric(model: GPT, ids: torch.Tensor, *, chunk: int) -> torch.Tensor | list[torch.Tensor]:
    """_FabricModule.forward: what a half-precision model gives is converted to fp32 (HalfPrecision.convert_output)."""
    with half_precision():
        output = model(ids, chunk=chunk)
    return [part.float() for part in output] if isinstance(output, list) else output.float()


def chunked_cross_entropy(logits: torch.Tensor | list[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    if isinstance(logits, list):
        logit_chunks = [chunk.reshape(-1, chunk.size(-1)) for chunk in logits]
        target_chunks = [chunk.reshape(-1) for chunk in targets.split(logits[0].size(1), dim=1)]
    else:
        logit_chunks = list(logits.reshape(-1, logits.size(-1)).split(CHUNK))
        target_chunks = list(targets.reshape(-1).split(CHUNK))
    losses = [
        F.cross_entropy(chunk, target, ignore_index=-100, reduction="none")
        for chunk, target in zip(logit_chunks, target_chunks, strict=True)
    ]
    return torch.cat(losses).sum() / max(1, (targets != -100).sum())


@torch.no_grad()
def validate(model: GPT, size: int) -> None:
    """The sanity check before training: batches of the validation set, whose logits are not chunked."""
    model.eval()
    ids = torch.randint(1000, (size, LENGTH)).to("cuda")
    logits = through_fabric(model, ids, chunk=0)
    assert isinstance(logits, torch.Tensor)
    shifted = logits[..., :-1, :]
    F.cross_entropy(shifted.reshape(-1, shifted.size(-1)), ids[..., 1:].reshape(-1), ignore_index=-100)
    model.train()


def finetune(gpu: tonnage.VirtualGpu, config: Config, size: int, *, lora: bool) -> None:
    with half_precision(), torch.device("cuda"):
        model = GPT(config)
    if lora:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "lora_" in name
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = PagedAdamW(trainable) if config.quantized else torch.optim.AdamW(trainable, lr=2e-4)
    model.set_rope()
    validate(model, size)
    for _ in range(3):
        for _ in range(2):
            with gpu.host():
                batch = {name: torch.randint(1000, (size, LENGTH)) for name in ("input_ids", "labels")}
            input_ids, targets = batch["input_ids"].to("cuda"), batch["labels"].to("cuda")
            logits = through_fabric(model, input_ids, chunk=CHUNK if lora else 0)
            if isinstance(logits, list):
                logits[-1] = logits[-1][..., :-1, :]
            else:
                logits = logits[..., :-1, :]
            loss = chunked_cross_entropy(logits, targets[..., 1:])
            (loss / 2).backward()
        optimizer.step()
        optimizer.zero_grad()


TOO_SMALL = (
    "the published peak is below the bf16 weights, gradients and AdamW states that its config asks for, so another "
    "optimizer must have run"
)
NOT_RUN = dict.fromkeys(("litgpt-llama-3.2-1b-full", "litgpt-llama-3.2-3b-full", "litgpt-phi-3-full"), TOO_SMALL)


def run(row: Row) -> Predicted:
    if row.id in NOT_RUN:
        raise NotRun(NOT_RUN[row.id])
    if row["parallelism"] != "single GPU":
        raise NotRun("sharded over several GPUs: the virtual GPU is one card")
    name, _, kind = row.id.removeprefix("litgpt-").rpartition("-")
    config = CONFIGS[name]
    if kind == "full":
        config = replace(config, rank=0)
    if kind == "qlora":
        config = replace(config, quantized=True, rank=16 if name.startswith("gemma") else config.rank)
    with tonnage.virtual_gpu("A10G", torch_version=config.torch) as gpu:
        finetune(gpu, config, row["batch"], lora=kind != "full")
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated())
