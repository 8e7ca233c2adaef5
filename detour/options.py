"""Classes that a YAML names by ``kind`` and fills by ``options``: their registry and the checks of their fields."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from detour.errors import ConfigError
from detour.registry import Registry, suggestion

K = TypeVar("K")


class Kinds(Generic[K]):
    """A registry of frozen dataclasses; third parties add to it with the decorator or the entry point's group.

    Args:
        plural: What is registered, such as "steps"; the entry-point group is ``detour_<plural>``.
    """

    def __init__(self, plural: str) -> None:
        self.registry: Registry[type[K]] = Registry(plural)
        self.singular = plural.removesuffix("s")

    def register(self, kind: str) -> Callable[[type[Any]], type[Any]]:
        """Class decorator: makes a class available under ``kind``."""
        return self.registry.register(kind)

    def build(self, kind: str, options: Mapping[str, Any] | None = None) -> K:
        """An instance with its options checked.

        Raises:
            ConfigError: The kind is unknown, or an option is unknown, missing, of the wrong type, or out of range.
        """
        cls = self.registry.get(kind)
        hints = get_type_hints(cls)
        known = {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]
        values, problems = {}, []
        for key, value in (options or {}).items():
            if key not in known:
                problems.append(f"unknown option '{key}'{suggestion(key, known)}; known: {', '.join(known) or 'none'}")
            elif not _fits(value := _converted(value, known[key]), known[key]):
                problems.append(f"option '{key}' is {value!r}, expected {_spelt(known[key])}")
            else:
                values[key] = value
        if problems:
            raise ConfigError(f"{self.singular} '{kind}': " + "; ".join(problems))
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:  # raised by __post_init__ checks and by missing required options
            raise ConfigError(f"{self.singular} '{kind}': {error}") from error


def _converted(value: Any, hint: Any) -> Any:
    """A list as the tuple that a frozen dataclass keeps, a whole number as the float that its field asks for."""
    kinds = _alternatives(hint)
    if type(value) is int and float in kinds and int not in kinds:
        return float(value)
    if isinstance(value, list) and any(get_origin(kind) is tuple for kind in kinds):
        return tuple(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    for kind in _alternatives(hint):
        if get_origin(kind) is tuple:
            if isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value):
                return True
        elif kind is Any or type(value) is (get_origin(kind) or kind):
            return True
    return False


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _spelt(hint: Any) -> str:
    return " or ".join(
        "a list" if get_origin(kind) is tuple else getattr(kind, "__name__", str(kind)) for kind in _alternatives(hint)
    )
