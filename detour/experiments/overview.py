"""Tables for the terminal: the plan of an experiment, and how far it is."""

from __future__ import annotations

from rich.table import Column, Table

from detour.console import show
from detour.cost.plan import gpu_hours
from detour.cost.plan import plan as plan_run
from detour.evaluation.results.verdicts import few_seeds
from detour.experiments.cells import Plan, finetuning_tasks
from detour.experiments.page_tables import matched
from detour.experiments.tree import Node
from detour.jobs import log_of
from detour.units import counted, disk_size, short

BYTES_PER_PARAMETER = 12  # of a checkpoint: fp32 weights and two moments


def show_plan(plan: Plan, *, document_tokens: float | None, flops_per_second: float | None) -> None:
    """Prints every run with what it shares and costs, and the sums.

    Args:
        plan: The experiment.
        document_tokens: Mean document length; None takes the row length.
        flops_per_second: What one GPU reaches; None, for CPUs, shows no GPU-hours.
    """
    headings = ("shared", "own tokens", "own FLOPs", *(("GPU-hours",) if flops_per_second else ()), "disk")
    table = Table("run", "branches from", *(Column(heading, justify="right") for heading in headings),
                  title=plan.experiment.config.name, title_justify="left")  # fmt: skip
    sums = {"tokens": 0.0, "flops": 0.0, "alone": 0.0, "disk": 0.0}
    unknown = []
    for node in plan.nodes:
        if node.run.match.run is not None:
            unknown.append(node.run.name)
        flops, alone, disk = _flops(node, document_tokens), _all_flops(node, document_tokens), _disk(node)
        table.add_row(
            node.run.name, node.parent or "-", short(node.shared) if node.shared else "-", short(node.tokens),
            f"{flops:.2e}", *_hours(flops, flops_per_second), disk_size(disk),
        )  # fmt: skip
        sums["tokens"] += node.tokens
        sums["flops"] += flops
        sums["disk"] += disk
        if node.run.name in node.arms or node.run.name == "base":
            sums["alone"] += alone
    table.add_section()
    table.add_row(
        "total", "", "", short(sums["tokens"]), f"{sums['flops']:.2e}",
        *_hours(sums["flops"], flops_per_second), disk_size(sums['disk']),
    )  # fmt: skip
    config, tasks = plan.experiment.config, finetuning_tasks(plan.experiment)
    encoders = len(plan.experiment.runs)
    notes = [
        f"{len(config.arms)} arms x {len(config.seeds)} training seeds; each run alone would cost {sums['alone']:.2e} FLOPs: "
        f"{1 - sums['flops'] / sums['alone']:.0%} are shared.",
        f"Fine-tuning: {counted(encoders, 'encoder')} x {counted(len(tasks), 'task')} x "
        f"{counted(config.finetuning.seeds, 'seed')} = "
        f"{encoders * len(tasks) * config.finetuning.seeds:,} runs. {len(plan.jobs)} jobs in all, "
        f"{config.executor.parallel} at a time ({config.executor.cluster}).",
        f"Equivalence margin: {config.margin:g} points. {matched(config)}",
        *few_seeds(len(config.seeds)),
    ]
    if unknown:
        notes.append(f"Matched by measured device-seconds, so only known after the baseline: {', '.join(unknown)}.")
    show(table, *notes)


def _hours(flops: float, flops_per_second: float | None) -> list[str]:
    """The cell of GPU-hours, if there is one."""
    return [gpu_hours(flops / flops_per_second / 3600)] if flops_per_second else []


def show_status(plan: Plan) -> None:
    """Prints each kind of job with its counts, then the runs in training and the failed jobs' logs."""
    table = Table(
        "jobs", Column("done", justify="right"), Column("left", justify="right"), title=plan.experiment.config.name
    )
    done = {job.name: job.is_done() for job in plan.jobs}
    for kind in dict.fromkeys(job.kind for job in plan.jobs):
        names = [job.name for job in plan.jobs if job.kind == kind]
        finished = sum(done[name] for name in names)
        table.add_row(kind, f"{finished}", f"{len(names) - finished}")
    lines = []
    for node in plan.nodes:
        name = f"train-{node.run.name}"
        if not done[name] and log_of(plan.folder / "jobs", name).exists():
            lines.append(f"{node.run.name}: started, {_progress(node)}")
    show(table, *lines)


def _progress(node: Node) -> str:
    from detour.training.checkpoints.files import listing
    from detour.training.run_folder import RunFolder

    found = listing(RunFolder.of(node.run).checkpoints)
    total = node.run.phase_schedule.total_tokens
    return f"saved at {short(found[-1].tokens)} of {short(total)} tokens" if found else "nothing saved yet"


def _all_flops(node: Node, document_tokens: float | None) -> float:
    return sum(line.flops for line in plan_run(node.run, document_tokens=document_tokens))


def _flops(node: Node, document_tokens: float | None) -> float:
    """FLOPs of the tokens that the run trains itself."""
    flops, start = 0.0, 0
    for line in plan_run(node.run, document_tokens=document_tokens):
        own = max(0, start + line.tokens - max(start, node.shared))
        flops += line.flops * own / line.tokens
        start += line.tokens
    return flops


def _disk(node: Node) -> float:
    """Bytes of the checkpoints that are kept and of the exported encoder."""
    kept = node.run.checkpoint.keep + len(node.run.phases)
    return BYTES_PER_PARAMETER * node.run.architecture.parameters * kept
