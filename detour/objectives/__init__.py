"""Training objectives: corruption of the inputs, targets, and the attention rule."""

from detour.objectives.base import Objective, build, register, registry
from detour.objectives.clm import CLM
from detour.objectives.mlm import MLM
from detour.objectives.random import RowRandom

__all__ = ["CLM", "MLM", "Objective", "RowRandom", "build", "register", "registry"]
