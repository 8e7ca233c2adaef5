"""What an objective is, and the registry that finds it by name."""

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
    """Turns a clean batch into a supervised one. Subclass as a frozen dataclass; its fields are the YAML `options`.

    The label at position t is what the model's output at position t must predict. That alone expresses every
    alignment: masked LM labels the position itself, causal LM labels the next token, MNTP the token one to the right
    of a mask. The number of supervised positions is counted from the labels, never declared.

    Attributes:
        attention: What a position may attend to while this objective trains.
        name: The registered name, set by `register`.
    """

    attention: ClassVar[Attention] = "bidirectional"
    name: ClassVar[str] = ""

    @abstractmethod
    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        """A new batch with `input_ids` (corrupted or not) and `labels`; the argument is left untouched.

        Labels are IGNORE at padding, never point across a document boundary, and leave at least one supervised
        position in each row whose documents allow one. `detour.testing.check_objective` asserts this contract.
        """

    @abstractmethod
    def target_fraction(self, mean_document_tokens: float) -> float:
        """Expected share of tokens that carry loss, in [0, 1]; `detour plan` multiplies it by the phase's tokens."""

    def __call__(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        """`corrupt`, with the attention rule and the objective's name added for the model and the logs."""
        corrupted = self.corrupt(batch, vocab, rng)
        return {**corrupted, "attention": self.attention, "objective": self.name}


registry: Registry[type[Objective]] = Registry("objectives", plugins=True)
O = TypeVar("O", bound=type[Objective])


def register(name: str) -> Callable[[O], O]:
    """Class decorator: makes an objective available to `phases:` under ``name``."""

    def add(cls: O) -> O:
        registry.register(name)(cls)
        cls.name = name  # after the registry has accepted it
        return cls

    return add


def build(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """The objective registered as ``name``, with options checked against its fields.

    Raises:
        ConfigError: The name is unknown, or an option is unknown, of the wrong type, or out of range.
    """
    cls = registry.get(name)
    if "name" not in vars(cls):  # found through an entry point, without the decorator
        cls.name = name
    return parse(cls, options or {}, source=f"objective '{name}'")
