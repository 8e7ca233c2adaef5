"""The start model of a run (`model.init`): read, and checked against the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor

from detour.config.schema import RunConfig
from detour.data.tokenizer import load_tokenizer
from detour.data.tokenizer_differences import other_rules, vocabulary_differences
from detour.errors import DataError, ModelError
from detour.models import hf
from detour.models.architecture import Architecture
from detour.models.encoder import Encoder
from detour.training.checkpoints.files import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model",
                    "sentencepiece.bpe.model", "spiece.model")  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A start model, as read from its folder.

    Attributes:
        weights: fp32 weights under the encoder's names; without the head if ``drawn`` is true.
        config: Contents of its config.json.
        drawn: Whether the head is initialized at random, because the folder has no language-modeling head.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    drawn: bool

    def record(self) -> dict[str, Any]:
        """What the run's record keeps of the start model, for the export and the model card."""
        return {"head": "drawn" if self.drawn else "read", "config": self.config}

    def load_into(self, encoder: Encoder) -> None:
        """Loads the weights into an encoder; a missing head keeps its random initialization."""
        own = {name: tensor for name, tensor in encoder.weights().items() if hf.of_head(name)}
        encoder.load_weights({**(own if self.drawn else {}), **self.weights})


def read_start(run: RunConfig, *, load: Callable[[Path], dict[str, Tensor]] = load_file) -> Start | None:
    """Reads the model of `model.init`; None if the run starts from random weights.

    Args:
        run: The configuration.
        load: Reader of a safetensors file.

    Raises:
        ModelError: The model cannot be read, its architecture is not the configured one, or its weights do not fit.
    """
    if run.model.init is None:
        return None
    wanted, folder = run.architecture, hf.fetch(run.model.init)
    found = hf.read_architecture(folder, ignore=run.model.ignore_config_keys)
    _check_architecture(run.model.init, found, wanted)
    if found.layer_rules("causal") != wanted.layer_rules("causal"):
        log.warning(
            "%s: its causal layers attended to %s, this run's to %s (model.architecture.causal_left_window)",
            run.model.init, _reach(found), _reach(wanted),
        )  # fmt: skip
    weights = hf.read_weights(folder, wanted, load=load)
    wants_head = any(hf.of_head(name) for name in hf.expected_shapes(wanted))  # Llama's may be its embedding alone
    drawn = wants_head and not any(hf.of_head(name) for name in weights)
    if drawn:
        log.warning(
            "%s: has no language-modeling head (it is a %s); the head is randomly initialized from seed %d",
            run.model.init, ", ".join(hf.read_config(folder).get("architectures") or ["trunk"]), run.seed,
        )  # fmt: skip
    return Start(weights=weights, config=hf.read_config(folder), drawn=drawn)


def check_tokenizer(run: RunConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Compares the tokenizer of the run with that of `model.init`, if both are named.

    Raises:
        DataError: The vocabularies differ, or the tokenizer of the start model cannot be read, and
            `model.allow_tokenizer_mismatch` is false.
    """
    init, given = run.model.init, run.model.tokenizer
    if init is None or given is None:
        return
    if Path(init).is_dir() and not any((Path(init) / name).is_file() for name in _TOKENIZER_FILES):
        log.warning("%s: has no tokenizer to compare with %s; token ids are assumed to be the same", init, given)
        return
    try:
        start = load_tokenizer(init)
        lines = vocabulary_differences(start, tokenizer)
        if not lines and other_rules(start, tokenizer):
            log.warning(
                "model.tokenizer: %s has the same vocabulary as the tokenizer in %s, but tokenizes text differently",
                given,
                init,
            )
    except DataError as error:
        lines = [f"that one cannot be read ({error})"]
    if not lines:
        return
    text = f"model.tokenizer: {given} is not the tokenizer of {init}: {'; '.join(lines)}"
    if not run.model.allow_tokenizer_mismatch:
        raise DataError(f"{text}. To allow this, set model.allow_tokenizer_mismatch: true")
    log.warning("%s (model.allow_tokenizer_mismatch)", text)


def start_record(resumed: Checkpoint | None, start: Start | None) -> dict[str, Any] | None:
    """The record of the start model (`Start.record`), or None without one. Its folder may no longer exist after a resume.

    Args:
        resumed: The checkpoint from which the run resumes, whose record is used; None for a new run.
        start: The start model of a new run.
    """
    if resumed is None:
        return start.record() if start else None
    with resumed.translate_errors():
        return resumed.state()["run"].get("start")


def _reach(arch: Architecture) -> str:
    """How far to the left a causal model attends, as in "64 keys on the left"."""
    windows = {rule.attention.window for rule in arch.layer_rules("causal")} - {None}
    return " and ".join(f"{left} keys on the left" for left, _ in sorted(filter(None, windows))) or "whole documents"


def _check_architecture(source: str, found: Architecture, wanted: Architecture) -> None:
    """Compares all settings that give the weights their meaning; dropout, initialization and length limits may differ."""
    if found.family != wanted.family:
        raise ModelError(f"{source}: its architecture is {found.family}, the configured model.size is {wanted.family}")
    theirs, ours = asdict(found), asdict(wanted)
    lines = [
        f"{key} is {theirs[key]}, configured {ours[key]}"
        for key in theirs
        if key not in wanted.free and theirs[key] != ours[key]
    ]
    if lines:
        raise ModelError(f"{source}: not the configured model.size / model.architecture: " + "; ".join(lines))
