"""What moves, makes or selects data and computes nothing that counts as a FLOP.

Random numbers, comparisons of a sort and the look-up in an embedding are work, but no convention counts them.
"""

from __future__ import annotations

from tonnage.costs.cost import Cost, Rule
from tonnage.costs.tensors import elements, first_list, nbytes
from tonnage.trace import Op

KIND = "movement"

VIEWS = frozenset(
    """
_assert_async _assert_tensor_metadata _conj _functional_assert_async _fw_primal _indices _make_dual _neg_view
_reshape_alias _resize_output _shape_as_tensor _unsafe_view _values alias as_strided col_indices crow_indices detach
diagonal empty empty_like empty_permuted empty_strided expand imag indices is_same_size lift lift_fresh new_empty
new_empty_strided permute real record_stream requires_grad_ resize resize_as resolve_conj resolve_neg select set slice
split split_with_sizes squeeze t transpose unbind unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
values view view_as_complex view_as_real
""".split()
)
"""Neither read nor write what is in a tensor."""

_COPIES = frozenset(
    """
_chunk_cat _copy_from _cudnn_rnn_flatten_weight _local_scalar_dense _pack_padded_sequence
_pack_padded_sequence_backward _pin_memory _stack _to_copy _to_dense _upsample_nearest_exact1d
_upsample_nearest_exact1d_backward _upsample_nearest_exact2d _upsample_nearest_exact2d_backward
_upsample_nearest_exact3d _upsample_nearest_exact3d_backward alias_copy as_strided_copy as_strided_scatter block_diag
cat channel_shuffle clone constant_pad_nd contiguous copy detach_copy diag_embed diagonal_backward diagonal_copy
diagonal_scatter expand_copy flip im2col index_copy index_fill item lift_fresh_copy masked_scatter
masked_scatter_backward max_unpool2d max_unpool3d narrow_copy native_channel_shuffle permute_copy pixel_shuffle
pixel_unshuffle reflection_pad1d reflection_pad1d_backward reflection_pad2d reflection_pad2d_backward reflection_pad3d
reflection_pad3d_backward repeat repeat_interleave replication_pad1d replication_pad1d_backward replication_pad2d
replication_pad2d_backward replication_pad3d replication_pad3d_backward roll rot90 select_backward select_copy
select_scatter slice_backward slice_copy slice_scatter split_copy split_with_sizes_copy squeeze_copy stack t_copy
transpose_copy tril triu unbind_copy unfold_copy unique_consecutive unsqueeze_copy upsample_nearest1d
upsample_nearest1d_backward upsample_nearest2d upsample_nearest2d_backward upsample_nearest3d
upsample_nearest3d_backward view_as_complex_copy view_as_real_copy view_copy
""".split()
)

GATHERS = frozenset(
    """
_unsafe_index _unsafe_masked_index embedding gather index index_select masked_select take
""".split()
)
"""Read as much of their first input as they write, not all of it."""

SCATTERS = frozenset("_index_put_impl _unsafe_index_put index_put put scatter".split())
"""Write as much of their first input as they are given."""

_FACTORIES = frozenset(
    """
_efficientzerotensor arange bartlett_window blackman_window eye fill fill_diagonal full full_like hamming_window
hann_window kaiser_window linspace logspace new_full new_ones new_zeros ones ones_like range scalar_tensor
tril_indices triu_indices zero zeros zeros_like
""".split()
)
_RANDOM = frozenset(
    """
_cudnn_init_dropout_state _fused_dropout _sample_dirichlet _standard_gamma bernoulli binomial cauchy exponential
geometric log_normal multinomial normal normal_functional poisson rand rand_like randint randint_like randn randn_like
random randperm uniform
""".split()
)
_SELECTION = frozenset(
    """
_unique _unique2 argsort bincount bucketize histc kthvalue median mode msort nanmedian nonzero nonzero_static
searchsorted sort topk unique_dim unique_dim_consecutive
""".split()
)
_OVERWRITE = _FACTORIES | _RANDOM | {"copy"}
"""Where these write into a tensor, they do not read it."""

NAMES = VIEWS | _COPIES | GATHERS | SCATTERS | _FACTORIES


def bytes_moved(op: Op, base: str, *, in_place: bool) -> int:
    """Inputs read once and outputs written once, less what the operator does not touch.

    In place an operator on lists returns nothing: it writes its first list.
    """
    if base in VIEWS:
        return 0
    if base in GATHERS:
        return nbytes(op.inputs[1:]) + 2 * nbytes(op.outputs)
    if base in SCATTERS and in_place:
        return nbytes(op.inputs[1:]) + nbytes(op.inputs[-1:])
    written = op.outputs or first_list(op)
    unread = base in _FACTORIES or (in_place and base.removeprefix("_foreach_") in _OVERWRITE)
    return nbytes(op.inputs[len(written) if unread else 0 :]) + nbytes(written)


def _nothing(kind: str) -> Rule:
    return lambda op: Cost(kind)


def _put(op: Op) -> Cost:
    """Writes, or with `accumulate` adds, the last input."""
    accumulates = len(op.arguments) > 3 and op.arguments[3]
    return Cost("reduction", flops=elements(op.inputs[-1])) if accumulates else Cost(KIND)


RULES: dict[str, Rule] = {
    **dict.fromkeys(NAMES, _nothing(KIND)),
    **dict.fromkeys(_RANDOM, _nothing("random")),
    **dict.fromkeys(_SELECTION, _nothing("selection")),
    **dict.fromkeys(("_index_put_impl", "_unsafe_index_put", "index_put"), _put),
}
