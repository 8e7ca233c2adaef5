"""Progress bar on the terminal."""

from __future__ import annotations

from composer.core import Callback, State
from composer.loggers import Logger
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from detour.phases import PhaseSchedule
from detour.units import short


class ProgressBar(Callback):
    """Shows phase, tokens, throughput, loss and remaining time. For process 0 only.

    If the output is not a terminal, it prints one line per 5% of the run instead.

    Args:
        schedule: Phases of the run.
    """

    def __init__(self, schedule: PhaseSchedule) -> None:
        self.schedule = schedule
        self.console = Console(stderr=True)
        self._twentieth = -1

    def fit_start(self, state: State, logger: Logger) -> None:
        self.progress = Progress(
            TextColumn("[bold]{task.fields[phase]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        tokens = state.timestamp.token.value
        self.task = self.progress.add_task("", total=self.schedule.total_tokens, completed=tokens, phase="", numbers="")
        self.progress.start()

    def batch_end(self, state: State, logger: Logger) -> None:
        assert state.previous_timestamp is not None
        before, now = state.previous_timestamp.token.value, state.timestamp.token.value
        span = self.schedule.at(before)
        speed = (now - before) / max(state.timestamp.batch_wct.total_seconds(), 1e-9)
        loss = (state.total_loss_dict or {}).get("loss/train/total", float("nan"))
        phase = f"{span.phase.name} ({span.phase.objective})"
        numbers = f"{short(now)} of {short(self.schedule.total_tokens)} tokens · {short(speed)}/s · loss {loss:.3f}"
        self.progress.update(self.task, completed=now, phase=phase, numbers=numbers)
        twentieth = 20 * now // self.schedule.total_tokens
        if not self.console.is_terminal and twentieth != self._twentieth:
            self._twentieth = twentieth
            self.console.print(f"{phase}: {numbers}", highlight=False)

    def close(self, state: State, logger: Logger) -> None:
        if hasattr(self, "progress"):
            self.progress.stop()
