"""The model card of an exported encoder: training data, recipe and cost, with the hub's metadata header."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from detour.cost.ledger import PhaseCost
from detour.markup import markdown
from detour.models.families import architecture, family_of
from detour.models.hf_format import Format
from detour.optimizer import PhaseOptimizer
from detour.phases import PhaseRope
from detour.scheduled import spelled

MOST_SOURCES = 50  # rows of the table of source files; further ones are summed up
TEMPLATE = files("detour.export") / "templates" / "model_card.md.j2"


def model_card(
    *, name: str, tokens: int, record: dict[str, Any], costs: Sequence[PhaseCost], form: Format | None = None
) -> str:
    """The card as Markdown with a YAML header. All names, options and licenses are escaped, so that they show verbatim.

    Args:
        name: Name of the run.
        tokens: Tokens trained up to the exported checkpoint.
        record: The record of the run (`detour.training.run_folder.run_record`).
        costs: What each phase has cost, from the ledger.
        form: The layout of the folder; None for that of the family.
    """
    config, sources = record["config"], record["sources"]
    schedule, init, origin = config["schedule"], config["model"]["init"], record.get("start") or {}
    arch = architecture(config["model"]["size"], config["model"]["architecture"])
    form = form or family_of(arch).format
    uses = form.uses_of(arch)
    base = init if init and _on_hub(init) else None  # a local folder means nothing to other users
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            pipeline_tag=uses.pipelines[0],
            tags=[arch.family, uses.pipelines[0], "causal-detour"],
            base_model=base,
        ),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        md=markdown,
        name=name,
        tokens=tokens,
        start=base or ("a local folder" if init else "random weights"),
        new_head=origin.get("head") == "drawn" and "head" not in (origin.get("reset") or ()),
        reset=origin.get("reset"),
        vocabulary=origin.get("vocabulary"),
        tiled=origin.get("tiled"),
        config=config,
        schedule=schedule,
        decay=_decay(schedule),
        optimizer=config["optimizer"],
        environment=record["environment"],
        headline=form.headline(arch),
        classes=uses.classes,
        pipelines=uses.pipelines,
        note=uses.note,
        phases=list(zip(config["phases"], costs, strict=False)),
        objective=lambda phase: phase["objective"] + _options(phase["options"]),
        optimizers={phase["name"]: words for phase in config["phases"] if (words := PhaseOptimizer.of(phase).words)},
        ropes={phase["name"]: words for phase in config["phases"] if (words := _rope_words(phase))},
        batches={phase["name"]: words for phase in config["phases"] if (words := _batch_words(phase, config["data"]))},
        mfu=_mfu,
        branch=record.get("branch"),
        branch_flops=sum(cost["flops"] for cost in (record.get("branch") or {}).get("costs", [])),
        rejected=sum(cost.skipped for cost in costs),
        sources=sources,
        most_sources=MOST_SOURCES,
        file_name=lambda source: Path(source["path"]).name,
        licenses=", ".join(
            sorted({part for source in sources for part in (source["license"] or "not stated").split(", ")})
        ),
    )
    return card.content


def _decay(schedule: Mapping[str, Any]) -> str:
    if not schedule["decay_phase"]:
        return "no decay"
    return f"decay over '{schedule['decay_phase']}' ({schedule['shape']}) to {schedule['final_lr']:g}"


def _batch_words(phase: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The batches of a phase, and of its streams, where they differ from the run's."""
    found = []
    for stream, data in {"": phase.get("data") or {}, **(phase.get("streams") or {})}.items():
        rows, seq_len = (data.get(key) or run[key] for key in ("global_batch_size", "seq_len"))
        if stream or (rows, seq_len) != (run["global_batch_size"], run["seq_len"]):
            found.append(f"{rows:,} sequences of {seq_len:,} tokens" + (f" of the stream {stream}" if stream else ""))
    return " and ".join(found)


def _on_hub(name: str) -> bool:
    """Whether a name is a valid hub repository and not a local folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _rope_words(phase: dict[str, Any]) -> list[str]:
    return PhaseRope(**(phase.get("rope") or {})).words


def _mfu(cost: PhaseCost) -> str:
    return "unknown" if math.isnan(cost.mfu) else f"{cost.mfu:.0%}"


def _options(options: dict[str, Any]) -> str:
    """Objective options in parentheses; an empty string if there are none."""
    return f" ({', '.join(f'{key} {spelled(value)}' for key, value in options.items())})" if options else ""
