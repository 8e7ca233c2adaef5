"""What is asked of the runs that killed or broken processes leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from detour.config.schema import RunConfig
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder


@dataclass(frozen=True)
class Left:
    """What a run left in its folder."""

    folder: Path

    @property
    def saved(self) -> list[checkpoints.Checkpoint]:
        return checkpoints.listing(self.folder / "checkpoints")

    @property
    def last(self) -> checkpoints.Checkpoint:
        return self.saved[-1]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Metrics that must come out alike, whenever and how fast."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        timed = ("throughput/", "memory/")
        return [{key: value for key, value in line.items() if not key.startswith(timed)} for line in lines]

    @property
    def rejected_steps(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "rejected_step" in line]


@pytest.fixture
def left() -> Callable[[RunConfig], Left]:
    """A function from a run to what it left."""
    return lambda run: Left(RunFolder.of(run).path)


@pytest.fixture
def assert_same_end() -> Callable[[Left, Left], None]:
    """A function that asserts that two runs ended alike bit for bit: weights, moments, random numbers, metrics."""

    def check(first: Left, second: Left) -> None:
        assert first.last.tokens == second.last.tokens
        for file in ("model", "optimizer", "rng"):
            expected, found = first.last.tensors(file), second.last.tensors(file)
            assert expected.keys() == found.keys()
            assert expected
            for name, tensor in expected.items():
                assert torch.equal(tensor, found[name]), f"{file}: {name}"
        assert first.lines == second.lines

    return check
