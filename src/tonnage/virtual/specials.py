"""Operators that are not simply run: they ask for values, cross to the host, or run in place on CUDA.

Each is given the recorder, the operator and its arguments, and answers NotImplemented where it is run after all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from tonnage.virtual.kernels import accumulation
from tonnage.virtual.same_device import INDEXING

if TYPE_CHECKING:
    from tonnage.virtual.device import VirtualDevice
    from tonnage.virtual.recorder import Recorder

aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)


def _item(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    return recorder.gpu.values.scalar(args[0]) if args[0].is_meta else NotImplemented


def _equal(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    if not any(t.is_meta for t in inputs):
        return NotImplemented
    return args[0].shape == args[1].shape and recorder.gpu.values.equal(*args)


def _allclose(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    return recorder.gpu.values.allclose(args, kwargs) if any(t.is_meta for t in inputs) else NotImplemented


def _masked_fill(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """CUDA takes the value from the host, PyTorch's meta kernel does not."""
    target, mask, value = args
    if value.is_meta or not target.is_meta:
        return NotImplemented
    return recorder.run(func.overloadpacket.Scalar, (target, mask, value.item()), {})


def _to_copy(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """A copy from the card to the host is real; its values are the known ones or zeros."""
    source, device = args[0], kwargs.get("device")
    if device is None or device.type != "cpu" or not source.is_meta:
        return NotImplemented
    known = recorder.gpu.values.asked(source)
    if known is None:
        known = torch.zeros_like(source, device="cpu")
        recorder.gpu.values.assume("a tensor of unknown values was copied to the host: zeros stand in")
    return func(known, **kwargs)


def _copy_into(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """`real.copy_(card)`."""
    target, source = args[:2]
    if target.is_meta or not source.is_meta:
        return NotImplemented
    known = recorder.gpu.values.asked(source)
    if known is None:
        recorder.gpu.values.assume("a tensor of unknown values was copied to the host: zeros stand in")
        return target.zero_()
    return target.copy_(known)


def _data_dependent(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    if not any(t.is_meta for t in inputs):
        return NotImplemented
    made = recorder.gpu.values.data_dependent(func, args, kwargs, inputs)
    return recorder.arrive(func, args, inputs, made)


def _unique(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """ATen/native/cuda/UniqueCub.cu: more is taken than the result shows."""
    if args[0].is_meta:
        recorder.gpu.not_counted("what unique takes", "sorted copies, and results as long as the input at first")
    return _data_dependent(recorder, func, args, kwargs, inputs)


def _positions(recorder: Recorder, mask: torch.Tensor) -> list[torch.Tensor]:
    """The int64 positions that a mask selects, one tensor for each of its dimensions."""
    found = _data_dependent(recorder, aten.nonzero.default, (mask,), {}, [mask])
    if found is NotImplemented:
        found = mask.nonzero()
    return list(found.unbind(1))


def _index(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """Indexing by a mask: CUDA turns the mask into positions first (ATen/native/IndexingUtils.h, expandTensors)."""
    target, indices, *rest = args
    if not target.is_meta or not any(i is not None and i.dtype in _MASKS for i in indices):
        return NotImplemented
    if func in _FILLS and (mask := _fills(target, indices, *rest, **kwargs)) is not None:
        return recorder.run(_FILLS[func], (target, mask, rest[0].item()), {})
    positions: list[torch.Tensor | None] = []
    for index in indices:
        positions += _positions(recorder, index) if index is not None and index.dtype in _MASKS else [index]
    return recorder.run_plainly(func, (target, positions, *rest), kwargs)


def _masked_select(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """An index by the mask (ATen/native/cuda/IndexKernel.cpp, masked_select_out_cuda_impl)."""
    tensor, mask = args
    if not tensor.is_meta:
        return NotImplemented
    shape = torch.broadcast_shapes(tensor.shape, mask.shape) or (1,)
    return recorder.run(aten.index.Tensor, (tensor.expand(shape), [mask.expand(shape)]), {})


_FILLS = {aten.index_put.default: aten.masked_fill.Scalar, aten.index_put_.default: aten.masked_fill_.Scalar}


def _fills(target: torch.Tensor, indices: Any, value: torch.Tensor, accumulate: bool = False) -> torch.Tensor | None:
    """The mask of a `masked_fill` that does the same, which CUDA then runs.

    ATen/native/TensorAdvancedIndexingUtils.h, canDispatchToMaskedFill: one number of the host, one mask.
    """
    given = [index for index in indices if index is not None]
    if accumulate or value.is_meta or value.numel() != 1 or len(given) != 1 or not given[0].is_meta:
        return None
    mask: torch.Tensor = given[0]
    before = next(place for place, index in enumerate(indices) if index is not None)
    return mask.reshape(*mask.shape, *[1] * (target.dim() - before - mask.dim()))


def _accumulate(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """Two gradients that meet: see kernels.accumulation."""
    if not accumulation.meets_in_place(args, kwargs):
        return NotImplemented
    return recorder.run(aten.add_.Tensor, args, kwargs)


def _maker_of(gpu: VirtualDevice, tensor: torch.Tensor) -> Any:
    """The operator that made the storage of a tensor on the card, or None."""
    ref = gpu.storages.find(tensor) if tensor.is_meta else None
    made = gpu.ledger.ops[ref.number] if ref is not None and ref.number >= 0 else -1
    return gpu.recorder.raw[made][0] if made >= 0 else None


def _write_into(recorder: Recorder, func: Any, args: Any, kwargs: Any, inputs: Any) -> Any:
    """The gradient of an index, a gather or a maximum: see kernels.accumulation."""
    if accumulation.writes_into_its_own(args[0], _maker_of(recorder.gpu, args[0])):
        return recorder.run(accumulation.IN_PLACE[func], args, kwargs)
    return _index(recorder, func, args, kwargs, inputs) if func in INDEXING else NotImplemented


SPECIAL: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _item,
    aten.equal.default: _equal,
    aten.allclose.default: _allclose,
    aten.masked_fill.Tensor: _masked_fill,
    aten.masked_fill_.Tensor: _masked_fill,
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy_into,
    aten.add.Tensor: _accumulate,
    aten.masked_select.default: _masked_select,
    **dict.fromkeys((aten.index.Tensor, aten.index_put_.default), _index),
    **dict.fromkeys(accumulation.IN_PLACE, _write_into),
    **dict.fromkeys((aten.nonzero.default, aten.bincount.default, aten.repeat_interleave.Tensor), _data_dependent),
    **dict.fromkeys((aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default), _unique),
}
