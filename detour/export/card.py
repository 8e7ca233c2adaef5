"""The model card that travels with an exported encoder: what it was trained on, how, and at what cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from detour.markup import markdown
from detour.models.modernbert.reload import CLASSES, PIPELINES


def model_card(*, name: str, tokens: int, record: dict[str, Any], ledger: list[dict[str, Any]]) -> str:
    """Markdown with the hub's metadata header. Names, options and licenses are shown as they are, whatever signs they hold.

    Args:
        name: The run's name.
        tokens: Tokens trained when the checkpoint was written.
        record: The run's record (`detour.training.run_folder.run_record`).
        ledger: The ledger's entries as plain values.
    """
    config, environment = record["config"], record["environment"]
    sources = record["sources"]
    licenses = sorted({part for source in sources for part in (source["license"] or "not stated").split(", ")})
    phases = [
        f"| {markdown(phase['name'])} | {markdown(phase['objective'] + _options(phase['options']))} "
        f"| {phase['tokens']:,} | {entry['tokens']:,} "
        f"| {entry['supervised']:,} | {entry['flops']:.3e} | {entry['device_seconds']:,.0f} "
        f"| {_share(entry['flops'], entry.get('product_flops', 0.0))} |"
        for phase, entry in zip(config["phases"], ledger, strict=False)
    ]
    data = [
        f"| {markdown(Path(source['path']).name)} | {source['documents']:,} | {markdown(source['license'] or 'not stated')} "
        f"| {markdown(source['sha256'][:16])} |"
        for source in sources
    ]
    drawn = (record.get("start") or {}).get("head") == "drawn"
    left_out = sum(entry.get("skipped", 0) for entry in ledger)
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
        "| phase | objective | tokens planned | tokens seen | tokens supervised | FLOPs | device-seconds | utilisation |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *phases,
        "",
        *([f"Batches that were left out because they were bad: {left_out:,}.", ""] if left_out else []),
        "Utilisation: the FLOPs over what the devices' rate of matrix products would have made of the device-seconds.",
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


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "unknown"


def _options(options: dict[str, Any]) -> str:
    """Options in brackets, or nothing."""
    return f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else ""
