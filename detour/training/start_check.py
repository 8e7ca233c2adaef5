"""The check of `model.init` in `detour plan`: as at the start of training, but reading only headers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detour.config.schema import RunConfig
from detour.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def check_start(run: RunConfig) -> None:
    """Checks the folder of `model.init` and its tokenizer as training does, without reading weights.

    Models and tokenizers on the hub are not checked: no network is used.

    Raises:
        ModelError: The folder does not exist, is not a ModernBERT of the configured architecture, or its safetensors have
            unexpected names or shapes.
        DataError: A local tokenizer cannot be loaded, or is not that of the start model.
    """
    init = run.model.init
    if init is None:
        return
    if not Path(init).is_dir():
        if Path(init).is_absolute() or Path(init).exists() or init.startswith((".", "~")):  # not a name on the hub
            raise ModelError(f"model.init: {init}: no such folder")
        return
    from detour.data.tokenizer import load_tokenizer, vocab_of  # slow import
    from detour.training.start import check_tokenizer, read_start

    read_start(run, load=placeholders, adapt=False)
    name = run.model.tokenizer or init
    if Path(name).is_dir():
        tokenizer = load_tokenizer(name)
        vocab_of(tokenizer, size=run.architecture.vocab_size)
        check_tokenizer(run, tokenizer)


def placeholders(file: Path) -> dict[str, Tensor]:
    """Zeros in the shapes of the tensors of a safetensors file, without memory of their own; reads only the header."""
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as header:
        return {name: torch.zeros(()).expand(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
