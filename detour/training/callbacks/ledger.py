"""The ledger: what each phase cost, counted and not assumed."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from detour.batch import Batch, count_tokens
from detour.cost.flops import training_flops
from detour.cost.matmul import matmul_throughput
from detour.data.fingerprint import Fingerprint, hash_rows
from detour.models.modernbert.architecture import Architecture
from detour.phases import PhaseSchedule
from detour.training.callbacks.step_guard import StepGuard
from detour.training.checkpoints.contents import number, same_keys, whole


@dataclass
class Entry:
    """One phase's account.

    Attributes:
        phase: Its name.
        objective: Its objective.
        tokens: Tokens seen, padding not counted.
        supervised: Tokens that carried loss.
        flops: Training FLOPs from the true document lengths (`detour.cost.flops`).
        device_seconds: Wall-clock seconds of training batches times the number of devices; evaluation and saving
            are left out.
        product_flops: What the devices would have done in those seconds at their rate of matrix products
            (`detour.cost.matmul`), measured at each start in the precision of the run. FLOPs over it is the
            utilisation.
        steps: Optimizer steps.
        skipped: Batches that changed no weight (`detour.training.callbacks.step_guard`);
            their tokens, FLOPs and seconds are counted.
    """

    phase: str
    objective: str
    tokens: int = 0
    supervised: int = 0
    flops: float = 0.0
    device_seconds: float = 0.0
    product_flops: float = 0.0
    steps: int = 0
    skipped: int = 0


class Ledger(Callback):
    """Keeps an `Entry` a phase and a `Fingerprint` of the rows, logs running totals each step, travels in checkpoints.

    Args:
        arch: The model, for the FLOPs.
        schedule: The phases.
        guard: Knows whether the last batch was left out.
        dtype: Of the step's matrix products.
    """

    def __init__(self, *, arch: Architecture, schedule: PhaseSchedule, guard: StepGuard, dtype: torch.dtype) -> None:
        self.arch, self.schedule, self.guard, self.dtype = arch, schedule, guard, dtype
        self.entries = [Entry(phase=p.name, objective=p.objective) for p in schedule.phases]
        self.fingerprint = Fingerprint()
        self._rows: torch.Tensor | None = None
        self._saving_since: float | None = None
        self._saving_seconds = 0.0
        self._product_rate = 0.0  # of this process's device

    def fit_start(self, state: State, logger: Logger) -> None:
        self._product_rate = matmul_throughput("cuda" if state.device.name == "gpu" else "cpu", self.dtype)

    def see(self, batch: Batch) -> Batch:
        """Takes note of a clean batch on its way to the objective, and hands it on."""
        self._rows = hash_rows(batch)
        return batch

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._saving_since = time.perf_counter()  # this callback comes before the one that saves

    def before_dataloader(self, state: State, logger: Logger) -> None:
        if self._saving_since is not None:
            self._saving_seconds = time.perf_counter() - self._saving_since
            self._saving_since = None

    def batch_end(self, state: State, logger: Logger) -> None:
        batch = state.batch
        supervised = count_tokens(batch)["loss_generating"]
        lengths = batch["doc_lengths"].cpu().numpy()
        flops = training_flops(self.arch, lengths, attention=batch["attention"], supervised=supervised)
        mine = torch.tensor([supervised, flops, self._product_rate], dtype=torch.float64)
        sums = state.device.tensor_to_device(mine)
        dist.all_reduce(sums)
        assert self._rows is not None
        rows = state.device.tensor_to_device(self._rows)
        dist.all_reduce(rows)
        self.fingerprint.add(rows)

        assert state.previous_timestamp is not None
        before, now = state.previous_timestamp.token.value, state.timestamp.token.value
        # Composer's batch time begins before the checkpoint of the batch before
        seconds = max(state.timestamp.batch_wct.total_seconds() - self._saving_seconds, 1e-9)
        self._saving_seconds = 0.0
        entry = self.entries[self.schedule.at(before).index]
        entry.tokens += now - before
        entry.supervised += round(sums[0].item())
        entry.flops += sums[1].item()
        entry.device_seconds += seconds * dist.get_world_size()
        entry.product_flops += seconds * sums[2].item()
        if self.guard.skipped_last:
            entry.skipped += 1
        else:
            entry.steps += 1
        logger.log_metrics({
            "tokens/supervised": sum(e.supervised for e in self.entries),
            "flops/total": sum(e.flops for e in self.entries),
            "steps/total": sum(e.steps for e in self.entries),
            "throughput/tokens_per_second": (now - before) / seconds,
            "throughput/flops_per_second_per_device": sums[1].item() / seconds / dist.get_world_size(),
            "throughput/utilisation": sums[1].item() / seconds / sums[2].item(),
        })  # fmt: skip
        logger.log_metrics({"memory/peak_gigabytes": _peak_bytes() / 1e9})

    def state_dict(self) -> dict[str, Any]:
        entries = [asdict(entry) for entry in self.entries]
        return {"entries": entries, "fingerprint": self.fingerprint.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fingerprint = Fingerprint.from_state(state["fingerprint"])
        if not isinstance(state["entries"], list):
            raise ValueError(f"entries is {state['entries']!r}, expected a list")
        for entry in state["entries"]:
            same_keys("entries", entry, asdict(self.entries[0]))
            for key in entry.keys() - {"phase", "objective"}:
                (number if key in ("flops", "device_seconds", "product_flops") else whole)(
                    f"entries: {key}", entry[key]
                )
        # phases that were added since the checkpoint keep their empty entries
        for index, saved in enumerate(state["entries"][: len(self.entries)]):
            self.entries[index] = Entry(**saved)


def _peak_bytes() -> int:
    """Most memory that this process held: of its GPU, or without one its resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
