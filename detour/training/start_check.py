"""The check of `model.init` for `detour plan`: that of the start of training, from configuration and headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detour.config.check import arch
from detour.config.schema import RunConfig
from detour.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def check_start(run: RunConfig) -> None:
    """Checks the folder of `model.init` and its tokenizer as training would, without reading weights or the network.

    A name on the hub is not looked up, neither the model's nor the tokenizer's.

    Raises:
        ModelError: The folder is not there, is no ModernBERT, is not the configured architecture, or its safetensors
            hold other names or shapes.
        DataError: A local tokenizer cannot be loaded, or is not the start model's.
    """
    init = run.model.init
    if init is None:
        return
    if not Path(init).is_dir():
        if Path(init).is_absolute() or Path(init).exists() or init.startswith((".", "~")):  # no name on the hub
            raise ModelError(f"model.init: {init}: no such folder")
        return
    from detour.data.tokenizer import load_tokenizer, vocab_of  # seconds: only where there is something to check
    from detour.training.start import check_tokenizer, read_start

    read_start(run, load=stand_ins)
    name = run.model.tokenizer or init
    if Path(name).is_dir():
        tokenizer = load_tokenizer(name)
        vocab_of(tokenizer, size=arch(run).vocab_size)
        check_tokenizer(run, tokenizer)


def stand_ins(file: Path) -> dict[str, Tensor]:
    """For each tensor of a safetensors file, zeros of its shape that take no memory; only its header is read."""
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as header:
        return {name: torch.zeros(()).expand(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
