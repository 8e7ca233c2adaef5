"""The interface of an objective, and the registry of objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

from detour import scheduled
from detour.batch import Batch
from detour.data.manifest import ShardManifest
from detour.errors import ConfigError
from detour.objectives.random import RowRandom
from detour.options import parse
from detour.registry import Registry
from detour.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Turns a clean batch into a supervised one. Subclass it as a frozen dataclass; its fields are the YAML `options`.

    The label at position t is the target of the model's output at position t. This covers every alignment: masked LM
    labels the position itself, causal LM the next token, MNTP (arXiv 2404.05961) the masked token one position to the right. The
    number of supervised positions is counted from the labels.

    A batch may also carry `weights` of the positions' losses, `loss_tokens` to divide by, `reach` for an attention that differs
    from token to token, and an `attention` or `objective` of its own (see `detour.batch.Batch`).

    Attributes:
        attention: Attention rule under this objective: "bidirectional", "causal", "lookahead:K" or "reach".
        by_step: Whether it differs from step to step, so that a held-out loss under it would be that of one step's.
        name: Registered name, set by `register`.
    """

    attention: ClassVar[str] = "bidirectional"
    by_step: ClassVar[bool] = False
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
        """Calls `corrupt`, and adds the attention rule and the name of the objective where the batch has none."""
        corrupted = self.corrupt(batch, vocab, rng)
        return {"attention": self.attention, "objective": self.name, **corrupted}  # type: ignore[return-value]

    def stream_at(self, step: int) -> str:
        """Name of the phase's stream that the batch of a step is read from; empty for the phase's `data`."""
        return ""

    def row_problem(self, manifests: Sequence[ShardManifest]) -> str | None:
        """Why the objective cannot be trained on the rows of these folders; None if it can."""
        return None

    @property
    def parts(self) -> list[tuple[Objective, float]]:
        """The objectives that this one consists of, and the fraction of the tokens under each; used by `detour plan`."""
        return [(self, 1.0)]


registry: Registry[type[Objective]] = Registry("objectives", plugins=True)
O = TypeVar("O", bound=type[Objective])


def register(name: str) -> Callable[[O], O]:
    """Class decorator that registers an objective, so that phases can refer to it by ``name``."""

    def add(cls: O) -> O:
        registry.register(name)(cls)
        cls.name = name  # after the registry has accepted it
        return cls

    return add


def build(name: str, options: Mapping[str, Any] | None = None, *, fraction: float = 0.0) -> Objective:
    """Instantiates the objective registered as ``name`` with the given options.

    Args:
        name: Registered name.
        options: Its options. Scheduled values (`detour.scheduled`) are replaced by their value at ``fraction``.
        fraction: Fraction of the phase that has been trained.

    Raises:
        ConfigError: The name or an option is unknown, or an option has the wrong type or is out of range.
    """
    cls = registry.get(name)
    if "name" not in vars(cls):  # found through an entry point, without the decorator
        cls.name = name
    try:
        values = scheduled.at(dict(options or {}), fraction)
    except ConfigError as error:
        raise ConfigError(f"objective '{name}': {error}") from error
    return parse(cls, values, source=f"objective '{name}'")


def check(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Builds an objective at both ends of its schedules. Raises ConfigError as `build`."""
    for fraction in (0.0, 1.0):
        build(name, options, fraction=fraction)


def all_options(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every option of an objective, defaults included; scheduled ones as their schedules."""
    given = options or {}
    values = asdict(build(name, given))
    return {key: given[key] if any(scheduled.scheduled(given.get(key))) else value for key, value in values.items()}
