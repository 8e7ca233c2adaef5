"""Document boundaries of a packed batch, in the forms needed by rotary embeddings and attention kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from detour.attention_rule import Rule
from detour.batch import Batch, pieces_of
from detour.errors import ConfigError


@dataclass(frozen=True)
class Packing:
    """The documents of a flattened batch, in order. The padding at the end of a row counts as documents too.

    Keeping the padding gives all batches the same size, which avoids recompilation and synchronization with the GPU. Cost:
    under 1% of the compute at a packing efficiency of at least 99%. Shapes: see `detour.batch`; S includes padding and
    zero-length entries.

    Attributes:
        lengths_S: Tokens per document, int64 [S]; zeros are allowed anywhere. Kernels for GPUs launch blocks for each.
        N: Tokens in the flat batch, including padding.
        max_length: Upper bound on the length of a document, known without synchronization. Kernels for GPUs launch blocks
            for so many tokens of each document.
        reach_N: Number of tokens to its right that each token may attend to under a rule with `reach`; None otherwise.
    """

    lengths_S: Tensor
    N: int
    max_length: int
    reach_N: Tensor | None = None

    @staticmethod
    def of(doc_lengths_BD: Tensor, T: int, *, limit: int | None = None) -> Packing:
        """The packing of a batch with these `doc_lengths` and rows of T tokens; arguments as `detour.batch.pieces_of`."""
        lengths_S = pieces_of(doc_lengths_BD, T, limit=limit)
        return Packing(lengths_S=lengths_S, N=len(doc_lengths_BD) * T, max_length=T)

    def right_of(self, rule: Rule) -> Tensor:
        """Number of tokens to its right that each token may attend to under a causal rule, int64 [N].

        Raises:
            ConfigError: The rule needs a `reach`, and the batch has none.
        """
        if not rule.reach:
            return self.lengths_S.new_full((self.N,), rule.lookahead)
        if self.reach_N is None:
            raise ConfigError("attention is 'reach', and the batch has no 'reach': the objective must give it")
        return self.reach_N

    @staticmethod
    def of_micro_batch(batch: Batch) -> Packing | None:
        """The packing that `detour.batch.micro_batches` has counted: no zeros, the true maximum. None for other batches."""
        if "pieces" not in batch or "longest" not in batch:
            return None
        return Packing(lengths_S=batch["pieces"], N=batch["input_ids"].numel(), max_length=batch["longest"])

    @cached_property
    def cu_seqlens_S1(self) -> Tensor:
        """Cumulative document lengths starting at 0, int32 [S + 1], as varlen kernels expect."""
        return torch.nn.functional.pad(self.lengths_S.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def doc_N(self) -> Tensor:
        """Index of each token's document, int64 [N]."""
        documents_S = torch.arange(len(self.lengths_S), device=self.lengths_S.device)
        return documents_S.repeat_interleave(self.lengths_S, output_size=self.N)

    @cached_property
    def position_N(self) -> Tensor:
        """Position of each token within its document, int64 [N], starting at 0."""
        start_S = self.lengths_S.cumsum(0) - self.lengths_S
        return torch.arange(self.N, device=start_S.device) - start_S.repeat_interleave(
            self.lengths_S, output_size=self.N
        )

    @cached_property
    def host_lengths(self) -> list[int]:
        """Lengths of the non-empty documents as Python integers. Synchronizes with the device."""
        return [length for length in self.lengths_S.tolist() if length]
