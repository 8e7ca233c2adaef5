"""Needle in a haystack as the paper describes it: a yes-no question, whether a text holds a fact.

Shapes: N pairs of a fact and a text, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detour.errors import ConfigError
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.needle import POSITIONS, filler
from detour.evaluation.results.statistics import Summary, summarize

LENGTHS = (512, 1024, 2048, 4096, 8192)
MOST_SEEDS = 6  # test folds of 15% that have no pair in common


@dataclass(frozen=True, kw_only=True)
class Head:
    """The network on the frozen state of the first token, and its training. The paper's values are the defaults.

    Dropout rate and width are not published; 0.1 and the encoder's hidden size are assumed.

    Attributes:
        epochs: Passes over the training pairs; the one with the best validation accuracy is kept.
        learning_rate: Of AdamW, constant.
        batch_size: Pairs per step.
        dropout: Before each of the two linear layers.
    """

    epochs: int = 3
    learning_rate: float = 2e-5
    batch_size: int = 4
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Test accuracy. Chance is 1/2.

    Attributes:
        hits: (tokens, position) -> correct answers, over all seeds.
        examples: (tokens, position) -> answers. The seeds' test folds are disjoint: every answer is about another text.
        by_seed: Accuracy of each seed: mean, standard deviation, and 95% t interval over seeds.
    """

    hits: dict[tuple[int, str], int]
    examples: dict[tuple[int, str], int]
    by_seed: Summary

    @property
    def accuracy(self) -> float:
        """Over all answers."""
        return sum(self.hits.values()) / sum(self.examples.values())

    def binomial(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy over all answers."""
        from scipy.stats import binomtest

        found = binomtest(sum(self.hits.values()), sum(self.examples.values())).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A fact, a text, and whether the text holds the fact. If not, it holds one of the same template with other values."""

    fact: str
    text: str
    present: bool
    tokens: int
    position: str


def presence_probe(
    encoder: Frozen,
    language: str,
    lengths: Sequence[int] = LENGTHS,
    *,
    pairs: int = 1500,
    seeds: int = 5,
    head: Head | None = None,
    seed: int = 0,
) -> Presence:
    """Trains a two-layer network on frozen states to say whether a text holds a fact; its test accuracy.

    All lengths and positions are trained together. Pairs are split 70/15/15. Each probe seed has another test fold, another
    validation fold, and another initialization.

    Args:
        encoder: The frozen encoder.
        language: "en" or "fr".
        lengths: Text lengths in tokens, special tokens and fact included.
        pairs: Number of pairs, half of them positive.
        seeds: Number of probe seeds.
        head: The network.
        seed: Seed of the texts.

    Raises:
        ConfigError: The language is unknown, a length is too small or exceeds the model's maximum, there are more than 6
            seeds, or fewer than 40 pairs.

    Cost: one forward pass per pair, whatever the number of seeds.
    """
    if too_long := [length for length in lengths if length > encoder.longest]:
        raise ConfigError(f"presence: {too_long[0]} tokens, the model takes {encoder.longest}")
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(
            f"presence: {seeds} seeds, expected 1 to {MOST_SEEDS}, whose test folds have no pair in common"
        )
    if pairs < 40:
        raise ConfigError(f"presence: {pairs} pairs, expected at least 40")
    made = make_pairs(encoder, language, lengths, pairs, np.random.default_rng(seed))
    states, truncated = encoder.embed(
        [pair.fact for pair in made], [pair.text for pair in made], max_length=max(lengths),
        pooling=lambda states_NTH, _: states_NTH[:, 0],
    )  # fmt: skip
    assert not truncated, "a haystack is longer than asked"
    states_NH, present_N = torch.from_numpy(states), torch.tensor([pair.present for pair in made])
    order = np.random.default_rng(seed).permutation(len(made))
    fold, accuracies = round(0.15 * len(made)), []
    hits = {(tokens, position): 0 for tokens in lengths for position in POSITIONS}
    examples = dict(hits)
    for number in range(seeds):
        rolled = np.roll(order, -number * fold)
        test, dev, train = rolled[:fold], rolled[fold : 2 * fold], rolled[2 * fold :]
        predict = _fit(states_NH, present_N, train, dev, head or Head(), seed=seed + number)
        right_K = (predict(states_NH[test]) == present_N[test]).tolist()
        accuracies.append(sum(right_K) / len(right_K))
        for index, right in zip(test, right_K, strict=True):
            at = made[index].tokens, made[index].position
            hits[at] += right
            examples[at] += 1
    return Presence(hits=hits, examples=examples, by_seed=summarize(accuracies))


def make_pairs(
    encoder: Frozen, language: str, lengths: Sequence[int], count: int, rng: np.random.Generator
) -> list[Pair]:
    """Pairs that are balanced over templates, answers, lengths, and positions, as far as their number allows.

    Args:
        encoder: Its tokenizer counts the tokens.
        language: "en" or "fr".
        lengths: Maximum lengths, special tokens and fact included.
        count: Number of pairs.
        rng: Draws values and filler.

    Raises:
        ConfigError: The language is unknown, or a length is too small.
    """
    templates = list(_templates(language).values())
    encode: Any = encoder.tokenizer
    made = []
    for index in range(count):
        template = templates[index % len(templates)]
        present = bool(index // len(templates) % 2)
        tokens = lengths[index // (2 * len(templates)) % len(lengths)]
        position = POSITIONS[index // (2 * len(templates) * len(lengths)) % len(POSITIONS)]
        drawn = [rng.permutation(slot)[:2] for slot in template["slots"]]  # two values that differ, for each slot
        asked, other = (template["text"].format(*(pair[which] for pair in drawn)) for which in (0, 1))
        needle = asked if present else other
        left = tokens - len(encode(asked, needle, verbose=False)["input_ids"]) - 2
        sentences = filler(encoder, language, left, rng)
        if not sentences:
            raise ConfigError(f"presence: {tokens} tokens hold no sentence beside the two facts")
        place = {"start": 0, "middle": len(sentences) // 2, "end": len(sentences)}[position]
        text = " ".join([*sentences[:place], needle, *sentences[place:]])
        made.append(Pair(fact=asked, text=text, present=present, tokens=tokens, position=position))
    return made


@cache
def _templates(language: str) -> dict[str, dict[str, Any]]:
    import yaml

    known = yaml.safe_load((files("detour.evaluation.probes") / "presence.yaml").read_text(encoding="utf-8"))
    if language not in known:
        raise ConfigError(f"presence: no templates in '{language}', expected one of {', '.join(known)}")
    return known[language]


def _fit(
    states_NH: Tensor, present_N: Tensor, train: np.ndarray, dev: np.ndarray, head: Head, *, seed: int
) -> Callable[[Tensor], Tensor]:
    """Trains the network, and returns its answers as a function of states."""
    width = states_NH.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Dropout(head.dropout), nn.Linear(width, width), nn.GELU(), nn.Dropout(head.dropout), nn.Linear(width, 2)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=head.learning_rate, weight_decay=0.01)

        def predict(states: Tensor) -> Tensor:
            network.eval()
            with torch.no_grad():
                return network(states).argmax(-1).bool()

        best, kept = -1.0, network.state_dict()
        for _ in range(head.epochs):
            network.train()
            for batch in torch.from_numpy(train)[torch.randperm(len(train))].split(head.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(states_NH[batch]), present_N[batch].long()).backward()
                optimizer.step()
            accuracy = float((predict(states_NH[dev]) == present_N[dev]).float().mean())
            if accuracy > best:
                best, kept = accuracy, {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(kept)
    return predict
