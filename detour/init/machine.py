"""The machine of a new project: devices, memory, and what they are assumed to reach."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

MFU = 0.4  # as in `detour plan`
# dense bf16 or fp16 TFLOP/s of the slowest common GPU with so much memory (GB), from NVIDIA's data sheets
PEAK_TFLOPS = ((16, 65.0, "T4"), (24, 71.0, "RTX 3090"), (48, 155.0, "RTX A6000"), (1e9, 312.0, "A100"))
PREPARED_BYTES_PER_SECOND = 1e6  # of one process; tokenizing alone runs at 2 MB/s (`detour.data.tokenizer.encoder_of`)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices to train on.

    Attributes:
        gpus: Number of GPUs; 0 for the CPU.
        gigabytes: Memory of each GPU, or of the machine.
        cores: Cores that preparation uses.
    """

    gpus: int
    gigabytes: float
    cores: int

    @property
    def devices(self) -> int:
        """Processes of a run."""
        return max(1, self.gpus)

    def flops_per_second(self) -> tuple[float, str]:
        """FLOP/s that all devices together are assumed to reach in training, and what that rests on.

        Cost: a tenth of a second on a CPU, where matrix products are timed.
        """
        if not self.gpus:
            return cpu_speed()
        _, peak, name = next(each for each in PEAK_TFLOPS if self.gigabytes <= each[0])
        return self.gpus * peak * 1e12 * MFU, (
            f"{peak:g} TFLOP/s per GPU (those of the {name}), of which {MFU:.0%}; an assumption, nothing was measured"
        )


def cpu_speed() -> tuple[float, str]:
    """FLOP/s that training on this CPU is assumed to reach, and what that rests on: matrix products, timed for 0.1 s."""
    import torch

    from detour.cost.matmul import matmul_throughput

    measured = matmul_throughput("cpu", torch.float32)
    return measured * MFU, f"matrix products timed here at {measured / 1e9:,.0f} GFLOP/s, of which {MFU:.0%}"


def found_gpus() -> tuple[int, float]:
    """Number of GPUs of this machine, and the memory of the smallest in GB, by nvidia-smi; (0, 0) without it."""
    if shutil.which("nvidia-smi") is None:
        return 0, 0.0
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    mebibytes = [float(line) for line in done.stdout.split() if line.replace(".", "").isdigit()]
    return (len(mebibytes), round(min(mebibytes) * 2**20 / 1e9)) if mebibytes and not done.returncode else (0, 0.0)


def machine_memory() -> float:
    """Memory of this machine in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def machine_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
