"""Training processes for tests: started cheaply, one or several, and killed at the end. See faults/zygote.py."""

from __future__ import annotations

import json
import os
import shutil
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

from detour.config.load import to_yaml
from detour.config.schema import RunConfig

ZYGOTE = Path(__file__).parent / "faults" / "zygote.py"
HEALTHY = ("none",)
FORKED_PYTHON = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
while words[:1] == ["-B"]:
    del words[0]
odd = words[:1] not in (["-m"], ["-c"]) and (not words or words[0].startswith("-"))
if odd or "resource_tracker" in "".join(words[1:2]):  # of multiprocessing, which imports little and outlives the zygote
    os.execv({python!r}, [{python!r}, *words])
listed = [int(number) for number in os.listdir("/proc/self/fd")]
files = [number for number in listed if os.path.exists(f"/proc/self/fd/{{number}}")]  # without that of the listing
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
order = {{"words": [sys.argv[0], *words], "folder": os.getcwd(), "environment": dict(os.environ), "files": files}}
socket.send_fds(connection, [b" "], files)
connection.sendall(json.dumps(order).encode() + b"\\0")
answers = connection.makefile()
program = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.kill(program, number))
code = int(answers.readline())
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


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
        self.folder = Path(tempfile.mkdtemp(prefix="z-"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # what a run of this process may have left: its ranks, and the socket of its service of Weights & Biases
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "WANDB_SERVICE"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, ZYGOTE, str(self.folder / "socket")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.answer() == "ready"
        self.python = self.folder / "python"
        self.python.write_text(FORKED_PYTHON.format(python=sys.executable, address=str(self.folder / "socket")))
        self.python.chmod(0o755)

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
    shutil.rmtree(zygote.folder, ignore_errors=True)


@pytest.fixture
def forked_python(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> str:
    """A command in place of ``python``, in `sys.executable` too, whose processes have what is slow to import already.

    Only for tests in which it does not matter what a process imports: its modules may be there before it asks for them.
    Signals reach the program, its exit code comes back, and it ends with the process that stands for it.
    """
    monkeypatch.setattr(sys, "executable", str(zygote.python))
    monkeypatch.setattr("multiprocessing.spawn._python_exe", os.fsencode(zygote.python))
    return str(zygote.python)


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
