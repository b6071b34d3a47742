"""The groups of published measurements: which script runs them, what is asked of them, and which rows CI runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.truth.rows import NotRun, Predicted, Row, rows_of


@dataclass(frozen=True)
class Group:
    """`median` and `worst` are the largest absolute errors asked for, as fractions, and `quick` the rows CI runs.

    `script` is a module of `benchmarks.truth.scripts` with `run(row) -> Predicted`; without one, `why` says why none
    of the group can be run.
    """

    name: str
    title: str
    script: str = ""
    why: str = ""
    median: float | None = None
    worst: float | None = None
    quick: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.name)

    def run(self, row: Row) -> Predicted:
        if not self.script:
            raise NotRun(self.why)
        run: Callable[[Row], Predicted] = import_module(f"benchmarks.truth.scripts.{self.script}").run
        return run(row)


GROUPS = {
    group.name: group
    for group in (
        Group("liger_eager", "PyTorch's own kernels beside Liger-Kernel's", "liger", worst=0.001),
        Group("pytorch_issue", "scripts in PyTorch issues", "pytorch_issue", worst=0.001),
        Group("hf_trainer_init", "weights of transformers on the card", "hf_trainer_init", worst=0.001),
        Group(
            "xmem_nvml",
            "fp32 training as NVML saw it, less the context",
            "xmem_nvml",
            median=0.015,
            worst=0.05,
            quick=("xmem-T5-small-AdamW-b7-3060", "xmem-MobileNetV2-AdamW-b415-4060"),
        ),
        Group("timm_bracket", "the batch sizes that timm's benchmark fits on an RTX 3090", "timm_bracket"),
        Group(
            "t4_amp_training",
            "fp16 autocast training on a T4",
            "t4_amp_training",
            worst=0.02,
            quick=("t4-distilbert-base-uncased-b4-128", "t4-bert-base-uncased-b4-128"),
        ),
    )
}
