"""Scalings of rotary positions for longer documents, named and numbered as in Hugging Face's config; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detour.errors import ConfigError

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # the numbers that each kind needs, and those it may have
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (("factor", "original_max_position_embeddings"), ("beta_fast", "beta_slow", "attention_factor")),
}
YARN = {"beta_fast": 32.0, "beta_slow": 1.0}  # the paper's (arXiv 2309.00071, appendix A.2)
_ORIGINAL = "original_max_position_embeddings"


def checked_scaling(scaling: Mapping[str, Any] | None, where: str) -> dict[str, Any] | None:
    """A scaling with numbers as transformers expects them; None for the rope_type "default", which scales nothing.

    Args:
        scaling: ``rope_type`` and the numbers of that kind.
        where: Key that error messages name.

    Raises:
        ConfigError: The kind is unknown, or a number is missing, of another kind, or out of range.
    """
    if scaling is None or scaling == {"rope_type": "default"}:
        return None
    kind = scaling.get("rope_type")
    if kind not in KINDS:
        raise ConfigError(f"{where}.rope_type is {kind!r}, expected one of {', '.join(KINDS)}")
    needed, optional = KINDS[kind]
    if not {"rope_type", *needed} <= {*scaling} <= {"rope_type", *needed, *optional}:
        also = f", and optionally {', '.join(optional)}" if optional else ""
        raise ConfigError(
            f"{where} has {', '.join(sorted(scaling))}; {kind} takes rope_type, {', '.join(needed)}{also}"
        )
    for name in (*needed, *optional):
        value = scaling.get(name, 1)
        kinds = (int,) if name == _ORIGINAL else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
            number = "a whole number" if name == _ORIGINAL else "a number"
            raise ConfigError(f"{where}.{name} is {value!r}, expected {number} above 0")
    for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
        both = {**(YARN if kind == "yarn" else {}), **scaling}
        if high in both and not both[low] < both[high]:
            raise ConfigError(f"{where}: {low} is {both[low]} and {high} {both[high]}, expected {low} below {high}")
    return {key: value if key in ("rope_type", _ORIGINAL) else float(value) for key, value in scaling.items()}


def attention_factor(scaling: Mapping[str, Any]) -> float:
    """Factor on cosines and sines, whose square scales the attention logits (arXiv 2309.00071, equations 21 and 22)."""
    if scaling.get("rope_type") != "yarn":
        return 1.0
    return scaling.get("attention_factor") or _mscale(scaling["factor"])


def scaling_in(record: Any, where: str, *, longest: int) -> dict[str, Any] | None:
    """The scaling that a record of a config.json describes, of transformers 4 or 5, not yet checked; None for none.

    Args:
        record: ``rope_scaling``, or ``rope_parameters``, whose ``rope_theta`` is not read here.
        where: Key of the record.
        longest: The model's ``max_position_embeddings``, which transformers takes where YaRN states no original length.

    Raises:
        ValueError: The record is no mapping, or has numbers without a kind, or asks for what is not implemented.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is {record!r}, expected a mapping")
    found = {key: value for key, value in record.items() if value is not None and key != "rope_theta"}
    if found.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"{where}: partial_rotary_factor is {record['partial_rotary_factor']!r}, expected 1.0")
    kind = found.pop("type", "default")  # in older files
    kind = found.pop("rope_type", kind)
    if kind == "default" and found:
        raise ValueError(f"{where}: the default rope_type does not have {', '.join(sorted(found))}")
    if kind == "default":
        return None
    return {"rope_type": kind, **(_yarn(found, where, longest) if kind == "yarn" else found)}


def _yarn(found: dict[str, Any], where: str, longest: int) -> dict[str, Any]:
    """YaRN's numbers, with what transformers derives from other keys of the config."""
    if found.pop("truncate", True) is not True:
        raise ValueError(f"{where}: truncate is {False!r}, expected True")
    scales = [
        found.pop(key, None) for key in ("mscale", "mscale_all_dim")
    ]  # transformers ignores one without the other
    if all(scales) and "attention_factor" not in found:
        found["attention_factor"] = _mscale(found["factor"], scales[0]) / _mscale(found["factor"], scales[1])
    return {_ORIGINAL: longest, **found}


def _mscale(factor: float, weight: float = 1.0) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0
