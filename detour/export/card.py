"""The model card that travels with an exported encoder: what it was trained on, how, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from detour.cost.ledger import PhaseCost
from detour.markup import markdown
from detour.models.modernbert.reload import CLASSES, PIPELINES


def model_card(*, name: str, tokens: int, record: dict[str, Any], costs: Sequence[PhaseCost]) -> str:
    """Markdown with the hub's metadata header. Names, options and licenses are shown as they are, whatever signs they hold.

    Args:
        name: The run's name.
        tokens: Tokens trained when the checkpoint was written.
        record: The run's record (`detour.training.run_folder.run_record`).
        costs: What each phase has cost, from the ledger.
    """
    config, environment = record["config"], record["environment"]
    sources = record["sources"]
    licenses = sorted({part for source in sources for part in (source["license"] or "not stated").split(", ")})
    phases = [
        f"| {markdown(phase['name'])} | {markdown(phase['objective'] + _options(phase['options']))} "
        f"| {phase['tokens']:,} | {cost.tokens:,} | {cost.supervised:,} | {cost.flops:.3e} | {cost.device_seconds:,.0f} "
        f"| {'unknown' if math.isnan(cost.mfu) else f'{cost.mfu:.0%}'} |"
        for phase, cost in zip(config["phases"], costs, strict=False)
    ]
    data = [
        f"| {markdown(Path(source['path']).name)} | {source['documents']:,} | {markdown(source['license'] or 'not stated')} "
        f"| {markdown(source['sha256'][:16])} |"
        for source in sources
    ]
    drawn = (record.get("start") or {}).get("head") == "drawn"
    skipped = sum(cost.skipped for cost in costs)
    schedule, optimizer = config["schedule"], config["optimizer"]
    init = config["model"]["init"]
    base = init if init and _on_hub(init) else None  # a local folder means nothing to a reader
    start = markdown(base or ("a local folder" if init else "random weights"))
    header = ModelCardData(
        library_name="transformers", pipeline_tag="fill-mask", tags=["modernbert", "fill-mask", "causal-detour"],
        base_model=base,
    )  # fmt: skip
    decay = f"decay over '{schedule['decay_phase']}' ({schedule['shape']}) to {schedule['final_lr']:g}"
    return "\n".join([
        "---",
        header.to_yaml(),
        "---",
        "",
        f"# {markdown(name)}",
        "",
        f"A bidirectional ModernBERT encoder, trained from {start} for {tokens:,} tokens with "
        f"detour {markdown(environment['detour'])} (causal detour, arXiv 2605.12438).",
        "",
        *(["The start model had no language-modeling head: one was drawn at random "
           f"(seed {config['seed']}) and trained with the rest.", ""] if drawn else []),
        "Checked in plain transformers, with its tokenizer, when it was written: "
        f"{', '.join(f'`{name}`' for name in CLASSES)} (the classifiers with an untrained head), and the pipelines "
        f"{' and '.join(f'`{name}`' for name in PIPELINES)}.",
        "",
        "## Phases and cost",
        "",
        "| phase | objective | tokens planned | tokens seen | tokens supervised | FLOPs | device-seconds | MFU |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *phases,
        "",
        *([f"Rejected steps (non-finite, spiking or without a supervised token): {skipped:,}.", ""] if skipped else []),
        "MFU: counted FLOPs / (measured GEMM throughput x device-seconds).",
        "",
        f"Learning rate: peak {schedule['peak_lr']:g}, warmup {schedule['warmup_tokens']:,} tokens, "
        f"{markdown(decay if schedule['decay_phase'] else 'no decay')}. Optimizer: {markdown(optimizer['name'])}, "
        f"betas {markdown(optimizer['betas'])}, eps {optimizer['eps']:g}, decoupled weight decay {optimizer['weight_decay']:g}. "
        f"Batch: {config['data']['global_batch_size']:,} rows of {config['data']['seq_len']:,} tokens. "
        f"Seed {markdown(config['seed'])}, data seed {markdown(config['data']['shuffle_seed'])}.",
        "",
        "## Data",
        "",
        "| file | documents | license | SHA-256 |",
        "|---|---:|---|---|",
        *data,
        "",
        f"Licences of the documents: {markdown(', '.join(licenses))}. Whoever publishes this model checks that they allow it.",
        "",
        "## Made with",
        "",
        *(f"- {markdown(key)}: {markdown(value)}" for key, value in environment.items()),
        "",
    ])  # fmt: skip


def _on_hub(name: str) -> bool:
    """Whether a name is one of the hub's, and no folder here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _options(options: dict[str, Any]) -> str:
    """Options in brackets, or nothing."""
    return f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else ""
