"""Mappings that tests of the configuration change in one place."""

from __future__ import annotations

from typing import Any

import pytest

from detour.config.load import from_mapping
from detour.errors import ConfigError


def values(**changes: Any) -> dict[str, Any]:
    """A small valid run; ``model__size="x"`` or ``phases__0__tokens=1`` replaces one value."""
    run: dict[str, Any] = {
        "name": "run",
        "model": {"size": "tiny", "tokenizer": "folder"},
        "data": {
            "train": [{"path": "rows"}],
            "validation": [{"path": "held-out"}],
            "seq_len": 64,
            "global_batch_size": 4,
            "micro_batch_size": 2,
        },
        "phases": [
            {
                "name": "detour",
                "objective": "clm",
                "tokens": 1000,
                "freeze": {"layers": "0"},
                "data": {"train": [{"path": "others"}]},
            },
            {"name": "decay", "objective": "mlm", "tokens": 300, "options": {"rate": 0.15}},
        ],
        "schedule": {"peak_lr": 1e-3, "final_lr": 1e-4, "warmup_tokens": 10, "decay_phase": "decay"},
        "optimizer": {},
        "system": {},
        "checkpoint": {"interval_tokens": 100},
        "evaluation": {"interval_tokens": 100},
        "logging": {},
    }
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        at: Any = run
        for part in parents:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        at[last] = value
    return run


def problems(run: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(run)
    return str(caught.value)
