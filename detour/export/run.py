"""From a run folder to a Hugging Face folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from detour.config.load import from_environment
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256
from detour.errors import CheckpointError, ConfigError, ModelError
from detour.export.card import model_card
from detour.models.modernbert import hf
from detour.models.modernbert.architecture import architecture
from detour.models.modernbert.reload import check_uses
from detour.training.checkpoints import files as checkpoints

log = logging.getLogger(__name__)
TOLERANCE = 1e-4  # of the largest logit: two fp32 implementations differ by the order of their sums


def export_run(run_folder: Path, out: Path, *, tokens: int | None = None) -> float:
    """Writes the newest whole checkpoint (or the one at ``tokens``) as a folder for plain transformers.

    Before it gets its name, the folder is reloaded with transformers, its logits are compared with ours, and text goes
    through its tokenizer into every class and pipeline that the model card names.

    Returns:
        The largest difference of logits that was found.

    Raises:
        CheckpointError: No such run, no whole checkpoint, or none at that token count.
        ModelError: ``out`` is not empty or cannot be written, the tokenizer is not the run's, the reloaded logits differ, or
            one of the classes that the card names fails.
    """
    out = out.expanduser().resolve()  # "." has no name of its own
    _refuse_full(out)
    checkpoint = choose_checkpoint(run_folder / "checkpoints", tokens)
    state = checkpoint.state()
    with checkpoint.translate_errors():
        record = state["run"]
        model, ledger = record["config"]["model"], state["callbacks"]["Ledger"]["entries"]
        arch = architecture(model["size"], model["architecture"])
        name = from_environment(model["tokenizer"] or model["init"])
    tokenizer = load_tokenizer(name)
    if tokenizer_sha256(tokenizer) != record["tokenizer"]:
        raise ModelError(f"tokenizer '{name}': no longer the one that this run was trained with")
    weights, start = checkpoint.tensors("model"), _start_config(record)
    with checkpoint.translate_errors():
        card = model_card(name=record["config"]["name"], tokens=checkpoint.tokens, record=record, ledger=ledger)
    aside = out.with_name(f".writing-{out.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        hf.write_folder(aside, arch=arch, weights=weights, tokenizer=tokenizer, card=card, start=start)
        difference = hf.reload_difference(aside, arch=arch, weights=weights)
        if not difference < TOLERANCE:
            raise ModelError(
                f"{aside}: logits in transformers differ by {difference:.2e}, expected below {TOLERANCE:g}"
            )
        check_uses(aside, arch=arch, weights=weights, tokenizer=tokenizer, tolerance=TOLERANCE)
        if out.exists():  # an empty folder, which may be the one that a shell stands in, or a mounted disk
            for file in sorted(aside.iterdir()):
                shutil.move(file, out / file.name)
            aside.rmdir()
        else:
            aside.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ModelError(f"{out}: cannot be written: {error}") from error
    log.info(
        "%s: token %s of %s; logits in transformers differ by %.1e",
        out,
        f"{checkpoint.tokens:,}",
        run_folder,
        difference,
    )
    return difference


def _start_config(record: dict[str, Any]) -> dict[str, Any] | None:
    """config.json of the start model, as the run remembers it; of runs of earlier versions, as it is now."""
    start, init = record.get("start"), record["config"]["model"]["init"]
    if start is not None or init is None:
        return start and start["config"]
    try:
        return hf.read_config(hf.fetch(from_environment(init)))
    except (ModelError, ConfigError) as error:
        log.warning("the start model's config.json is not carried over: %s", error)
        return None


def _refuse_full(out: Path) -> None:
    """Raises ModelError unless there is nothing at the path, or an empty folder."""
    try:
        if out.exists() and any(out.iterdir()):
            raise ModelError(f"{out}: exists and is not empty")
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error}") from error


def choose_checkpoint(folder: Path, tokens: int | None = None) -> checkpoints.Checkpoint:
    """The checkpoint at a token count, or the newest whole one. Raises CheckpointError if there is none or it is damaged."""
    if tokens is None:
        newest, passed_over = checkpoints.newest_valid(folder)
        for line in passed_over:
            log.warning("passing over a damaged checkpoint: %s", line)
        if newest is None:
            raise CheckpointError(f"{folder}: no checkpoints there")
        return newest
    found = {checkpoint.tokens: checkpoint for checkpoint in checkpoints.listing(folder)}
    if tokens not in found:
        raise CheckpointError(
            f"{folder}: no checkpoint at token {tokens}; there are {', '.join(map(str, found)) or 'none'}"
        )
    if problem := found[tokens].problem():
        raise CheckpointError(f"{found[tokens].path}: {problem}")
    return found[tokens]
