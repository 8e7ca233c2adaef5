"""What an objective is, and the registry that finds it by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from detour.batch import Batch
from detour.errors import ConfigError
from detour.objectives.random import RowRandom
from detour.registry import Registry, suggestion
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


registry: Registry[type[Objective]] = Registry("objectives")
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
    cls, options = registry.get(name), dict(options or {})
    if "name" not in vars(cls):  # found through an entry point, without the decorator
        cls.name = name
    hints = get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}
    problems = []
    for key, value in options.items():
        if key not in known:
            problems.append(f"unknown option '{key}'{suggestion(key, known)}; known: {', '.join(known) or 'none'}")
        elif known[key] is float and type(value) is int:
            options[key] = float(value)
        elif isinstance(known[key], type) and type(value) is not known[key]:
            problems.append(f"option '{key}' is {value!r}, expected {known[key].__name__}")
    if problems:
        raise ConfigError(f"objective '{name}': " + "; ".join(problems))
    try:
        return cls(**options)
    except (ValueError, TypeError) as error:  # raised by __post_init__ checks and by missing required options
        raise ConfigError(f"objective '{name}': {error}") from error
