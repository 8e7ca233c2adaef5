"""CPU seconds (user and system) of each command that trains nothing: ``python -m benchmarks commands``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.parts import Line

ROOT = Path(__file__).parents[1]


def commands(runs: Sequence[Path], scores: Path | None, out: Path) -> dict[str, list[str]]:
    """Name -> arguments of `detour`.

    Args:
        runs: Run folders: report reads the first, compare the first two.
        scores: A folder that `detour eval run` wrote for two models, for scores.
        out: Folder for what the commands write.
    """
    found = {
        "detour --help": ["--help"],
        "detour plan": ["plan", str(ROOT / "yamls" / "base_clm_detour.yaml")],
        "detour eval tasks": ["eval", "tasks"],
    }
    if len(runs) > 1:
        found["detour compare"] = ["compare", *map(str, runs[:2])]
    if runs:
        found["detour report"] = ["report", str(runs[0]), "--out", str(out / "report")]
    if scores is not None:
        baseline = sorted(path.name for path in (scores / "cells").iterdir())[0]
        found["detour eval scores --baseline"] = ["eval", "scores", str(scores), "--baseline", baseline]
    return found


def measure(found: dict[str, list[str]], *, rounds: int = 5) -> Iterator[Line]:
    """Runs every command ``rounds`` times, each in its own process. Cost: seconds per command.

    Raises:
        RuntimeError: A command failed.
    """
    for name, arguments in found.items():
        seconds = [_cpu_seconds(arguments) for _ in range(rounds)]
        yield Line(name, "CPU s", seconds, goal="< 1")


def _cpu_seconds(arguments: list[str]) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "detour", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code not in (0, 3):  # compare's, where something differs or is unknown
        raise RuntimeError(f"detour {' '.join(arguments)}: exit code {code}")
    return used.ru_utime + used.ru_stime
