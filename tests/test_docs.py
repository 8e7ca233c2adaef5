"""The documentation says what is so: code runs, YAML is valid, names exist, generated pages are fresh."""

import inspect
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import catalogue
import pytest
import yaml
from omegaconf import OmegaConf

from detour import objectives
from detour.cli.data import pack
from detour.cli.main import app
from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from detour.models.modernbert.architecture import SIZES
from detour.testing import check_objective
from detour.training.checkpoints import compatible

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def keys_of(cls: type, prefix: str = "") -> set[str]:
    """Every key of the configuration, with dots; keys of list items are those of the list."""
    found = set()
    for name, hint in get_type_hints(cls).items():
        found.add(prefix + name)
        inner = get_args(hint)[0] if get_origin(hint) is list else hint
        if is_dataclass(inner):
            found |= keys_of(inner, f"{prefix}{name}.")
    return found


@pytest.fixture
def span_mlm(monkeypatch, tmp_path):
    """The module of docs/extend.md, imported from a file of the name that the page gives, and forgotten afterwards."""
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))
    (tmp_path / "span_mlm.py").write_text(blocks(DOCS / "extend.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("span_mlm")
    del sys.modules["span_mlm"]


def test_the_configuration_reference_is_what_the_docstrings_say():
    reference = runpy.run_path(str(ROOT / "scripts" / "config_reference.py"))
    assert (DOCS / "config.md").read_text() == reference["render"](), "run scripts/config_reference.py"


def test_the_configuration_reference_has_every_key_with_a_meaning():
    text = (DOCS / "config.md").read_text().split("## `model.architecture`")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    keys = keys_of(RunConfig)
    leaves = {key.split(".")[-1] for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
    assert leaves - {name for name, _ in rows} == set()
    assert [name for name, meaning in rows if not meaning.strip()] == []
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) >= set(SIZES)


@EACH_PAGE
def test_links_lead_to_files_that_exist(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose(page)):
        assert (page.parent / target).exists(), target


@EACH_PAGE
def test_files_that_are_named_exist(page):
    for path in re.findall(r"(?<![\w/.])((?:yamls|scripts|tests|detour|data_prep)/[\w/]+\.\w+)", page.read_text()):
        assert (ROOT / path).exists(), path


@EACH_PAGE
def test_keys_that_are_named_exist(page):
    known = keys_of(RunConfig)
    sections = "|".join(f.name for f in fields(RunConfig) if f"{f.name}." in " ".join(known))
    named = re.findall(rf"`((?:{sections})\.(?!json`)[\w.]+?)(?:[:=][^`]*)?`", prose(page))  # evaluation.json is a file
    assert [key for key in named if re.sub(r"\.\d+(?=\.|$)", "", key) not in known] == []


@EACH_PAGE
def test_yaml_snippets_are_valid_over_the_main_recipe(page, span_mlm):
    base = OmegaConf.load(ROOT / "yamls" / "base_clm_detour.yaml")
    for block in blocks(page, "yaml"):
        from_mapping(OmegaConf.merge(base, yaml.safe_load(block)), source=page.name)


@EACH_PAGE
def test_commands_that_are_named_exist(page):
    def names(commands):
        return {command.name or command.callback.__name__ for command in commands.registered_commands}

    known = names(app)
    for group in app.registered_groups:
        known |= {f"{group.typer_instance.info.name} {name}" for name in names(group.typer_instance)}
    groups = "|".join(group.typer_instance.info.name for group in app.registered_groups)
    named = re.findall(rf"(?:`|^)detour ((?:(?:{groups}) )?\w+)", page.read_text(), re.MULTILINE)
    assert set(named) <= known


def test_the_options_of_the_packer_are_those_in_the_table():
    table = re.findall(r"^\| `--([\w-]+)` \|", (DOCS / "data.md").read_text(), re.MULTILINE)
    parameters = [name.replace("_", "-") for name in inspect.signature(pack).parameters]
    assert set(table) == set(parameters) - {"inputs"}


def test_messages_in_the_faq_are_messages_of_the_library():
    source = "".join(path.read_text() for path in (ROOT / "detour").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)  # literals that are written over several lines
    headings = re.findall(r"^### `(.+)`$", (DOCS / "faq.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    assert [text for text in headings if text not in joined] == []


def test_everything_that_a_resume_compares_is_in_the_table():
    text = (DOCS / "checkpoints.md").read_text()
    table = text[text.index("| may not change") : text.index("| may change")]
    assert [key for key in compatible._FIXED if f"`{key}`" not in table] == []


def test_decisions_are_in_the_index_and_have_the_three_parts():
    index = (DOCS / "index.md").read_text()
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert len(pages) >= 8
    for page in pages:
        assert f"decisions/{page.name}" in index
        assert re.findall(r"^\*\*(\w+)\.\*\*", page.read_text(), re.MULTILINE) == ["Context", "Decision", "Consequence"]


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []


def test_the_objective_of_the_page_is_short_and_keeps_the_contract(span_mlm):
    code, check = blocks(DOCS / "extend.md", "python")
    assert len(code.splitlines()) < 30
    exec(check, {"SpanMLM": span_mlm.SpanMLM})
    for options in ({}, {"span": 1}, {"rate": 0.4, "span": 5}):
        objective = objectives.build("span_mlm", options)
        assert type(objective) is span_mlm.SpanMLM
    check_objective(objectives.build("span_mlm", {"span": 1}))


def test_the_objective_of_the_page_is_found_by_its_entry_point(tmp_path):
    """In a process of its own: entry points are read once, when the library is first imported."""
    page = DOCS / "extend.md"
    (tmp_path / "span_mlm.py").write_text(blocks(page, "python")[0])
    declared = blocks(page, "toml")[0]
    group, name, target = re.search(r'\[project\.entry-points\.(\w+)\]\n(\w+) = "(.+)"', declared).groups()
    info = tmp_path / "span_mlm-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: span-mlm\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    code = "from detour import objectives; print(objectives.build('span_mlm', {'span': 2}).span, objectives.registry.names())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("2 "), done.stderr
    assert "'span_mlm'" in done.stdout


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
