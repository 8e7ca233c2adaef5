"""Which way imports run: a module knows only what lies below it, and each outside library has its place."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [  # lowest first; a module imports from lower rows, and from its own package
    [
        "detour.errors",
        "detour.units",
        "detour.redact",
        "detour.console",
        "detour.names",
        "detour.markup",
        "detour.versions",
        "detour.hub",
    ],
    ["detour.files", "detour.registry", "detour.provenance"],
    [
        "detour.attention_rule",
        "detour.scheduled",
        "detour.options",
        "detour.batch",
        "detour.optimizer",
        "detour.vocab",
        "detour.jobs",
        "detour.plotting",
    ],
    ["detour.data", "detour.extensions"],
    ["detour.models"],
    ["detour.objectives"],
    ["detour.phases", "detour.testing"],
    ["detour.schedule"],
    ["detour.phase_clock"],
    ["detour.config"],
    ["detour.corpus", "detour.cost"],
    ["detour.training", "detour.evaluation"],
    ["detour.export", "detour.report", "detour.analysis", "detour.init"],
    ["detour.experiments", "detour.merging", "detour.retention"],
    ["detour.build"],
    ["detour.train"],
    ["detour.cli"],
    ["detour.__main__"],
]
HOMES = {  # outside library -> modules that may import it
    "composer": ["detour.training", "detour.build", "detour.train"],
    "streaming": ["detour.data", "detour.training"],
    "omegaconf": ["detour.config", "detour.options"],
    "transformers": ["detour.data", "detour.models", "detour.evaluation", "detour.training.start"],
    "wandb": ["detour.training.loggers.wandb"],
    "data_prep": ["data_prep"],
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("detour", "data_prep")
    for path in (ROOT / package).rglob("*.py")
}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Every module that a file imports, at its top or inside functions; of `from a import b` also a.b if that is one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= names or {str(node.module)}
    return frozenset(found)


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def row_of(module: str) -> tuple[int, str]:
    (place,) = [(row, package) for row, packages in enumerate(ROWS) for package in packages if inside(module, package)]
    return place


OURS = sorted(module for module in MODULES if inside(module, "detour") and module != "detour")


def test_the_modules_are_found():
    assert {
        "detour.models.encoder",
        "detour.training.callbacks.ledger",
        "detour.corpus.pack",
    } <= MODULES.keys()
    assert "composer.core" in imports_of("detour.training.phase_switch")
    assert "detour.train" in imports_of("detour.cli.runs")  # inside a function


@pytest.mark.parametrize("module", OURS)
def test_a_module_imports_only_lower_rows(module):
    row, package = row_of(module)
    for imported in imports_of(module):
        if inside(imported, "detour") and imported != "detour" and not inside(imported, package):
            assert row_of(imported)[0] < row, f"{module} imports {imported}"


def test_the_package_itself_loads_none_of_its_modules_before_a_name_is_used():
    code = "import sys, detour; print([name for name in sys.modules if name.startswith('detour.') or name == 'torch'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_analysis_reads_exported_folders_and_no_runs():
    analysis = [module for module in OURS if inside(module, "detour.analysis")]
    assert analysis
    for module in analysis:
        runs = ("detour.training", "detour.build", "detour.train", "detour.config")
        assert not [name for name in imports_of(module) if any(inside(name, package) for package in runs)]


@pytest.mark.parametrize("library", HOMES)
def test_an_outside_library_is_imported_only_where_it_belongs(library):
    users = [module for module in MODULES if any(inside(imported, library) for imported in imports_of(module))]
    assert users, "no longer used: drop it from the list"
    assert not [module for module in users if not any(inside(module, home) for home in HOMES[library])]


def test_nothing_outside_training_and_build_loads_composer():
    light = [
        "detour",
        "detour.cli.main",
        "detour.phase_clock",
        "detour.cost.flops",
        "detour.testing",
        "detour.config.load",
    ]
    light += ["detour.models.encoder", "detour.cost.plan", "detour.evaluation.suite"]
    light += ["detour.analysis.similarity", "detour.analysis.transplant", "detour.analysis.curves"]
    light += ["detour.training.run_folder", "detour.training.checkpoints.files", "detour.training.gradient_gate"]
    code = f"import sys, {', '.join(light)}\nprint([name for name in ('composer', 'streaming', 'wandb') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_command_line_loads_no_torch():
    code = "import sys, detour.cli.main\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


LONGER = {  # files of more than 300 lines and functions of more than 60: lines allowed, and why it is not divided
    "detour.data.loader.open_rows": (75, "twelve arguments and their descriptions are 33 of the lines"),
}


@pytest.mark.parametrize("module", OURS)
def test_files_have_at_most_300_lines_and_functions_60(module):
    source = MODULES[module].read_text()
    lengths = {module: len(source.splitlines())}
    limits = {module: 300}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            name, length = f"{module}.{node.name}", int(node.end_lineno or 0) - node.lineno + 1
            lengths[name] = max(length, lengths.get(name, 0))  # methods of several classes share a name
            limits[name] = 60
    too_long = {name: length for name, length in lengths.items() if length > limits[name]}
    allowed = {name: LONGER[name][0] for name in limits if name in LONGER}
    assert too_long.keys() == allowed.keys(), "divide it, or drop it from LONGER"
    assert all(too_long[name] <= allowed[name] for name in allowed)
