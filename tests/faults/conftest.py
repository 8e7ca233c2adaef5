"""Training processes that can be killed, cheaply started, and what is asked of the runs they leave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

HERE = Path(__file__).parent
HEALTHY = ("none",)


@dataclass(frozen=True)
class Child:
    """A started process. ``output`` grows with what it prints."""

    pid: int
    output: Path
    zygote: Zygote

    def wait(self, seconds: float = 60) -> int | None:
        """Its exit code, negative for a signal; None if it is still there."""
        return self.zygote.ask({"wait": self.pid, "seconds": seconds})

    def code(self, seconds: float = 60) -> int:
        """Its exit code; fails if it does not end."""
        code = self.wait(seconds)
        if code is None:
            os.kill(self.pid, signal.SIGUSR1)
            self.wait(1)
            pytest.fail(f"still running after {seconds} s:\n{self.text()[-5000:]}")
        return code

    def text(self) -> str:
        return self.output.read_text()


class Zygote:
    """The other end of `zygote.py`."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, HERE / "zygote.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.answer() == "ready"

    def ask(self, order: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the zygote ended with {self.process.poll()}"
        return json.loads(line)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """One for all tests: its imports take seconds."""
    zygote = Zygote()
    yield zygote
    assert zygote.process.stdin is not None
    zygote.process.stdin.close()
    zygote.process.wait(20)
    zygote.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def start(zygote: Zygote, tmp_path: Path) -> Iterator[Callable[..., list[Child]]]:
    """A function that starts ``detour train`` for a run, in so many processes; what still runs at the end is killed."""
    started: list[Child] = []

    def start_run(
        run: RunConfig, *overrides: str, fault: Sequence[Any] = HEALTHY, processes: int = 1, **environment: str
    ) -> list[Child]:
        config = tmp_path / f"{run.name}.yaml"
        config.write_text(to_yaml(run))
        world = _world(processes)
        # the same for all processes, whose locks lie there; short, since paths of sockets have 108 bytes at most
        scratch = tempfile.mkdtemp(prefix="s-")
        children = []
        for rank in range(processes):
            number = len(started)
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            order = {
                "arguments": ["train", str(config), *overrides],
                "environment": {"TMPDIR": str(scratch), **world, **ranks, **environment},
                "fault": list(fault),
                "output": str(tmp_path / f"child-{number}.txt"),
            }
            Path(order["output"]).touch()
            children.append(Child(zygote.ask(order), Path(order["output"]), zygote))
            started.append(children[-1])
        return children

    yield start_run
    for child in started:
        if child.wait(0.01) is None:
            os.kill(child.pid, 9)
            child.wait(10)


def _world(processes: int) -> dict[str, str]:
    if processes == 1:
        return {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


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


FAULTS: dict[str, list[tuple[int, str]]] = {}  # of each test


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notes the rows that each test injects, wherever it lies; leaves the long forms to `make test-faults`."""
    FAULTS.update({item.nodeid: [mark.args for mark in item.iter_markers("faults")] for item in items})
    if os.environ.get("DETOUR_FAULTS") != "long":
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of faults: what was injected, how many times, and how many times it was survived."""
    table, skipped = _outcomes(terminalreporter.config)
    if not (table or skipped):
        return
    terminalreporter.section("faults")
    terminalreporter.line(f"{'row':>3} | {'tests':>5} | {'survived':8} | injected")
    for row, what in sorted(table.keys() | skipped):
        cases = table.get((row, what), [])
        check = "yes" if cases and all(cases) else "NO" if cases else "skipped"
        terminalreporter.line(f"{row:>3} | {len(cases):>5} | {check:8} | {what}")
    if absent := _absent(table):
        terminalreporter.line(f"rows without a test that ran: {', '.join(map(str, absent))}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The long form fails where a row's tests were skipped or are no more."""
    if os.environ.get("DETOUR_FAULTS") == "long" and session.exitstatus == 0 and _absent(_outcomes(session.config)[0]):
        session.exitstatus = 1


Table = dict[tuple[int, str], list[bool]]


def _absent(table: Table) -> list[int]:
    return sorted(set(range(1, 28)) - {row for row, _ in table}) if os.environ.get("DETOUR_FAULTS") == "long" else []


def _outcomes(config: pytest.Config) -> tuple[Table, set[tuple[int, str]]]:
    """Whether each fault's tests passed, and the faults of tests that were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    table: Table = {}
    skipped: set[tuple[int, str]] = set()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(outcome, []):
            for fault in FAULTS.get(getattr(report, "nodeid", ""), []):
                if outcome == "skipped":
                    skipped.add(fault)
                else:
                    table.setdefault(fault, []).append(outcome == "passed")
    return table, skipped
