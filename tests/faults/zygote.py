"""Starts Python programs cheaply: imports once, then forks for each. Driven by the fixtures `start` and `forked_python`.

Reads a line of JSON for each order of `start` and answers with one; programs of `forked_python` come through the socket
that it is given. Nothing that starts threads or draws random numbers happens here before a fork, so a child is what
``python -m detour`` would have become.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import gc
import json
import multiprocessing.spawn
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import composer.algorithms
import pydantic.type_adapter
import torch
import transformers.modeling_utils
from composer.utils import collect_env

import detour.corpus.stages
import detour.evaluation.finetune.finetune
import detour.export.run
from detour import train
from detour.cli.main import main

SLOW_IMPORTS = (composer.algorithms, pydantic.type_adapter, transformers.modeling_utils, train, detour)
FAULTS = runpy.run_path(str(Path(__file__).with_name("injections.py")))
ENDED: dict[int, int] = {}
PRESENT: set[int] = set()
CONNECTIONS: dict[int, socket.socket] = {}  # of programs, to what stands for them
WAKING = os.pipe()  # written to when a child ends
collect_env.get_cpu_model = lambda: "a CPU"  # a second in each process, for a log


def run_child(order: dict) -> int:
    """Becomes ``detour ARGUMENTS``, in its own folder for temporary files, with a fault if one is ordered."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # so that a test can show where one hangs
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    try:
        name, *arguments = order["fault"]
        FAULTS[name](*arguments)
        sys.argv = ["detour", *order["arguments"]]
        main(order["arguments"])
    except SystemExit as exit:
        return int(exit.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(code: int) -> None:
    """What the interpreter does at its end, but for taking itself apart, which costs seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reap() -> None:
    """Notes the exit codes of children that have ended, and tells those of programs; kills programs that stand alone."""
    while PRESENT:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        PRESENT.remove(pid)
        ENDED[pid] = os.waitstatus_to_exitcode(status)
        if connection := CONNECTIONS.pop(pid, None):
            with contextlib.suppress(BrokenPipeError), connection:
                connection.sendall(b"%d\n" % ENDED[pid])
    for pid, connection in CONNECTIONS.items():
        if select.select([connection], [], [], 0)[0]:  # what stands for it was killed
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def attend(listener: socket.socket, seconds: float | None) -> bool:
    """Waits for an order, so long at most; starts programs of `forked_python` meanwhile. Returns whether there is one."""
    ready = select.select([sys.stdin, listener, WAKING[0], *CONNECTIONS.values()], [], [], seconds)[0]
    if WAKING[0] in ready:
        os.read(WAKING[0], 4096)
    reap()
    if listener in ready:
        connection, _ = listener.accept()
        received, files, part = b"", [], b" "
        while part and not received.endswith(b"\0"):
            part, more, *_ = socket.recv_fds(connection, 1 << 20, 100)
            received, files = received + part, files + more
        if part:
            pid = fork(lambda: run_program(json.loads(received[:-1]), files))
            CONNECTIONS[pid] = connection
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b"%d\n" % pid)
        else:  # killed before it had said all
            connection.close()
        for file in files:
            os.close(file)
    return sys.stdin in ready


def fork(program: Callable[[], int]) -> int:
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for connection in CONNECTIONS.values():
            connection.close()
        end(program())
    PRESENT.add(pid)
    return pid


def run_program(order: dict, files: list[int]) -> int:
    """Becomes ``python ARGUMENTS`` in the caller's folder and environment, with its open files."""
    os.setpgid(0, 0)
    apart = [fcntl.fcntl(file, fcntl.F_DUPFD, 1 + max(order["files"])) for file in files]  # out of the way
    for file in files:
        os.close(file)
    for number, file in zip(order["files"], apart, strict=True):
        os.dup2(file, number)
        os.close(file)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    sys.executable, *words = order["words"]
    multiprocessing.spawn.set_executable(sys.executable)
    sys.path[0] = order["folder"]
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[1:1] = [path for path in paths if path not in sys.path]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def serve(path: str) -> None:
    torch.set_num_threads(1)
    for end_of_pipe in WAKING:
        os.set_blocking(end_of_pipe, False)
    signal.set_wakeup_fd(WAKING[1])
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    gc.collect()
    gc.freeze()  # or a collection in each child copies all that was imported
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print(json.dumps("ready"), flush=True)
        while True:
            if attend(listener, None):
                if not (line := sys.stdin.readline()):
                    break
                print(json.dumps(answer_to(json.loads(line), listener)), flush=True)


def answer_to(order: dict, listener: socket.socket) -> int | None:
    """The process number of a new child; or a child's exit code, negative for a signal, None if it still runs."""
    if "wait" not in order:
        return fork(lambda: run_child(order))
    deadline = time.monotonic() + order["seconds"]
    while order["wait"] not in ENDED and (seconds := deadline - time.monotonic()) > 0:
        attend(listener, seconds)
    reap()
    return ENDED.get(order["wait"])


if __name__ == "__main__":
    serve(sys.argv[1])
