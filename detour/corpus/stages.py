"""The stages of a preparation, and what runs them: this process, worker processes, or jobs on this machine or a cluster.

The items of a stage are independent, each writes its own files atomically, and stages follow one another. So whatever
runs them, the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.corpus.document_shards import load_json
from detour.corpus.job import Job, document_shards_of
from detour.corpus.passes import process_shard, read_group
from detour.corpus.rows import write_rows
from detour.corpus.workers import Workers
from detour.data.manifest import SPLITS
from detour.errors import ConfigError
from detour.files import write_json
from detour.jobs import ExecutorConfig, Progress, run_jobs
from detour.jobs import Job as Command

READ, ROWS = "read", "rows"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Work that is independent item by item.

    Attributes:
        name: ``read``, ``pass-1``, ``pass-2``, ..., or ``rows``.
        what: For lines of progress.
        task: Called with the job and the arguments of an item.
        items: The arguments of every item, in an order that depends on the preparation only.
        is_done: Whether an item is finished.
    """

    name: str
    what: str
    task: Callable[..., None]
    items: Sequence[tuple[Any, ...]]
    is_done: Callable[[tuple[Any, ...]], bool]

    @property
    def unfinished(self) -> list[tuple[Any, ...]]:
        """The items that are not finished."""
        return [item for item in self.items if not self.is_done(item)]


def stage_of(job: Job, name: str) -> Stage:
    """A stage by its name. All stages before it must be complete. Raises ConfigError if there is none of this name."""
    if name == READ:
        return Stage(
            name=name,
            what="reading groups of files",
            task=read_group,
            items=job.group_indices,
            is_done=lambda item: job.read_record(*item).exists(),
        )
    if name == ROWS:  # a split without documents leaves no trace; `write_rows` itself skips what is there
        items = [(s, split) for s in range(len(job.input_files)) for split in SPLITS]
        return Stage(name=name, what="packing rows", task=write_rows, items=items, is_done=lambda item: False)
    numbers = {pass_name(k): k for k in range(1, len(job.passes) + 1)}
    if name not in numbers:
        raise ConfigError(f"stage '{name}': expected {READ}, {', '.join(numbers)} or {ROWS}")
    k = numbers[name]
    return Stage(
        name=name,
        what=f"{'tokenizing' if k == len(job.passes) else 'cleaning'} document shards",
        task=process_shard,
        items=[(k, shard) for shard in document_shards_of(job)],
        is_done=lambda item: job.file(k, item[1], "json").exists(),
    )


def pass_name(pass_index: int) -> str:
    """The name of the stage of a pass over the document shards."""
    return f"pass-{pass_index}"


@contextmanager
def runner(job: Job, command: Sequence[str], say: Say) -> Iterator[Callable[[Stage], None]]:
    """What runs the unfinished items of a stage, as the configuration asks for.

    Args:
        job: The preparation.
        command: The arguments of `detour data prepare`, for jobs to read the same configuration.
        say: Called with a line of progress.

    Raises:
        ConfigError: Jobs are asked for, and there is no command.
    """
    executor = job.config.executor
    if executor is None:
        with Workers(job.config.processes, job) as workers:
            yield lambda stage: _run_here(stage, stage.unfinished, workers, say)
    elif not command:
        raise ConfigError("executor: a preparation runs as jobs only from the command line, with the path of its YAML")
    else:
        parts = _parts(job, executor)
        yield lambda stage: _run_as_jobs(job, stage, executor, parts, command, say)


def run_part(job: Job, name: str, part: int, parts: int, say: Say) -> None:
    """Runs the unfinished ones of every ``parts``-th item of a stage, from item ``part`` on, and marks them as finished."""
    stage = stage_of(job, name)
    mine = [item for item in stage.items[part::parts] if not stage.is_done(item)]
    with Workers(job.config.processes, job) as workers:
        _run_here(stage, mine, workers, say)
    write_json(_mark(job, name, part), {"items": len(stage.items[part::parts])})


def _run_here(stage: Stage, items: Sequence[tuple[Any, ...]], workers: Workers, say: Say) -> None:
    finished = iter(range(1, len(items) + 1))
    workers.run(stage.task, items, lambda: say(f"{stage.what}: {next(finished)} of {len(items)}"))


def _run_as_jobs(
    job: Job, stage: Stage, executor: ExecutorConfig, parts: int, command: Sequence[str], say: Say
) -> None:
    def observe(progress: Progress) -> None:
        failed = f", {len(progress.failed)} failed" if progress.failed else ""
        running = f", {len(progress.running)} running" if progress.running else ""
        say(f"{stage.what}: {len(progress.done)} of {len(commands)} parts done{running}{failed}")

    commands = [
        Command(
            name=f"{stage.name}-{part}",
            arguments=("data", "part", *command, "--stage", stage.name, "--part", str(part), "--parts", str(parts)),
            is_done=_mark(job, stage.name, part).is_file,
        )
        for part in range(min(parts, len(stage.items)))
    ]
    if stage.unfinished:
        run_jobs(commands, executor, job.work / "jobs", observe=observe)


def _parts(job: Job, executor: ExecutorConfig) -> int:
    """The number of parts of each stage. It stays the same until the end, so that no two jobs share an item."""
    path = job.work / "parts.json"
    if not path.exists():
        write_json(path, {"parts": executor.parallel})
    return load_json(path)["parts"]


def _mark(job: Job, name: str, part: int) -> Path:
    return job.work / "parts" / f"{name}-{part}.json"
