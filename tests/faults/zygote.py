"""Starts Python programs cheaply: imports once, then forks for each. Driven by the fixtures `start` and `forked_python`.

Reads a line of JSON for each order of `start` and answers with one; programs of `forked_python` come through the socket
that it is given. Nothing that starts threads or draws random numbers happens here before a fork, so a child is what
``python -m detour`` would have become.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
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
ATTENDING: list[int] = []
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


def wait(pid: int, seconds: float, listener: socket.socket) -> int | None:
    """Exit code of a child, negative for a signal; None if it still runs. May be asked again."""
    deadline = time.monotonic() + seconds
    while pid not in ENDED:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ENDED[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return None
        elif select.select([listener], [], [], 0.01)[0]:
            attend(listener)
    return ENDED[pid]


def attend(listener: socket.socket) -> None:
    """Leaves a program of `forked_python` to a process of its own, which waits for it."""
    connection, _ = listener.accept()
    ATTENDING[:] = [pid for pid in ATTENDING if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    if pid := os.fork():
        ATTENDING.append(pid)
        connection.close()
        return
    listener.close()
    received, streams = b"", []
    while not received.endswith(b"\0"):
        part, more, *_ = socket.recv_fds(connection, 1 << 20, 3)
        received, streams = received + part, streams + more
    order = json.loads(received[:-1])
    program = os.fork()
    if not program:
        connection.close()
        end(run_program(order, streams))
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % program)
    ended = os.pidfd_open(program)
    if ended not in select.select([connection, ended], [], [])[0]:  # what stands for it was killed
        os.killpg(program, signal.SIGKILL)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))
    os._exit(0)


def run_program(order: dict, streams: list[int]) -> int:
    """Becomes ``python ARGUMENTS`` in the caller's folder and environment, with its standard streams."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    sys.executable, *words = order["words"]
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
    gc.collect()
    gc.freeze()  # or a collection in each child copies all that was imported
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print(json.dumps("ready"), flush=True)
        while True:
            ready, _, _ = select.select([sys.stdin, listener], [], [])
            if listener in ready:
                attend(listener)
            elif not (line := sys.stdin.readline()):
                break
            else:
                obey(json.loads(line), listener)
    for pid in ATTENDING:
        os.waitpid(pid, 0)


def obey(order: dict, listener: socket.socket) -> None:
    if "wait" in order:
        answer = wait(order["wait"], order["seconds"], listener)
    elif not (answer := os.fork()):
        end(run_child(order))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
