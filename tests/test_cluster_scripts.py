"""Scripts that start runs on clusters, with stand-ins for their commands; no cluster is needed."""

import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from tests.pages import DOCS, ROOT, blocks, commands_in


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_say_how_they_are_used(script):
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(["bash", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_torchrun_gets_the_configuration_and_the_place_in_the_cluster(tmp_path):
    """With a torchrun that prints its arguments."""
    fake = tmp_path / "torchrun"
    fake.write_text('#!/bin/sh\necho "$NODE_RANK" "$@"\n')
    fake.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NPROC": "2",
        "NODES": "3",
        "NODE_RANK": "1",
    }
    command = ["bash", ROOT / "scripts" / "torchrun.sh", "a.yaml", "name=x y"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[0] == "1"
    for option, value in {"--nnodes": "3", "--node-rank": "1", "--nproc-per-node": "2"}.items():
        assert words[words.index(option) + 1] == value
    assert done.stdout.rstrip().endswith("main.py a.yaml name=x y")


@pytest.fixture
def slurm(tmp_path):
    """Environment of a job on two nodes of four GPUs, with stand-ins for SLURM's commands and Composer's launcher."""
    stand_ins = {
        "scontrol": 'if [ "$1" = show ]; then printf "n1\\nn2\\n"; else echo "scontrol $*"; fi',
        "srun": 'shift; SLURM_NODEID=1 exec "$@"',
        "composer": 'printf "<%s>" "$@"; echo; eval "${LAST:+sleep $LAST}"',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SUBMIT_DIR": str(tmp_path), "JOB_ID": "41", "JOB_NUM_NODES": "2", "JOB_NODELIST": "n[1-2]"}
    environment = {f"SLURM_{key}": value for key, value in {**job, "GPUS_PER_NODE": "h100:4"}.items()}
    return {**os.environ, **environment, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LAST": ""}


SLURM = ["bash", str(ROOT / "scripts" / "slurm.sh"), "a.yaml", "name=x y"]


def test_slurm_starts_the_launcher_with_the_place_in_the_cluster(slurm):
    done = subprocess.run(SLURM, env=slurm, capture_output=True, text=True, check=True)
    arguments = re.findall(r"<(.*?)>", done.stdout)
    for option, value in {"-n": "4", "--world_size": "8", "--node_rank": "1", "--master_addr": "n1"}.items():
        assert arguments[arguments.index(option) + 1] == value
    assert arguments[-3:] == ["main.py", "a.yaml", "name=x y"]


@pytest.mark.parametrize(
    "command", [c for c in commands_in(DOCS / "tutorials" / "slurm.md") if c.startswith("sbatch ")]
)
def test_what_the_tutorial_submits_starts_the_launcher_on_each_node(command, slurm):
    words = shlex.split(command)
    script = words.index("scripts/slurm.sh")
    nodes, gpus = (words[words.index(option) + 1] for option in ("--nodes", "--gpus-per-node"))
    job = {**slurm, "SLURM_JOB_NUM_NODES": nodes, "SLURM_GPUS_PER_NODE": gpus}
    done = subprocess.run(
        ["bash", str(ROOT / words[script]), *words[script + 1 :]], env=job, capture_output=True, text=True, check=True
    )
    arguments = re.findall(r"<(.*?)>", done.stdout)
    assert arguments[arguments.index("--world_size") + 1] == str(int(nodes) * int(gpus))
    assert arguments[arguments.index("main.py") + 1 :] == words[script + 1 :]


@pytest.mark.parametrize(
    ("last", "code", "requeued"), [("0", 0, False), ("0; exit 75", 75, True), ("0; exit 1", 1, False)]
)
def test_the_script_of_the_tutorial_requeues_what_was_saved_and_nothing_else(slurm, tmp_path, last, code, requeued):
    (script,) = blocks(DOCS / "tutorials" / "slurm.md", "sh")
    (tmp_path / "own.sh").write_text(script)
    job = {**slurm, "LAST": last}
    done = subprocess.run(["bash", tmp_path / "own.sh", "a.yaml", "name=x y"], env=job, capture_output=True, text=True)
    assert done.stdout.startswith("<main.py><a.yaml><name=x y><system.max_minutes=1190>")
    assert ("scontrol requeue 41" in done.stdout) is requeued
    assert done.returncode == code


def test_the_script_of_the_tutorial_outlives_the_signal_that_makes_the_run_save(slurm, tmp_path):
    (script,) = blocks(DOCS / "tutorials" / "slurm.md", "sh")
    (tmp_path / "own.sh").write_text(script)
    job = subprocess.Popen(
        ["bash", tmp_path / "own.sh", "a.yaml"], env={**slurm, "LAST": "1; exit 75"}, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    assert "main.py" in job.stdout.readline()
    job.send_signal(signal.SIGTERM)  # to the shell alone; SLURM signals the launcher as well
    assert "scontrol requeue 41" in job.communicate(timeout=30)[0]


def test_slurm_limits_the_run_to_the_time_that_the_job_has_and_the_command_line_wins(slurm):
    job = {**slurm, "SLURM_JOB_END_TIME": str(int(time.time()) + 3600 + 30)}
    done = subprocess.run(SLURM, env=job, capture_output=True, text=True, check=True)
    arguments = re.findall(r"<(.*?)>", done.stdout)
    assert arguments[-4:] == ["main.py", "a.yaml", "system.max_minutes=56", "name=x y"]


def test_slurm_requeues_a_run_that_saved_and_stopped_early(slurm):
    done = subprocess.run(SLURM, env={**slurm, "LAST": "0; exit 75"}, capture_output=True, text=True)
    assert "scontrol requeue 41" in done.stdout
    assert done.returncode == 0, "an error would have srun kill the other nodes"
    done = subprocess.run(SLURM, env=slurm, capture_output=True, text=True)
    assert "requeue" not in done.stdout, "complete"


def test_slurm_requeues_the_job_at_the_signal_before_the_time_limit(slurm):
    job = subprocess.Popen(SLURM, env={**slurm, "LAST": "3"}, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert "main.py" in job.stdout.readline()  # the launcher runs
    job.send_signal(signal.SIGUSR1)
    assert "scontrol requeue 41" in job.communicate(timeout=30)[0]


def test_slurm_ends_with_the_error_of_the_launcher_and_does_not_requeue(slurm):
    done = subprocess.run(SLURM, env={**slurm, "LAST": "no number"}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "requeue" not in done.stdout
