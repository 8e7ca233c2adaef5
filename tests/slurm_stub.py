"""A stand-in for SLURM's commands that runs the tasks of a submitted array on this machine, one after the other.

It reads the script that submitit writes, sets the variables that SLURM sets, and reports states as sacct does.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from detour.jobs.executors import SlurmExecutor

PYTHON = sys.executable  # also where a test replaces it by `forked_python`

SBATCH = """#!{python} -IS
import os, re, subprocess, sys
from pathlib import Path
folder = Path({folder!r})
script = Path(sys.argv[-1])
number = str(100 + len(list(folder.glob("job-*"))))
(folder / f"job-{{number}}").write_text(script.read_text())
array = re.search(r"^#SBATCH --array=(\\d+)-(\\d+)", script.read_text(), re.MULTILINE)
tasks = range(int(array[1]), int(array[2]) + 1) if array else [None]
print("Submitted batch job", number, flush=True)
for task in tasks:
    (folder / ("state-" + number + ("" if task is None else f"_{{task}}"))).write_text("PENDING")
if os.fork():
    sys.exit()
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for stream in range(3):
    os.dup2(null, stream)
for task in tasks:
    state = folder / ("state-" + number + ("" if task is None else f"_{{task}}"))
    environment = dict(os.environ, SLURM_JOB_ID=number, SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0")
    environment.update(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_JOB_NODELIST="localhost")
    if array:
        environment.update(SLURM_ARRAY_JOB_ID=number, SLURM_ARRAY_TASK_ID=str(task))
    state.write_text("RUNNING")
    code = subprocess.call(["bash", str(folder / f"job-{{number}}")], env=environment)
    state.write_text("FAILED" if code else "COMPLETED")
"""
SRUN = """#!{python} -IS
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2:] if words[0] in ("--output", "--error") else words[1:]
os.execvp(words[0], words)
"""
SACCT = """#!{python} -IS
from pathlib import Path
print("JobID|State|NodeList")
for file in Path({folder!r}).glob("state-*"):
    print(file.name.removeprefix("state-") + "|" + file.read_text() + "|localhost")
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder on PATH with the commands, in which the submitted scripts lie as ``job-100``, ``job-101``, ..."""
    folder = tmp_path / "slurm_commands"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        path = folder / name
        path.write_text(text.format(python=PYTHON, folder=str(folder)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(SlurmExecutor, "seconds", 0.2)
    return folder
