"""Values that change over the tokens of a phase, such as a mask rate from 0.3 to 0.15. Pure functions, without torch.

In a YAML a scheduled value is a mapping in place of a number::

    options: {rate: {from: 0.3, to: 0.15}}                              # linear
    options: {rate: {from: 0.3, to: 0.05, shape: cosine}}
    options: {rate: {from: 0.3, to: 0.1, shape: steps, steps: 3}}       # 0.3, 0.2, 0.1
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from detour.errors import ConfigError
from detour.registry import suggestion

KEYS = ("from", "to", "shape", "steps")
_MOST_NAMES = 3  # that are spelled out
SHAPES = ("linear", "cosine", "steps")


def is_scheduled(value: Any) -> bool:
    """Whether a value is a schedule: a mapping with the keys ``from`` and ``to``."""
    return isinstance(value, Mapping) and "from" in value and "to" in value


def at(value: Any, fraction: float) -> Any:
    """A value, or every scheduled value in a mapping or list, after a fraction of the phase.

    A schedule between two integers gives integers, rounded to the nearest.

    Args:
        value: A constant, a schedule, or mappings and lists of them.
        fraction: Fraction of the phase's tokens seen before the batch; beyond 0 and 1 the ends hold.

    Raises:
        ConfigError: A schedule is malformed.
    """
    if is_scheduled(value):
        return _value(value, min(max(fraction, 0.0), 1.0))
    if isinstance(value, Mapping):
        return {key: at(item, fraction) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [at(item, fraction) for item in value]
    return value


def scheduled(value: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schedule inside a value, with its key such as ``rate`` or ``objectives[0].rate``."""
    if is_scheduled(value):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from scheduled(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from scheduled(item, f"{prefix}[{index}]")


def spelled(value: Any) -> str:
    """A value in words: ``0.3``; ``0.3 to 0.15 (cosine)`` for a schedule; ``clm (proportion 1) + mlm (rate 0.3)`` for parts.

    A part of a list is a mapping with an objective, whose options stand beside its other values. Of more than three names,
    such as classes, two are named.
    """
    if is_scheduled(value):
        shape = value.get("shape", "linear")
        how = f"{value.get('steps')} steps" if shape == "steps" else shape
        return f"{spelled(value['from'])} to {spelled(value['to'])}" + ("" if shape == "linear" else f" ({how})")
    if isinstance(value, Mapping):
        options = value.get("options")
        inner = {key: item for key, item in value.items() if key not in ("objective", "options")}
        inner |= options if isinstance(options, Mapping) else {}
        words = ", ".join(f"{key} {spelled(item)}" for key, item in inner.items())
        return (
            f"{value['objective']} ({words})" if "objective" in value and words else str(value.get("objective", words))
        )
    if isinstance(value, (list, tuple)):
        if len(value) > _MOST_NAMES and all(isinstance(item, str) for item in value):
            return f"{', '.join(value[: _MOST_NAMES - 1])}, and {len(value) - _MOST_NAMES + 1} more"
        return " + ".join(map(spelled, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _value(schedule: Mapping[str, Any], x: float) -> float | int:
    first, last, shape, steps = _checked(schedule)
    if shape == "cosine":
        x = (1 - math.cos(math.pi * x)) / 2
    elif shape == "steps":
        x = min(math.floor(x * steps), steps - 1) / (steps - 1)
    value = last if x == 1 else first + (last - first) * x  # exact at both ends
    return round(value) if isinstance(first, int) and isinstance(last, int) else float(value)


def _checked(schedule: Mapping[str, Any]) -> tuple[float | int, float | int, str, int]:
    for key in schedule:
        if key not in KEYS:
            raise ConfigError(f"a schedule has the keys {', '.join(KEYS)}, not '{key}'{suggestion(str(key), KEYS)}")
    for key in ("from", "to"):
        if type(schedule[key]) not in (int, float) or not math.isfinite(schedule[key]):
            raise ConfigError(f"a schedule's '{key}' is {schedule[key]!r}, expected a number")
    shape, steps = schedule.get("shape", "linear"), schedule.get("steps", 2)
    if shape not in SHAPES:
        raise ConfigError(f"a schedule's shape is {shape!r}, expected one of {', '.join(SHAPES)}")
    if ("steps" in schedule) != (shape == "steps") or type(steps) is not int or steps < 2:
        raise ConfigError(
            f"a schedule's steps are {schedule.get('steps')!r} with the shape '{shape}', expected an integer of at least 2 "
            "with the shape 'steps', and none with another"
        )
    return schedule["from"], schedule["to"], shape, steps
