"""Values that a configuration refers to by name, and that other packages may add to.

A package adds a value with the registry's decorator, or declares it as an entry point in the group ``detour_<kind>`` (for
example ``detour_objectives``), which is found without an import.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import catalogue

from detour.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named values of one kind, over `catalogue`, with errors that suggest a name.

    Args:
        kind: What is registered, in the plural (``"objectives"``); also the suffix of the entry-point group.
        plugins: Whether a run's ``plugins:`` can add to it; only for the error message.
    """

    def __init__(self, kind: str, *, plugins: bool = False) -> None:
        self.kind = kind
        self._plugins = plugins
        self._catalogue = catalogue.create("detour", kind, entry_points=True)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a value under ``name``.

        Raises:
            ConfigError: The name belongs to another value.
        """

        def add(value: T) -> T:
            # entry points are not loaded here: their packages import this one, which may be half imported
            if catalogue.REGISTRY.get(("detour", self.kind, name), value) is not value:
                raise ConfigError(f"{self.kind}: the name '{name}' is already registered")
            return self._catalogue.register(name, func=value)  # type: ignore[return-value]

        return add

    def get(self, name: str) -> T:
        """The value registered under ``name``.

        Raises:
            ConfigError: There is none. The message names the nearest name, all known names, and how to add one.
        """
        registered = catalogue.REGISTRY.get(("detour", self.kind, name))
        if registered is not None:  # without a look at the entry points of all installed packages
            return registered
        known = self._catalogue.get_all()
        if name in known:
            return known[name]
        plugin = "list the module that registers it under plugins:, or " if self._plugins else ""
        raise ConfigError(
            f"{self.kind}: no '{name}'{suggestion(name, known)}; known: {', '.join(sorted(known)) or 'none'}. "
            f"To add one, {plugin}declare an entry point in the group detour_{self.kind}"
        )

    def names(self) -> list[str]:
        """All registered names, sorted; entry points included."""
        return sorted(self._catalogue.get_all())


def suggestion(name: str, known: Iterable[object]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
