"""The training data of a run whose phases differ in folders, row length or batch size, or read several streams in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streaming import StreamingDataLoader

from detour.batch import Batch
from detour.data.loader import join
from detour.data.stream import RowDataset
from detour.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PhaseRows:
    """What a phase reads from one of its streams.

    Attributes:
        datasets: Index of its dataset, or of one for each folder of a mixture whose proportions change; phases with the same
            folders and row length share them.
        device_rows: Rows per batch on each rank.
        restart: Whether to read them from the beginning of their first epoch when the phase begins.
        proportions: Fraction of the rows from each dataset after a fraction of the phase; None if there is one.
    """

    datasets: tuple[int, ...]
    device_rows: int
    restart: bool = False
    proportions: Callable[[float], Sequence[float]] | None = None


class PhasedLoader:
    """Clean batches without end: before each, the clock decides on dataset and batch size.

    A dataset continues where an earlier phase left it. Its position is a number of rows, so it does not depend on the batch
    size, and rows that workers had read ahead when a phase ended are read again. Streams that a phase reads in turn stay
    open, each with its own worker processes. Resumes exactly by `state_dict` / `load_state_dict`.

    In a mixture whose proportions change, each rank takes whole rows of each dataset, and what a dataset is behind its
    proportion is carried to the next batch (`apportion`).

    Args:
        datasets: The datasets.
        phases: What each phase reads, by the name of the stream; "" is the phase's own data.
        now: Returns the index of the phase of the next batch, the name of its stream, and the fraction of the phase before it.
        processes: Number of ranks.
        make_loader: Makes the loader of a dataset for a batch size, see `detour.data.loader.loader_of`.
    """

    def __init__(
        self,
        datasets: Sequence[RowDataset],
        phases: Sequence[Mapping[str, PhaseRows]],
        *,
        now: Callable[[], tuple[int, str, float]],
        processes: int,
        make_loader: Callable[[RowDataset, int], StreamingDataLoader],
    ) -> None:
        self.datasets, self.phases, self.now = list(datasets), list(phases), now
        self.processes, self.make_loader = processes, make_loader
        self.batch_size = next(iter(phases[0].values())).device_rows
        self._positions: list[dict[str, Any] | None] = [None] * len(self.datasets)  # None at the beginning
        self._phase: int | None = None  # of the last batch
        self._owed: dict[str, list[float]] = {}  # of each mixture of the phase: rows that each dataset is behind

    def state_dict(self) -> dict[str, Any]:
        """The phase of the last batch, the position in each dataset after it, and what a mixture owes each dataset."""
        return {
            "phase": self._phase,
            "positions": self._positions,
            "owed": self._owed,
            "processes": self.processes if self._owed else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a `state_dict`. Raises ValueError if it is of a run with other datasets."""
        positions, phase, processes = state["positions"], state["phase"], state["processes"]
        if processes not in (None, self.processes) and self.now()[0] == phase:
            raise ValueError(
                f"was written by {processes} processes within a phase whose proportions change, and there are {self.processes}; "
                "such a phase goes on with the same number"
            )
        if len(positions) > len(self.datasets):
            raise ValueError(f"positions in {len(positions)} datasets, and the phases read {len(self.datasets)}")
        # phases that were added after the checkpoint may read further datasets
        self._positions[: len(positions)] = positions
        self._phase, self._owed = phase, {name: [*owed] for name, owed in state["owed"].items()}

    def __iter__(self) -> Iterator[Batch]:
        opened: dict[int, _Reading] = {}
        try:
            while True:
                phase, stream, fraction = self.now()
                self._enter(phase, opened)
                rows = self.phases[phase][stream]
                if rows.proportions is None:
                    yield self._next(rows.datasets[0], rows.device_rows, opened)
                else:
                    yield self._mixed(stream, rows, rows.proportions(fraction), opened)
        finally:
            for reading in opened.values():
                reading.close()

    def _enter(self, index: int, opened: dict[int, _Reading]) -> None:
        """Closes what a phase that begins does not read, and applies its restarts, also of phases shorter than a batch."""
        if self._phase == index:
            return
        entered = self.phases[0 if self._phase is None else self._phase + 1 : index + 1]
        restarted = {
            dataset for phase in entered for rows in phase.values() if rows.restart for dataset in rows.datasets
        }
        for dataset in restarted:
            self._positions[dataset] = None
        read = {dataset for rows in self.phases[index].values() for dataset in rows.datasets}
        for dataset in opened.keys() - (read - restarted):
            opened.pop(dataset).close()
        self._phase, self._owed = index, {}

    def _mixed(self, stream: str, rows: PhaseRows, proportions: Sequence[float], opened: dict[int, _Reading]) -> Batch:
        """A batch with rows of each dataset: as many as it is behind its proportion (`apportion`)."""
        owed = self._owed.setdefault(stream, [0.0] * len(rows.datasets))
        counts, self._owed[stream] = apportion(rows.device_rows, proportions, owed)
        pieces, offsets, first = [], [], 0
        for dataset, count in zip(rows.datasets, counts, strict=True):
            pieces += [self._next(dataset, 1, opened) for _ in range(count)]
            offsets += [first] * count
            first += self.datasets[dataset].num_samples
        return join(pieces, offsets)

    def _next(self, key: int, device_rows: int, opened: dict[int, _Reading]) -> Batch:
        """The next batch of a dataset, of its next epoch if this one has ended."""
        dataset = self.datasets[key]
        if key in opened and opened[key].device_rows != device_rows:
            opened.pop(key).close()
        while True:
            position = self._positions[key] or self._beginning(dataset)
            if key not in opened:
                opened[key] = _Reading(dataset, position, device_rows, self.make_loader)
            batch = next(opened[key].batches, None)
            if batch is not None:
                taken = device_rows * self.processes
                self._positions[key] = {**position, "sample_in_epoch": position["sample_in_epoch"] + taken}
                return batch
            opened.pop(key).close()
            if position["sample_in_epoch"] == 0:
                raise DataError(
                    f"{dataset.streams[0].local}: fewer rows than one batch of {device_rows * self.processes}"
                )
            self._positions[key] = {**position, "epoch": position["epoch"] + 1, "sample_in_epoch": 0}

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


def apportion(rows: int, proportions: Sequence[float], owed: Sequence[float]) -> tuple[list[int], list[float]]:
    """Whole rows of each part, and what they then are behind: each row goes to the part that is furthest behind.

    Args:
        rows: Rows to apportion.
        proportions: Fraction of the rows due to each part; they are divided by their sum.
        owed: Rows that each part was behind before; negative if it was ahead.
    """
    total = sum(proportions)
    behind = [left + share / total * rows for left, share in zip(owed, proportions, strict=True)]
    counts = [0] * len(behind)
    for _ in range(rows):
        index = max(range(len(behind)), key=lambda i: (behind[i], -i))
        counts[index] += 1
        behind[index] -= 1
    return counts, behind


class _Reading:
    """An open dataset: its batches from a position to the end of the epoch."""

    def __init__(
        self,
        dataset: RowDataset,
        position: dict[str, Any],
        device_rows: int,
        make_loader: Callable[[RowDataset, int], StreamingDataLoader],
    ) -> None:
        self.dataset, self.device_rows = dataset, device_rows
        # an epoch below the dataset's own counter would count as stale
        dataset.next_epoch = position["epoch"]
        dataset.load_state_dict(position)
        self.batches: Iterator[Any] = iter(make_loader(dataset, device_rows))

    def close(self) -> None:
        self.batches.close()  # type: ignore[attr-defined]
        if hasattr(self.dataset, "_iterator"):
            self.dataset._iterator.exit()  # the background threads of reading in this process
