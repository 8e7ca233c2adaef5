"""The start model of a run (`model.init`): read, and checked against the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor

from detour.config.schema import RunConfig
from detour.data.tokenizer import load_tokenizer
from detour.data.tokenizer_differences import other_rules, vocabulary_differences
from detour.data.vocabulary_transfer import row_sources
from detour.errors import DataError, ModelError
from detour.models import hf
from detour.models.architecture import Architecture
from detour.models.encoder import Encoder
from detour.models.tiling import TILED, check_tiling, tile
from detour.models.vocabulary_rows import take_rows
from detour.training.checkpoints.files import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model",
                    "sentencepiece.bpe.model", "spiece.model")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start model, as read from its folder and adapted to the run.

    Attributes:
        weights: fp32 weights under the encoder's names; without the parts that are drawn.
        config: Contents of its config.json.
        drawn: Whether the head is initialized at random: the folder has no language-modeling head, or it is reset.
        reset: Parts that are initialized at random by `model.reset`.
        vocabulary: Number of tokens copied and averaged (`RowSources.record`); None without `model.new_tokens`.
        tiled: Sizes of the start model (`detour.models.tiling.TILED`); None without `model.tile`.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    drawn: bool
    reset: tuple[str, ...] = ()
    vocabulary: dict[str, int] | None = None
    tiled: dict[str, int] | None = None

    def record(self) -> dict[str, Any]:
        """What the run's record keeps of the start model, for the export and the model card."""
        return {
            "head": "drawn" if self.drawn else "read",
            "reset": list(self.reset),
            "vocabulary": self.vocabulary,
            "tiled": self.tiled,
            "config": self.config,
        }

    def load_into(self, encoder: Encoder) -> None:
        """Loads the weights into an encoder; parts that are drawn keep its random initialization."""
        own = encoder.weights()
        kept = {name for name in own if (self.drawn and hf.of_head(name)) or _is_reset(name, self.reset)}
        encoder.load_weights({**{name: own[name] for name in kept}, **self.weights})


def read_start(
    run: RunConfig, *, load: Callable[[Path], dict[str, Tensor]] = load_file, adapt: bool = True
) -> Start | None:
    """Reads the model of `model.init`; None if the run starts from random weights.

    Args:
        run: The configuration.
        load: Reader of a safetensors file.
        adapt: Whether the weights get the run's vocabulary and size; if not, they are only checked.

    Raises:
        ModelError: The model cannot be read, its architecture is not the configured one, or its weights do not fit.
        DataError: `model.new_tokens` is given, and a tokenizer cannot be read or has more ids than there are rows.
    """
    if run.model.init is None:
        return None
    wanted, folder = run.architecture, hf.fetch(run.model.init)
    found = hf.read_architecture(folder, ignore=run.model.ignore_config_keys)
    _check_architecture(run, found, wanted)
    if {*found.layer_rules("causal")} != {*wanted.layer_rules("causal")}:
        log.warning(
            "%s: its causal layers attended to %s, this run's to %s (model.architecture.causal_left_window)",
            run.model.init, _reach(found), _reach(wanted),
        )  # fmt: skip
    weights = hf.read_weights(folder, found, load=load)
    wants_head = any(hf.of_head(name) for name in hf.expected_shapes(wanted))  # Llama's may be its embedding alone
    if "head" in run.model.reset and not wants_head:
        raise ModelError(f"model.reset: {run.model.init} has no head beside its embedding")
    drawn = wants_head and not any(hf.of_head(name) for name in weights)
    if drawn:
        log.warning(
            "%s: has no language-modeling head (it is a %s); the head is randomly initialized from seed %d",
            run.model.init, ", ".join(hf.read_config(folder).get("architectures") or ["trunk"]), run.seed,
        )  # fmt: skip
    vocabulary = None
    if adapt and run.model.new_tokens:
        weights, vocabulary = _with_vocabulary(run, weights, found, wanted)
    if adapt and run.model.tile:
        weights = tile(weights, found, wanted)
    return Start(
        weights={name: tensor for name, tensor in weights.items() if not _is_reset(name, run.model.reset)},
        config=hf.read_config(folder),
        drawn=drawn or "head" in run.model.reset,
        reset=tuple(run.model.reset),
        vocabulary=vocabulary,
        tiled={key: getattr(found, key) for key in TILED if hasattr(found, key)} if run.model.tile else None,
    )


def _with_vocabulary(
    run: RunConfig, weights: dict[str, Tensor], found: Architecture, wanted: Architecture
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The weights with a row for each token of the run's tokenizer, and how many were copied and averaged."""
    start, given = load_tokenizer(run.model.init or ""), load_tokenizer(run.model.tokenizer or "")
    sources = row_sources(start, given, start_rows=found.vocab_size, rows=wanted.vocab_size)
    log.info(
        "%s: %s tokens of %s keep their embedding; that of %s is the mean of their pieces, that of %s the mean of all",
        run.model.init, f"{sources.copied:,}", run.model.tokenizer, f"{sources.averaged:,}", f"{sources.without_pieces:,}",
    )  # fmt: skip
    return take_rows(weights, sources.rows), sources.record()


def _is_reset(name: str, reset: Iterable[str]) -> bool:
    """Whether a weight belongs to a part that is drawn anew."""
    return any(hf.of_head(name) if part == "head" else name.startswith("model.embeddings.") for part in reset)


def check_tokenizer(run: RunConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Compares the tokenizer of the run with that of `model.init`, if both are named.

    Raises:
        DataError: The vocabularies differ, or the tokenizer of the start model cannot be read, and
            `model.allow_tokenizer_mismatch` is false.
    """
    init, given = run.model.init, run.model.tokenizer
    if init is None or given is None or run.model.new_tokens:  # then rows follow their tokens
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
        raise DataError(
            f"{text}. To give each token the embedding of its text, set model.new_tokens: mean; to keep the rows, "
            "model.allow_tokenizer_mismatch: true"
        )
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


def _check_architecture(run: RunConfig, found: Architecture, wanted: Architecture) -> None:
    """Compares all settings that give the weights their meaning; dropout, initialization and length limits may differ."""
    source, free = run.model.init, {*wanted.free}
    if found.family != wanted.family:
        raise ModelError(f"{source}: its architecture is {found.family}, the configured model.size is {wanted.family}")
    if run.model.new_tokens:
        free.add("vocab_size")
    if run.model.tile:
        free.update(TILED)
        check_tiling(found, wanted)
    theirs, ours = asdict(found), asdict(wanted)
    lines = [
        f"{key} is {theirs[key]}, configured {ours[key]}"
        for key in theirs
        if key not in free and theirs[key] != ours[key]
    ]
    if lines:
        raise ModelError(f"{source}: not the configured model.size / model.architecture: " + "; ".join(lines))
