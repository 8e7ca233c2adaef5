"""The training data of a run whose phases differ in folders, row length or batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streaming import StreamingDataLoader

from detour.batch import Batch
from detour.data.stream import RowDataset
from detour.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PhaseRows:
    """What a phase reads.

    Attributes:
        dataset: Index of its dataset; phases with the same folders and row length share one.
        device_rows: Rows per batch on each rank.
        restart: Whether to read the dataset from the beginning of its first epoch when the phase begins.
    """

    dataset: int
    device_rows: int
    restart: bool = False


class PhasedLoader:
    """Clean batches without end: before each, the phase decides on dataset and batch size.

    A dataset continues where an earlier phase left it. Its position is a number of rows, so it does not depend on the batch
    size, and rows that workers had read ahead when a phase ended are read again. Resumes exactly by `state_dict` /
    `load_state_dict`.

    Args:
        datasets: The datasets.
        phases: What each phase reads.
        phase_now: Returns the index of the phase of the next batch.
        processes: Number of ranks.
        make_loader: Makes the loader of a dataset for a batch size, see `detour.data.loader.loader_of`.
    """

    def __init__(
        self,
        datasets: Sequence[RowDataset],
        phases: Sequence[PhaseRows],
        *,
        phase_now: Callable[[], int],
        processes: int,
        make_loader: Callable[[RowDataset, int], StreamingDataLoader],
    ) -> None:
        self.datasets, self.phases, self.phase_now = list(datasets), list(phases), phase_now
        self.processes, self.make_loader = processes, make_loader
        self.batch_size = phases[0].device_rows
        self._positions: list[dict[str, Any] | None] = [None] * len(self.datasets)  # None at the beginning
        self._phase: int | None = None  # of the last batch

    def state_dict(self) -> dict[str, Any]:
        """The phase of the last batch, and the position in each dataset after it."""
        return {"phase": self._phase, "positions": self._positions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a `state_dict`. Raises ValueError if it is of a run with other datasets."""
        positions, phase = state["positions"], state["phase"]
        if len(positions) > len(self.datasets):
            raise ValueError(f"positions in {len(positions)} datasets, and the phases read {len(self.datasets)}")
        # phases that were added after the checkpoint may read further datasets
        self._positions[: len(positions)] = positions
        self._phase = phase

    def __iter__(self) -> Iterator[Batch]:
        while True:
            index = self._enter(self.phase_now())
            yield from self._stretch(self.phases[index])

    def _enter(self, index: int) -> int:
        """Applies the restarts of the phases that begin, also of those shorter than a batch."""
        if self._phase != index:
            for phase in self.phases[0 if self._phase is None else self._phase + 1 : index + 1]:
                if phase.restart:
                    self._positions[phase.dataset] = None
            self._phase = index
        return index

    def _stretch(self, rows: PhaseRows) -> Iterator[Batch]:
        """Batches until the epoch ends, or a phase begins that reads something else."""
        dataset = self.datasets[rows.dataset]
        position = self._positions[rows.dataset] or self._beginning(dataset)
        # an epoch below the dataset's own counter would count as stale
        dataset.next_epoch = position["epoch"]
        dataset.load_state_dict(position)
        batches = iter(self.make_loader(dataset, rows.device_rows))
        taken = 0
        try:
            while True:
                index = self.phase_now()
                if index != self._phase and (self.phases[index].restart or not _alike(self.phases[index], rows)):
                    return
                batch = next(batches, None)
                if batch is None:
                    if not taken and position["sample_in_epoch"] == 0:
                        raise DataError(
                            f"{dataset.streams[0].local}: fewer rows than one batch of {rows.device_rows * self.processes}"
                        )
                    self._positions[rows.dataset] = {**position, "epoch": position["epoch"] + 1, "sample_in_epoch": 0}
                    return
                self._phase = index
                taken += rows.device_rows * self.processes
                self._positions[rows.dataset] = {
                    **position,
                    "sample_in_epoch": position["sample_in_epoch"] + taken,
                }
                yield batch  # type: ignore[misc]
        finally:
            batches.close()  # type: ignore[attr-defined]
            if hasattr(dataset, "_iterator"):
                dataset._iterator.exit()  # the background threads of reading in this process

    @staticmethod
    def _beginning(dataset: RowDataset) -> dict[str, Any]:
        """The first position. `StreamingDataset.state_dict` would read memory that another rank may be writing."""
        return {
            "epoch": 0,
            "sample_in_epoch": 0,
            "num_canonical_nodes": dataset.num_canonical_nodes,
            "shuffle_seed": dataset.shuffle_seed,
            "initial_physical_nodes": dataset._unique_rank_world.num_nodes,
        }


def _alike(a: PhaseRows, b: PhaseRows) -> bool:
    return (a.dataset, a.device_rows) == (b.dataset, b.device_rows)
