"""What an objective and a packer must know about a tokenizer, free of any tokenizer library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detour.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """The ids of one tokenizer. Built by `detour.data.tokenizer.vocab_of`; V is ``size``.

    Attributes:
        size: Number of ids, special and added ones included; every id is in [0, size).
        mask_id: Id of the mask token.
        pad_id: Id that fills the tail of a row.
        special_ids: All special ids, sorted; never masked, never drawn as a replacement.
        ordinary_ids: int64 [n]: ids of the ordinary vocabulary, the pool of random replacements.
        starts_word_V: bool [V]: True where a token begins a new word; None if the tokenizer does not tell.
    """

    size: int
    mask_id: int
    pad_id: int
    special_ids: tuple[int, ...]
    ordinary_ids: Tensor
    starts_word_V: Tensor | None = None
    is_special_V: Tensor = field(init=False)

    def __post_init__(self) -> None:
        import torch

        for name, value in {"mask_id": self.mask_id, "pad_id": self.pad_id}.items():
            if not 0 <= value < self.size:
                raise DataError(f"vocabulary: {name} is {value}, expected an id below {self.size}")
        if len(self.ordinary_ids) == 0:
            raise DataError("vocabulary: no ordinary token is left once the special ones are set aside")
        is_special_V = torch.zeros(self.size, dtype=torch.bool)
        is_special_V[list({*self.special_ids, self.mask_id, self.pad_id})] = True
        object.__setattr__(self, "is_special_V", is_special_V)
