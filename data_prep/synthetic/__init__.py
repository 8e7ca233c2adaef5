"""A seeded generator of synthetic clinical texts in English and French: the corpus of the demo and of the tests.

The texts are generated from a table of diseases and describe no real person. Their regularities can be learned (symptoms
predict the diagnosis, and the diagnosis the drugs); they are not medical advice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from data_prep.synthetic.cases import GRAMMARS, Language, case, draw, note, questions, words
from data_prep.synthetic.grammar import pick
from data_prep.synthetic.knowledge import Disease, diseases

__all__ = ["RELATIONS", "Fact", "Pair", "document", "facts", "generate", "pairs"]

SOURCE = "detour-synthetic"
LICENSE = "CC0-1.0"
# 70% case reports, 15% discharge summaries, 15% pages of questions
_KINDS = (case,) * 14 + (note,) * 3 + (questions,) * 3


class Fact(NamedTuple):
    """A fact stated by the corpus: the disease has this symptom and is treated with this drug."""

    disease: str
    drug: str
    symptom: str


RELATIONS = ("symptom", "sign", "drug", "risk", "complication", "none")


class Pair(NamedTuple):
    """Two terms of the table and their relation: ``second`` is a symptom, ... of the disease ``first``."""

    first: str
    second: str
    label: str


def document(*, index: int, seed: int, language: Literal["en", "fr", "both"] = "both") -> dict[str, Any]:
    """Document number ``index``; depends on the arguments only.

    With ``both``, even indices are English and odd ones French.
    """
    chosen: Language = ("fr" if index % 2 else "en") if language == "both" else language
    # a string seed is hashed with SHA-512: independent streams, the same in every version of Python
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
        documents: Number of documents; more documents begin with the same ones.
        seed: Seed of all random choices.
        language: One language, or `both` alternately.
    """
    if language not in ("en", "fr", "both"):
        raise ValueError(f"language is '{language}', expected 'en', 'fr' or 'both'")
    return (document(index=i, seed=seed, language=language) for i in range(documents))


def facts(language: Language) -> list[Fact]:
    """Every (disease, drug, symptom) of the table, named as in the texts, for probes that predict masked words."""
    word = words(language)[0]
    return [
        Fact(*(word[key]["bare"] for key in (disease.name, drug, symptom)))
        for disease in diseases()
        for drug in disease.drugs
        for symptom in disease.symptoms
    ]


def pairs(*, count: int, seed: int, language: Literal["en", "fr", "both"] = "both") -> Iterator[Pair]:
    """Pairs of a disease and a term, the six RELATIONS in turn: a toy of the pairs of an ontology.

    For "none" the term has no relation of the table to the disease.

    Args:
        count: Number of pairs.
        seed: Seed of all random choices.
        language: Language of the terms; with `both`, every second round of relations is French.
    """
    rand = random.Random(f"pairs:{seed}:{language}").random
    fields = {"symptom": "symptoms", "sign": "signs", "drug": "drugs", "risk": "risks", "complication": "complications"}

    def related(disease: Disease) -> set[str]:
        return {term for field in fields.values() for term in getattr(disease, field)}

    every = set().union(*map(related, diseases()))
    for index in range(count):
        relation, disease = RELATIONS[index % len(RELATIONS)], pick(diseases(), rand)
        known = sorted(every - related(disease)) if relation == "none" else getattr(disease, fields[relation])
        term = pick(known, rand)
        chosen: Language = ("fr" if index // len(RELATIONS) % 2 else "en") if language == "both" else language
        word = words(chosen)[0]
        yield Pair(first=word[disease.name]["bare"], second=word[term]["bare"], label=relation)
