"""Starts training processes cheaply: imports once, then forks for each. Driven by the fixture `start`.

Reads a line of JSON for each order and answers with one. Nothing that starts threads or draws random numbers happens
here before a fork, so a child is what ``python -m detour`` would have become.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import runpy
import signal
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

from detour import train
from detour.cli.main import main

SLOW_IMPORTS = (composer.algorithms, pydantic.type_adapter, transformers.modeling_utils, train)
FAULTS = runpy.run_path(str(Path(__file__).with_name("injections.py")))
ENDED: dict[int, int] = {}
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


def wait(pid: int, seconds: float) -> int | None:
    """Exit code of a child, negative for a signal; None if it still runs. May be asked again."""
    deadline = time.monotonic() + seconds
    while pid not in ENDED:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ENDED[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return None
        else:
            time.sleep(0.01)
    return ENDED[pid]


def serve() -> None:
    torch.set_num_threads(1)
    print(json.dumps("ready"), flush=True)
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "wait" in order:
            answer = wait(order["wait"], order["seconds"])
        elif not (answer := os.fork()):
            end(run_child(order))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
