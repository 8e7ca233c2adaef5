"""``python -m detour.jobs LOCK COMMAND``: runs a command of Python under a file lock, unless another process holds it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from detour.files import try_lock
from detour.jobs.job import BUSY


def main(arguments: Sequence[str]) -> None:
    """Takes the lock and becomes the command, so that the lock lasts as long as the command's process."""
    path, *command = arguments
    file = open(path, "ab")  # noqa: SIM115  # kept open through exec
    if not try_lock(file):
        raise SystemExit(BUSY)
    os.set_inheritable(file.fileno(), True)
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(sys.argv[1:])
