"""From a mapping to a checked dataclass: the one place where keys, types and required values are enforced.

Used for a run's YAML, a task, a data recipe, an architecture, and the options of every registered class. Types are strict:
``"5"`` is not an int and ``"yes"`` is not a bool. The only conversions are an int where a float is asked for and a
list where a tuple is.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from detour.errors import ConfigError
from detour.registry import Registry, suggestion

C = TypeVar("C")
RENAMED = {  # keys of version 0.1.0's drafts: the only memory of them
    "row_tokens": "seq_len",
    "global_batch_rows": "global_batch_size",
    "micro_batch_rows": "micro_batch_size",
    "mask_share": "mask_fraction",
    "random_share": "random_fraction",
    "validation_share": "validation_fraction",
    "warmup_share": "warmup_fraction",
    "licence": "license",
    "part_megabytes": "shard_megabytes",
    "believe_column": "trust_column",
    "columns_of_items": "item_columns",
    "words": "ngram_size",
    "items": "min_items",
    "without": "if_missing",
    "shares": "fractions",
}
MISSING = "???"  # omegaconf: a value that has to be given


def parse(
    cls: type[C],
    values: Mapping[str, Any],
    *,
    source: str = "",
    prefix: str = "",
    lines: Mapping[str, str] | None = None,
) -> C:
    """An instance of a dataclass, nested dataclasses included.

    Args:
        cls: The dataclass.
        values: Field name to value; dataclass fields as mappings.
        source: File or object that error messages name first.
        prefix: Key of the mapping itself, put before every key in error messages.
        lines: Full key, such as ``phases[0].name``, to its line in the source, where known.

    Raises:
        ConfigError: Listing every unknown key, wrong type and missing value, each with its full key; or what the
            class's own ``__post_init__`` refuses.
    """
    if problems := check(cls, values, prefix=prefix):
        raise ConfigError(listing(source, problems, lines))
    try:
        return _construct(cls, values)
    except (ValueError, TypeError) as error:  # raised by a __post_init__
        raise ConfigError(": ".join(filter(None, [source, prefix, str(error)]))) from error


def check(cls: type, values: Any, *, prefix: str = "") -> list[str]:
    """A line for each unknown key, wrong type and missing value, naming the full key."""
    problems: list[str] = []
    _check_dataclass(cls, values, prefix, problems)
    return problems


def sound(cls: type[C], values: Any) -> C:
    """An instance of what passes the checks, so that it can be checked further although something else is wrong.

    Faulty values are replaced by the field's default, or by None if it has none; ``__post_init__`` is not expected to refuse.
    """
    given, hints = values if isinstance(values, Mapping) else {}, _hints_of(cls)
    kept: dict[str, Any] = {}
    for key, field in _settable(cls).items():
        value, problems = given.get(key, MISSING), []
        if is_dataclass(hints[key]):
            kept[key] = sound(hints[key], value)  # type: ignore[arg-type]
            continue
        if value != MISSING:
            _check_value(hints[key], value, key, problems)
        if value != MISSING and not problems:
            kept[key] = _construct(hints[key], value)
        elif _is_required(field):
            kept[key] = None
    return cls(**kept)


def listing(source: str, problems: list[str], lines: Mapping[str, str] | None = None) -> str:
    """One error message for all problems. Each begins with its key, and is followed by the key's line if known."""
    lines = lines or {}
    places = [lines.get(problem.split(":", 1)[0]) for problem in problems]
    problems = [f"{problem} ({place})" if place else problem for problem, place in zip(problems, places, strict=True)]
    start = f"{source}: " if source else ""
    if len(problems) == 1:
        return start + problems[0]
    return f"{start}{len(problems)} problems\n" + "\n".join(f"  - {problem}" for problem in problems)


class Kinds(Generic[C]):
    """A registry of frozen dataclasses that a YAML names by kind and fills by options.

    Third parties add to it with the decorator or through the entry-point group ``detour_<plural>``.

    Args:
        plural: What is registered, for example ``"steps"``.
    """

    def __init__(self, plural: str) -> None:
        self.registry: Registry[type[C]] = Registry(plural)
        self.singular = plural.removesuffix("s")

    def register(self, kind: str) -> Callable[[type[Any]], type[Any]]:
        """Class decorator: makes a class available under ``kind``."""
        return self.registry.register(kind)

    def build(self, kind: str, options: Mapping[str, Any] | None = None) -> C:
        """An instance with its options checked.

        Raises:
            ConfigError: The kind is unknown, or an option is unknown, missing, of the wrong type, or out of range.
        """
        return parse(self.registry.get(kind), options or {}, source=f"{self.singular} '{kind}'")


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted key -> value, of nested mappings and of lists that hold mappings: ``{"a": [{"b": 1}]}`` gives ``{"a[0].b": 1}``.

    Other lists and empty mappings are values.
    """
    if isinstance(value, Mapping) and value:
        return {k: v for name, inner in value.items() for k, v in flatten(inner, _join(key, name)).items()}
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return {k: v for i, inner in enumerate(value) for k, v in flatten(inner, f"{key}[{i}]").items()}
        return {key: list(value)}
    return {key: value}


def _near(key: str, known: Mapping[str, Any]) -> str:
    if (new := RENAMED.get(key)) in known:
        return f"; it is now called '{new}'"
    return suggestion(key, known) or "; known: " + (", ".join(known) or "none")


def _is_required(field: Field[Any]) -> bool:
    return (field.default is NO_DEFAULT and field.default_factory is NO_DEFAULT) or field.default == MISSING


_hints_of = cache(get_type_hints)  # which evaluates every annotation anew


def _settable(cls: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls) if field.init}


def _check_dataclass(cls: type, values: Any, prefix: str, problems: list[str]) -> None:
    if not isinstance(values, Mapping):
        problems.append(f"{prefix or 'the file'}: {values!r}, expected a mapping")
        return
    hints, known = _hints_of(cls), _settable(cls)
    for key in values:
        if key not in known:
            problems.append(f"{_join(prefix, key)}: unknown key{_near(str(key), known)}")
    for key, field in known.items():
        value = values.get(key, MISSING)
        if value != MISSING:
            _check_value(hints[key], value, _join(prefix, key), problems)
        elif is_dataclass(hints[key]):
            _check_dataclass(hints[key], {}, _join(prefix, key), problems)  # type: ignore[arg-type]
        elif _is_required(field):
            problems.append(f"{_join(prefix, key)}: missing, and it has no default")
        elif key in values:
            problems.append(f"{_join(prefix, key)}: missing")


def _check_value(hint: Any, value: Any, key: str, problems: list[str]) -> None:
    if inner := _dataclass_or_null(hint, value):
        _check_dataclass(inner, value, key, problems)
    elif is_dataclass(hint):
        _check_dataclass(hint, value, key, problems)  # type: ignore[arg-type]
    elif get_origin(hint) is list and is_dataclass(get_args(hint)[0]) and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_value(get_args(hint)[0], item, f"{key}[{index}]", problems)
    elif get_origin(hint) is Literal and not _fits(value, hint):
        choices = get_args(hint)
        problems.append(
            f"{key}: {value!r}{suggestion(str(value), choices)}; expected one of {', '.join(map(str, choices))}"
        )
    elif get_origin(hint) is list and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_value(get_args(hint)[0], item, f"{key}[{index}]", problems)
    elif get_origin(hint) is dict and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        for name, item in value.items():
            _check_value(get_args(hint)[1], item, _join(key, name), problems)
    elif not _fits(value, hint):
        quotes = "; put it in quotes" if isinstance(value, bool) and _fits("", hint) else ""
        problems.append(f"{key}: {value!r}, expected {_spelled(hint)}{quotes}")


def _dataclass_or_null(hint: Any, value: Any) -> type | None:
    """The dataclass of the hint ``Dataclass | None``, if the value is a mapping."""
    if get_origin(hint) not in (Union, types.UnionType) or not isinstance(value, Mapping):
        return None
    return next((kind for kind in get_args(hint) if isinstance(kind, type) and is_dataclass(kind)), None)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is list:
        return isinstance(value, (list, tuple)) and all(_fits(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _fits(k, inner[0]) and _fits(item, inner[1]) for k, item in value.items()
        )
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _construct(hint: Any, value: Any) -> Any:
    """A value that passed the checks, with nested dataclasses built, ints as floats and lists as tuples where asked for."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = _hints_of(hint)  # type: ignore[arg-type]
        given = {key: _construct(hints[key], item) for key, item in value.items()}
        for key in _settable(hint):  # type: ignore[arg-type]
            if key not in given and is_dataclass(hints[key]):
                given[key] = _construct(hints[key], {})
        return hint(**given)  # type: ignore[operator]
    if optional := _dataclass_or_null(hint, value):
        return _construct(optional, value)
    if origin in (Union, types.UnionType):
        return _construct(next(kind for kind in inner if _fits(value, kind)), value)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner
        return tuple(map(_construct, kinds, value))
    if origin is list:
        return [_construct(inner[0], item) for item in value]
    if origin is dict:
        return {key: _construct(inner[1], item) for key, item in value.items()}
    return float(value) if hint is float else value


def _spelled(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_spelled, inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        return f"a list of {len(inner)}: {', '.join(map(_spelled, inner))}"
    if origin in (list, tuple):
        return f"a list of {_spelled(inner[0])}"
    return "a mapping" if origin is dict or hint is dict or is_dataclass(hint) else getattr(hint, "__name__", str(hint))


def _join(prefix: str, key: object) -> str:
    return f"{prefix}.{key}" if prefix else str(key)
