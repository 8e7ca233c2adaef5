"""Writes every generated page of docs/ from docstrings: ``python scripts/reference.py [--check]``.

docs/config.md describes a run (`config_reference`), docs/reference/data_preparation.md the YAML of ``detour data prepare``,
docs/reference/tasks.md the YAML of a task and of a suite, and docs/reference/experiments.md that of an experiment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import config_reference
from config_reference import first_line, table

from detour.corpus.config import ColumnsConfig, PrepareConfig, SourceConfig, StepConfig
from detour.corpus.readers.base import kinds as reader_kinds
from detour.corpus.steps.base import kinds as step_kinds
from detour.evaluation.data import readers as task_readers  # noqa: F401, registers the forms of labeled data
from detour.evaluation.data import task as tasks
from detour.evaluation.data.readers.base import registry as task_sources
from detour.evaluation.metrics import MEASURES
from detour.experiments import schema as experiments
from detour.jobs import ExecutorConfig
from detour.registry import Registry

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- Written by scripts/reference.py from the docstrings; edit those, then run it again. -->"
YAML = """\
Unknown keys, wrong types, and contradictions are reported together, before anything is read. `extends: other.yaml` and
`key=value` on the command line work as in [a run's YAML](../config.md). "required" means that a key has no default.
"""


def part(heading: str, cls: type, *, skip: tuple[str, ...] = ()) -> list[str]:
    """Heading, first paragraph of the docstring, and table of a dataclass's fields."""
    text = [first_line(cls), ""] if first_line(cls) else []
    return [heading, "", *text, *table(cls, skip=skip), ""]


def kinds(registry: Registry[type]) -> list[str]:
    """One section for each class of this library in a registry: its docstring and its options."""
    lines: list[str] = []
    for name in registry.names():
        cls = registry.get(name)
        if cls.__module__.startswith("detour."):  # otherwise a plug-in of whoever runs this
            lines += [f"### `{name}`", "", first_line(cls), ""]
            lines += [*table(cls), ""] if fields(cls) else ["No options.", ""]
    return lines


def data_preparation() -> str:
    """The page of `detour data prepare`."""
    lines = ["# Data preparation", "", NOTE, "", "The YAML of `detour data prepare`.", "", YAML]
    lines += part("## Top level", PrepareConfig, skip=("executor",))
    lines += part("## `executor`", ExecutorConfig)
    lines += part("## `sources[i]`", SourceConfig, skip=("columns",))
    lines += part("### `sources[i].columns`", ColumnsConfig)
    lines += part("## `steps[i]`", StepConfig)
    lines += ["## Kinds of source", "", "Names for `sources[i].kind`, and the `options` of each.", ""]
    lines += kinds(reader_kinds.registry)
    lines += ["## Kinds of step", "", "Names for `steps[i].kind`, and the `options` of each.", ""]
    lines += kinds(step_kinds.registry)
    return "\n".join(lines).rstrip() + "\n"


def task_pages() -> str:
    """The page of tasks and suites."""
    lines = ["# Tasks and suites", "", NOTE, "", "A labeled task of `detour eval run --task FILE`.", "", YAML]
    sections = [
        ("source", tasks.ReaderConfig),
        ("split", tasks.SplitConfig),
        ("limit", tasks.LimitConfig),
        ("training", tasks.TrainingConfig),
    ]
    lines += part("## Top level", tasks.Task, skip=tuple(key for key, _ in sections))
    for key, cls in sections:
        lines += part(f"## `{key}`", cls)
    lines += ["## Metrics", "", "Names for `metric`, for each `kind` of task.", ""]
    lines += [f"- `{kind}`: {', '.join(f'`{name}`' for name in names)}." for kind, names in MEASURES.items()]
    lines += ["", "## Kinds of source", "", "Names for `source.kind`, and the `options` of each.", ""]
    lines += kinds(task_sources)
    lines += part("## Suites", tasks.Suite)
    lines += ["Suites of the library:", ""]
    for name in tasks.suite_names():
        lines.append(f"- `{name}`: {', '.join(task.name for task in tasks.load_suite(name))}.")
    return "\n".join(lines).rstrip() + "\n"


def experiment_page() -> str:
    """The page of experiments."""
    lines = ["# Experiments", "", NOTE, "", "The YAML of `detour experiment run`.", "", YAML]
    analyses = [
        ("cka", experiments.CkaConfig),
        ("transplants", experiments.TransplantsConfig),
        ("needle", experiments.NeedleConfig),
        ("freeze", experiments.FreezeConfig),
    ]
    sections = [
        ("setting", experiments.SettingConfig),
        ("finetuning", experiments.FinetuningConfig),
        ("probes", experiments.ProbesConfig),
        ("analysis", experiments.AnalysisConfig),
        ("executor", ExecutorConfig),
    ]
    lines += part("## Top level", experiments.ExperimentConfig, skip=tuple(key for key, _ in sections))
    lines += part("## `arms.NAME`", experiments.ArmConfig)
    for key, cls in sections:
        if cls is not experiments.AnalysisConfig:
            lines += part(f"## `{key}`", cls)
            continue
        lines += part("## `analysis`", cls, skip=tuple(name for name, _ in analyses))
        for name, inner in analyses:
            lines += part(f"### `analysis.{name}`", inner)
    return "\n".join(lines).rstrip() + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "config.md": config_reference.render,
    DOCS / "reference" / "data_preparation.md": data_preparation,
    DOCS / "reference" / "tasks.md": task_pages,
    DOCS / "reference" / "experiments.md": experiment_page,
}


def main(argv: list[str]) -> int:
    """Writes the pages; with ``--check`` only names those that are out of date. Exit code 1 if there is one."""
    stale = [path for path, render in PAGES.items() if not path.is_file() or path.read_text("utf-8") != render()]
    for path in stale:
        if "--check" in argv:
            print(f"{path.relative_to(DOCS.parent)}: out of date; run scripts/reference.py")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(PAGES[path](), encoding="utf-8")
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
