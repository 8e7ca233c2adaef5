"""How a family's Hugging Face folders are read and written: the part of a family that knows transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from detour.errors import ModelError
from detour.models.architecture import Architecture
from detour.models.hf_config import TOKEN_IDS, ConfigKeys


@dataclass(frozen=True, kw_only=True)
class Uses:
    """Through what an exported folder is used in plain transformers. Each is tried before an export is finished.

    Attributes:
        head_class: The class whose logits are compared with those of our model.
        attention: The attention of that class.
        classes: All classes, for the model card.
        pipelines: All pipelines, for the model card.
        note: What else the model card says of these classes.
        drawn_anew: Prefixes of weights that these classes have and the folder does not: heads of fine-tuned models.
    """

    head_class: str = "AutoModelForMaskedLM"
    attention: str = "bidirectional"
    classes: tuple[str, ...] = (
        "AutoModel",
        "AutoModelForMaskedLM",
        "AutoModelForTokenClassification",
        "AutoModelForSequenceClassification",
    )
    pipelines: tuple[str, ...] = ("fill-mask", "feature-extraction")
    drawn_anew: tuple[str, ...] = ("classifier.",)
    note: str = ""


class Format(ABC):
    """A family's Hugging Face folders.

    Attributes:
        keys: The keys of config.json.
        uses: Through what an exported folder is used, if not told otherwise by `uses_of`.
    """

    keys: ConfigKeys
    uses: Uses = Uses()

    @abstractmethod
    def read(self, path: Path, config: Mapping[str, Any], *, ignore: Collection[str] = ()) -> Architecture:
        """The architecture that a config describes.

        Args:
            path: Of the config, for messages.
            config: Its content.
            ignore: Unknown keys that the user vouches for.

        Raises:
            ModelError: A key is missing, asks for what the family does not compute, or has an unknown effect.
        """

    @abstractmethod
    def to_encoder(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the encoder's names; a trunk alone may lack its prefix. Unknown names pass unchanged."""

    @abstractmethod
    def to_folder(self, weights: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
        """Weights under the names of the class that loads the folder; the inverse of `to_encoder`."""

    @abstractmethod
    def config(
        self, arch: Architecture, tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any] | None
    ) -> PretrainedConfig:
        """The config of an architecture, with the tokenizer's special ids.

        Args:
            arch: The architecture.
            tokenizer: Its ids come first.
            start: config.json of the start model, for special ids that the tokenizer does not declare.
        """

    @abstractmethod
    def headline(self, arch: Architecture) -> str:
        """What the model is, for the first line of its card, as in "A bidirectional ModernBERT encoder"."""

    def uses_of(self, arch: Architecture) -> Uses:
        """Through what the exported folder of an architecture is used."""
        return self.uses

    def as_decoder(self, arch: Architecture) -> Format:
        """The layout of the family's decoder class. Raises ModelError: it has none, or that one computes something else."""
        raise ModelError(f"a model of the family '{arch.family}' has no other layout as a decoder")

    def model_inputs(self, arch: Architecture) -> list[str]:
        """The inputs that the exported tokenizer makes."""
        return ["input_ids", "attention_mask"]


def token_ids(tokenizer: PreTrainedTokenizerFast, start: Mapping[str, Any]) -> dict[str, Any]:
    """Special ids for a config.json: the tokenizer's, else the start model's; [CLS] and [SEP] serve as bos and eos."""
    special: dict[str, Any] = {}
    for key in TOKEN_IDS:
        id = getattr(tokenizer, key, None)
        special[key] = start.get(key) if id is None else id
    special["bos_token_id"] = tokenizer.cls_token_id if special["bos_token_id"] is None else special["bos_token_id"]
    special["eos_token_id"] = tokenizer.sep_token_id if special["eos_token_id"] is None else special["eos_token_id"]
    for key in ("mask_token_id", "unk_token_id"):  # no keys of transformers' configs
        if key not in start:
            del special[key]
    return special


def join(weights: dict[str, Tensor], *, parts: Iterable[str], into: str) -> None:
    """Replaces the matrices or biases named ``<stem><part>.<kind>`` by their concatenation ``<stem><into>.<kind>``.

    Raises:
        ModelError: One part is there without the others.
    """
    parts = list(parts)
    ends = tuple(f"{part}.{kind}" for part in parts for kind in ("weight", "bias"))
    for name in [name for name in weights if name.endswith(ends)]:
        if name not in weights:
            continue  # joined already
        end = next(end for end in ends if name.endswith(end))
        stem, kind = name.removesuffix(end), end.rsplit(".", 1)[1]
        found = [weights.pop(f"{stem}{part}.{kind}", None) for part in parts]
        if any(part is None for part in found):
            raise ModelError(f"{stem}: only some of {', '.join(parts)} ({kind})")
        weights[f"{stem}{into}.{kind}"] = torch.cat(found)  # type: ignore[arg-type]
