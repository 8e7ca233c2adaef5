"""Provenance of a result: versions, machine and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import detour

PACKAGES = ("torch", "mosaicml", "mosaicml-streaming", "transformers", "numpy")


def environment() -> dict[str, Any]:
    """Versions, machine, number of processes and commit; no paths, user names or environment variables.

    The version of a package that is not installed is None, and so is the commit outside a git repository.
    """
    import torch

    return {
        "detour": detour.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **{package: _version(package) for package in PACKAGES},
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    folder = Path(__file__).parent
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
