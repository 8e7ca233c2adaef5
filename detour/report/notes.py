"""The sentences of a run's report: titles and captions of its figures, and notes on how to read its numbers."""

from __future__ import annotations

from detour.report.figures import smoothing_span
from detour.report.run_history import RunHistory

TITLES = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "scheduled": "Scheduled values",
    "throughput": "Throughput",
    "gradient_norm": "Gradient norm",
    "held_out_by_folder": "Held-out loss by folder",
}


def captions(run: RunHistory) -> dict[str, str]:
    """Name of a figure to its caption."""
    smoothed = (
        f"Thin line: every step. Thick line: exponential moving average over about {smoothing_span(run)} steps, "
        "restarted at each phase."
    )
    rows = "on the same rows under every objective"
    if (run.held_out or {}).get("streams"):
        rows += " of text, on rows of their own under those that read a stream"
    held_out = (
        f"Points: held-out losses, {rows}; filled while that objective trains, hollow "
        "otherwise. Panels marked close up are scaled to their filled points, without a steep initial drop."
    )
    return {
        "loss": " ".join([smoothed, held_out, *_task_mismatches(run)]) if run.metrics.evaluations else smoothed,
        "learning_rate": "The learning rate of each step.",
        "scheduled": "Options of an objective, and proportions of folders, that change over a phase: the value of each step.",
        "throughput": "Tokens per second over all devices: every step, and the median of each phase.",
        "gradient_norm": smoothed,
        "held_out_by_folder": "Loss on the rows of each validation folder, and on all rows together.",
    }


def reading_notes(run: RunHistory) -> list[str]:
    """How to read the numbers of the report, one paragraph per note."""
    notes = [
        "Tokens exclude padding. A phase begins with a whole batch, so it may end slightly past its plan.",
        "FLOPs are computed from the true document lengths. MFU: counted FLOPs / (measured GEMM throughput x "
        "device-seconds); the GEMM throughput is measured at each start of the run.",
        "Device-seconds and tokens per second cover training batches only, not evaluation and checkpointing.",
    ]
    notes += [f"Optimizer in phase {phase.name}: {phase.optimizer}." for phase in run.phases if phase.optimizer]
    if ropes := [f"{phase.rope} in phase {phase.name}" for phase in run.phases if phase.rope]:
        notes.append(
            f"Rotary positions: {'; '.join(ropes)}. Held-out losses are measured under those of the phase that trained last."
        )
    if run.metrics.evaluations:
        notes.append("Losses are in nats per supervised token. Losses at the start of a phase precede its first batch.")
        notes += _held_out_notes(run)
    else:
        notes.append("No held-out loss was recorded.")
    return notes


def _task_mismatches(run: RunHistory) -> list[str]:
    """One sentence per objective whose evaluation options differ from its training options."""
    sentences = []
    for name in run.metrics.evaluations:
        evaluated = run.held_out_options.get(name, "")
        if any(use == name and options != evaluated for phase in run.phases for use, options in phase.uses):
            sentences.append(
                f"Training {run.training_label(name)} and held-out {run.held_out_label(name)} are different tasks; their "
                "losses are not comparable."
            )
    return sentences


def _held_out_notes(run: RunHistory) -> list[str]:
    """Which rows the held-out losses are computed on, and where their definition changed."""
    notes = []
    if run.held_out:
        draws = run.held_out.get("mask_draws")
        notes.append(
            f"Held-out rows: {run.held_out_rows or 'not recorded'}; rows and masks are drawn from evaluation.seed "
            f"{run.held_out.get('seed')} and are the same at every evaluation."
            + (f" ± is the standard deviation over {draws} mask draws." if draws != 1 else "")
        )
    for at, lines in run.metrics.changes.items():
        notes.append(
            f"† From token {at:,} on, the evaluation settings differ; held-out losses are not comparable with earlier ones: "
            + "; ".join(lines)
            + "."
        )
    return notes
