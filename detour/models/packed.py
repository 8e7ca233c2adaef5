"""Where the documents of a batch begin and end, in the forms that rotary embeddings and attention kernels need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """The documents of a flattened batch, in order. The free tail of a row counts as a document of its own.

    Letting the tails stand keeps every batch the same size, so that nothing is recompiled and no count has to come
    back from the GPU; at >= 99% utilisation they cost under 1% of the work. Shapes: see `detour.batch`; S counts
    tails and zero-length entries too.

    Attributes:
        lengths_S: int64 [S], tokens of each document; zeros are allowed anywhere.
        N: Tokens in the flat batch, tails included.
        max_length: Upper bound on a document's length (the row length), known without asking the device.
    """

    lengths_S: Tensor
    N: int
    max_length: int

    @staticmethod
    def of(doc_lengths_BD: Tensor, T: int) -> Packing:
        """From the batch's `doc_lengths` and the row length."""
        tail_B1 = T - doc_lengths_BD.sum(1, keepdim=True)
        lengths_S = torch.cat([doc_lengths_BD, tail_B1], 1).flatten()
        return Packing(lengths_S=lengths_S, N=len(doc_lengths_BD) * T, max_length=T)

    @cached_property
    def cu_seqlens_S1(self) -> Tensor:
        """int32 [S + 1], cumulative document lengths from 0: what varlen kernels take."""
        return torch.nn.functional.pad(self.lengths_S.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def doc_N(self) -> Tensor:
        """int64 [N], the document each token belongs to."""
        documents_S = torch.arange(len(self.lengths_S), device=self.lengths_S.device)
        return documents_S.repeat_interleave(self.lengths_S, output_size=self.N)

    @cached_property
    def position_N(self) -> Tensor:
        """int64 [N], position of each token in its document, from 0."""
        start_S = self.lengths_S.cumsum(0) - self.lengths_S
        return torch.arange(self.N, device=start_S.device) - start_S.repeat_interleave(
            self.lengths_S, output_size=self.N
        )

    @cached_property
    def host_lengths(self) -> list[int]:
        """Lengths of the documents that are not empty, as Python numbers. Waits for the device if there is one."""
        return [length for length in self.lengths_S.tolist() if length]
