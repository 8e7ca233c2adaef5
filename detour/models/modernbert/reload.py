"""Checks an exported folder with plain transformers, through every class that the model card names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from detour.data.tokenizer import MODEL_INPUTS, tokenizer_sha256
from detour.errors import ModelError, first_line
from detour.models.modernbert.architecture import Architecture
from detour.models.modernbert.encoder import TIED, Encoder

CLASSES = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForTokenClassification", "AutoModelForSequenceClassification")
PIPELINES = ("fill-mask", "feature-extraction")


@torch.no_grad()
def reload_difference(out: Path, *, arch: Architecture, weights: dict[str, Tensor]) -> float:
    """Largest difference of logits between the exported folder in plain transformers and our model, relative to the
    largest logit (at least 1).

    The input is two documents of different lengths, the shorter one padded for transformers, so that bidirectional
    attention, masking and the head are covered. Loading fails on any missing or unexpected weight.
    """
    theirs, _ = _load(out, "AutoModelForMaskedLM")
    long, short = min(2 * arch.local_attention + 5, arch.max_position_embeddings), 7
    ids_BT = torch.randint(0, arch.vocab_size, (2, long), generator=torch.Generator().manual_seed(0))
    real_BT = torch.arange(long) < torch.tensor([[long], [short]])
    expected = theirs(input_ids=ids_BT, attention_mask=real_BT.long()).logits
    got = _ours(arch, weights).logits(ids_BT, torch.tensor([[long], [short]]), "bidirectional")
    return _difference(got, expected, real_BT)


@torch.no_grad()
def check_uses(
    out: Path, *, arch: Architecture, weights: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast, tolerance: float
) -> None:
    """Runs text through the exported tokenizer and every class and pipeline that the model card names.

    Args:
        out: The folder.
        arch: The architecture.
        weights: The exported weights, under the encoder's names.
        tokenizer: The exported tokenizer.
        tolerance: Largest accepted difference of hidden states, relative to the largest of them (at least 1).

    Raises:
        ModelError: One of them fails, lacks weights, or differs from our model.
    """
    with _one_error(out, "AutoTokenizer"):
        reloaded: Any = transformers.AutoTokenizer.from_pretrained(out, trust_remote_code=False)
        texts = [f"{reloaded.mask_token} a b c d", "a b"]
        batch = reloaded(texts, padding=True, return_tensors="pt")
    if tokenizer_sha256(reloaded) != tokenizer_sha256(tokenizer) or list(batch) != MODEL_INPUTS:
        raise ModelError(f"{out}: the reloaded tokenizer is not the one that was exported, or names {list(batch)}")
    lengths_B1 = batch["attention_mask"].sum(1, keepdim=True)
    real_BT = torch.arange(batch["input_ids"].shape[1]) < lengths_B1
    hidden_NC = _ours(arch, weights).hidden(batch["input_ids"].where(real_BT, 0), lengths_B1, "bidirectional")
    hidden_BTC = hidden_NC.unflatten(0, tuple(real_BT.shape))
    for name in CLASSES:
        with _one_error(out, name):
            _check_class(out, name, batch, weights, lambda found: _difference(found, hidden_BTC, real_BT) < tolerance)
    for task in PIPELINES:
        with _one_error(out, f"pipeline('{task}')"), _quiet():
            use: Any = transformers.pipeline(task, model=str(out), tokenizer=reloaded, device="cpu")  # type: ignore[call-overload]
            answers = use(texts[0])
            if task == "feature-extraction":
                found = torch.tensor(answers[0])
                if not _difference(found, hidden_BTC[0], real_BT[0]) < tolerance:
                    raise ModelError("its features are not the encoder's hidden states")


def _check_class(
    out: Path, name: str, batch: BatchEncoding, weights: dict[str, Tensor], same: Callable[[Tensor], bool]
) -> None:
    model, missing = _load(out, name)
    new = [key for key in missing if not key.startswith("classifier.")]
    if new:
        raise ModelError(f"it misses {', '.join(new[:5])}")
    answer = model(**batch, output_hidden_states=name == "AutoModel")
    if name == "AutoModel":
        if not same(answer.last_hidden_state):
            raise ModelError("its hidden states are not the encoder's")
        return
    if not answer.logits.isfinite().all():
        raise ModelError("its logits are not finite")
    for key, tensor in model.base_model.state_dict(prefix="model.").items():
        if not torch.equal(tensor, weights[key]):
            raise ModelError(f"its {key} is not the one that was exported")


def _load(out: Path, name: str) -> tuple[PreTrainedModel, list[str]]:
    """The model in evaluation mode, and its weights missing in the folder. Raises ModelError if they are not a classifier's."""
    with _quiet():
        model, info = getattr(transformers, name).from_pretrained(
            out, output_loading_info=True, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False
        )
    if name == "AutoModelForMaskedLM" and (info["missing_keys"] or info["unexpected_keys"]):
        raise ModelError(
            f"{out}: transformers misses {info['missing_keys']} or does not know {info['unexpected_keys']}"
        )
    model.config.reference_compile = False
    return model.eval(), sorted(info["missing_keys"])


def _ours(arch: Architecture, weights: dict[str, Tensor]) -> Encoder:
    encoder = Encoder(arch).eval()
    encoder.load_state_dict({**weights, TIED: weights["model.embeddings.tok_embeddings.weight"]})
    return encoder


def _difference(found: Tensor, expected: Tensor, real: Tensor) -> float:
    return ((found - expected)[real].abs().max() / expected[real].abs().max().clamp(min=1)).item()


@contextmanager
def _one_error(out: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers raises many types of errors
        raise ModelError(f"{out}: {what} of transformers {transformers.__version__}: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library's warnings about randomly initialized heads, which are intended here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
