"""Exports a checkpoint of a run as a Hugging Face folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from detour.config.load import from_environment
from detour.cost.ledger import read_costs
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256
from detour.errors import CheckpointError, ConfigError, ModelError
from detour.export.card import model_card
from detour.export.sentence import write_sentence_files
from detour.models import hf
from detour.models.families import architecture, family_of
from detour.models.reload import check_uses, reload_difference
from detour.training.checkpoints import files as checkpoints

log = logging.getLogger(__name__)
TOLERANCE = 1e-4  # relative to the largest logit; two fp32 implementations sum in different orders


def export_run(
    run_folder: Path,
    out: Path,
    *,
    tokens: int | None = None,
    sentence_transformers: bool = False,
    decoder: bool = False,
) -> float:
    """Writes the newest valid checkpoint, or the one at ``tokens``, as a folder for plain transformers.

    The folder is written under a temporary name and verified before it is renamed: transformers reloads it, its logits are
    compared with those of our model, and every class and pipeline named in the model card is run on text.

    Args:
        run_folder: The run.
        out: The new folder; must not exist, or be empty.
        tokens: Token count of the checkpoint; None for the newest.
        sentence_transformers: Add the files that make it a sentence-transformers model (`write_sentence_files`).
        decoder: Write the layout of the family's decoder, which attends causally (ModernBertDecoder).

    Returns:
        Largest relative difference of the logits.

    Raises:
        CheckpointError: There is no such run, no valid checkpoint, or none at that token count.
        ModelError: ``out`` is not empty or cannot be written, the tokenizer has changed, the reloaded logits differ, or a
            class or pipeline named in the card fails or computes something else.
    """
    if decoder and sentence_transformers:
        raise ModelError("an export as a decoder attends causally, so it is no sentence-transformers model")
    out = out.expanduser().resolve()  # "." has no name of its own
    _refuse_full(out)
    checkpoint = choose_checkpoint(run_folder / "checkpoints", tokens)
    state = checkpoint.state()
    with checkpoint.translate_errors():
        record = state["run"]
        model, costs = record["config"]["model"], read_costs(state)
        arch = architecture(model["size"], model["architecture"]).with_rope(**rope_of(state))
        name = from_environment(model["tokenizer"] or model["init"])
    form = family_of(arch).format.as_decoder(arch) if decoder else family_of(arch).format
    tokenizer = _tokenizer(name, record["tokenizer"])
    weights, start = checkpoint.tensors("model"), _start_config(record)
    with checkpoint.translate_errors():
        run = record["config"]["name"]
        card = model_card(name=run, tokens=checkpoint.tokens, record=record, costs=costs, form=form)
    aside = out.with_name(f".writing-{out.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        exported = {"arch": arch, "weights": weights, "tokenizer": tokenizer, "form": form}
        hf.write_folder(aside, **exported, card=card, start=start)
        difference = _verify(aside, exported)
        if sentence_transformers:
            write_sentence_files(aside, width=arch.hidden_size, longest=arch.longest_document)
        _move(aside, out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ModelError(f"{out}: cannot be written: {error}") from error
    log.info("%s: token %d of %s; logits differ by %.1e", out, checkpoint.tokens, run_folder, difference)
    return difference


def _verify(folder: Path, exported: dict[str, Any]) -> float:
    """Reloads a folder with transformers and runs all its uses; returns the relative difference of the logits.

    Args:
        folder: The folder.
        exported: What was written: ``arch``, ``weights``, ``tokenizer`` and ``form`` of `check_uses`.
    """
    weights = {key: exported[key] for key in ("arch", "weights", "form")}
    difference = reload_difference(folder, **weights)
    if not difference < TOLERANCE:
        raise ModelError(f"{folder}: logits in transformers differ by {difference:.2e}, expected below {TOLERANCE:g}")
    check_uses(folder, **exported, tolerance=TOLERANCE)
    return difference


def _move(aside: Path, out: Path) -> None:
    """Renames a complete folder."""
    if out.exists():  # an empty folder, possibly a working directory or a mount point
        for file in sorted(aside.iterdir()):
            shutil.move(file, out / file.name)
        aside.rmdir()
    else:
        aside.rename(out)


def _tokenizer(name: str, sha256: str) -> Any:
    """The tokenizer of a run. Raises ModelError if it has changed since."""
    tokenizer = load_tokenizer(name)
    if tokenizer_sha256(tokenizer) != sha256:
        raise ModelError(f"tokenizer '{name}': differs from the tokenizer of the run")
    return tokenizer


def rope_of(state: dict[str, Any]) -> dict[str, Any]:
    """Rotary bases and scaling of the phase that trained last before a checkpoint, as arguments of `Architecture.with_rope`."""
    last = state["callbacks"]["PhaseSwitch"]["phase_of_last_batch"] or 0
    return state["run"]["config"]["phases"][last].get("rope") or {}


def _start_config(record: dict[str, Any]) -> dict[str, Any] | None:
    """config.json of the initial model as recorded by the run; for runs of older versions, its current content."""
    start, init = record.get("start"), record["config"]["model"]["init"]
    if start is not None or init is None:
        return start and start["config"]
    try:
        return hf.read_config(hf.fetch(from_environment(init)))
    except (ModelError, ConfigError) as error:
        log.warning("config.json of the initial model is not carried over: %s", error)
        return None


def _refuse_full(out: Path) -> None:
    """Raises ModelError unless the path is free or an empty folder."""
    try:
        if out.exists() and any(out.iterdir()):
            raise ModelError(f"{out}: exists and is not empty")
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error}") from error


def choose_checkpoint(folder: Path, tokens: int | None = None) -> checkpoints.Checkpoint:
    """The checkpoint at a token count, or the newest valid one. Raises CheckpointError if it is missing or damaged."""
    if tokens is None:
        newest, passed_over = checkpoints.newest_valid(folder)
        for line in passed_over:
            log.warning("skipping a damaged checkpoint: %s", line)
        if newest is None:
            raise CheckpointError(f"{folder}: no checkpoints there")
        return newest
    found = {checkpoint.tokens: checkpoint for checkpoint in checkpoints.listing(folder)}
    if tokens not in found:
        raise CheckpointError(
            f"{folder}: no checkpoint at token {tokens}; there are {', '.join(map(str, found)) or 'none'}"
        )
    if problem := found[tokens].validate():
        raise CheckpointError(f"{found[tokens].path}: {problem}")
    return found[tokens]
