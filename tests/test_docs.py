"""README and docs are up to date: code runs, YAML is valid, names exist, generated pages are fresh.

How each kind of block is checked:

- Python: README, quickstart and extending are executed here, on tiny data; the example of `PhaseClock` in tests/examples.
- Tutorial and quickstart, and the two fill-mask blocks: tests/test_tutorial.py runs them at toy size.
- ``yaml`` blocks: valid over the main recipe. ``yml`` blocks: preparations in tests/corpus/test_mixtures.py, tasks in
  tests/evaluation/data/test_task.py, runs and plugins here.
- Shell: `NOT_RUN` lists the commands that need a GPU, a hub, a cluster or minutes, and why; they are parsed, their options
  and overrides checked. `detour plan` runs here.
"""

import gzip
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import catalogue
import pytest
import typer
import yaml
from omegaconf import OmegaConf

import detour
from detour import objectives
from detour.cli.main import app
from detour.config.load import from_mapping, load, to_yaml
from detour.config.schema import RunConfig
from detour.evaluation.data.task import load_suite
from detour.experiments.config import load_experiment
from detour.models.families import sizes
from detour.testing import check_objective
from detour.training.checkpoints import resume_rules
from tests.pages import DOCS, PAGES, ROOT, blocks, commands_in

EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def environment_with(*paths: Path) -> dict[str, str]:
    """This process's environment, with these folders searched for modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


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


def test_generated_pages_are_what_the_docstrings_say():
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    done = subprocess.run(command, env=environment_with(ROOT), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["data_preparation", "tasks"])
def test_every_key_of_a_generated_page_has_a_meaning(page):
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (.*) \|$", (DOCS / "reference" / f"{page}.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 30
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_the_configuration_reference_has_every_key_with_a_meaning():
    text = (DOCS / "config.md").read_text().split("## `model.architecture`")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    keys = keys_of(RunConfig)
    leaves = {key.split(".")[-1] for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
    assert leaves - {name for name, _ in rows} == set()
    assert [name for name, meaning in rows if not meaning.strip()] == []
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) >= set(sizes())


@EACH_PAGE
def test_links_lead_to_files_that_exist(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose(page)):
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
        found = {
            command.name or command.callback.__name__.replace("_", "-") for command in commands.registered_commands
        }
        for group in commands.registered_groups:
            inner, below = group.typer_instance.info.name, names(group.typer_instance)
            found |= {inner, *(f"{inner} {name}" for name in below)} if isinstance(inner, str) else below
        return found

    known = names(app)
    groups = "|".join(filter(None, (group.typer_instance.info.name for group in app.registered_groups)))
    named = (
        re.findall(rf"(?:`|^)detour ((?:(?:{groups}) )?\w[\w-]*)", page.read_text(), re.MULTILINE)
        if page.name != "CHANGELOG.md"
        else []
    )
    assert set(named) <= known


def test_the_options_of_the_packer_are_those_in_the_table():
    table = re.findall(r"^\| `(--[\w-]+)` \|", (DOCS / "data.md").read_text(), re.MULTILINE)
    command, _ = command_of(["data", "pack"])
    assert set(table) == {p.opts[0] for p in command.params if p.param_type_name == "option"} - {"--help"}


def test_messages_in_the_faq_are_messages_of_the_library():
    source = "".join(path.read_text() for path in (ROOT / "detour").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)  # literals that are written over several lines
    headings = re.findall(r"^### `(.+)`$", (DOCS / "faq.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    assert [text for text in headings if text not in joined] == []


def test_everything_that_a_resume_compares_is_in_the_table():
    text = (DOCS / "checkpoints.md").read_text()
    table = text[text.index("| may not change") : text.index("| may change")]
    assert [key for key in resume_rules._FIXED if f"`{key}`" not in table] == []


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
    code, check, *_ = blocks(DOCS / "extend.md", "python")
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
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment_with(tmp_path, ROOT), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("2 "), done.stderr
    assert "'span_mlm'" in done.stdout


def test_the_callback_of_the_page_is_built_from_the_yaml_of_the_page(tmp_path, tiny_run, forked_python):
    """In a process of its own, since a registered name stays."""
    (tmp_path / "counting.py").write_text(blocks(DOCS / "extend.md", "python")[3])
    run = yaml.safe_load(to_yaml(tiny_run())) | yaml.safe_load(blocks(DOCS / "extend.md", "yml")[1])
    del run["loggers"]  # needs the package tensorboard
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    done = subprocess.run(
        [forked_python, "-m", "detour", "train", "run.yaml"],
        cwd=tmp_path,
        env=environment_with(tmp_path, ROOT),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "10 batches" in done.stdout


def test_plugins_of_the_page_make_an_objective_known(tmp_path, tiny_run, forked_python):
    (tmp_path / "span_mlm.py").write_text(blocks(DOCS / "extend.md", "python")[0])
    run = yaml.safe_load(to_yaml(tiny_run())) | yaml.safe_load(blocks(DOCS / "extend.md", "yml")[0])
    run["phases"][2] |= {"objective": "span_mlm", "options": {"span": 5}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    code = "import detour; print(detour.load_config('run.yaml').phases[2].options)"
    done = subprocess.run(
        [forked_python, "-c", code],
        cwd=tmp_path,
        env=environment_with(ROOT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "{'span': 5}", done.stderr


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "quickstart.md"], ids=lambda path: path.name)
def test_training_from_python_as_the_page_shows_it(page, tiny_run, tmp_path, monkeypatch):
    """The page's code on the tiny corpus: another YAML of the same name, and 1,000 tokens for each phase."""
    (tmp_path / "yamls").mkdir()
    (tmp_path / "yamls" / "smoke.yaml").write_text(to_yaml(tiny_run()))
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks(page, "python") if "load_config" in block]
    named = {}
    exec(code.replace("400_000", "1000"), named)
    assert (Path(named["run"].folder) / named["run"].name / "metrics.jsonl").is_file()


def test_the_objective_of_the_readme_is_registered(monkeypatch):
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))
    (code,) = [block for block in blocks(ROOT / "README.md", "python") if "register_objective" in block]
    exec(code, {"__name__": "readme"})
    assert objectives.build("my_objective", {"rate": 0.3}).target_fraction(500.0) == 0.3


def test_every_public_name_is_in_the_api_reference():
    listed = set(re.findall(r"^::: ([\w.]+)$", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE))
    homes = {name: getattr(getattr(detour, name), "__module__", None) for name in detour.__all__}
    homes |= {"train": "detour.train", "IGNORE": "detour.batch", "Batch": "detour.batch"}
    homes |= {name: "detour.extensions" for name in homes if name in dir(import_module("detour.extensions"))}
    assert {name: home for name, home in homes.items() if home not in listed} == {}


@EACH_PAGE
def test_python_blocks_compile(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_the_navigation_has_every_page():
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


def test_the_readme_is_short_and_shows_a_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert "(docs/images/report.svg)" in text
    assert "held-out" in (DOCS / "images" / "report.svg").read_text()


def test_the_picture_is_drawn_from_a_run(tmp_path, monkeypatch, tiny_run):
    script = runpy.run_path(str(ROOT / "scripts" / "readme_figure.py"))
    monkeypatch.setitem(script["main"].__globals__, "OUT", tmp_path / "images" / "report.svg")
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))
    line = {"batch": 1, "token": 1000, "phase/index": 0, "loss/train/total": 2.0, "lr": 1e-3, "grad_norm": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    script["main"](tmp_path)
    assert "<svg" in (tmp_path / "images" / "report.svg").read_text()


NOT_RUN = {  # first words of a command -> why it is parsed and checked in place of run
    "make": "a target of the Makefile, checked by name; .ci/run runs lint, types, test, docs and wheel",
    "pip": "installs; extras and the file of constraints are checked",
    "composer": "minutes to days; configuration and overrides are loaded",
    "sbatch": "a cluster; as composer, and those of the tutorial run here with stand-ins",
    "hf download": "the hub",
    "data_prep/small_experiment.sh": "needs the corpora; five minutes",
    "python scripts/recompute_experiment.py": "tests/experiments/test_smoke.py runs it",
    "scripts/torchrun.sh": "as composer",
    "scripts/small_standin.sh": "needs the corpora; its overrides are loaded below",
    "python scripts/mutation.py": "minutes; tests/test_docs.py checks that the script exists",
    "python scripts/cpu_settings.py": "an hour",
    "python scripts/wandb_workspace.py": "tests/training/loggers/test_wandb_workspace.py runs it",
    "python scripts/heads.py": "tests/evaluation/finetune/test_heads_table.py runs its parts",
    "python scripts/smoke_data.py": "tests/experiments/test_smoke.py runs it",
    "python -m benchmarks": "minutes; options are checked",
    "python -m data_prep.synthetic": "options are checked; tests/corpus/test_synthetic.py runs it",
    "detour analyze": "tests/analysis/test_commands.py runs the commands of docs/analyze.md on tiny models",
    "detour merge": "tests/merging runs the commands on tiny models",
    "python examples/plain_loop.py": "tests/examples/test_loops.py runs it on a tiny run",
    "python examples/hf_trainer.py": "tests/examples/test_loops.py runs it on a tiny run",
    "python examples/contrastive.py": "tests/export/test_sentence.py runs it on a tiny model",
    "detour retention": "tests/retention runs it on models whose losses are known",
    "detour": "parsed, with overrides and the recipe that is named; tests/test_tutorial.py and tests/test_cli.py run them",
    "bash project/run.sh": "tests/init/test_end_to_end.py runs its commands",
    ". .venv/bin/activate": "needs the environment that make creates",
}


def command_of(words: list[str]):
    """The command that the words begin with, and the words after it."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"detour {' '.join(words)}: no command '{name}'"
        command = command.commands[name]
    return command, rest


def test_the_pictures_of_sick_runs_are_those_that_the_gallery_trains(monkeypatch):
    monkeypatch.chdir(ROOT)
    gallery = runpy.run_path(str(ROOT / "scripts" / "gallery.py"))
    drawn = {f"{run}_{figure}.svg" for run, figures in gallery["FIGURES"].items() for figure in figures}
    assert drawn == {path.name for path in (DOCS / "images" / "gallery").iterdir()}
    assert drawn == set(re.findall(r"images/gallery/([\w.]+)\)", (DOCS / "reading_reports.md").read_text()))
    assert gallery["runs"]().keys() == gallery["FIGURES"].keys()
    reports = {path.name for path in (DOCS / "gallery").iterdir()}
    assert reports == {"smoke.html", *(f"{run}.html" for run in gallery["runs"]())}
    assert reports == set(re.findall(r"\(gallery/([\w.]+)\)", (DOCS / "reading_reports.md").read_text()))
    for name, changes in gallery["runs"]().items():
        load("yamls/smoke.yaml", [f"name={name}", *(f"{key}={json.dumps(value)}" for key, value in changes.items())])


@pytest.mark.parametrize("report", sorted((DOCS / "gallery").glob("*.html")), ids=lambda path: path.stem)
def test_a_report_of_the_gallery_is_one_small_file_without_paths(report):
    page = report.read_text()
    assert len(gzip.compress(page.encode())) < 50_000
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)|url\((?!["']?(?:#|data:))""", page)
    assert not re.search(r"(?<![\w.<])/(?:work|home|root|tmp)/", page)


def test_the_experiment_of_the_page_loads(tmp_path, monkeypatch):
    (block,) = blocks(DOCS / "experiments.md", "yml")
    folder = tmp_path / "experiments"
    shutil.copytree(ROOT / "yamls" / "experiments", folder)
    (folder / "page.yaml").write_text(block)
    monkeypatch.setenv("DETOUR_SMALL_DATA", "data")
    assert {arm for arm, _ in load_experiment(folder / "page.yaml").runs} == {"mlm_twin", "detour"}


def check_recipe(words: list[str]) -> None:
    """Loads the recipe that is named, with the overrides behind it."""
    for position, word in enumerate(words):
        if word.startswith("yamls/experiments/"):
            with pytest.MonkeyPatch.context() as patch:
                for name in ("DETOUR_SMALL_DATA", "DETOUR_MINILM", "DETOUR_MINILM_DATA", "DETOUR_TASKS"):
                    patch.setenv(name, "data")
                load_experiment(ROOT / word)
        elif word.startswith("yamls/heads/"):
            load_suite(ROOT / word, [other[5:] for other in words[position + 1 :] if other.startswith("task.")])
        elif word.startswith("yamls/"):
            load(ROOT / word, [other for other in words[position + 1 :] if "=" in other and not other.startswith("-")])


ALL_COMMANDS = sorted({(command, page.name) for page in PAGES for command in commands_in(page)})


@pytest.mark.parametrize(
    ("command", "page"), ALL_COMMANDS, ids=[f"{page}: {command}" for command, page in ALL_COMMANDS]
)
def test_commands_of_the_pages_are_valid(command, page):
    assert any(command.startswith(start) for start in NOT_RUN), f"{page}: say in NOT_RUN how this is checked"
    words = shlex.split(command)
    if words[0] == "detour" and words[1:] != ["--version"]:
        found, rest = command_of(words[1:])
        found.make_context(found.name, rest)  # raises a usage error
    if words[0] in ("detour", "composer", "sbatch", "scripts/torchrun.sh") or command.startswith("python examples/"):
        check_recipe(words)
        assert [word for word in words if word.startswith("scripts/") and not (ROOT / word).exists()] == []
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "pip":
        extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
        assert set(re.findall(r"\[(\w+)\]", command)) <= extras
        if "--no-deps" in words:  # the newest stack
            assert all(
                (ROOT / word).exists() for word in words[words.index("--no-deps") + 1 :] if not word.startswith("-")
            )
        elif not words[2].startswith("torch=="):
            assert (ROOT / words[words.index("-c") + 1]).is_file()
    elif words[:2] == ["python", "-m"]:
        package = ROOT / words[2].replace(".", "/")
        files = [package.with_suffix(".py")] if package.with_suffix(".py").is_file() else [*package.glob("*.py")]
        source = "".join(
            path.read_text() for path in files
        )  # importing benchmarks takes half a minute on a busy machine
        assert source
        options = [word.removeprefix("--") for word in words[3:] if word.startswith("--")]
        assert [
            name for name in options if f"--{name}" not in source and f"{name.replace('-', '_')}:" not in source
        ] == []


def test_plan_runs_on_the_main_recipe_as_the_readme_says(capsys):
    command, rest = command_of(["plan", str(ROOT / "yamls" / "base_clm_detour.yaml")])
    command.main(rest, standalone_mode=False)
    assert "decay" in capsys.readouterr().out
