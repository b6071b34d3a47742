"""The groups of published measurements: which script runs them, what is asked of them, and which rows CI runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.truth.rows import NotRun, Predicted, Row, rows_of


@dataclass(frozen=True)
class Group:
    """`median`, `p90` and `worst` are the largest absolute errors asked for, as fractions; CI runs the rows of `quick`.

    `script` is a module of `benchmarks.truth.scripts` with `run(row) -> Predicted`; without one, `why` says why none
    of the group can be run.
    """

    name: str
    title: str
    script: str = ""
    why: str = ""
    median: float | None = None
    p90: float | None = None
    worst: float | None = None
    quick: tuple[str, ...] = ()

    @property
    def aims(self) -> dict[str, float]:
        """What is asked of the group, by name."""
        asked = {"median": self.median, "p90": self.p90, "worst": self.worst}
        return {name: aim for name, aim in asked.items() if aim is not None}

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.name)

    def run(self, row: Row) -> Predicted:
        if not self.script:
            raise NotRun(self.why)
        run: Callable[[Row], Predicted] = import_module(f"benchmarks.truth.scripts.{self.script}").run
        return run(row)


def _all(group: str) -> tuple[str, ...]:
    return tuple(row.id for row in rows_of(group))


GROUPS = {
    group.name: group
    for group in (
        Group(
            "liger_eager",
            "PyTorch's own kernels beside Liger-Kernel's",
            "liger",
            worst=0.001,
            quick=tuple(row.id for row in rows_of("liger_eager") if "fused_linear" not in row.id or "BT4096" in row.id),
        ),
        Group(
            "pytorch_issue",
            "scripts in PyTorch issues",
            "pytorch_issue",
            worst=0.001,
            quick=_all("pytorch_issue"),
        ),
        Group(
            "hf_trainer_init",
            "weights of transformers on the card",
            "hf_trainer_init",
            worst=0.001,
            quick=_all("hf_trainer_init"),
        ),
        Group(
            "hf_sdpa_tables",
            "training steps of transformers, eager attention and sdpa",
            "hf_sdpa_tables",
            median=0.007,
            worst=0.02,
            quick=tuple(row.id for row in rows_of("hf_sdpa_tables") if "bertbase" in row.id),
        ),
        Group(
            "nanovlm",
            "nanoVLM's measure_vram.py",
            "nanovlm",
            median=0.015,
            worst=0.04,
            quick=("nanovlm-june-bload", "nanovlm-june-b1"),
        ),
        Group(
            "memlab",
            "pytorch_memlab's README",
            "memlab",
            median=0.05,
            worst=0.05,
            quick=("memlab-linear-bwd", "memlab-lstm-bwd"),
        ),
        Group(
            "bert_large_anatomy",
            "BERT-large under transformers' Trainer",
            "bert_large_anatomy",
            median=0.05,
            worst=0.05,
            quick=("bertlarge-ctx", "bertlarge-load"),
        ),
        Group(
            "torchtune",
            "torchtune's single-device recipes",
            "torchtune",
            median=0.05,
            worst=0.05,
            quick=("tune-3b-lora-init", "tune-init-lora7b"),
        ),
        Group(
            "litgpt",
            "litgpt's finetuning configs",
            "litgpt",
            median=0.05,
            worst=0.05,
            quick=("litgpt-stablelm-base-alpha-3b-lora", "litgpt-tiny-llama-lora"),
        ),
        Group(
            "peft",
            "PEFT's image-generation benchmark",
            why="diffusers, whose FLUX.2 transformer these rows train, is not installed where the project is run",
        ),
        Group(
            "torchtitan",
            "torchtitan on 8 GPUs and more",
            why="sharded over several GPUs (FSDP2): the virtual GPU is one card, and collectives are not modelled",
        ),
        Group(
            "optimum_benchmark_llama2",
            "Llama-2-7b, prefill and generate, by optimum-benchmark",
            "optimum_benchmark_llama2",
            median=0.015,
            worst=0.04,
            quick=("ob-7b-eager-B1-forward-alloc", "ob-7b-eager-B1-forward-res", "ob-7b-sdpa-B16-forward-alloc"),
        ),
        Group(
            "t4_amp_training",
            "training steps under autocast on a T4",
            "t4_amp_training",
            worst=0.02,
            quick=_all("t4_amp_training"),
        ),
        Group("hf_docs", "OctoCoder in transformers' documentation", "hf_docs", median=0.01),
        Group(
            "xmem_nvml",
            "fp32 training as NVML saw it, less its first sample",
            "xmem_nvml",
            median=0.015,
            p90=0.05,
            quick=("xmem-T5-small-AdamW-b7-3060", "xmem-MobileNetV2-AdamW-b415-4060"),
        ),
        Group("timm_bracket", "the batch sizes that timm's benchmark fits on an RTX 3090", "timm_bracket"),
    )
}
