"""The token ids that objectives and packing need, without a tokenizer library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detour.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Vocab:
    """Token ids of one tokenizer, built by `detour.data.tokenizer.vocab_of`. V is ``size``.

    Attributes:
        size: Number of ids, including special and added tokens; ids are in [0, size).
        mask_id: Id of the mask token.
        pad_id: Id of the padding token.
        special_ids: All special ids, sorted; never masked and never drawn as replacements.
        ordinary_ids: Ids that are not special, int64 [n]; random replacements are drawn from them.
        starts_word_V: Whether a token begins a word, bool [V]; None if the tokenizer does not mark word starts.
        is_special_V: Whether a token is special, bool [V].
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
            raise DataError("vocabulary: every token is special; expected ordinary tokens as well")
        is_special_V = torch.zeros(self.size, dtype=torch.bool)
        is_special_V[list({*self.special_ids, self.mask_id, self.pad_id})] = True
        object.__setattr__(self, "is_special_V", is_special_V)
