"""Modules of the objectives that have one: new from the run's seed, or read from a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detour import objectives
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.objectives import ModuleObjective
from detour.phases import Phase
from detour.training.checkpoints.files import Checkpoint

FILE = "objectives"  # of a checkpoint


def add_modules(encoder: Encoder, phases: Sequence[Phase], *, seed: int, resumed: Checkpoint | None = None) -> None:
    """Adds the module of each objective of the phases that has one to the encoder's ``objectives``.

    New weights depend on the seed and the objective's name only: further objectives or phases change none of them, and the
    global random state stays as it is.

    Args:
        encoder: The model with its weights.
        phases: The phases.
        seed: Seed of the run.
        resumed: The checkpoint to continue from.

    Raises:
        ConfigError: Two phases use an objective with options that lead to different modules.
        CheckpointError: The weights in the checkpoint do not fit.
    """
    keys: dict[str, object] = {}
    for index, phase in enumerate(phases):
        for objective, _ in objectives.build(phase.objective, phase.options).parts:
            if not isinstance(objective, ModuleObjective):
                continue
            module, name = _new(objective, encoder, seed), objective.name
            if name not in encoder.objectives:
                encoder.objectives[name] = module
                keys[name] = objective.module_key
            elif _form(encoder.objectives[name]) != _form(module) or keys[name] != objective.module_key:
                raise ConfigError(
                    f"phases[{index}]: {name}: its options need another module than where it was used first, and all uses of "
                    "an objective share one"
                )
    if resumed is not None and len(encoder.objectives):
        saved = resumed.tensors(FILE)
        with resumed.translate_errors():
            _load(encoder, saved)


def own_state(encoder: Encoder) -> dict[str, Tensor]:
    """The state of all modules as "objective.name", without what is also a parameter of the encoder itself."""
    inside = {*encoder.objectives.parameters()}
    outside = {p for name, p in encoder.named_parameters(remove_duplicate=False) if not name.startswith("objectives.")}
    shared = {name for name, p in encoder.objectives.named_parameters(remove_duplicate=False) if p in inside & outside}
    return {name: tensor for name, tensor in encoder.objectives.state_dict().items() if name not in shared}


def _new(objective: ModuleObjective, encoder: Encoder, seed: int) -> nn.Module:
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {objective.name}".encode()).digest()[:7], "little")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn)
        return objective.build_module(encoder)


def _form(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _load(encoder: Encoder, saved: dict[str, Tensor]) -> None:
    """Raises ValueError if names, shapes or types differ."""
    wanted = own_state(encoder)
    for name in sorted(wanted.keys() | saved.keys()):
        found, expected = (
            f"{each[name].dtype} {tuple(each[name].shape)}" if name in each else "missing" for each in (saved, wanted)
        )
        if found != expected:
            raise ValueError(f"objectives: {name} is {found}, expected {expected}")
    encoder.objectives.load_state_dict(saved, strict=False)
