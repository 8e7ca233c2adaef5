"""Where a number was computed: versions, machine and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import detour

PACKAGES = ("torch", "mosaicml", "mosaicml-streaming", "transformers", "numpy")


def environment() -> dict[str, Any]:
    """Versions, machine and commit. Nothing personal, no paths, no environment variables.

    A package that is not installed has the version None; so has the commit where detour runs without its repository.
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    folder = Path(__file__).parent
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
