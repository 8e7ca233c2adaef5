"""The start model of a new project: its size without its weights, and a default by language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detour.errors import ModelError, first_line
from detour.hub import check_hub
from detour.models.architecture import Architecture
from detour.models.families import architecture, sizes

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {  # hub name -> size and what differs from it; checked when a run starts
    "answerdotai/ModernBERT-base": ("modernbert-base", {}),
    "answerdotai/ModernBERT-large": ("modernbert-large", {}),
    "almanach/moderncamembert-base": ("moderncamembert-base", {}),
    "almanach/moderncamembert-large": ("moderncamembert-large", {}),
    "jhu-clsp/mmBERT-base": ("modernbert-base", {"vocab_size": 256_000, "local_rope_theta": 160_000.0}),
}
DEFAULTS = {  # language -> the start model and why; other languages and mixtures take mmBERT
    "en": ("answerdotai/ModernBERT-base", "the paper's English start model (arXiv 2605.12438)"),
    "fr": ("almanach/moderncamembert-base", "the paper's French start model (arXiv 2605.12438)"),
}
MULTILINGUAL = ("jhu-clsp/mmBERT-base", "a ModernBERT of 1,800 languages (arXiv 2509.06888); not one of the paper's")
MAIN_LANGUAGE = 0.9  # fraction of the text from which a corpus counts as of one language


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start model.

    Attributes:
        name: Value of `model.init`.
        local: Whether it is a folder.
        size: Named size that it is closest to.
        overrides: Fields of the architecture that differ from the size's.
        architecture: Its architecture.
    """

    name: str
    local: bool
    size: str
    overrides: dict[str, Any] = field(default_factory=dict)
    architecture: Architecture


def default_start(languages: Mapping[str, float]) -> tuple[str, str]:
    """The start model for a corpus and the reason.

    Args:
        languages: Code -> fraction of the text.
    """
    main = next((code for code, fraction in languages.items() if fraction >= MAIN_LANGUAGE), None)
    return DEFAULTS.get(main or "", MULTILINGUAL)


def is_plausible(name: str) -> bool:
    """Whether a name is a folder, or may be one of the hub: owner/name, or an old one without owner, such as xlm-roberta-base."""
    is_hub = re.fullmatch(r"\w[\w.-]*/[\w.-]+|\w+(-\w+)+", name) is not None
    return is_hub or Path(name).expanduser().is_dir()


def is_cached(name: str) -> bool:
    """Whether tokenizer, configuration and weights of a hub model are on this machine, in the cache of huggingface_hub."""
    from huggingface_hub import try_to_load_from_cache

    def has(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file), str)

    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return has("config.json") and has("tokenizer_config.json") and any(map(has, weights))


def find_start(name: str) -> Start:
    """A start model by its folder or hub name. Of an unknown hub name, config.json is fetched, and nothing else.

    Raises:
        ModelError: The folder does not exist, the hub cannot be reached, or the model is of no family.
    """
    from detour.models import hf

    folder = Path(name).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        if "${" in str(folder):
            raise ModelError(f"{name}: a path with '${{' cannot be written into a YAML; rename it")
        return _closest(str(folder), hf.read_architecture(folder), local=True)
    if name in KNOWN:
        size, overrides = KNOWN[name]
        return Start(name=name, local=False, size=size, overrides=overrides, architecture=architecture(size, overrides))
    if not is_plausible(name):
        raise ModelError(f"{name}: no such folder, and not a name on the hub, such as answerdotai/ModernBERT-base")
    from huggingface_hub import hf_hub_download

    try:
        check_hub()
        config = Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # the hub client raises many kinds, all of which mean the same here
        raise ModelError(
            f"model '{name}': no such folder, and the hub gave no config.json: {first_line(error)}; download the model and "
            f"name its folder, or take one of {', '.join(KNOWN)}"
        ) from error
    return _closest(name, hf.read_architecture(config.parent), local=False)


def _closest(name: str, found: Architecture, *, local: bool) -> Start:
    """The named size of the family with the fewest fields that differ."""
    own = asdict(found)
    differing = {
        size: {key: value for key, value in own.items() if value != asdict(arch)[key]}
        for size, arch in sizes().items()
        if arch.family == found.family
    }
    if not differing:
        raise ModelError(f"{name}: its family, {found.family}, has no named size to begin from")
    size = min(differing, key=lambda each: len(differing[each]))
    return Start(name=name, local=local, size=size, overrides=differing[size], architecture=found)
