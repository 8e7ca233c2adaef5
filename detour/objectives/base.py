"""The interface of an objective, and the registry of objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from detour.batch import Batch
from detour.objectives.random import RowRandom
from detour.options import parse
from detour.registry import Registry
from detour.vocab import Vocab

Attention = Literal["bidirectional", "causal"]


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Turns a clean batch into a supervised one. Subclass it as a frozen dataclass; its fields are the YAML `options`.

    The label at position t is the target of the model's output at position t. This covers every alignment: masked LM
    labels the position itself, causal LM the next token, MNTP (arXiv 2404.05961) the masked token one position to the right. The
    number of supervised positions is counted from the labels.

    Attributes:
        attention: Attention rule under this objective.
        name: Registered name, set by `register`.
    """

    attention: ClassVar[Attention] = "bidirectional"
    name: ClassVar[str] = ""

    @abstractmethod
    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        """A new batch with `input_ids`, possibly corrupted, and `labels`; ``batch`` is not modified.

        Labels are IGNORE at padding and never cross a document boundary. Every row whose documents allow it has at
        least one supervised position. `detour.testing.check_objective` checks this contract.
        """

    @abstractmethod
    def target_fraction(self, mean_document_tokens: float) -> float:
        """Expected fraction of supervised tokens, in [0, 1]; used by `detour plan`."""

    def __call__(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        """Calls `corrupt` and adds the attention rule and the name of the objective to the batch."""
        corrupted = self.corrupt(batch, vocab, rng)
        return {**corrupted, "attention": self.attention, "objective": self.name}


registry: Registry[type[Objective]] = Registry("objectives", plugins=True)
O = TypeVar("O", bound=type[Objective])


def register(name: str) -> Callable[[O], O]:
    """Class decorator that registers an objective, so that phases can refer to it by ``name``."""

    def add(cls: O) -> O:
        registry.register(name)(cls)
        cls.name = name  # after the registry has accepted it
        return cls

    return add


def build(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """Instantiates the objective registered as ``name`` with the given options.

    Raises:
        ConfigError: The name or an option is unknown, or an option has the wrong type or is out of range.
    """
    cls = registry.get(name)
    if "name" not in vars(cls):  # found through an entry point, without the decorator
        cls.name = name
    return parse(cls, options or {}, source=f"objective '{name}'")
