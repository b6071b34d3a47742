"""torchtune's single-device recipes: the model and the loop of the day, operator by operator.

The README's table is of November 2024 (torchtune 1814feb, PyTorch 2.5.1), its Llama 3.2 LoRA log of December, the
Llama 2 log of April 2024 (torchtune 0914d5c). "Peak memory active" is the peak of active_bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.reenacted.loading import default_dtype
from benchmarks.truth.rows import NotRun, Predicted, Row, predicted

BF16 = torch.bfloat16


@dataclass(frozen=True)
class Config:
    vocabulary: int
    layers: int
    heads: int
    kv_heads: int
    width: int
    mlp: int
    positions: int
    tied: bool = False
    rank: int = 0
    adapted: tuple[str, ...] = ()
    """The projections with LoRA, by name."""
    quantized: bool = False


LLAMA_32_3B = Config(128_256, 28, 24, 8, 3072, 8192, 131_072, tied=True)
ALL_BUT_KEYS = ("q_proj", "v_proj", "output_proj", "w1", "w2", "w3")
LLAMA_32_3B_LORA = Config(128_256, 28, 24, 8, 3072, 8192, 131_072, tied=True, rank=64, adapted=ALL_BUT_KEYS)
LLAMA_2_7B_LORA = Config(32_000, 32, 32, 32, 4096, 11_008, 4096, rank=8, adapted=("q_proj", "v_proj"))
LLAMA_2_7B_QLORA = Config(
    32_000, 32, 32, 32, 4096, 11_008, 4096, rank=8, adapted=(*ALL_BUT_KEYS, "k_proj"), quantized=True
)


class NF4:
    """torchao 0.1's NF4Tensor (dtypes/nf4tensor.py), with the operators that make one and that read it back."""

    BLOCK, SCALER_BLOCK = 64, 256

    @torch.no_grad()
    def __init__(self, weight: torch.Tensor) -> None:
        self.shape = weight.shape
        self.nf4 = torch.linspace(-1.0, 1.0, 16).to(weight.device, BF16)
        self.scalers, self.factor, self.mean = self.quantized_scalers(weight.flatten())
        self.data = self.quantized(weight)

    def absmax(self, flat: torch.Tensor, block: int) -> torch.Tensor:
        return flat.view(flat.numel() // block, block).abs().max(dim=1).values

    def quantized_scalers(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scalers = self.absmax(flat, self.BLOCK)
        mean = scalers.mean()
        scalers = scalers - mean
        count = scalers.numel() // self.SCALER_BLOCK
        blocks = scalers.view(count, self.SCALER_BLOCK)
        largest = self.absmax(scalers, self.SCALER_BLOCK).unsqueeze(-1).expand(count, self.SCALER_BLOCK)
        factor = 256 / (2 * largest)
        quantized = blocks * factor
        quantized = quantized.round()
        quantized = quantized.clamp(-128, 127)
        factor = factor[:, 0]  # a view: the whole of it stays
        return quantized.flatten().to(torch.int8), factor.view(count), mean

    def quantized(self, weight: torch.Tensor) -> torch.Tensor:
        flat = weight.flatten()
        blocks = flat.view(flat.numel() // self.BLOCK, self.BLOCK)
        scales = self.absmax(weight.flatten(), self.BLOCK).unsqueeze(-1).expand(blocks.shape)
        scaled = blocks / scales
        indices = self.nearest(scaled.flatten())
        combined = indices[::2] << 4 | indices[1::2]
        return combined.to(torch.uint8)

    def nearest(self, value: torch.Tensor) -> torch.Tensor:
        value = value.unsqueeze(-1)
        diff = (value - self.nf4).abs()
        return diff.min(dim=-1).indices

    def original(self) -> torch.Tensor:
        first = (self.data >> 4).to(torch.long)
        second = (self.data & 0b1111).to(torch.long)
        first_values, second_values = self.nf4[first], self.nf4[second]
        scalers = self.scalers.view(-1, self.SCALER_BLOCK) / self.factor.unsqueeze(-1)
        scalers = scalers.flatten().to(BF16) + self.mean
        repeated = scalers.unsqueeze(-1).expand(scalers.size(0), self.BLOCK // 2)
        scaled_first = first_values * repeated.flatten()
        scaled_second = second_values * repeated.flatten()
        scaled_first = scaled_first.unsqueeze(-1).transpose(0, 1)
        scaled_second = scaled_second.unsqueeze(-1).transpose(0, 1)
        return torch.stack([scaled_first, scaled_second], dim=-1).reshape(self.shape)

    def __deepcopy__(self, memo: object) -> NF4:
        """torchtune's clone (utils/_register_nf4_dispatch_ops.py) goes through the original weight."""
        return NF4(self.original())


class LoRALinear(nn.Module):
    def __init__(self, into: int, out: int, rank: int, *, quantized: bool) -> None:
        super().__init__()
        linear = nn.Linear(into, out, bias=False)
        if quantized:
            self.weight = NF4(linear.weight)
        else:
            self.register_parameter("weight", linear.weight)
        del linear
        self.lora_a = nn.Linear(into, rank, bias=False)
        self.lora_b = nn.Linear(rank, out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.linear(x, self.weight)
        return out + 2.0 * self.lora_b(self.lora_a(x))


def linear(config: Config, name: str, into: int, out: int) -> nn.Module:
    if name not in config.adapted:
        return nn.Linear(into, out, bias=False)
    return LoRALinear(into, out, config.rank, quantized=config.quantized)


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_fp32 = x.float()
        x_normed = (x_fp32 * torch.rsqrt(x_fp32.pow(2).mean(-1, keepdim=True) + 1e-5)).type_as(x)
        return x_normed * self.scale


class Rope(nn.Module):
    cache: torch.Tensor

    def __init__(self, head: int, positions: int) -> None:
        super().__init__()
        theta = 1.0 / (500_000 ** (torch.arange(0, head, 2).float() / head))
        self.register_buffer("theta", theta, persistent=False)
        angles = torch.einsum("i, j -> ij", torch.arange(positions, dtype=theta.dtype), theta).float()
        self.register_buffer("cache", torch.stack([torch.cos(angles), torch.sin(angles)], dim=-1), persistent=False)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cache = self.cache[positions]
        xs = x.float().reshape(*x.shape[:-1], -1, 2)
        cache = cache.view(-1, xs.size(1), 1, xs.size(3), 2)
        out = torch.stack(
            [
                xs[..., 0] * cache[..., 0] - xs[..., 1] * cache[..., 1],
                xs[..., 1] * cache[..., 0] + xs[..., 0] * cache[..., 1],
            ],
            -1,
        )
        return out.flatten(3).type_as(x)


class FlexAttention(torch.autograd.Function):
    """flex_attention, which torchtune always compiles: one kernel each way (torch/_inductor/kernel/flex_attention.py).

    Forward keeps queries, keys, values, the output and the log-sum of each row in fp32; backward makes the rows' delta
    and the three gradients. The block mask is a few integers for each 128 x 128 scores.
    """

    @staticmethod
    def forward(ctx, q, k, v):  # type: ignore[no-untyped-def]
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device))
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        q, k, v, _, logsumexp = ctx.saved_tensors
        delta = torch.empty_like(logsumexp)  # noqa: F841  (alive while the gradients are made)
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class Attention(nn.Module):
    def __init__(self, config: Config, rope: Rope) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head = config.heads, config.kv_heads, config.width // config.heads
        width, kv_width = config.width, self.kv_heads * self.head
        self.q_proj = linear(config, "q_proj", width, width)
        self.k_proj = linear(config, "k_proj", width, kv_width)
        self.v_proj = linear(config, "v_proj", width, kv_width)
        self.output_proj = linear(config, "output_proj", width, width)
        self.pos_embeddings = rope

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head)
        q = self.pos_embeddings(q, positions).transpose(1, 2)
        k, v = self.k_proj(x), self.v_proj(x)
        k = k.view(batch, length, -1, self.head)
        v = v.view(batch, length, -1, self.head)
        k = self.pos_embeddings(k, positions).transpose(1, 2)
        v = v.transpose(1, 2)
        shape = (batch, self.kv_heads, self.heads // self.kv_heads, -1, self.head)
        k = k.unsqueeze(2).expand(shape).flatten(1, 2)
        v = v.unsqueeze(2).expand(shape).flatten(1, 2)
        output = FlexAttention.apply(q, k, v)
        return self.output_proj(output.transpose(1, 2).contiguous().view(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.w1 = linear(config, "w1", config.width, config.mlp)
        self.w2 = linear(config, "w2", config.mlp, config.width)
        self.w3 = linear(config, "w3", config.width, config.mlp)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.w1(x))
        h = h * self.w3(x)
        return self.w2(h)


class Layer(nn.Module):
    def __init__(self, config: Config, rope: Rope) -> None:
        super().__init__()
        self.attn = Attention(config, rope)
        self.mlp = FeedForward(config)
        self.sa_norm = RMSNorm(config.width)
        self.mlp_norm = RMSNorm(config.width)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        h = self.sa_norm(x)
        attended = self.attn(h, positions)
        h = attended + x
        return h + self.mlp(self.mlp_norm(h))


class Decoder(nn.Module):
    """TransformerDecoder; `cloned`: as it was in April 2024, every layer a deep copy of a first one."""

    def __init__(self, config: Config, *, cloned: bool = False) -> None:
        super().__init__()
        rope = Rope(config.width // config.heads, config.positions)
        if cloned:
            layer = Layer(config, rope)
            layers = []
        else:
            layers = [Layer(config, rope) for _ in range(config.layers)]
        self.tok_embeddings = nn.Embedding(config.vocabulary, config.width)
        norm = RMSNorm(config.width)
        self.output = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        if cloned:
            layers = [copy.deepcopy(layer) for _ in range(config.layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        h = self.tok_embeddings(tokens)
        for layer in self.layers:
            h = layer(h, positions)
        h = self.norm(h)
        output = F.linear(h, self.tok_embeddings.weight) if self.output is None else self.output(h)
        return output.float()


def setup_model(config: Config, *, cloned: bool = False) -> Decoder:
    """_setup_model: built on the card in bf16; a checkpoint of the host is then copied in, tensor by tensor.

    A quantised weight is replaced: what comes is moved to the card first and quantised there.
    """
    with default_dtype(BF16), torch.device("cuda"):
        model = Decoder(config, cloned=cloned)
    for module in model.modules():
        if isinstance(module, LoRALinear) and config.quantized:
            module.weight = NF4(torch.empty(module.weight.shape, dtype=BF16).to("cuda"))
    return model


def quantized_setup(gpu: tonnage.VirtualGpu) -> Decoder:
    """The checkpoint of the host carries no data."""
    with gpu.host():
        return setup_model(LLAMA_2_7B_QLORA, cloned=True)


def packed(gpu: tonnage.VirtualGpu, count: int) -> Iterable[dict[str, torch.Tensor]]:
    """Batches of two packs of 4096 tokens."""
    for _ in range(count):
        with gpu.host():
            tokens = torch.randint(128_000, (2, 4096))
            yield {"tokens": tokens, "labels": tokens.clone(), "positions": torch.arange(4096).expand(2, -1)}


def train(gpu: tonnage.VirtualGpu) -> None:
    """full_finetune_single_device.

    The optimizer is the fused AdamW of torchtune's configs: with the default one's temporaries no row of the table
    could be below five times the weights, 29.9 GiB.
    """
    model = setup_model(LLAMA_32_3B)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
    optimizer.zero_grad()
    ignored = torch.full((2, 1), -100, device="cuda")
    for batch in packed(gpu, 3):
        for name in list(batch):
            batch[name] = batch[name].to("cuda")
        tokens_seen = (batch["labels"] != -100).sum()
        loss = loss_step(model, batch, ignored) * tokens_seen
        running_loss = 0 + loss  # noqa: F841  (alive until the next step)
        loss.backward()
        for p in model.parameters():
            if p.grad is not None:
                p.grad *= 1 / tokens_seen
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def loss_step(model: Decoder, batch: dict[str, torch.Tensor], ignored: torch.Tensor) -> torch.Tensor:
    labels = batch.pop("labels")
    logits = model(**batch)
    labels = torch.hstack((labels[..., 1:], ignored)).reshape(-1)
    logits = logits.reshape(-1, logits.size(-1))
    loss = F.cross_entropy(logits, labels)
    del logits
    return loss


def active_peak() -> int:
    return int(torch.cuda.memory_stats()["active_bytes.all.peak"])


COMPILED = "the step is compiled, and what a compiled step holds at its peak is not known to the virtual GPU"
UNPACKED = "batches of Alpaca as they come: the longest of them, on which the peak hangs, is not published"
NOT_RUN = {"tune-3b-0": UNPACKED, **{f"tune-3b-{n}": COMPILED for n in range(2, 10)}}


def run(row: Row) -> Predicted:
    if row.id in NOT_RUN:
        raise NotRun(NOT_RUN[row.id])
    reserved = row.tier == "reserved"
    scripts: dict[str, tuple[str, Callable[[tonnage.VirtualGpu], object]]] = {
        "tune-3b-1": ("2.5.1", train),
        "tune-3b-lora-init": ("2.5.1", lambda gpu: setup_model(LLAMA_32_3B_LORA)),
        "tune-init-lora7b": ("2.2.2", lambda gpu: setup_model(LLAMA_2_7B_LORA, cloned=True)),
        "tune-init-lora7b-res": ("2.2.2", lambda gpu: setup_model(LLAMA_2_7B_LORA, cloned=True)),
        "tune-init-qlora7b": ("2.2.2", quantized_setup),
    }
    version, script = scripts[row.id]
    with tonnage.virtual_gpu("A100", torch_version=version) as gpu:
        alive = script(gpu)  # noqa: F841
        if reserved:
            return predicted(gpu, reserved=torch.cuda.max_memory_reserved())
        return predicted(gpu, allocated=active_peak())
