"""Programs of `forked_python` are what those of python are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PYTHON = sys.executable


def test_streams_arguments_folder_and_exit_code_are_those_of_python(forked_python, tmp_path):
    (tmp_path / "near.py").write_text("NAME = 'near'\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, near\nprint(sys.argv[1:], os.getcwd(), os.environ['NAME'], near.NAME, __name__)\n"
        "print(sys.stdin.read(), file=sys.stderr)\nsys.exit(3)\n"
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {**os.environ, "NAME": "a name"}
    call = {"cwd": folder, "env": environment, "input": "asked", "capture_output": True, "text": True}
    real, forked = (subprocess.run([python, program, "a", "-b"], **call) for python in (PYTHON, forked_python))
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)
    assert real.stdout == f"['a', '-b'] {folder} a name near __main__\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit('why')", 1), ("1 / 0", 1), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", -9)],
)
def test_exit_codes(forked_python, code, expected):
    assert subprocess.run([forked_python, "-c", code], capture_output=True).returncode == expected


def test_a_program_sees_signals_and_ends_with_what_stands_for_it(forked_python, tmp_path):
    code = (
        "import signal, time\nprint('ready', flush=True)\nsignal.sigwait([signal.SIGTERM])\nprint('told', flush=True)\n"
    )
    code = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n" + code + "time.sleep(600)"
    process = subprocess.Popen([forked_python, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    process.kill()
    assert process.stdout.read() == ""  # once nothing has it open
    process.wait()
    process.stdout.close()
