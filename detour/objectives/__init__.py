"""Training objectives: what the model must predict, and what it may look at while it does."""

from detour.objectives.base import Objective, build, register, registry
from detour.objectives.clm import CLM
from detour.objectives.mlm import MLM
from detour.objectives.random import RowRandom

__all__ = ["CLM", "MLM", "Objective", "RowRandom", "build", "register", "registry"]
