"""Copies of live modules: same structure and sharing, no data, nothing of the original inside."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tonnage.errors import SubjectFailed
from tonnage.workload.dataless import copy_dataless, differences
from tonnage.workload.standins import KEPT_ELEMENTS

LARGE = (KEPT_ELEMENTS // 64 + 1, 64)


class Reads(TorchDispatchMode):
    """Notes every operator that is given a tensor on the storage of `watched`."""

    def __init__(self, watched: torch.Tensor) -> None:
        super().__init__()
        self.storage = watched.untyped_storage()._cdata
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata == self.storage:
                self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def holder(**tensors: torch.Tensor) -> nn.Module:
    module = nn.Module()
    for name, tensor in tensors.items():
        setattr(module, name, tensor)
    return module


def test_large_tensors_are_not_read():
    module = nn.Linear(*LARGE)
    with Reads(module.weight) as reads:
        copied = copy_dataless(module)
    assert reads.seen == []
    assert copied.weight.shape == module.weight.shape
    assert copied.weight.data_ptr() != module.weight.data_ptr()


def test_small_tensors_keep_their_values():
    module = nn.Module()
    module.register_buffer("steps", torch.arange(KEPT_ELEMENTS))
    module.scale = nn.Parameter(torch.tensor(0.25))
    copied = copy_dataless(module)
    assert torch.equal(copied.steps, module.steps)
    assert copied.scale.item() == 0.25


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(3, 4).t(),
        torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.empty(8)[::2],
        torch.empty(1, 4).expand(3, 4),
        torch.empty(0, 4),
        torch.empty(()),
        torch.empty(4, dtype=torch.bfloat16),
        torch.empty(4, dtype=torch.complex64),
        torch.empty(*LARGE).t(),
        torch.empty(1, 64).expand(*LARGE),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} {tensor.dtype}",
)
def test_shape_stride_and_type_are_kept(tensor):
    copied = copy_dataless(holder(a=tensor)).a
    assert (copied.shape, copied.stride(), copied.dtype) == (tensor.shape, tensor.stride(), tensor.dtype)


def test_tied_parameters_stay_one():
    module = nn.Sequential(nn.Embedding(300, 64), nn.Linear(64, 300, bias=False))
    module[1].weight = module[0].weight
    copied = copy_dataless(module)
    assert copied[1].weight is copied[0].weight


@pytest.mark.parametrize("rows", [4, 400])
def test_views_share_their_storage_again(rows):
    base = torch.arange(rows * 64.0).view(rows, 64)
    copied = copy_dataless(holder(base=base, half=base[rows // 2 :], bits=base.view(torch.int32)))
    storages = {copied.base.untyped_storage()._cdata, copied.half.untyped_storage()._cdata}
    assert storages == {copied.bits.untyped_storage()._cdata}
    assert copied.half.storage_offset() == rows // 2 * 64
    copied.base.fill_(1.0)
    assert copied.half.eq(1.0).all() and copied.bits.eq(0x3F800000).all()
    assert base[1, 1] == 65.0


def test_gradients_and_graphs_are_left_behind():
    module = nn.Linear(4, 4)
    module(torch.ones(4)).sum().backward()
    module.last = module(torch.ones(4))
    copied = copy_dataless(module)
    assert copied.weight.grad is None and copied.weight.requires_grad
    assert copied.last.grad_fn is None and not copied.last.requires_grad


def test_frozen_parameters_stay_frozen():
    copied = copy_dataless(nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)))
    assert [p.requires_grad for p in copied.parameters()] == [False, False, True, True]


def test_attributes_of_parameters_come_along():
    module = nn.Linear(4, 4)
    module.weight.no_weight_decay = True
    assert copy_dataless(module).weight.no_weight_decay


def test_parametrised_weights_are_computed_from_the_copy():
    module = parametrizations.weight_norm(nn.Linear(2, 2, bias=False))
    copied = copy_dataless(module)
    with torch.no_grad():
        copied.parametrizations.weight.original0.fill_(0.0)
    assert copied.weight.eq(0).all()
    assert not module.weight.eq(0).all()


def test_a_module_on_meta():
    module = nn.Linear(2, 2, device="meta")
    copied = copy_dataless(module)
    assert copied.weight.device.type == "cpu"
    assert differences(module) == ("2 small tensors on the meta device have no values; zeros taken",)


def test_a_lazy_module_stays_lazy():
    copied = copy_dataless(nn.LazyLinear(3))
    assert copied(torch.ones(2, 5)).shape == (2, 3)


def test_recurrent_layers_run():
    assert copy_dataless(nn.LSTM(4, 5))(torch.ones(3, 2, 4))[0].shape == (3, 2, 5)


class Closes(nn.Module):
    """Functions that hold on to the module they are in."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.called = 0
        if how == "lambda":
            self.act = lambda x: self.count() * x
        elif how == "partial":
            self.act = partial(lambda owner, x: owner.count() * x, self)
        elif how == "wrapped":
            inner = self.times
            self.act = lambda x: inner(x)
        elif how == "nested":
            inner = lambda x: self.count() * x  # noqa: E731
            self.act = lambda x: inner(x)
        else:
            self.acts = [lambda x: self.count() * x]

    def count(self) -> torch.Tensor:
        self.called += 1
        return self.scale

    def times(self, x: torch.Tensor) -> torch.Tensor:
        return self.count() * x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


@pytest.mark.parametrize("how", ["lambda", "partial", "wrapped", "nested"])
def test_functions_that_hold_the_module_hold_the_copy(how):
    module = Closes(how)
    copied = copy_dataless(module)
    with torch.no_grad():
        copied.scale.fill_(5.0)
    assert copied(torch.tensor(3.0)).item() == 15.0
    assert (copied.called, module.called) == (1, 0)
    assert module(torch.tensor(3.0)).item() == 6.0


def test_a_function_out_of_reach_is_refused():
    with pytest.raises(SubjectFailed, match="holds on to the live module") as caught:
        copy_dataless(Closes("list"))
    assert "path/file.py:build" in caught.value.hint


def test_what_cannot_be_copied_is_said():
    module = nn.Linear(2, 2)
    module.lock = threading.Lock()
    with pytest.raises(SubjectFailed, match=r"Linear cannot be copied.*lock") as caught:
        copy_dataless(module)
    assert "path/file.py:build" in caught.value.hint


class Recorder:
    """A hook that is an object: it can be copied, and with it what it writes to."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, module, args, output) -> None:
        self.seen.append(tuple(output.shape))


class HooksItself(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 3)
        self.heard = 0
        self.register_forward_hook(self.hear)

    def hear(self, module, args, output) -> None:
        self.heard += 1


def test_hooks_that_are_objects_are_copied():
    module, hook = nn.Linear(2, 3), Recorder()
    module.register_forward_hook(hook)
    copied = copy_dataless(module)
    copied(torch.ones(4, 2))
    assert hook.seen == []
    assert [h.seen for h in copied._forward_hooks.values()] == [[(4, 3)]]
    assert differences(module) == ()


def test_hooks_that_are_methods_of_the_module_run_on_the_copy():
    module = HooksItself()
    copied = copy_dataless(module)
    copied(torch.ones(4, 2))
    assert (copied.heard, module.heard) == (1, 0)


def test_hooks_that_are_functions_or_methods_of_others_do_not_run():
    module, elsewhere = nn.Linear(2, 3), []
    module.register_forward_hook(lambda *_: elsewhere.append("lambda"))
    module.register_forward_hook(partial(elsewhere.append))
    module.register_forward_pre_hook(HooksItself().hear)
    module.weight.register_post_accumulate_grad_hook(elsewhere.append)
    copied = copy_dataless(module)
    copied(torch.ones(4, 2)).sum().backward()
    assert elsewhere == []
    assert len(differences(module)) == 4


def test_a_compiled_module_is_weighed_uncompiled():
    from tonnage.workload.modules import from_module

    module = torch.compile(nn.Linear(2, 3))
    workload = from_module(module)
    assert workload.class_name == "Linear"
    assert workload.guesses == ("compiled module: run uncompiled",)
