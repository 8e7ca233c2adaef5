"""One synthetic case: the facts drawn about a patient, and the documents written from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Literal

from data_prep.synthetic import english, french
from data_prep.synthetic.grammar import Noun, Rand, expand, join, parse, pick, sample
from data_prep.synthetic.knowledge import (
    COMORBIDITIES,
    NORMAL_LABS,
    NORMAL_VITALS,
    Disease,
    Range,
    by_name,
    differentials,
    drugs,
    labs,
    names,
)

Language = Literal["en", "fr"]
GRAMMARS: Mapping[Language, ModuleType] = {"en": english, "fr": french}

_SIDE = r"\{(.*?)/(.*?)\}"
_FOLLOW_UP = {
    "h": ((2, "w"), (4, "w"), (6, "w")),
    "d": ((2, "w"), (4, "w"), (6, "w")),
    "w": ((6, "w"), (2, "m"), (3, "m")),
}
_LATE_FOLLOW_UP = ((2, "m"), (3, "m"), (4, "m"), (6, "m"))
_FEVER = 38.0  # °C; from here on the texts mention fever
# symptoms that a patient may deny, unless the disease has a similar one
_DENIABLE = (
    "fever", "weight loss", "vomiting", "syncope", "palpitations", "night sweats", "haemoptysis", "headache",
    "back pain", "jaundice", "rectal bleeding", "chronic diarrhoea", "constipation", "double vision", "confusion",
    "ankle swelling", "visible haematuria", "hair loss", "abdominal pain", "wheezing", "itching", "seizures",
)  # fmt: skip
_YOUNG_ILLNESSES = ("asthma", "anxiety", "gastro-oesophageal reflux disease")
_ORDERS = tuple(
    tuple(order.split())
    for order in (
        "presentation history exam labs imaging diagnosis treatment course",
        "presentation history exam labs imaging diagnosis treatment course",
        "presentation exam history labs imaging diagnosis treatment course",
        "presentation history exam imaging labs diagnosis treatment course",
        "presentation exam labs imaging history diagnosis treatment course",
    )
)


@cache
def words(language: Language) -> tuple[dict[str, Noun], dict[str, Noun]]:
    """The forms of every phrase, by key, for documents about the first and about the second side of the body."""
    forms = GRAMMARS[language].forms
    column = 0 if language == "en" else 1
    sides = []
    for group in (r"\1", r"\2"):
        texts = {key: re.sub(_SIDE, group, both[column]) for key, both in names().items()}
        sides.append({key: forms(text, key) for key, text in texts.items()})
    return sides[0], sides[1]


@cache
def _heading(text: str) -> Any:
    return parse(text)


def _whole(span: Range, rand: Rand) -> int:
    low, high = span
    return int(low + rand() * (high - low + 1))


def _within(span: Range, rand: Rand) -> float:
    low, high = span
    return low + rand() * (high - low)


@cache
def _denials(name: str) -> list[str]:
    disease = by_name()[name]
    present = {word for phrase in (*disease.symptoms, *disease.signs) for word in phrase.split()}
    hot = disease.vitals.get("T", NORMAL_VITALS["T"])[1] >= _FEVER
    return [d for d in _DENIABLE if d.split()[-1] not in present and not (hot and d == "fever")]


def _illnesses(disease: Disease, age: int, rand: Rand) -> list[tuple[str, str]]:
    """The patient's comorbidities with their drugs: more with age, and none related to the disease of the case."""
    open_to = [
        (illness, drug)
        for illness, drug in COMORBIDITIES
        if (age >= 40 or illness in _YOUNG_ILLNESSES)
        and illness not in disease.name
        and illness not in (*disease.risks, *disease.symptoms)
        and drug not in disease.drugs
    ]
    return sample(open_to, int(rand() * (1.4 + age / 40)), rand)


def _risks(disease: Disease, age: int) -> list[str]:
    ruled_out = {"advanced age": age < 62, "life in a hall of residence": age > 26, "unemployment": age > 62}
    return [risk for risk in disease.risks if not ruled_out.get(risk)]


def _prescription(name: str, grammar: ModuleType, rand: Rand) -> tuple[str, str]:
    """The dose of a drug with route and frequency, and its duration (' for seven days') or an empty text."""
    drug = drugs()[name]
    dose = f"{grammar.dose(pick(drug.doses, rand))} {grammar.ROUTE[drug.route]} {grammar.FREQUENCY[drug.frequency]}"
    days = _whole(drug.days, rand) if drug.days else 0
    return dose, grammar.course(grammar.duration(days, "d")) if days > 1 else ""


def _lasting(name: str) -> bool:
    drug = drugs()[name]
    return drug.days is None and drug.frequency not in ("stat", "cont", "prn")


def _is_normal(sign: str) -> bool:
    return sign.startswith(("normal", "clear", "soft"))


def _lab(name: str, span: Range, word: Mapping[str, Noun], grammar: ModuleType, rand: Rand) -> str:
    lab = labs()[name]
    value = round(_within(span, rand), lab.decimals)
    level = -1 if value < lab.normal[0] else 1 if value > lab.normal[1] else 0
    return grammar.lab(word[name], grammar.measure(value, lab.decimals, lab.unit), level)


def draw(disease: Disease, language: Language, rand: Rand) -> dict[str, Any]:
    """The context for the templates: facts about one patient with this disease."""
    grammar = GRAMMARS[language]
    word = words(language)[rand() < 0.5]

    def nouns(keys: Any) -> list[Noun]:
        return [word[key] for key in keys]

    age, female = _whole(disease.ages, rand), rand() < disease.women
    count = max(2, _whole(disease.onset, rand))
    if disease.onset_unit == "h" and count > 20:
        count = 12 * round(count / 12)  # half days above a day
    onset = grammar.duration(count, disease.onset_unit)
    ward = disease.onset_unit in "hd" or (disease.onset_unit == "w" and rand() < 0.6)
    vital = {name: _within(disease.vitals.get(name, span), rand) for name, span in NORMAL_VITALS.items()}
    symptoms = sample(disease.symptoms, 3 + (rand() < 0.4), rand)
    signs = sample(disease.signs, 1 + int(rand() * 3), rand)
    signs.sort(key=_is_normal)  # the first is presented as the characteristic sign
    if _is_normal(signs[0]):
        signs = [next(sign for sign in disease.signs if not _is_normal(sign)), *signs]
    risks = sample(_risks(disease, age), 1 + int(rand() * 2.4), rand)
    tests = sample(disease.tests, 2, rand)
    chosen = sample(disease.drugs, 2, rand)
    if rand() < 0.6:  # the first drug of the table is the usual one
        chosen = [disease.drugs[0], *(drug for drug in chosen if drug != disease.drugs[0])][:2]
    complications = sample(disease.complications, 2, rand)
    rivals = sample(differentials(disease.name), 2, rand)
    rival = by_name()[rivals[0]] if len(rivals) == 2 else disease
    # no differential diagnosis of the other sex
    possible = len(rivals) == 2 and all(
        (by_name()[r].women > 0) if female else (by_name()[r].women < 1) for r in rivals
    )
    apart = [s for s in rival.symptoms if s not in disease.symptoms] or [rival.signs[0]]
    dose, course = _prescription(chosen[0], grammar, rand)
    illnesses = _illnesses(disease, age, rand)
    stay = 3 + int(rand() * 11)
    event = complications[0] if ward and rand() < 0.25 else None
    follow_up = grammar.duration(*pick(_FOLLOW_UP.get(disease.onset_unit, _LATE_FOLLOW_UP), rand))
    other_labs = sample([name for name in NORMAL_LABS if name not in disease.labs], 2 + (rand() < 0.5), rand)
    temperature = round(vital["T"], 1)

    context = grammar.person(age=age, female=female, onset=onset, rand=rand)
    context |= {
        "age": str(age),
        "onset": onset,
        "ward": ward,
        "clinic": not ward,
        "sx": nouns(symptoms),
        "sx1": word[symptoms[0]],
        "rest": nouns(symptoms[1:]),
        "rest1": word[symptoms[1]],
        "neg": nouns(sample(_denials(disease.name), 2 + (rand() < 0.5), rand)),
        "signs": nouns(signs),
        "sign1": word[signs[0]],
        "risks": nouns(risks),
        "risk1": word[risks[0]],
        "pmh": _listed(grammar, [grammar.treated(word[i], word[d]) for i, d in illnesses]),
        "temp": grammar.measure(temperature, 1),
        "febrile": grammar.FEBRILE[temperature >= _FEVER],
        "hr": str(round(vital["H"])),
        "sbp": str(round(vital["P"])),
        "dbp": str(round(vital["P"] * (0.56 + rand() * 0.08))),
        "rr": str(round(vital["R"])),
        "spo2": str(round(vital["S"])),
        "bmi": grammar.measure(31 + rand() * 7 if "obesity" in risks else 19 + rand() * 9, 1),
        "labs": _listed(grammar, [_lab(n, disease.labs[n], word, grammar, rand) for n in _some(disease.labs, rand)]),
        "normlabs": _listed(grammar, [_lab(n, labs()[n].normal, word, grammar, rand) for n in other_labs]),
        "test": word[tests[0][0]],
        "found": word[tests[0][1]],
        "test2": word[tests[1][0]],
        "found2": word[tests[1][1]],
        "dx": word[disease.name],
        "definition": word[disease.definition],
        "organ": word[disease.organ],
        "specialty": word[disease.specialty],
        "ddx": word[rivals[0]] if possible else None,
        "ddxs": nouns(rivals) if len(rivals) == 2 else None,
        "ddxsx": word[pick(apart, rand)],
        "drug": word[chosen[0]],
        "dose": dose,
        "for": course,
        "kind": word[drugs()[chosen[0]].kind],
        "care": word[disease.care],
        "home": word[chosen[0]] if _lasting(chosen[0]) else None,
        "soon": grammar.duration(2 + int(rand() * 4), "d" if ward else "w"),
        "event": word[event] if event else None,
        "eventday": str(2 + int(rand() * (stay - 2))),
        "los": str(stay),
        "fu": follow_up,
        "comps": nouns(complications),
        "warn": nouns(sample(disease.symptoms, 2, rand)),
        "allsx": nouns(sample(disease.symptoms, 5, rand)),
        "allsigns": nouns(sample(disease.signs, 4, rand)),
        "alldrugs": nouns(sample(disease.drugs, 4, rand)),
        "allrisks": nouns(sample(disease.risks, 3, rand)),
        "allcomps": nouns(sample(disease.complications, 3, rand)),
        "young": str(disease.ages[0]),
        "old": str(disease.ages[1]),
        "drug2": None,
    }
    if len(chosen) > 1:
        dose, course = _prescription(chosen[1], grammar, rand)
        context |= {"drug2": word[chosen[1]], "dose2": dose, "for2": course, "kind2": word[drugs()[chosen[1]].kind]}
    return context


def _some(table: Mapping[str, Range], rand: Rand) -> list[str]:
    return sample(list(table), 2 + (rand() < 0.6), rand)


def _listed(grammar: ModuleType, items: list[str]) -> str:
    """The items joined as a list in the grammar's language; empty without items."""
    return join(items, grammar.CONJUNCTIONS[""]) if items else ""


def case(context: Mapping[str, Any], grammar: ModuleType, rand: Rand) -> str:
    """A case report in paragraphs; neighbouring sections sometimes share one."""
    paragraphs: list[str] = []
    for name in pick(_ORDERS, rand):
        sentences = grammar.CASE[name].sentences(context, rand, grammar.CONJUNCTIONS)
        if paragraphs and rand() < 0.3:
            paragraphs[-1] += " " + " ".join(sentences)
        else:
            paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs)


def note(context: Mapping[str, Any], grammar: ModuleType, rand: Rand) -> str:
    """A discharge summary: short lines under headings."""
    gap = "\n" if rand() < 0.4 else " "
    lines = [pick(grammar.NOTE_TITLES, rand)]
    for heading, section in grammar.NOTE:
        title = expand(_heading(heading), context, rand, grammar.CONJUNCTIONS)
        sentences = section.sentences(context, rand, grammar.CONJUNCTIONS)
        lines.append(f"{title}{grammar.COLON}{gap}{' '.join(sentences)}")
    return ("\n\n" if gap == "\n" else "\n").join(lines)


def questions(context: Mapping[str, Any], grammar: ModuleType, rand: Rand) -> str:
    """A page of questions about the disease, each with its answer."""
    ask, reply = pick(grammar.QA_MARKS, rand)
    title = expand(_heading(pick(grammar.QA_TITLES, rand)), context, rand, grammar.CONJUNCTIONS)
    pages = [title[0].upper() + title[1:]]
    chosen = sample(grammar.QA, 5 + int(rand() * 4), rand)
    if rand() < 0.6:  # the usual order, from definition to follow-up
        chosen.sort(key=grammar.QA.index)
    for section in chosen:
        for text in section.sentences(context, rand, grammar.CONJUNCTIONS):
            question, answer = text.split(" // ")
            pages.append(f"{ask}{question}\n{reply}{capitalised(answer)}")
    return "\n\n".join(pages)


def capitalised(text: str) -> str:
    """The text with a capital at the start of each sentence; the rest is left as it is."""
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))
