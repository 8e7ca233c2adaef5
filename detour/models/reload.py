"""An exported folder as its users will load it: plain transformers, through every class that the model card names."""

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

from detour.data.tokenizer import tokenizer_sha256
from detour.errors import ModelError, first_line
from detour.models.architecture import Architecture
from detour.models.encoder import Encoder
from detour.models.families import family_of
from detour.models.hf_format import Format


@torch.no_grad()
def reload_difference(
    out: Path, *, arch: Architecture, weights: dict[str, Tensor], form: Format | None = None
) -> float:
    """Largest difference of logits between the exported folder in plain transformers and our own model, as a share of
    the largest logit (but never of less than 1).

    Two documents of different length, the shorter one padded for transformers: bidirectional attention, masking and
    the head are all exercised. Loading fails on any missing or unexpected weight. ``form`` is the folder's layout; None
    for that of the family.
    """
    uses = (form or family_of(arch).format).uses_of(arch)
    theirs, _ = _load(out, uses.head_class, complete=True)
    long, short = min(_telling_length(arch, uses.attention), arch.longest_document), 7
    ids_BT = torch.randint(0, arch.vocab_size, (2, long), generator=torch.Generator().manual_seed(0))
    real_BT = torch.arange(long) < torch.tensor([[long], [short]])
    expected = theirs(input_ids=ids_BT, attention_mask=real_BT.long()).logits
    got = _ours(arch, weights).logits(ids_BT, torch.tensor([[long], [short]]), uses.attention)
    return _difference(got, expected, real_BT)


def _telling_length(arch: Architecture, attention: str) -> int:
    """Tokens of a document in which every window ends before the document does, and positions reach 512."""
    windows = [max(rule.attention.window) for rule in arch.layer_rules(attention) if rule.attention.window]
    return 4 * max(windows) + 5 if windows else 512


@torch.no_grad()
def check_uses(
    out: Path,
    *,
    arch: Architecture,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    tolerance: float,
    form: Format | None = None,
) -> None:
    """Takes text through the exported tokenizer into every class and pipeline that the model card names.

    Args:
        out: The folder.
        arch: The architecture.
        weights: What was exported, under the encoder's names.
        tokenizer: The one that was exported.
        tolerance: Largest difference of hidden states that passes, as a share of the largest of them (or of 1).
        form: The folder's layout; None for that of the family.

    Raises:
        ModelError: One of them fails, lacks weights, or computes something else than our model.
    """
    with _one_error(out, "AutoTokenizer"):
        reloaded: Any = transformers.AutoTokenizer.from_pretrained(out, trust_remote_code=False)
        texts = [f"{reloaded.mask_token} a b c d", "a b"]
        batch = reloaded(texts, padding=True, return_tensors="pt")
    form = form or family_of(arch).format
    uses = form.uses_of(arch)
    if tokenizer_sha256(reloaded) != tokenizer_sha256(tokenizer) or list(batch) != form.model_inputs(arch):
        raise ModelError(
            f"{out}: AutoTokenizer made a {type(reloaded).__name__} that is not the exported one, or names {list(batch)}"
        )
    lengths_B1 = batch["attention_mask"].sum(1, keepdim=True)
    real_BT = torch.arange(batch["input_ids"].shape[1]) < lengths_B1
    hidden_NC = _ours(arch, weights).hidden(batch["input_ids"].where(real_BT, 0), lengths_B1, uses.attention)
    hidden_BTC = hidden_NC.unflatten(0, tuple(real_BT.shape))
    for name in uses.classes:
        with _one_error(out, name):
            same = lambda found: _difference(found, hidden_BTC, real_BT) < tolerance  # noqa: E731
            _check_class(out, name, batch, weights, form, uses.drawn_anew, same)
    for task in uses.pipelines:
        with _one_error(out, f"pipeline('{task}')"), _quiet():
            use: Any = transformers.pipeline(task, model=str(out), tokenizer=reloaded, device="cpu")  # type: ignore[call-overload]
            answers = use(texts[0])
            if task == "feature-extraction":
                found = torch.tensor(answers[0])
                if not _difference(found, hidden_BTC[0], real_BT[0]) < tolerance:
                    raise ModelError("its features are not the encoder's hidden states")


def _check_class(
    out: Path,
    name: str,
    batch: BatchEncoding,
    weights: dict[str, Tensor],
    form: Format,
    drawn_anew: tuple[str, ...],
    same: Callable[[Tensor], bool],
) -> None:
    model, missing = _load(out, name)
    new = [key for key in missing if not key.startswith(drawn_anew)]
    if new:
        raise ModelError(f"it misses {', '.join(new[:5])}")
    answer = model(**batch, output_hidden_states=name == "AutoModel")
    if name == "AutoModel":
        if not same(answer.last_hidden_state):
            raise ModelError("its hidden states are not the encoder's")
        return
    if not answer.logits.isfinite().all():
        raise ModelError("its logits are not finite")
    for key, tensor in form.to_encoder(model.base_model.state_dict()).items():
        if not torch.equal(tensor, weights[key]):
            raise ModelError(f"its {key} is not the one that was exported")


def _load(out: Path, name: str, *, complete: bool = False) -> tuple[PreTrainedModel, list[str]]:
    """The model in evaluation mode, and the names of weights that the folder lacks.

    Raises:
        ModelError: ``complete``, and the folder lacks a weight or has one that the class does not know.
    """
    with _quiet():
        model, info = getattr(transformers, name).from_pretrained(
            out, output_loading_info=True, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False
        )
    if complete and (info["missing_keys"] or info["unexpected_keys"]):
        raise ModelError(
            f"{out}: transformers misses {info['missing_keys']} or does not know {info['unexpected_keys']}"
        )
    if hasattr(model.config, "reference_compile"):
        model.config.reference_compile = False
    return model.eval(), sorted(info["missing_keys"])


def _ours(arch: Architecture, weights: dict[str, Tensor]) -> Encoder:
    encoder = Encoder(arch).eval()
    encoder.load_weights(weights)
    return encoder


def _difference(found: Tensor, expected: Tensor, real: Tensor) -> float:
    return ((found - expected)[real].abs().max() / expected[real].abs().max().clamp(min=1)).item()


@contextmanager
def _one_error(out: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers raises many kinds, all of which mean the same here
        raise ModelError(f"{out}: {what} of transformers {transformers.__version__}: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's notes on heads that are drawn anew, which are meant here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
