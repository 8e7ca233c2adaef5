"""One synthetic case: what is drawn about the patient, and how it becomes a document."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Literal

from data_prep.synthetic import english, french
from data_prep.synthetic.grammar import Noun, Rand, expand, join, parse, pick, sample, shuffle
from data_prep.synthetic.knowledge import (
    COMORBIDITIES,
    NORMAL_LABS,
    NORMAL_VITALS,
    Disease,
    Range,
    differentials,
    diseases,
    drugs,
    labs,
    names,
)

Language = Literal["en", "fr"]
GRAMMARS: Mapping[Language, ModuleType] = {"en": english, "fr": french}

_SIDE = r"\{(.*?)/(.*?)\}"
_FOLLOW_UP = {"h": ((2, "w"), (4, "w"), (6, "w")), "d": ((2, "w"), (4, "w"), (6, "w")), "w": ((6, "w"), (2, "m"), (3, "m"))}
_LATE_FOLLOW_UP = ((2, "m"), (3, "m"), (4, "m"), (6, "m"))
# a temperature of 38 °C and above is called fever
_FEVER = 38.0
