"""Needle in a haystack: can one fact in a long text be decoded from the states of a frozen encoder?

Texts are generated from templates, in English and French. A small network on the frozen states is trained to name the
value of the fact.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.probes.frozen import Frozen, first_and_mean_of

EPOCHS = 200  # of training the network
POSITIONS = ("start", "middle", "end")
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
    """Accuracy at one text length.

    Attributes:
        tokens: Maximum length of a text, including the question and special tokens.
        accuracy: Position of the fact ("start", "middle", "end") -> test accuracy. Chance is 1/8.
        examples: Number of test texts at each position.
    """

    tokens: int
    accuracy: dict[str, float]
    examples: int


def haystack(
    encoder: Frozen,
    language: str,
    tokens: int,
    position: str,
    value: str,
    rng: np.random.Generator,
    *,
    distractors: int,
) -> str:
    """Generates a text that fills ``tokens`` together with its question.

    Args:
        encoder: Its tokenizer counts the tokens.
        language: "en" or "fr".
        tokens: Maximum length, including the question and special tokens.
        position: Where the fact is: "start", "middle" or "end".
        value: The drug that the fact names.
        rng: Draws sentences and distractors.
        distractors: Number of facts about other rooms and drugs, at random positions.

    Raises:
        ConfigError: ``tokens`` is too small for the question, the facts and one other sentence.
    """
    encode: Any = encoder.tokenizer
    others = [other for other in VALUES[language] if other != value]
    rooms, drugs = rng.permutation(OTHER_ROOMS)[:distractors], rng.permutation(others)[:distractors]
    fact = _draw(FACTS[language], rng).format(ROOM, value)
    false = [_draw(FACTS[language], rng).format(room, drug) for room, drug in zip(rooms, drugs, strict=True)]
    left = tokens - len(encode(QUESTIONS[language], " ".join([fact, *false]), verbose=False)["input_ids"]) - 2
    sentences = filler(encoder, language, left, rng)
    if not sentences:
        raise ConfigError(f"needle: {tokens} tokens hold no sentence beside question and facts")
    for other in false:
        sentences.insert(int(rng.integers(len(sentences) + 1)), other)
    index = {"start": 0, "middle": len(sentences) // 2, "end": len(sentences)}[position]
    return " ".join([*sentences[:index], fact, *sentences[index:]])


def filler(encoder: Frozen, language: str, tokens: int, rng: np.random.Generator) -> list[str]:
    """Sentences without facts, of at most this many tokens together.

    Args:
        encoder: Its tokenizer counts the tokens.
        language: "en" or "fr".
        tokens: Maximum length.
        rng: Draws the sentences.
    """
    encode: Any = encoder.tokenizer
    sentences: list[str] = []
    while True:
        sentence = " ".join(_draw(options[language], rng) for options in (WHO, DID, WHEN)) + "."
        tokens -= len(encode(f" {sentence}", add_special_tokens=False, verbose=False)["input_ids"])
        if tokens < 0:
            return sentences
        sentences.append(sentence)


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
    """Trains one two-layer network per length on texts with the fact at all positions; tests it at each position.

    Its input is the state of the first token and the mean state of the pair (question, text). With d distractors, a model
    that represents the drugs but not their rooms has an accuracy of 1 / (1 + d). Without distractors the task can be
    solved by detecting which drug occurs, for which in short texts even the mean of random states suffices.

    Args:
        encoder: The frozen encoder.
        language: "en" or "fr".
        lengths: Text lengths in tokens.
        distractors: Facts about other rooms in each text, 0 to 7.
        train: Training texts per length.
        test: Test texts per length and position.
        seed: Seed of the texts and the network.

    Raises:
        ConfigError: The language is unknown, a length exceeds the maximum input length of the model, or there are fewer
            distractors than asked for.

    Cost: one forward pass per text.
    """
    if language not in FACTS:
        raise ConfigError(f"needle: no templates in '{language}', expected one of {', '.join(FACTS)}")
    if too_long := [length for length in lengths if length > encoder.longest]:
        raise ConfigError(f"needle: {too_long[0]} tokens, the model takes {encoder.longest}")
    if not 0 <= distractors <= len(OTHER_ROOMS):
        raise ConfigError(f"needle: {distractors} distractors, expected 0 to {len(OTHER_ROOMS)}")
    rng = np.random.default_rng(seed)

    def examples(count: int, positions: Sequence[str], tokens: int) -> tuple[np.ndarray, list[str]]:
        drugs = VALUES[language]
        values = [drugs[i % len(drugs)] for i in range(count)]
        at = [positions[(i // len(drugs)) % len(positions)] for i in range(count)]
        texts = [
            haystack(encoder, language, tokens, position, value, rng, distractors=distractors)
            for position, value in zip(at, values, strict=True)
        ]
        questions = [QUESTIONS[language]] * count
        states, truncated = encoder.embed(questions, texts, max_length=tokens, pooling=first_and_mean_of)
        assert not truncated, "a haystack is longer than asked"
        return states, values

    found = []
    for tokens in lengths:
        network = _fit(*examples(train, POSITIONS, tokens), seed=seed)
        accuracy = {position: float(network.score(*examples(test, (position,), tokens))) for position in POSITIONS}
        found.append(Needle(tokens=tokens, accuracy=accuracy, examples=test))
    return found


def _draw(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _fit(features: np.ndarray, values: list[str], *, seed: int) -> Any:
    """A fitted scikit-learn classifier: standardization, one hidden layer of 256, a fixed number of epochs."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    layers = MLPClassifier((256,), alpha=1e-2, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=seed)
    network = make_pipeline(StandardScaler(), layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # expected: it never stops early
        return network.fit(features, values)
