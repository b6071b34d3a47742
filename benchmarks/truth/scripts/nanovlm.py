"""nanoVLM's measure_vram.py: a SigLIP tower, a pixel shuffle and SmolLM2-135M, trained batch by batch size.

The model is the repository's (models/*.py), operator by operator, of June 2025 (91a3b93) or of May (1eed257), when
image and text were joined instead of merged. One model serves all sizes: gradients and logits of one size are alive
when the next begins, so a row runs the sizes before its own too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PATCH = 16
TEXT, TEXT_MLP, TEXT_LAYERS, HEADS, KV_HEADS = 576, 1536, 30, 9, 3
VISION, VISION_LAYERS, VISION_HEADS, SHUFFLE = 768, 12, 12, 2


@dataclass(frozen=True)
class Version:
    """A commit's sizes. `torch` is the newest release of its day, as the rows do not say."""

    torch: str
    image: int
    vocabulary: int
    text: int
    joined: bool

    @property
    def patches(self) -> int:
        return (self.image // PATCH) ** 2

    @property
    def image_tokens(self) -> int:
        return self.patches // SHUFFLE**2


MAY = Version("2.7.0", image=224, vocabulary=49152, text=128 - 49, joined=True)
JUNE = Version("2.7.1", image=256, vocabulary=49153, text=128, joined=False)
IMAGE_TOKEN = 49152


class VisionAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv_proj = nn.Linear(VISION, 3 * VISION)
        self.out_proj = nn.Linear(VISION, VISION)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x.size()
        q, k, v = self.qkv_proj(x).split(width, dim=2)
        q = q.view(batch, patches, VISION_HEADS, -1).transpose(1, 2)
        k = k.view(batch, patches, VISION_HEADS, -1).transpose(1, 2)
        v = v.view(batch, patches, VISION_HEADS, -1).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).contiguous().view(batch, patches, width))


class VisionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(VISION, eps=1e-6)
        self.attn = VisionAttention()
        self.ln2 = nn.LayerNorm(VISION, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(VISION, 4 * VISION), nn.GELU(approximate="tanh"), nn.Linear(4 * VISION, VISION)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class VisionTower(nn.Module):
    def __init__(self, version: Version) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, VISION, kernel_size=PATCH, stride=PATCH, padding="valid")
        self.position_embedding = nn.Parameter(torch.rand(1, version.patches, VISION))
        self.blocks = nn.ModuleList(VisionBlock() for _ in range(VISION_LAYERS))
        self.layer_norm = nn.LayerNorm(VISION, eps=1e-6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv(image).flatten(2).transpose(1, 2)
        x = x + self.position_embedding
        for block in self.blocks:
            x = block(x)
        return self.layer_norm(x)


class Projector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(VISION * SHUFFLE**2, TEXT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x.size()
        side = int(patches**0.5)
        out = side // SHUFFLE
        x = x.view(batch, side, side, width).reshape(batch, out, SHUFFLE, out, SHUFFLE, width)
        x = x.permute(0, 1, 3, 2, 4, 5).contiguous()
        return self.proj(x.reshape(batch, out * out, width * SHUFFLE**2))


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(TEXT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        irms = torch.rsqrt(torch.mean(x**2, dim=-1, keepdim=True) + 1e-5)
        return x * irms * self.weight


class Rotary(nn.Module):
    inv_freq: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        width = TEXT // HEADS
        self.register_buffer("inv_freq", 1.0 / (100000 ** (torch.arange(0, width, 2).float() / width)))

    @torch.no_grad()
    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, length = positions.shape
        assert positions.max() + 1 <= 8192
        freqs = positions.reshape(-1).float().unsqueeze(-1) * self.inv_freq.unsqueeze(0)
        freqs = freqs.reshape(batch, length, -1)
        emb = torch.cat([freqs, freqs], dim=-1)
        return torch.cos(emb) * 1.0, torch.sin(emb) * 1.0


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((-x2, x1), dim=-1)


class TextAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = TEXT // HEADS
        self.q_proj = nn.Linear(TEXT, TEXT, bias=False)
        self.k_proj = nn.Linear(TEXT, self.head * KV_HEADS, bias=False)
        self.v_proj = nn.Linear(TEXT, self.head * KV_HEADS, bias=False)
        self.out_proj = nn.Linear(TEXT, TEXT, bias=False)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch, length, width = x.size()
        q = self.q_proj(x).view(batch, length, HEADS, self.head).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, KV_HEADS, self.head).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, KV_HEADS, self.head).transpose(1, 2)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        q, k = (q * cos) + (rotate_half(q) * sin), (k * cos) + (rotate_half(k) * sin)
        cache = {"key": k, "value": v}
        k_all = k.repeat_interleave(HEADS // KV_HEADS, dim=1)
        v_all = v.repeat_interleave(HEADS // KV_HEADS, dim=1)
        additive = (1.0 - mask[:, :length].unsqueeze(1).unsqueeze(2).float()) * torch.finfo(q.dtype).min
        y = F.scaled_dot_product_attention(q, k_all, v_all, attn_mask=additive, is_causal=True)
        return self.out_proj(y.transpose(1, 2).contiguous().view(batch, length, width)), cache


class TextMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(TEXT, TEXT_MLP, bias=False)
        self.up_proj = nn.Linear(TEXT, TEXT_MLP, bias=False)
        self.down_proj = nn.Linear(TEXT_MLP, TEXT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate_proj(x))
        x = self.up_proj(x)
        return self.down_proj(gate * x)


class TextBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = TextMlp()
        self.attn = TextAttention()
        self.norm1 = RMSNorm()
        self.norm2 = RMSNorm()

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        res = x
        x = self.norm1(x)
        x, cache = self.attn(x, cos, sin, mask)
        x = res + x
        res = x
        x = self.norm2(x)
        x = self.mlp(x)
        x = res + x
        return x, cache


class LanguageModel(nn.Module):
    def __init__(self, version: Version) -> None:
        super().__init__()
        self.keeps_caches = not version.joined  # keys and values came with June, and live until the loss
        self.token_embedding = nn.Embedding(version.vocabulary, TEXT)
        self.rotary_embd = Rotary()
        self.blocks = nn.ModuleList(TextBlock() for _ in range(TEXT_LAYERS))
        self.norm = RMSNorm()
        self.head = nn.Linear(TEXT, version.vocabulary, bias=False)
        self.head.weight = self.token_embedding.weight

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
        batch, length, _ = x.size()
        positions = torch.arange(0, length, device=x.device).unsqueeze(0).expand(batch, -1)
        cos, sin = self.rotary_embd(positions)
        caches = []
        for block in self.blocks:
            x, cache = block(x, cos, sin, mask)
            if self.keeps_caches:
                caches.append(cache)
        return self.norm(x), caches


class NanoVLM(nn.Module):
    def __init__(self, version: Version) -> None:
        super().__init__()
        self.version = version
        self.vision_encoder = VisionTower(version)
        self.decoder = LanguageModel(version)
        self.MP = Projector()

    def merged(self, ids: torch.Tensor, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The image in place of the tokens that stand for it."""
        updated = text.clone()
        start = torch.argmax((ids == IMAGE_TOKEN).int(), dim=1)
        rows = torch.arange(ids.size(0), device=ids.device).unsqueeze(1).expand(-1, image.size(1))
        places = start.unsqueeze(1) + torch.arange(image.size(1), device=ids.device).unsqueeze(0)
        updated[rows, places] = image.to(updated.dtype)
        return updated

    def forward(
        self, ids: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image_embd = self.MP(self.vision_encoder(image))
        token_embd = self.decoder.token_embedding(ids)
        if self.version.joined:
            combined = torch.cat((image_embd, token_embd), dim=1)
            ones = torch.ones(image_embd.shape[:2], device=mask.device, dtype=mask.dtype)
            mask = torch.cat((ones, mask), dim=1)
        else:
            combined = self.merged(ids, token_embd, image_embd)
        logits, _ = self.decoder(combined, mask)
        logits = self.decoder.head(logits)
        if self.version.joined:
            logits = logits[:, image_embd.size(1) :, :]
        loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-100)
        return logits, loss


def batch_of(size: int, version: Version) -> dict[str, torch.Tensor]:
    """What the collator gives: text, all padded or cut to one length; since June behind the tokens of the image."""
    ids = torch.randint(IMAGE_TOKEN, (size, version.text))
    if not version.joined:
        ids[:, : version.image_tokens] = IMAGE_TOKEN
    return {
        "image": torch.rand(size, 3, version.image, version.image),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.clone(),
    }


def measure(gpu: tonnage.VirtualGpu, model: NanoVLM, sizes: tuple[int, ...]) -> None:
    """measure_vram's loop; the names alive from one iteration to the next are its own.

    It asks `"loss" in locals()` and the like before it deletes. Up to Python 3.12, which the README sets up, the dict
    that `locals()` gives stays with the frame until it is asked again, and with it what the dict held last: the
    logits, and the mask. 3.13 gives a new dict each time (PEP 667), so it is written out here.
    """
    for size in sizes:
        torch.cuda.reset_peak_memory_stats()
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        for _ in range(2):
            with gpu.host():
                batch = batch_of(size, model.version)
            images = batch["image"].to("cuda")
            input_ids = batch["input_ids"].to("cuda")
            labels = batch["labels"].to("cuda")
            attention_mask = batch["attention_mask"].to("cuda")
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                logits, loss = model(input_ids, images, attention_mask, labels)
            loss.backward()
            optimizer.step()
        del optimizer, loss, images, input_ids, labels
        frame_locals = {"_": logits, "attention_mask": attention_mask}  # noqa: F841
        del attention_mask
        torch.cuda.empty_cache()


def run(row: Row) -> Predicted:
    version = MAY if "2025-05" in row["source"] else JUNE
    with tonnage.virtual_gpu("H100", torch_version=version.torch) as gpu:
        with gpu.host():
            model = NanoVLM(version)
        model.to("cuda")
        if row["task"] == "load":
            return predicted(gpu, allocated=torch.cuda.memory_allocated())
        measure(gpu, model, SIZES[: SIZES.index(row["batch"]) + 1])
        return predicted(gpu, allocated=torch.cuda.max_memory_allocated())
