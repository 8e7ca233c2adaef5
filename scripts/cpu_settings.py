"""Runs the tests that assert what a training reached as other CPUs would: ``python scripts/cpu_settings.py [ARGUMENT...]``.

Rounding differs between CPUs, and training enlarges it. Each setting below restricts the kernels of torch (ATen) or of MKL
to an older instruction set. With each of them the tests marked ``trains`` run on one thread and on two, with three seeds.
Those also marked ``slow`` start processes and fix their seed: they run with the first seed only. Arguments go to pytest
(``-m`` replaces the choice of tests). One line per setting; the exit code is 1 if a test fails anywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parent.parent
CPUS = [
    {},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
]
THREADS, SEEDS = (1, 2), (0, 1, 2)


def main(arguments: list[str]) -> int:
    """Runs all settings one after the other; the number that failed."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(file.relative_to(ROOT)) for file in tests if "mark.trains" in file.read_text(encoding="utf-8")]
    failed = 0
    for seed, threads, cpu in product(SEEDS, THREADS, CPUS):
        tried = {
            **cpu,
            "OMP_NUM_THREADS": str(threads),
            "DETOUR_TEST_THREADS": str(threads),
            "DETOUR_TEST_SEED": str(seed),
        }
        chosen = "trains" if seed == SEEDS[0] else "trains and not slow"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", chosen, *arguments, *files]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **tried}, capture_output=True, text=True)
        failed += done.returncode != 0
        settings = " ".join(f"{name}={value}" for name, value in tried.items())
        counts = (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
        print(f"{'failed' if done.returncode else 'passed'}  {settings}  ({counts})", flush=True)
        if done.returncode:
            print(done.stdout[-4000:] + done.stderr[-2000:], flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
