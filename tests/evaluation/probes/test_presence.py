"""The presence probe on encoders whose first state knows the answer, or nothing; and its texts and intervals."""

from __future__ import annotations

import csv
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from tokenizers import pre_tokenizers
from torch import Tensor, nn

from detour.analysis.curve_figures import draw_needle
from detour.analysis.curves import NEEDLE_COLUMNS, needle_accuracies
from detour.errors import ConfigError
from detour.evaluation.probes import needle
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.presence import Head, _templates, make_pairs, presence_probe

LENGTHS = (96, 192)
LEARNS = Head(epochs=8, learning_rate=1e-2)  # the paper's hardly moves a network of a width of four


class Oracle(nn.Module):
    """The first state says whether the fact, which stands before [SEP], stands after it too; or nothing."""

    def __init__(self, sep: int, *, knows: bool) -> None:
        super().__init__()
        self.sep, self.knows = sep, knows
        self.config = SimpleNamespace(hidden_size=4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        states_BTH = torch.zeros(*input_ids.shape, 4)
        for b, ids in enumerate(input_ids.tolist()):
            end = ids.index(self.sep)
            fact, text = ids[1:end], ids[end + 1 :]
            holds = any(text[i : i + len(fact)] == fact for i in range(len(text)))
            states_BTH[b, 0, 0] = (2.0 * holds - 1) * self.knows
        return SimpleNamespace(last_hidden_state=states_BTH)


@pytest.fixture
def encoder_of(word_tokenizer, constructed):
    def make(language: str, *, knows: bool) -> Frozen:
        split = pre_tokenizers.Whitespace()
        sentences = [text for lists in (needle.WHO, needle.DID, needle.WHEN) for text in lists[language]] + ["."]
        for template in _templates(language).values():
            sentences += [template["text"].replace("{}", " "), *(v for slot in template["slots"] for v in slot)]
        words = {word: None for sentence in sentences for word, _ in split.pre_tokenize_str(sentence)}
        frozen = Frozen(constructed)
        frozen.tokenizer = word_tokenizer(list(words), model_max_length=max(LENGTHS))
        frozen.model = Oracle(frozen.tokenizer.sep_token_id, knows=knows)  # type: ignore[assignment]
        return frozen

    return make


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_texts_are_balanced_and_hold_what_they_should(encoder_of, language):
    encoder = encoder_of(language, knows=True)
    pairs = make_pairs(
        encoder, language, LENGTHS, 96, np.random.default_rng(0)
    )  # 8 templates x 2 x 2 lengths x 3 places
    assert set(Counter((pair.present, pair.tokens, pair.position) for pair in pairs).values()) == {8}
    for pair in pairs:
        assert (pair.fact in pair.text) == pair.present
        size = len(encoder.tokenizer(pair.fact, pair.text)["input_ids"])
        assert pair.tokens - 25 < size <= pair.tokens
        if pair.present:
            where = pair.text.index(pair.fact) / len(pair.text)
            assert {"start": where == 0, "middle": 0.2 < where < 0.7, "end": pair.text.endswith(pair.fact)}[
                pair.position
            ]
    first = next(pair for pair in pairs if not pair.present)
    assert first.fact.split()[:2] == first.text.split()[:2]  # the same template, with other values
    assert len(_templates(language)) == 8
    assert {len(template["slots"]) for template in _templates(language).values()} == {2, 3, 4}


@pytest.mark.trains
def test_an_encoder_that_knows_is_right_and_one_that_knows_nothing_guesses(encoder_of, test_seed):
    found = presence_probe(encoder_of("fr", knows=True), "fr", LENGTHS, pairs=192, seeds=3, head=LEARNS, seed=test_seed)
    assert (found.accuracy, found.by_seed.mean, found.by_seed.n) == (1.0, 1.0, 3)
    assert sum(found.examples.values()) == 3 * round(0.15 * 192)
    guess = presence_probe(
        encoder_of("fr", knows=False), "fr", LENGTHS, pairs=192, seeds=3, head=Head(epochs=1), seed=test_seed
    )
    count = sum(guess.examples.values())
    # all answers of a seed are alike, and its fold is a draw without replacement: the spread is below the binomial's
    assert guess.accuracy < binom.ppf(1 - 1e-6, count, 0.5) / count < 0.8


def test_intervals_are_those_of_scipy(encoder_of):
    found = presence_probe(encoder_of("en", knows=False), "en", LENGTHS, pairs=96, seeds=2, head=Head(epochs=1))
    hits, count = sum(found.hits.values()), sum(found.examples.values())
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert found.binomial() == pytest.approx((expected.low, expected.high))
    assert found.accuracy == pytest.approx(found.by_seed.mean)  # folds of one size


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lengths": (512,)}, "512 tokens, the model takes 256"),
        ({"seeds": 7}, "7 seeds, expected 1 to 6"),
        ({"pairs": 8}, "8 pairs, expected at least 40"),
        ({"lengths": (16,)}, "16 tokens hold no sentence"),
        ({"language": "de"}, "no templates in 'de', expected one of en, fr"),
    ],
)
def test_what_cannot_be_probed_is_refused(encoder_of, options, error):
    arguments = {"language": "en", "lengths": LENGTHS, "pairs": 48, "seeds": 1} | options
    encoder = encoder_of("en", knows=True)
    with pytest.raises(ConfigError, match=error):
        presence_probe(encoder, arguments.pop("language"), arguments.pop("lengths"), **arguments)


def test_its_scores_are_drawn_by_length_and_place_with_chance_at_one_half(tmp_path):
    path = tmp_path / "presence.csv"
    rows = [["m", "sha", "presence", "fr", "accuracy", 0.6, 60, "{}"]]
    rows += [
        ["m", "sha", "presence", "fr", f"accuracy_{place}", hits / 10, 10, f'{{"tokens": {tokens}}}']
        for tokens, counts in ((512, (9, 8, 7)), (1024, (5, 4, 3)))
        for place, hits in zip(("start", "middle", "end"), counts, strict=True)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([NEEDLE_COLUMNS, *rows])
    found, inputs = needle_accuracies([path])
    assert inputs["probe"] == "presence"
    assert {point.at: (point.hits, point.examples) for point in found} == {
        512: (24, 30), 1024: (12, 30), "start": (14, 20), "middle": (12, 20), "end": (10, 20)
    }  # fmt: skip
    left, _ = draw_needle(found, chance=0.5, with_paper=False).axes
    (chance,) = [line for line in left.lines if line.get_label() == "chance (one in 2)"]
    assert set(chance.get_ydata()) == {50.0}
