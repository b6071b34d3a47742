"""Whose rules are followed: what a PyTorch version does on a card of a given compute capability."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from tonnage.gpus import Card, parse_version
from tonnage.units import KiB, MiB

OLDEST, NEWEST = (2, 6), (2, 13)
"""The versions whose sources the rules were read in; others follow the nearest of them, and the recording says so."""


@dataclass(frozen=True)
class Rules:
    """The habits of PyTorch `version` on `card`."""

    card: Card
    version: str

    @cached_property
    def torch(self) -> tuple[int, int]:
        return parse_version(self.version)

    @property
    def read_in_source(self) -> bool:
        return OLDEST <= self.torch <= NEWEST

    @cached_property
    def cublas_workspace(self) -> int:
        """Bytes that each cuBLAS handle takes from the caching allocator on first use.

        aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize: what CUBLAS_WORKSPACE_CONFIG says, as pairs
        of `:KiB:count`; else 4096 KiB x 8 on Hopper, and from 2.12 on Blackwell too (pytorch #175344); 2 x 4096 KiB +
        8 x 16 KiB elsewhere. Before 2.0 it was not in the allocator (pytorch #95668: 1.13 prints 0, 2.0 8519680).
        """
        if self.torch < (2, 0):
            return 0
        pairs = re.findall(r":([0-9]+):([0-9]+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
        if pairs:
            return sum(int(size) * KiB * int(count) for size, count in pairs)
        major = self.card.compute_capability[0]
        if major == 9 or (major >= 10 and major != 11 and self.torch >= (2, 12)):
            return 4096 * 8 * KiB
        return 4096 * 2 * KiB + 16 * 8 * KiB

    @cached_property
    def cublaslt_workspace(self) -> int:
        """Bytes of the separate cuBLASLt workspace; 0 where it shares cuBLAS's.

        parseCUDABlasLtWorkspaceSize: CUBLASLT_WORKSPACE_SIZE in KiB, else 1 MiB. It is shared by default from 2.11
        (pytorch #168175), and on request from 2.8 (pytorch #151163): TORCH_CUBLASLT_UNIFIED_WORKSPACE.
        """
        unified = os.environ.get("TORCH_CUBLASLT_UNIFIED_WORKSPACE") if self.torch >= (2, 8) else None
        if self.torch < (2, 0) or unified == "1" or (self.torch >= (2, 11) and unified != "0"):
            return 0
        given = re.match(r"\s*\+?([0-9]+)", os.environ.get("CUBLASLT_WORKSPACE_SIZE", ""))
        return int(given[1]) * KiB if given else MiB

    @property
    def cublaslt_workspace_persists(self) -> bool:
        """Up to 2.8 it is taken for the length of each call, in 2.9 and 2.10 once (pytorch #156495)."""
        return self.torch >= (2, 9)

    @property
    def prefers_cudnn_attention(self) -> bool:
        """Whether cuDNN comes first for scaled-dot-product attention, with the default wheels.

        aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, check_prefer_cudnn_attention: on compute capability
        9.0 and 10.0 in 2.9 and, with 10.3 and as it then asks for cuDNN > 9.15, from 2.11 on.
        """
        if self.torch == (2, 9):
            return self.card.compute_capability in {(9, 0), (10, 0)}
        return self.torch >= (2, 11) and self.card.compute_capability in {(9, 0), (10, 0), (10, 3)}

    @property
    def cudnn_drops_by_sixteenths(self) -> bool:
        """Whether cuDNN's attention is left alone unless the dropout is a multiple of 1/16.

        sdp_utils.cpp, check_cudnn_dropout: pytorch #174245, merged on 26 February 2026, after 2.11's branch.
        """
        return self.torch >= (2, 12)

    @property
    def keeps_flash_seeds_on_card(self) -> bool:
        """Whether flash attention's random state is on the card outside of graph capture (2.7, pytorch #146372).

        ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_fwd: before, seed and offset were scalars of the
        host; since, a uint64[2] and an unused scalar, on the card with or without dropout.
        """
        return self.torch >= (2, 7)

    @property
    def fuses_bias_of_one_row(self) -> bool:
        """Whether cuBLASLt is asked for `addmm` although the left matrix has one row or column (up to 2.9).

        isInputCompliesAddmmCudaLt of ATen/native/cuda/Blas.cpp has excluded it since 2.10; before, only the right one.
        """
        return self.torch < (2, 10)

    @property
    def fuses_rms_norm(self) -> bool:
        """Whether `rms_norm` is one kernel on CUDA (2.9, pytorch #153666) or a chain of small ones."""
        return self.torch >= (2, 9)

    @property
    def sums_digits_of_topk(self) -> bool:
        """Whether `topk` over several blocks keeps sums of its histograms (pytorch #164459; 2.10, release assumed)."""
        return self.torch >= (2, 10)

    @property
    def adds_few_embeddings_at_once(self) -> bool:
        """Whether few rows of an embedding are added to by atomics (pytorch #172454; 2.11, release assumed)."""
        return self.torch >= (2, 11)

    @property
    def sorts_bits_of_embeddings(self) -> bool:
        """Whether ids are sorted by the bits of the vocabulary alone (pytorch #183578; 2.13, release assumed)."""
        return self.torch >= (2, 13)

    @property
    def autocasts_rms_norm(self) -> bool:
        """Whether `rms_norm` is in autocast's fp32 list (pytorch #174824; from 2.12, as #188955 says)."""
        return self.torch >= (2, 12)

    @property
    def sums_norms_in_blocks(self) -> bool:
        """Whether gradients of a layer norm's weights go by partial sums (pytorch #150773; 2.8, release assumed).

        LayerNormBackwardKernelImplInternal of ATen/native/cuda/layer_norm_kernel.cu had them for ROCm alone before.
        """
        return self.torch >= (2, 8)

    @property
    def softmax_keeps_input(self) -> bool:
        """Whether autograd saves what softmax was given, as it did up to 1.10 (derivatives.yaml)."""
        return self.torch < (1, 11)

    @property
    def sorts_long_slices_alone(self) -> bool:
        """Whether a single slice, or one of a million elements, is sorted once instead of twice (1.12, #77100)."""
        return self.torch >= (1, 12)

    @property
    def cub_offset(self) -> int:
        """Bytes of the numbers that cub counts items in: an int with CUDA 11.3 (of 1.11; 2.0 is assumed), then 8."""
        return 4 if self.torch < (2, 0) else 8
