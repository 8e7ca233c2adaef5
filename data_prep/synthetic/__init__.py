"""A seeded generator of synthetic clinical texts in English and French: the corpus of the demo and of the tests.

The texts are invented from a small table of diseases, and describe no real person. They are written to be learnt from
(symptoms predict the diagnosis, the diagnosis predicts the drugs), not to be medical advice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from data_prep.synthetic.cases import GRAMMARS, Language, case, draw, note, questions, words
from data_prep.synthetic.grammar import pick
from data_prep.synthetic.knowledge import diseases

__all__ = ["Fact", "document", "facts", "generate"]

SOURCE = "detour-synthetic"
LICENSE = "CC0-1.0"
# seven cases for three pages of the other kinds, shared equally
_KINDS = (case,) * 14 + (note,) * 3 + (questions,) * 3


class Fact(NamedTuple):
    """One thing the corpus teaches: the disease has this symptom and is treated with this drug."""

    disease: str
    drug: str
    symptom: str


def document(*, index: int, seed: int, language: Literal["en", "fr", "both"] = "both") -> dict[str, Any]:
    """Document number ``index``: the same whatever was generated before it.

    With ``both``, even indices are English and odd ones French.
    """
    chosen: Language = ("fr" if index % 2 else "en") if language == "both" else language
    # a string seed is hashed with SHA-512: neighbouring indices give unrelated streams, on every Python
    rand = random.Random(f"{seed}:{index}:{chosen}").random
    context = draw(pick(diseases(), rand), chosen, rand)
    return {
        "id": f"synthetic-{seed}-{index:08d}-{chosen}",
        "text": pick(_KINDS, rand)(context, GRAMMARS[chosen], rand),
        "source": SOURCE,
        "license": LICENSE,
        "language": chosen,
        "synthetic": True,
    }


def generate(*, documents: int, seed: int, language: Literal["en", "fr", "both"] = "both") -> Iterator[dict[str, Any]]:
    """Documents 0 to ``documents`` - 1, as records `id, text, source, license, language, synthetic`.

    Args:
        documents: How many; a longer run begins with the documents of a shorter one.
        seed: Same seed, same documents.
        language: One language, or `both` in turn.
    """
    if language not in ("en", "fr", "both"):
        raise ValueError(f"language is '{language}', expected 'en', 'fr' or 'both'")
    return (document(index=i, seed=seed, language=language) for i in range(documents))


def facts(language: Language) -> list[Fact]:
    """Every (disease, drug, symptom) of the table, named as in the texts, for probes that fill in a mask."""
    word = words(language)[0]
    return [
        Fact(*(word[key]["bare"] for key in (disease.name, drug, symptom)))
        for disease in diseases()
        for drug in disease.drugs
        for symptom in disease.symptoms
    ]
