"""Stateless random numbers: those of a row depend only on (seed, step, sample index)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))


class RowRandom:
    """One independent random stream per row of a batch.

    A row draws the same numbers on any rank, worker or micro-batch and after any restart. Resuming therefore needs no saved
    masks, and runs on the same rows use the same masks. Successive calls draw successive numbers: an objective must make
    the same calls in the same order for every batch.

    Args:
        seed: Seed of the run.
        step: Index of the optimizer step, so that a repeated row (a later epoch, an upsampled folder) is masked anew.
        sample_id_B: Global indices of the rows, int64 [B].

    Attributes:
        step: Index of the optimizer step.
        drawn: Whether any number was drawn; False after a deterministic objective.

    Cost: about 15 microseconds of setup per row, then numpy's Philox speed.
    """

    def __init__(self, *, seed: int, step: int, sample_id_B: Tensor) -> None:
        self.step, self.drawn = step, False
        self._seed, self._samples = seed, sample_id_B.tolist()
        # SeedSequence hashes the triple: neighboring seeds and samples give unrelated streams
        self._rows = [_generator(seed, step, sample) for sample in self._samples]

    def choices(self) -> Tensor:
        """float32 [B], uniform in [0, 1): one number per row from a stream of its own, which leaves the other draws as they are.

        An objective that chooses among others thus gives each the numbers that it would draw alone.
        """
        import torch

        self.drawn = True
        rows = [_generator(self._seed, self.step, sample, 1) for sample in self._samples]
        return torch.tensor([float(row.random(dtype=np.float32)) for row in rows], dtype=torch.float32)

    def rows(self, index: Sequence[int]) -> RowRandom:
        """The random numbers of some of the rows; they go on where those of this object are."""
        part = object.__new__(RowRandom)
        part.step, part.drawn, part._seed = self.step, False, self._seed
        part._samples = [self._samples[i] for i in index]
        part._rows = [self._rows[i] for i in index]
        return part

    def uniform(self, n: int) -> Tensor:
        """float32 [B, n], uniform in [0, 1)."""
        import torch

        self.drawn = True
        return torch.from_numpy(np.stack([row.random(n, dtype=np.float32) for row in self._rows]))

    def integers(self, high: int, n: int) -> Tensor:
        """int64 [B, n], uniform in [0, high)."""
        import torch

        self.drawn = True
        return torch.from_numpy(np.stack([row.integers(high, size=n, dtype=np.int64) for row in self._rows]))
