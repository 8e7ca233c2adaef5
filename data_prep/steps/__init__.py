"""What happens to documents. One file a step; all share the signatures of `base.DocumentStep` or `base.CorpusStep`."""

from data_prep.steps.base import CorpusStep, DocumentStep, Step, StepReport, build, register
from data_prep.steps.decontaminate import Decontaminate
from data_prep.steps.exact_dedup import ExactDedup
from data_prep.steps.language import Language
from data_prep.steps.length import Length
from data_prep.steps.near_dedup import NearDedup
from data_prep.steps.normalise import Normalise
from data_prep.steps.repair import Repair
from data_prep.steps.score import Score
from data_prep.steps.upsample import Upsample

__all__ = [
    "CorpusStep", "Decontaminate", "DocumentStep", "ExactDedup", "Language", "Length", "NearDedup", "Normalise", "Repair",
    "Score", "Step", "StepReport", "Upsample", "build", "register",
]  # fmt: skip
