"""The model that a run starts from: read once, checked against the configuration, and remembered by the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from detour.config.check import arch
from detour.config.schema import RunConfig
from detour.data.tokenizer import load_tokenizer
from detour.data.tokenizer_differences import other_rules, vocabulary_differences
from detour.errors import DataError, ModelError
from detour.models.modernbert import hf
from detour.models.modernbert.encoder import TIED, Encoder
from detour.training.checkpoints.files import Checkpoint

log = logging.getLogger(__name__)
_FREE = ("embedding_dropout", "attention_dropout", "mlp_dropout", "initializer_range", "initializer_cutoff_factor",
         "max_position_embeddings", "causal_left_window")  # fmt: skip
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model",
                    "sentencepiece.bpe.model", "spiece.model")  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A start model as its folder holds it.

    Attributes:
        weights: Under the encoder's names, fp32; of the trunk alone where ``drawn`` is true.
        config: Its config.json.
        drawn: Whether the folder has no language-modeling head, so that one is drawn.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    drawn: bool

    def record(self) -> dict[str, Any]:
        """What a run's record keeps of it, for the export and the model card."""
        return {"head": "drawn" if self.drawn else "read", "config": self.config}

    def load_into(self, encoder: Encoder) -> None:
        """Gives the encoder these weights; a head that the folder does not have stays as the encoder drew it."""
        own = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("model.")}
        embedding = self.weights["model.embeddings.tok_embeddings.weight"]
        encoder.load_state_dict({**(own if self.drawn else {}), **self.weights, TIED: embedding})


def read_start(run: RunConfig, *, load: Callable[[Path], dict[str, Tensor]] = load_file) -> Start | None:
    """The model of `model.init`, or None if the run starts from random weights.

    Args:
        run: The configuration.
        load: Reads one safetensors file.

    Raises:
        ModelError: It cannot be read, its architecture is not the configured one, or its weights do not fit.
    """
    if run.model.init is None:
        return None
    wanted, folder = arch(run), hf.fetch(run.model.init)
    found = hf.read_architecture(folder, ignore=run.model.ignore_config_keys)
    _check_architecture(run.model.init, asdict(found), asdict(wanted))
    if found.causal_left != wanted.causal_left:
        log.warning(
            "%s: causal layers saw %d keys to the left, this run sees %d (model.architecture.causal_left_window)",
            run.model.init, found.causal_left, wanted.causal_left,
        )  # fmt: skip
    weights = hf.read_weights(folder, wanted, load=load)
    drawn = all(name.startswith("model.") for name in weights)
    if drawn:
        log.warning(
            "%s: has no language-modeling head (it is a %s); one is drawn at random from seed %d",
            run.model.init, ", ".join(hf.read_config(folder).get("architectures") or ["trunk"]), run.seed,
        )  # fmt: skip
    return Start(weights=weights, config=hf.read_config(folder), drawn=drawn)


def check_tokenizer(run: RunConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Compares the run's tokenizer with the one in the folder of `model.init`, if both are named.

    Raises:
        DataError: Their vocabularies differ, or the start model's cannot be read, and
            `model.allow_tokenizer_mismatch` is false.
    """
    init, given = run.model.init, run.model.tokenizer
    if init is None or given is None:
        return
    if Path(init).is_dir() and not any((Path(init) / name).is_file() for name in _TOKENIZER_FILES):
        log.warning("%s: has no tokenizer to compare %s with; its ids are taken to mean the same tokens", init, given)
        return
    try:
        start = load_tokenizer(init)
        lines = vocabulary_differences(start, tokenizer)
        if not lines and other_rules(start, tokenizer):
            log.warning(
                "model.tokenizer: %s has the vocabulary of the one in %s, and encodes text by other rules", given, init
            )
    except DataError as error:
        lines = [f"the one in {init} cannot be read to compare ({error})"]
    if not lines:
        return
    text = f"model.tokenizer: {given} is not the tokenizer of {init}: {'; '.join(lines)}"
    if not run.model.allow_tokenizer_mismatch:
        raise DataError(f"{text}. If this is meant, set model.allow_tokenizer_mismatch: true")
    log.warning("%s (model.allow_tokenizer_mismatch)", text)


def start_record(resumed: Checkpoint | None, start: Start | None) -> dict[str, Any] | None:
    """What the run remembers of the model it started from, whose folder may change or go away meanwhile."""
    if resumed is None:
        return start.record() if start else None
    with resumed.translate_errors():
        return resumed.state()["run"].get("start")


def _check_architecture(source: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """All that decides what the weights mean must agree; dropout, initialization and length limits are free."""
    lines = [
        f"{key} is {found[key]}, configured {wanted[key]}"
        for key in found
        if key not in _FREE and found[key] != wanted[key]
    ]
    if lines:
        raise ModelError(f"{source}: not the configured model.size / model.architecture: " + "; ".join(lines))
