"""Continued pretraining of encoders by a causal detour: MLM -> CLM -> MLM with a decaying learning rate.

The names below are the public ones. Each is imported when it is first used, so ``import detour`` is cheap and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detour.batch import IGNORE, Batch
    from detour.build import build_encoder, build_trainer
    from detour.config.load import load as load_config
    from detour.config.schema import RunConfig
    from detour.errors import ConfigError, DetourError
    from detour.export.run import export_run
    from detour.extensions import register_algorithm, register_callback, register_logger
    from detour.objectives.base import Objective
    from detour.objectives.base import build as build_objective
    from detour.objectives.base import register as register_objective
    from detour.objectives.module_objective import ModuleObjective
    from detour.objectives.random import RowRandom
    from detour.phase_clock import PhaseClock
    from detour.phases import Phase, PhaseSchedule
    from detour.report.compare import compare_runs
    from detour.report.write import write_report
    from detour.schedule import WSD
    from detour.testing import check_objective
    from detour.train import train
    from detour.vocab import Vocab

__version__ = "0.1.0"
__all__ = [
    "IGNORE",
    "WSD",
    "Batch",
    "ConfigError",
    "DetourError",
    "ModuleObjective",
    "Objective",
    "Phase",
    "PhaseClock",
    "PhaseSchedule",
    "RowRandom",
    "RunConfig",
    "Vocab",
    "build_encoder",
    "build_objective",
    "build_trainer",
    "check_objective",
    "compare_runs",
    "export_run",
    "load_config",
    "register_algorithm",
    "register_callback",
    "register_logger",
    "register_objective",
    "train",
    "write_report",
]

_HOMES = {  # public name -> its module, and its name there if that is another
    "IGNORE": "detour.batch",
    "WSD": "detour.schedule",
    "Batch": "detour.batch",
    "ConfigError": "detour.errors",
    "DetourError": "detour.errors",
    "ModuleObjective": "detour.objectives.module_objective",
    "Objective": "detour.objectives.base",
    "Phase": "detour.phases",
    "PhaseClock": "detour.phase_clock",
    "PhaseSchedule": "detour.phases",
    "RowRandom": "detour.objectives.random",
    "RunConfig": "detour.config.schema",
    "Vocab": "detour.vocab",
    "build_encoder": "detour.build",
    "build_objective": "detour.objectives.base:build",
    "build_trainer": "detour.build",
    "check_objective": "detour.testing",
    "compare_runs": "detour.report.compare",
    "export_run": "detour.export.run",
    "load_config": "detour.config.load:load",
    "register_algorithm": "detour.extensions",
    "register_callback": "detour.extensions",
    "register_logger": "detour.extensions",
    "register_objective": "detour.objectives.base:register",
    "write_report": "detour.report.write",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for."""
    if name == "train":  # the module, which can be called: see the end of detour/train.py
        return import_module("detour.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'detour' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute or name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
