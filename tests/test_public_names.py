"""`import detour` is cheap, and every public name is the object that it stands for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import detour

ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_no_torch_and_a_name_loads_what_it_needs():
    code = "import sys, detour\nheavy = lambda: [m for m in ('torch', 'composer', 'omegaconf') if m in sys.modules]\n"
    assert run(f"{code}print(heavy()); detour.Phase, detour.Objective; print(heavy())") == "[]\n[]"
    assert run(f"{code}detour.check_objective; print(heavy())") == "['torch']"


@pytest.mark.parametrize("name", detour.__all__)
def test_a_public_name_is_found_and_documented(name):
    value = getattr(detour, name)
    assert name in dir(detour)
    assert name == "IGNORE" or value.__doc__


def test_type_checkers_and_the_interpreter_see_the_same_names_in_the_same_modules():
    tree = ast.parse(Path(detour.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {name: home if ":" in home else f"{home}:{name}" for name, home in detour._HOMES.items()}
    assert typed == lazy | {"train": "detour.train:train"}
    assert sorted(typed) == sorted(detour.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'detour' has no attribute 'Objectiv'"):
        detour.Objectiv  # noqa: B018


def test_train_can_be_called_before_and_after_its_module_is_imported():
    code = "import detour; first = detour.train\nfrom detour import train\nimport detour.train\n"
    assert run(f"{code}print(callable(train), first is train is detour.train)") == "True True"


def test_the_function_is_the_module_called(tiny_run, tmp_path):
    detour.train(run := tiny_run())
    assert (tmp_path / "runs" / run.name / "config.yaml").is_file()
