"""A needle in a haystack: can a frozen encoder's state of a long text tell one fact that stands somewhere in it?

Texts are made from templates, in English and French. A small network on the frozen states learns to name the value.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.probes.frozen import Frozen, first_and_mean_of

PASSES = 200  # over the texts, in training the network
PLACES = ("start", "middle", "end")
ROOM, OTHER_ROOMS = 12, (3, 5, 7, 14, 18, 21, 26)
FACTS = {
    "en": [
        "The patient in room {} was given {}.",
        "In room {} the drug of choice was {}.",
        "Room {} received {} at noon.",
    ],
    "fr": [
        "Le patient de la chambre {} a reçu {}.",
        "Dans la chambre {}, le traitement retenu fut {}.",
        "La chambre {} a reçu {} à midi.",
    ],
}
QUESTIONS = {
    "en": f"Which drug was given in room {ROOM}?",
    "fr": f"Quel médicament a été donné dans la chambre {ROOM} ?",
}
VALUES = {
    "en": ["aspirin", "insulin", "morphine", "heparin", "penicillin", "cortisone", "digoxin", "warfarin"],
    "fr": ["aspirine", "insuline", "morphine", "héparine", "pénicilline", "cortisone", "digoxine", "warfarine"],
}
WHO = {
    "en": ["The night nurse", "A visitor", "The porter", "The junior doctor", "The pharmacist", "A volunteer"],
    "fr": ["L'infirmière de nuit", "Un visiteur", "Le brancardier", "L'interne", "La pharmacienne", "Un bénévole"],
}
DID = {
    "en": ["closed the window", "wrote a short note", "asked about the meal", "checked the list", "moved the chair"],
    "fr": [
        "a fermé la fenêtre",
        "a écrit une courte note",
        "a demandé le repas",
        "a vérifié la liste",
        "a déplacé la chaise",
    ],
}
WHEN = {
    "en": ["before breakfast", "during the round", "after lunch", "late in the evening", "without a word", "once more"],
    "fr": [
        "avant le petit déjeuner",
        "pendant la visite",
        "après le déjeuner",
        "tard le soir",
        "sans un mot",
        "encore une fois",
    ],
}


@dataclass(frozen=True, kw_only=True)
class Needle:
    """Accuracy at one length.

    Attributes:
        tokens: Length of the texts, question and special tokens included.
        accuracy: By where the fact stands; chance is one in eight.
        examples: Texts that each accuracy is of.
    """

    tokens: int
    accuracy: dict[str, float]
    examples: int


def haystack(
    encoder: Frozen, language: str, tokens: int, place: str, value: str, rng: np.random.Generator, *, distractors: int
) -> str:
    """A text that, with its question, is as long as possible up to ``tokens``: the fact at its place, distractors anywhere.

    Raises:
        ConfigError: ``tokens`` does not hold the question, the facts and a sentence around them.
    """
    encode: Any = encoder.tokenizer

    def drawn(options: Sequence[str]) -> str:
        return options[rng.integers(len(options))]

    others = [other for other in VALUES[language] if other != value]
    rooms, drugs = rng.permutation(OTHER_ROOMS)[:distractors], rng.permutation(others)[:distractors]
    fact = drawn(FACTS[language]).format(ROOM, value)
    false = [drawn(FACTS[language]).format(room, drug) for room, drug in zip(rooms, drugs, strict=True)]
    room = tokens - len(encode(QUESTIONS[language], " ".join([fact, *false]), verbose=False)["input_ids"]) - 2
    sentences: list[str] = []
    while True:
        sentence = " ".join(drawn(options[language]) for options in (WHO, DID, WHEN)) + "."
        room -= len(encode(f" {sentence}", add_special_tokens=False, verbose=False)["input_ids"])
        if room < 0:
            break
        sentences.append(sentence)
    if not sentences:
        raise ConfigError(f"needle: {tokens} tokens hold no sentence beside question and facts")
    for other in false:
        sentences.insert(int(rng.integers(len(sentences) + 1)), other)
    where = {"start": 0, "middle": len(sentences) // 2, "end": len(sentences)}[place]
    return " ".join([*sentences[:where], fact, *sentences[where:]])


def needle_probe(
    encoder: Frozen,
    language: str,
    lengths: Sequence[int],
    *,
    distractors: int = 3,
    train: int = 480,
    test: int = 96,
    seed: int = 0,
) -> list[Needle]:
    """For each length a network of two layers, trained on texts with the fact at all places, tested at each of them.

    It reads the state of the first token beside the mean over all tokens, of question and text as a pair. Distractors are
    facts of other rooms with other drugs. Without them, which drug is named at all is enough, and in short texts the mean
    over random states tells that; with d of them, knowing the drugs and not the rooms gives 1 / (1 + d).

    Args:
        distractors: Facts of other rooms in each text, 0 to 7.
        train: Texts to learn from at each length.
        test: Texts at each length and place.
        seed: Of texts and network.

    Raises:
        ConfigError: Another language, a length beyond what the model takes, or more distractors than there are.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if language not in FACTS:
        raise ConfigError(f"needle: no templates in '{language}', expected one of {', '.join(FACTS)}")
    if too_long := [length for length in lengths if length > encoder.longest]:
        raise ConfigError(f"needle: {too_long[0]} tokens, the model takes {encoder.longest}")
    if not 0 <= distractors <= len(OTHER_ROOMS):
        raise ConfigError(f"needle: {distractors} distractors, expected 0 to {len(OTHER_ROOMS)}")
    rng = np.random.default_rng(seed)

    def drawn(count: int, places: Sequence[str], tokens: int) -> tuple[np.ndarray, list[str]]:
        values_of = VALUES[language]
        values = [values_of[i % len(values_of)] for i in range(count)]
        texts = [
            haystack(
                encoder,
                language,
                tokens,
                places[(i // len(values_of)) % len(places)],
                value,
                rng,
                distractors=distractors,
            )
            for i, value in enumerate(values)
        ]
        questions = [QUESTIONS[language]] * count
        states, cut = encoder.embed(questions, texts, max_length=tokens, pooling=first_and_mean_of)
        assert not cut, "a haystack is longer than asked"
        return states, values

    found = []
    for tokens in lengths:
        layers = MLPClassifier((256,), alpha=1e-2, max_iter=PASSES, n_iter_no_change=PASSES, random_state=seed)
        network = make_pipeline(StandardScaler(), layers)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # the number of passes is fixed, so that none stops early
            network.fit(*drawn(train, PLACES, tokens))
        accuracy = {place: float(network.score(*drawn(test, (place,), tokens))) for place in PLACES}
        found.append(Needle(tokens=tokens, accuracy=accuracy, examples=test))
    return found
