"""The stages wired together, on models whose numbers are derived by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tonnage
from tonnage.errors import BadOption, SubjectFailed, UnknownCard
from tonnage.ledger import Kind

MiB = 2**20


def linear() -> nn.Linear:
    """2 MiB of weights in one block: 512 * 1024 elements of 4 B."""
    return nn.Linear(1024, 512, bias=False)


def test_a_live_module_and_its_inputs():
    report = tonnage.weigh(linear(), inputs=((torch.zeros(256, 1024),), {}), gpu="T4")
    categories = report.memory.peak.by_category
    assert categories["parameter"] == 2 * MiB
    assert categories["input"] == 1 * MiB  # 256 * 1024 * 4
    assert report.parameters.total == 512 * 1024
    assert [(i.shape, i.origin) for i in report.inputs] == [((256, 1024), "given")]
    assert report.card == "T4" and report.verdict.answer == "fits"


def test_a_step_of_sgd_with_momentum():
    report = tonnage.weigh(
        linear(), inputs=((torch.zeros(256, 1024),), {}), mode="training", optimizer="momentum", gpu="T4"
    )
    # the buffer of the momentum is as large as the weight; so is the gradient, where it is alive
    categories = report.memory.peak.by_category
    assert categories["parameter"] == categories["optimizer"] == 2 * MiB
    assert categories["gradient"] in (0, 2 * MiB)


def test_bf16_halves_the_weights():
    report = tonnage.weigh(linear(), precision="bf16", gpu="A100")
    assert report.parameters.bytes_by_dtype == {"bfloat16": 1 * MiB}
    assert report.memory.peak.by_category["parameter"] == 1 * MiB


def test_a_report_knows_its_recording():
    report = tonnage.weigh(linear(), gpu="T4")
    recording = report.recording
    recording.check()
    assert recording.environment == report.environment
    assert Kind.ALLOC in recording.ledger.kinds
    assert tonnage.Report.from_json(report.to_json()).recording is None


def test_without_a_card_nothing_is_judged_and_it_says_so():
    report = tonnage.weigh(linear())
    assert report.card is None and report.verdict is None
    assert report.environment.device == "A100-SXM4-80GB"
    assert "no card was named" in report.assumptions[0].what


@pytest.mark.parametrize("memory", [64 * MiB, "64MiB"])
def test_the_memory_of_the_card_can_be_given(memory):
    report = tonnage.weigh(linear(), gpu="T4", gpu_memory=memory)
    assert report.verdict.total_bytes == report.environment.total_memory == 64 * MiB
    assert report.verdict.answer == "does not fit"  # the context alone takes more
    assert report.memory.peak.by_category["parameter"] == 2 * MiB  # what it would take is shown all the same


def test_settings_of_the_allocator_reach_it():
    usual = tonnage.weigh(linear(), gpu="T4").memory.peak
    expandable = tonnage.weigh(linear(), gpu="T4", alloc_conf="expandable_segments:True").memory.peak
    assert expandable.allocated_bytes == usual.allocated_bytes
    # segments grow by 2 and 20 MiB as they are needed and never hold less than what is allocated
    assert expandable.reserved_bytes >= expandable.allocated_bytes
    assert tonnage.weigh(linear(), gpu="T4", alloc_conf="expandable_segments:True").environment.alloc_conf


def test_a_fraction_of_the_memory_limits_the_verdict():
    report = tonnage.weigh(linear(), gpu="T4", alloc_conf="per_process_memory_fraction:0.0001")
    assert report.verdict.answer == "does not fit"  # 1.5 MiB for 2 MiB of weights
    assert report.verdict.runs_out


def test_stages_are_told_in_order():
    stages = []
    tonnage.weigh(linear(), gpu="T4", progress=stages.append)
    assert stages[0] == "looking for the model"
    assert stages[-1] == "replaying the allocator"
    assert stages.index("start") < stages.index("forward done")


@pytest.mark.parametrize(
    "options, error",
    [
        ({"batch": 0}, BadOption),
        ({"gpu": "RTX 3061"}, UnknownCard),
        ({"gpu_memory": 1}, BadOption),
        ({"gpu": "T4", "gpu_memory": -1}, BadOption),
        ({"inputs": "x"}, BadOption),
        ({"inputs": ((torch.zeros(1, 3),), {})}, SubjectFailed),
    ],
)
def test_what_makes_no_sense(options, error):
    with pytest.raises(error) as caught:
        tonnage.weigh(linear(), **options)
    assert caught.value.hint


def test_a_report_knows_the_structure_of_what_was_weighed():
    """Two layers of 3 x 4 + 4 and 4 x 2 + 2 parameters, 5 rows through each."""
    report = tonnage.weigh(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), inputs=((torch.zeros(5, 3),), {}))
    assert [(node.path, node.parameters, node.macs) for node in report.structure.root.children] == [
        ("0", 16, 60),
        ("1", 10, 40),
    ]
    assert tonnage.Report.from_json(report.to_json()).structure is None


def test_the_cpu_has_no_segments_and_no_verdict():
    report = tonnage.weigh(linear(), inputs=((torch.zeros(256, 1024),), {}), gpu="cpu")
    peak = report.memory.peak
    # 2 MiB of weights, 1 MiB of input, and 256 * 512 * 4 B of output: no workspace, nothing rounded
    assert peak.allocated_bytes == peak.reserved_bytes == 3 * MiB + MiB // 2
    assert peak.by_category["rounding"] == peak.by_category["workspace"] == 0
    assert (peak.allocated_known, peak.process_known) == ("exact", "assumed")
    assert report.card == "CPU" and report.verdict is None
    assert report.compute.macs == 256 * 1024 * 512
    assert "kernels take inside themselves" in report.not_counted[0].what


@pytest.mark.parametrize(("memory", "answer"), [("4GiB", "fits"), ("512MiB", "tight"), (64 * MiB, "does not fit")])
def test_the_cpu_has_a_verdict_where_its_memory_is_named(memory, answer):
    """The process is taken to hold 150 MiB to 1 GiB besides its tensors."""
    report = tonnage.weigh(linear(), inputs=((torch.zeros(256, 1024),), {}), gpu="CPU", gpu_memory=memory)
    assert report.verdict.answer == answer
    assert bool(report.verdict.runs_out) == (not report.verdict.fits)


@pytest.mark.parametrize("option", [{"torch_version": "2.6.0"}, {"alloc_conf": "expandable_segments:True"}], ids=str)
def test_what_means_nothing_on_a_cpu(option):
    with pytest.raises(BadOption, match="has no effect on the CPU"):
        tonnage.weigh(linear(), gpu="cpu", **option)
