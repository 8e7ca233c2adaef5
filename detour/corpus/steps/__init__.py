"""Processing steps, one file per step. All implement `base.DocumentStep` or `base.CorpusStep`."""

from detour.corpus.steps.base import CorpusStep, DocumentStep, Step, StepReport, build, register
from detour.corpus.steps.decontaminate import Decontaminate
from detour.corpus.steps.exact_dedup import ExactDedup
from detour.corpus.steps.language import Language
from detour.corpus.steps.length import Length
from detour.corpus.steps.near_dedup import NearDedup
from detour.corpus.steps.normalize import Normalize
from detour.corpus.steps.repair import Repair
from detour.corpus.steps.score import Score
from detour.corpus.steps.upsample import Upsample

__all__ = [
    "CorpusStep", "Decontaminate", "DocumentStep", "ExactDedup", "Language", "Length", "NearDedup", "Normalize", "Repair",
    "Score", "Step", "StepReport", "Upsample", "build", "register",
]  # fmt: skip
