"""The ledger: counts what each phase costs."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from detour.batch import Batch, count_tokens
from detour.cost.flops import training_flops
from detour.cost.ledger import PhaseCost, parse_costs
from detour.cost.matmul import matmul_throughput
from detour.cost.memory import peak_memory_bytes
from detour.data.fingerprint import Fingerprint, PhaseRowsHash, hash_rows
from detour.models.architecture import Architecture
from detour.objectives import ModuleObjective
from detour.phases import PhaseSchedule
from detour.training.callbacks.step_guard import StepGuard


class Ledger(Callback):
    """Counts the `PhaseCost` of each phase and hashes the rows seen, in all and by phase; stored in checkpoints.

    Logs running totals, throughput and MFU after each step. The matmul throughput behind MFU is measured at each start of
    the process, in the precision of the run.

    Args:
        arch: Architecture of the model, for counting FLOPs.
        schedule: Phases of the run.
        guard: Tells whether the last step was rejected.
        dtype: Type of the matrix products of a step.
    """

    def __init__(self, *, arch: Architecture, schedule: PhaseSchedule, guard: StepGuard, dtype: torch.dtype) -> None:
        self.arch, self.schedule, self.guard, self.dtype = arch, schedule, guard, dtype
        self.costs = [PhaseCost.zero(phase.name, phase.objective) for phase in schedule.phases]
        self.fingerprint = Fingerprint()
        self.phase_rows = [PhaseRowsHash() for _ in schedule.phases]
        self._rows: torch.Tensor | None = None
        self._checkpoint_started: float | None = None
        self._checkpoint_seconds = 0.0
        self._device = "cpu"
        self._matmul_throughput = 0.0  # of this process's device, in FLOP/s

    def fit_start(self, state: State, logger: Logger) -> None:
        self._device = "cuda" if state.device.name == "gpu" else "cpu"
        self._matmul_throughput = matmul_throughput(self._device, self.dtype)

    def see(self, batch: Batch) -> Batch:
        """Hashes the rows of a clean batch and returns the batch unchanged; to be called before the objective corrupts it."""
        self._rows = hash_rows(batch)
        return batch

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._checkpoint_started = time.perf_counter()  # runs before the Checkpointer

    def before_dataloader(self, state: State, logger: Logger) -> None:
        if self._checkpoint_started is not None:
            self._checkpoint_seconds = time.perf_counter() - self._checkpoint_started
            self._checkpoint_started = None

    def batch_end(self, state: State, logger: Logger) -> None:
        batch = state.batch
        supervised = count_tokens(batch)["loss_generating"]
        lengths = batch["doc_lengths"].cpu().numpy()
        reach_BT = batch["reach"].cpu().numpy() if batch["attention"] == "reach" else None
        own: ModuleObjective | None = batch.get("module_objective")
        flops = training_flops(
            self.arch, lengths, attention=batch["attention"], supervised=0 if own else supervised, reach_BT=reach_BT
        )
        if own:
            flops += own.module_flops(self.arch, tokens=float(lengths.sum()), supervised=supervised)
        local = torch.tensor([supervised, flops, self._matmul_throughput], dtype=torch.float64)
        sums = state.device.tensor_to_device(local)
        dist.all_reduce(sums)
        assert self._rows is not None
        rows = state.device.tensor_to_device(self._rows)
        dist.all_reduce(rows)
        self.fingerprint.add(rows)

        assert state.previous_timestamp is not None
        before, now = state.previous_timestamp.token.value, state.timestamp.token.value
        # Composer's batch time includes the checkpoint written after the previous batch
        seconds = max(state.timestamp.batch_wct.total_seconds() - self._checkpoint_seconds, 1e-9)
        self._checkpoint_seconds = 0.0
        devices, rejected = dist.get_world_size(), self.guard.rejected_last
        index = self.schedule.at(before).index
        self.phase_rows[index].add(rows)
        self.costs[index] = self.costs[index].plus(
            tokens=now - before,
            supervised=round(sums[0].item()),
            flops=sums[1].item(),
            device_seconds=seconds * devices,
            matmul_flops=seconds * sums[2].item(),
            steps=int(not rejected),
            skipped=int(rejected),
        )
        logger.log_metrics({
            "tokens/supervised": sum(cost.supervised for cost in self.costs),
            "flops/total": sum(cost.flops for cost in self.costs),
            "steps/total": sum(cost.steps for cost in self.costs),
            "throughput/tokens_per_second": (now - before) / seconds,
            "throughput/flops_per_second_per_device": sums[1].item() / seconds / devices,
            "throughput/mfu": sums[1].item() / seconds / sums[2].item(),
            "memory/peak_gigabytes": peak_memory_bytes(self._device) / 1e9,
        })  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {
            "entries": [asdict(cost) for cost in self.costs],
            "fingerprint": self.fingerprint.state_dict(),
            "phase_rows": [asdict(rows) for rows in self.phase_rows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fingerprint = Fingerprint.from_state(state["fingerprint"])
        # phases that were added after the checkpoint keep a cost of zero
        saved = parse_costs(state["entries"])[: len(self.costs)]
        self.costs[: len(saved)] = saved
        rows = [PhaseRowsHash.from_state(each) for each in state["phase_rows"]][: len(self.costs)]
        self.phase_rows[: len(rows)] = rows
