"""transformers' page "Model training anatomy": BERT-large under the Trainer on a V100, nvidia-smi at the end.

The page was run on 11 January 2022, with the Trainer, the BERT and the optimizers of transformers 4.15: they are
written out here, operator by operator, and so is bitsandbytes' Adam8bit of that time. PyTorch of the day is 1.10. The
128 steps are alike, so a few are run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import tonnage
from benchmarks.truth.rows import Predicted, Row, predicted

CARD, TORCH = "V100-SXM2-16GB", "1.10.1"
UPDATES = 3
VOCABULARY, POSITIONS, WIDTH, LAYERS, HEADS, MLP = 30522, 512, 1024, 24, 16, 4096
LENGTH, DROPOUT, EPS = 512, 0.1, 1e-12


class Embeddings(nn.Module):
    position_ids: torch.Tensor
    token_type_ids: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)
        self.dropout = nn.Dropout(DROPOUT)
        self.register_buffer("position_ids", torch.arange(POSITIONS).expand((1, -1)))
        self.register_buffer("token_type_ids", torch.zeros(1, POSITIONS, dtype=torch.long), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        types = self.token_type_ids[:, : ids.shape[1]].expand(ids.shape)
        x = self.word_embeddings(ids) + self.token_type_embeddings(types)
        x += self.position_embeddings(self.position_ids[:, : ids.shape[1]])
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mixed_query = self.query(x)
        key, value = self.heads(self.key(x)), self.heads(self.value(x))
        query = self.heads(mixed_query)
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / math.sqrt(WIDTH // HEADS)
        scores = scores + mask
        probs = F.softmax(scores, dim=-1)
        probs = self.dropout(probs)
        context = torch.matmul(probs, value).permute(0, 2, 1, 3).contiguous()
        return context.view(*x.shape)


class Output(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        x = self.dense(x)
        x = self.dropout(x)
        return self.LayerNorm(x + residual)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = SelfAttention()
        self.attention_output = Output(WIDTH)
        self.intermediate = nn.Linear(WIDTH, MLP)
        self.output = Output(MLP)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        attended = self.attention_output(self.attention(x, mask), x)
        return self.output(F.gelu(self.intermediate(attended)), attended)


class Bert(nn.Module):
    """BertForSequenceClassification of transformers 4.15."""

    def __init__(self, *, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.embeddings = Embeddings()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ones = torch.ones(input_ids.shape, device=input_ids.device)
        mask = ones[:, None, None, :].to(dtype=torch.float32)
        mask = (1.0 - mask) * -10000.0
        x = self.embeddings(input_ids)
        for layer in self.layers:
            x = checkpoint(layer, x, mask, use_reentrant=True) if self.checkpointing else layer(x, mask)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        logits = self.classifier(self.dropout(pooled))
        return F.cross_entropy(logits.view(-1, 2), labels.view(-1)), logits


class AdamW(torch.optim.Optimizer):
    """transformers.AdamW, the Trainer's default of that time (optimization.py of 4.15), one parameter after another."""

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p.data)
            state["exp_avg_sq"] = torch.zeros_like(p.data)
        state["step"] += 1
        state["exp_avg"].mul_(beta1).add_(grad, alpha=1.0 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        denom = state["exp_avg_sq"].sqrt().add_(group["eps"])
        p.data.addcdiv_(state["exp_avg"], denom, value=-group["lr"])


class Adafactor(torch.optim.Optimizer):
    """transformers.Adafactor with the Trainer's scale_parameter=False and relative_step=False."""

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {"lr": 5e-5, "eps": 1e-30, "clip_threshold": 1.0, "decay_rate": -0.8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state, factored = self.state[p], grad.dim() >= 2
        if not state:
            state["step"] = 0
            if factored:
                state["exp_avg_sq_row"] = torch.zeros(grad.shape[:-1]).to(grad)
                state["exp_avg_sq_col"] = torch.zeros(grad.shape[:-2] + grad.shape[-1:]).to(grad)
            else:
                state["exp_avg_sq"] = torch.zeros_like(grad)
            state["RMS"] = 0
        state["step"] += 1
        state["RMS"] = self._rms(p.data)
        beta2t = 1.0 - math.pow(state["step"], group["decay_rate"])
        update = (grad**2) + group["eps"]
        if factored:
            row, column = state["exp_avg_sq_row"], state["exp_avg_sq_col"]
            row.mul_(beta2t).add_(update.mean(dim=-1), alpha=1.0 - beta2t)
            column.mul_(beta2t).add_(update.mean(dim=-2), alpha=1.0 - beta2t)
            r_factor = (row / row.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
            c_factor = column.unsqueeze(-2).rsqrt()
            update = torch.mul(r_factor, c_factor)
            update.mul_(grad)
        else:
            state["exp_avg_sq"].mul_(beta2t).add_(update, alpha=1.0 - beta2t)
            update = state["exp_avg_sq"].rsqrt().mul_(grad)
        update.div_((self._rms(update) / group["clip_threshold"]).clamp_(min=1.0))
        update.mul_(group["lr"])
        p.data.add_(-update)

    @staticmethod
    def _rms(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.norm(2) / (tensor.numel() ** 0.5)


class Adam8bit(torch.optim.Optimizer):
    """bitsandbytes 0.26's Adam8bit (optim/optimizer.py, init_state): two states of one byte, with a maximum for each
    2048 values, and the two quantisation maps of 256 values; tensors of fewer than 4096 elements keep fp32 states. The
    update is one kernel in place."""

    BLOCK, MIN_SIZE = 2048, 4096

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {})
        self.maps: list[torch.Tensor] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not self.state[p]:
                    self._init_state(p)

    def _init_state(self, p: torch.Tensor) -> None:
        state = self.state[p]
        if p.numel() < self.MIN_SIZE:
            state["state1"] = torch.zeros_like(p)
            state["state2"] = torch.zeros_like(p)
            return
        self.maps = self.maps or [torch.zeros(256, device=p.device) for _ in range(2)]
        blocks = -(-p.numel() // self.BLOCK)
        for number in ("1", "2"):
            state["state" + number] = torch.zeros_like(p, dtype=torch.uint8)
            state["absmax" + number] = torch.zeros(blocks, device=p.device)


OPTIMIZERS = {"adafactor": Adafactor, "adam8bit": Adam8bit}


def clip_grad_norm(model: nn.Module) -> None:
    """torch.nn.utils.clip_grad_norm_ of 1.10: a norm for each gradient, one of the norms, and all scaled in place."""
    grads = [p.grad.detach() for p in model.parameters() if p.grad is not None]
    total = torch.norm(torch.stack([torch.norm(g, 2.0) for g in grads]), 2.0)
    factor = torch.clamp(1.0 / (total + 1e-6), max=1.0)
    for grad in grads:
        grad.mul_(factor)


def batches(gpu: tonnage.VirtualGpu, size: int, count: int) -> Iterable[dict[str, torch.Tensor]]:
    for _ in range(count):
        with gpu.host():
            yield {"labels": torch.randint(2, (size,)), "input_ids": torch.randint(100, 30000, (size, LENGTH))}


def train(gpu: tonnage.VirtualGpu, model: nn.Module, optimizer: Any, *, size: int, accumulate: int, fp16: bool) -> None:
    """Trainer.train of 4.15: training_step, clipping at 1.0, the step, and gradients set to zero in place, which is
    what `model.zero_grad()` did before PyTorch 2.0."""
    scaler = torch.amp.GradScaler("cuda", enabled=fp16)
    total = torch.tensor(0.0).to("cuda")
    for number, batch in enumerate(batches(gpu, size, UPDATES * accumulate), start=1):
        model.train()
        inputs = {name: tensor.to("cuda") for name, tensor in batch.items()}
        with torch.autocast("cuda", dtype=torch.float16, enabled=fp16):
            loss = model(**inputs)[0]
        if accumulate > 1:
            loss = loss / accumulate
        scaler.scale(loss).backward()
        total += loss.detach()
        if number % accumulate == 0:
            scaler.unscale_(optimizer)
            clip_grad_norm(model)
            scaler.step(optimizer)
            scaler.update()
            model.zero_grad(set_to_none=False)


def run(row: Row) -> Predicted:
    words = row.id.removeprefix("bertlarge-").split("-")
    with tonnage.virtual_gpu(CARD, torch_version=TORCH) as gpu:
        torch.ones((1, 1)).to("cuda")
        if words == ["ctx"]:
            return predicted(gpu, process=gpu.process_bytes())
        with gpu.host():
            model = Bert(checkpointing="gc" in words)
        model.to("cuda")
        if row["task"].startswith("train"):
            optimizer = OPTIMIZERS.get(words[-1], AdamW)(model.parameters())
            accumulate = 4 if "b1ga4" in words else 1
            train(gpu, model, optimizer, size=row["batch"], accumulate=accumulate, fp16="fp16" in words)
        return predicted(gpu, process=gpu.process_bytes())
