"""Whole models: three inferences, or three training steps. Those whose library is missing fail, and say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.truth.recorded.cases import Case, Mark
from tonnage.workload.libraries import load

STEPS = 3
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}
_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model and what is done with it.

    `optimizer` makes it training. `autocast` and `dtype` are "bf16" or "fp16"; `attention` as transformers calls it.
    """

    model: str
    batch: int
    seq: int | None = None
    optimizer: str = ""
    autocast: str = ""
    dtype: str = ""
    attention: str = ""
    checkpointing: bool = False
    cudnn_benchmark: bool = False
    channels_last: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        parts = [self.model, "train" if self.optimizer else "infer", f"b{self.batch}"]
        parts += [f"s{self.seq}"] if self.seq else []
        parts += [part for part in (self.optimizer, self.dtype, self.attention) if part]
        parts += [f"amp-{self.autocast}"] if self.autocast else []
        return "_".join(parts + [name for name in _FLAGS if getattr(self, name)])


_FLAGS = ("checkpointing", "cudnn_benchmark", "channels_last")


def cases() -> Iterator[Case]:
    for run in (*_transformers(), *_torchvision()):
        said = {key: value for key, value in asdict(run).items() if value}
        yield Case(run.name, "models", lambda mark, run=run: _run(run, mark), said)


def _transformers() -> Iterator[Run]:
    t5, bert, gpt2, llama = "T5ForConditionalGeneration", "BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM"
    for batch, seq in ((1, 64), (8, 64), (8, 256)):
        yield Run(model=t5, batch=batch, seq=seq)
    for batch, seq in ((8, 64), (4, 128)):
        yield Run(model=t5, batch=batch, seq=seq, optimizer="AdamW")
    for attention in ("eager", "sdpa"):
        for autocast in ("", "bf16", "fp16"):
            yield Run(model=bert, batch=8, seq=128, optimizer="AdamW", autocast=autocast, attention=attention)
    yield Run(model="BertModel", batch=8, seq=512)
    yield Run(model="BertForSequenceClassification", batch=16, seq=256, optimizer="SGD")
    yield Run(model=gpt2, batch=4, seq=512, optimizer="AdamW", autocast="bf16")
    yield Run(model=gpt2, batch=4, seq=512, optimizer="AdamW", checkpointing=True)
    yield Run(model=llama, batch=2, seq=1024, optimizer="AdamW", dtype="bf16", config=_LLAMA)
    yield Run(model=llama, batch=2, seq=1024, dtype="bf16", config=_LLAMA)
    yield Run(model="DistilBertForMaskedLM", batch=8, seq=256, optimizer="Adam", dtype="fp16")


def _torchvision() -> Iterator[Run]:
    for model in ("vgg16", "resnet50", "vit_b_16", "mobilenet_v3_large", "swin_t", "convnext_tiny"):
        for batch in (1, 32):
            yield Run(model=model, batch=batch)
        yield Run(model=model, batch=16, optimizer="SGD")
        yield Run(model=model, batch=16, optimizer="AdamW", autocast="fp16")
    yield Run(model="resnet50", batch=16, optimizer="SGD", cudnn_benchmark=True)
    yield Run(model="resnet50", batch=16, optimizer="SGD", channels_last=True)


def _run(run: Run, mark: Mark) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = run.cudnn_benchmark
    model, words = _built(run)
    mark("model")
    model.train(bool(run.optimizer))
    optimizer = _OPTIMIZERS[run.optimizer](model.parameters()) if run.optimizer else None
    for step in range(STEPS):
        args, kwargs = _inputs(run, words)
        mark(f"inputs {step}")
        if optimizer is None:
            with torch.no_grad():
                out = model(*args, **kwargs)
            mark(f"forward {step}")
            del out
            continue
        _training_step(run, model, optimizer, args, kwargs, lambda name, step=step: mark(f"{name} {step}"))


def _training_step(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any, mark: Mark
) -> None:
    with _autocast(run):
        out = model(*args, **kwargs)
        loss = out.loss if run.seq else F.cross_entropy(out, torch.randint(0, 1000, (run.batch,), device="cuda"))
    mark("forward")
    del out
    loss.backward()
    mark("backward")
    optimizer.step()
    mark("step")
    optimizer.zero_grad()
    mark("zeroed")


def _autocast(run: Run) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", dtype=_DTYPES[run.autocast]) if run.autocast else nullcontext()


def _built(run: Run) -> tuple[nn.Module, int]:
    """The model on the card, and the size of its vocabulary (0 for images)."""
    model, words = _of_transformers(run) if run.seq else _of_torchvision(run)
    if run.dtype:
        model = model.to(_DTYPES[run.dtype])
    if run.checkpointing:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    model = model.cuda()
    return model.to(memory_format=torch.channels_last) if run.channels_last else model, words  # type: ignore[call-overload]


def _of_transformers(run: Run) -> tuple[nn.Module, int]:
    transformers = load("transformers")
    kind = getattr(transformers, run.model)
    config = kind.config_class(**run.config)
    if run.attention:
        config._attn_implementation = run.attention
    return kind(config), config.vocab_size


def _of_torchvision(run: Run) -> tuple[nn.Module, int]:
    return getattr(load("torchvision").models, run.model)(), 0


def _inputs(run: Run, words: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if run.seq is None:
        images = torch.randn(run.batch, 3, 224, 224, device="cuda")
        return (images.to(memory_format=torch.channels_last) if run.channels_last else images,), {}
    shape = (run.batch, run.seq)
    ids = torch.randint(0, words, shape, device="cuda")
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if run.model.startswith("T5"):
        given["decoder_input_ids"] = (
            torch.randint(0, words, shape, device="cuda")
            if run.optimizer
            else torch.zeros((run.batch, 1), dtype=torch.long, device="cuda")
        )
    if run.optimizer:
        classes = "Classification" in run.model
        given["labels"] = torch.randint(0, 2 if classes else words, shape[:1] if classes else shape, device="cuda")
    return (), given
