"""Training objectives: corruption of the inputs, targets, and the attention rule."""

from detour.objectives.alternate import Alternate
from detour.objectives.base import Objective, all_options, build, check, register, registry
from detour.objectives.clm import CLM
from detour.objectives.masked_diffusion import MaskedDiffusion
from detour.objectives.mixed import Mixed
from detour.objectives.mlm import MLM
from detour.objectives.mntp import MNTP
from detour.objectives.module_objective import ModuleObjective
from detour.objectives.pair_classification import PairClassification
from detour.objectives.prefix_lm import PrefixLM
from detour.objectives.random import RowRandom

__all__ = [
    "CLM",
    "MLM",
    "MNTP",
    "Alternate",
    "MaskedDiffusion",
    "Mixed",
    "ModuleObjective",
    "Objective",
    "PairClassification",
    "PrefixLM",
    "RowRandom",
    "all_options",
    "build",
    "check",
    "register",
    "registry",
]
