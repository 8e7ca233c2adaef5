"""From a run folder to a Hugging Face folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from detour.config.load import from_environment
from detour.data.tokenizer import fingerprint, load_tokenizer
from detour.errors import CheckpointError, ModelError
from detour.export import hf
from detour.export.card import model_card
from detour.model.architecture import architecture
from detour.training import checkpoint as checkpoints

log = logging.getLogger(__name__)
TOLERANCE = 1e-4  # of the largest logit: two fp32 implementations differ by the order of their sums


def export_run(run_folder: Path, out: Path, *, tokens: int | None = None) -> float:
    """Writes the newest whole checkpoint (or the one at ``tokens``) as a folder for plain transformers.

    The folder is reloaded with transformers and its logits compared with ours before it gets its name.

    Returns:
        The largest difference of logits that was found.

    Raises:
        CheckpointError: No such run, no whole checkpoint, or none at that token count.
        ModelError: ``out`` is not empty, the tokenizer is not the run's, or the reloaded logits differ.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out}: exists and is not empty")
    target = out.resolve()  # "./" has no name of its own
    checkpoint = choose_checkpoint(run_folder / "checkpoints", tokens)
    state = checkpoint.state()
    with checkpoint.understood():
        record = state["run"]
        model, ledger = record["config"]["model"], state["callbacks"]["Ledger"]["entries"]
        arch = architecture(model["size"], model["architecture"])
        name = from_environment(model["tokenizer"] or model["init"])
    tokenizer = load_tokenizer(name)
    if fingerprint(tokenizer) != record["tokenizer"]:
        raise ModelError(f"tokenizer '{name}': no longer the one that this run was trained with")
    weights = checkpoint.tensors("model")
    with checkpoint.understood():
        card = model_card(name=record["config"]["name"], tokens=checkpoint.tokens, record=record, ledger=ledger)
    aside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    hf.write_folder(aside, arch=arch, weights=weights, tokenizer=tokenizer, card=card)
    difference = hf.reload_difference(aside, arch=arch, weights=weights)
    if not difference < TOLERANCE:
        raise ModelError(f"{aside}: logits in transformers differ by {difference:.2e}, expected below {TOLERANCE:g}")
    if target.exists():  # into an empty folder, which may be the one that a shell stands in
        for file in sorted(aside.iterdir()):
            shutil.move(file, target / file.name)  # it may be a mounted disk
        aside.rmdir()
    else:
        aside.rename(target)
    log.info(
        "%s: token %s of %s; logits in transformers differ by %.1e",
        out,
        f"{checkpoint.tokens:,}",
        run_folder,
        difference,
    )
    return difference


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
