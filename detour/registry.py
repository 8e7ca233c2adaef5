"""Named things that users may add to: a thin layer over `catalogue` with helpful errors.

A third-party package registers either with the decorator, or without being imported first by declaring an entry
point in the group ``detour_<registry>`` (for example ``detour_objectives``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Generic, TypeVar

import catalogue

from detour.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """A catalogue of named values of one kind.

    Args:
        kind: What is registered, in the plural (``"objectives"``); also the suffix of the entry-point group.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._catalogue = catalogue.create("detour", kind, entry_points=True)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a value under ``name``. Raises ConfigError if the name is taken by another value."""

        def add(value: T) -> T:
            # entry points stay unloaded here: their packages import this one, and would find it half made
            if catalogue.REGISTRY.get(("detour", self.kind, name), value) is not value:
                raise ConfigError(f"{self.kind}: the name '{name}' is already registered")
            return self._catalogue.register(name, func=value)  # type: ignore[return-value]

        return add

    def get(self, name: str) -> T:
        """The value registered under ``name``. Raises ConfigError naming the nearest known names."""
        known = self._catalogue.get_all()
        if name in known:
            return known[name]
        raise ConfigError(f"{self.kind}: no '{name}'{suggestion(name, known)}; known: {', '.join(sorted(known))}")

    def names(self) -> list[str]:
        """All registered names, sorted; entry points included."""
        return sorted(self._catalogue.get_all())


def suggestion(name: str, known: object) -> str:
    """``"; did you mean 'x'?"`` for the closest of the known names, or an empty string."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1)  # type: ignore[union-attr]
    return f"; did you mean '{close[0]}'?" if close else ""
