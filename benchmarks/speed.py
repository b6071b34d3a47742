"""How fast a step is recorded, beside what it is compared with, in one run.

    python benchmarks/speed.py              all of it, some minutes
    python benchmarks/speed.py bert show    parts by name

bert     a BERT-base training step (batch 8, seq 128, AdamW) on the virtual GPU, recorded with the allocator live,
         against the same step on the `meta` device unrecorded
rules    the BERT step and one of ResNet-50 recorded with CUDA's habits, against recorded without any: no scratch of
         kernels, and no layer in front of autograd
tracker  BERT-base and GPT-2 training steps against torch's own MemTracker under FakeTensorMode
llama    two Llama-3-70B bf16 training steps: wall seconds and the most resident memory of the process
show     `tonnage show` of a saved report, as a whole process

Steps of the two sides alternate, so a machine whose speed drifts moves both. Each figure is the median with the
smallest and the largest of the runs; ratios are taken pair by pair.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import tonnage
from tonnage.workload.libraries import load

transformers = load("transformers")
PAIRS = 9
Step = Callable[[], object]


def bert() -> torch.nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig())


def gpt2() -> torch.nn.Module:
    return transformers.GPT2LMHeadModel(transformers.GPT2Config())


def llama_70b() -> torch.nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_theta=500000.0,
    )
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


def trainer(model: torch.nn.Module, device: str, batch: int = 8, seq: int = 128) -> Step:
    """A function that makes one training step."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    ids = torch.zeros(batch, seq, dtype=torch.int64, device=device)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def against(name: str, ours: list[float], theirs: list[float], other: str, *, faster: bool) -> None:
    ratios = [b / a if faster else a / b for a, b in zip(ours, theirs, strict=True)]
    word = "times faster than" if faster else "times"
    print(f"{name}: tonnage {spread(ours)} s, {other} {spread(theirs)} s: {spread(ratios)} {word} {other}")


def recorded_and_bare() -> None:
    with torch.device("meta"):
        bare = trainer(bert(), "meta")
    ours, theirs = [], []
    with tonnage.virtual_gpu("A100") as gpu:
        with gpu.host():
            model = bert()
        recorded = trainer(model.cuda(), "cuda")
        for _ in range(2):
            recorded()
        for _ in range(PAIRS):
            ours.append(timed(recorded))
            with paused():
                theirs.append(timed(bare))
    against("BERT-base training step", ours, theirs, "the same step on meta, unrecorded", faster=False)


def with_rules_and_without() -> None:
    for name, make in (("BERT-base", lambda: trainer(bert().cuda(), "cuda")), ("ResNet-50", lambda: image_trainer())):
        ours, theirs = [], []
        with tonnage.virtual_gpu("A100") as gpu:
            with gpu.host():
                step = make()
            for _ in range(2):
                step()
            with no_rules(gpu):
                step()
            for _ in range(PAIRS):
                ours.append(timed(step))
                with no_rules(gpu):
                    theirs.append(timed(step))
        against(f"{name} training step with rules", ours, theirs, "the plain recorder", faster=False)


def image_trainer(batch: int = 32) -> Step:
    model = load("torchvision").models.resnet50().cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.zeros(batch, 3, 224, 224, device="cuda")

    def step() -> None:
        model(images).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@contextmanager
def no_rules(gpu: Any) -> Iterator[None]:
    """A block in which kernels take nothing for themselves and operators skip the layer in front of autograd."""
    from tonnage.virtual.layer import behind

    recorder = gpu.recorder
    plans, recorder._plans = recorder._plans, PLAIN
    PLAIN.update({func: plan._replace(early=None, scratch=None) for func, plan in {**PLAIN, **plans}.items()})
    try:
        with behind():
            yield
    finally:
        recorder._plans = plans


PLAIN: dict[Any, Any] = {}
"""The recorder's plans without rules."""


@contextmanager
def paused() -> Iterator[None]:
    """A block as outside of the virtual GPU."""
    from tonnage.virtual import _entered

    gpu = _entered[-1]
    gpu.leave()
    try:
        yield
    finally:
        gpu.enter()


def tracked(make: Callable[[], torch.nn.Module]) -> list[float]:
    """Seconds of each training step under torch's MemTracker and FakeTensorMode, the first left out."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    seconds = []
    with FakeTensorMode():
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        ids = torch.zeros(8, 128, dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        with tracker:
            for number in range(4):
                start = time.perf_counter()
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                tracker.reset_mod_stats()
                if number:
                    seconds.append(time.perf_counter() - start)
    return seconds


def beside_the_tracker() -> None:
    for name, make in (("BERT-base", bert), ("GPT-2", gpt2)):
        theirs = tracked(make)
        with tonnage.virtual_gpu("A100") as gpu:
            with gpu.host():
                model = make()
            step = trainer(model.cuda(), "cuda")
            step()
            ours = [timed(step) for _ in theirs]
        against(f"{name} training step", ours, theirs, "MemTracker under FakeTensorMode", faster=True)


def _llama(queue: Any) -> None:
    start = time.perf_counter()
    with tonnage.virtual_gpu("H100", total_memory="4TiB") as gpu:
        with gpu.host():
            model = llama_70b()
        step = trainer(model.cuda(), "cuda", batch=1, seq=2048)
        for _ in range(2):
            step()
        peak = torch.cuda.max_memory_allocated()
    seconds = time.perf_counter() - start
    queue.put((seconds, peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def large_model() -> None:
    results = []
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        queue = context.Queue()
        process = context.Process(target=_llama, args=(queue,))
        process.start()
        results.append(queue.get())
        process.join()
    seconds, peaks, resident = zip(*results, strict=True)
    print(
        f"Llama-3-70B bf16, built and trained for two steps (1 x 2048, AdamW): {spread(list(seconds))} s, "
        f"at most {max(resident) / 2**30:.2f} GiB resident; peak on the card {peaks[0] / 2**30:.1f} GiB"
    )


def show() -> None:
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "bert.tonnage"
        weigh = [sys.executable, "-m", "tonnage", "weigh", "bert-base-uncased", "--gpu", "T4", "--save", str(saved)]
        subprocess.run(weigh, check=True, capture_output=True)
        command = [sys.executable, "-m", "tonnage", "show", str(saved)]
        runs = [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(PAIRS)]
        torch_runs = [
            timed(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True)) for _ in range(PAIRS)
        ]
    against("tonnage show", runs, torch_runs, "`import torch`", faster=True)


PARTS = {
    "bert": recorded_and_bare,
    "rules": with_rules_and_without,
    "tracker": beside_the_tracker,
    "llama": large_model,
    "show": show,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one or more of {', '.join(PARTS)}")
    chosen = parser.parse_args().parts or list(PARTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        for name in chosen:
            PARTS[name]()


if __name__ == "__main__":
    main()
