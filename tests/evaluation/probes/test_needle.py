"""The needle probe on encoders of which it is known what their states hold: it finds that, and no more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binom
from tokenizers import pre_tokenizers
from torch import Tensor, nn

from detour.evaluation.probes import needle
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.needle import needle_probe

pytestmark = pytest.mark.trains
TOKENS, TEXTS = 128, 240  # of a text; texts at each place


class Reader(nn.Module):
    """Stands for an encoder. The state of a drug's token names the drug; the first token's state is the answer, or zero.

    Args:
        drugs: Ids of the eight drugs.
        room: Id of the room's number.
        until: The answer is known where its room stands before this position of the text; 0 is an encoder that knows the
            drugs of a text and not their rooms.
    """

    def __init__(self, drugs: list[int], room: int, until: int) -> None:
        super().__init__()
        self.drugs, self.room, self.until = torch.tensor(drugs), room, until
        self.config = SimpleNamespace(hidden_size=len(drugs))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        named_BTD = (input_ids[..., None] == self.drugs).float()
        states_BTD = named_BTD.clone()
        for b, ids in enumerate(input_ids):
            at = int((ids == self.room).nonzero()[-1])  # the last one: the first is in the question
            if at < self.until:
                following_KD = named_BTD[b, at:]
                states_BTD[b, 0] = following_KD[following_KD.any(-1)][0]
        return SimpleNamespace(last_hidden_state=states_BTD)


@pytest.fixture
def reader(word_tokenizer, constructed, tmp_path):
    """A function that gives a frozen encoder that knows the answer up to a position."""

    def make(language: str, until: int) -> Frozen:
        split = pre_tokenizers.Whitespace()
        sentences = [needle.QUESTIONS[language], " ".join(map(str, needle.OTHER_ROOMS)), "."]
        for lists in (needle.FACTS, needle.VALUES, needle.WHO, needle.DID, needle.WHEN):
            sentences += lists[language]
        words = {word: None for sentence in sentences for word, _ in split.pre_tokenize_str(sentence)}
        frozen = Frozen(constructed)
        frozen.tokenizer = word_tokenizer(list(words), model_max_length=TOKENS)
        ids = frozen.tokenizer.convert_tokens_to_ids([*needle.VALUES[language], str(needle.ROOM)])
        frozen.model = Reader(ids[:-1], ids[-1], until)
        return frozen

    return make


def most(share: float) -> float:
    """What guessing right in this share of cases exceeds once in a million times."""
    return binom.ppf(1 - 1e-6, TEXTS, share) / TEXTS


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_encoder_that_knows_the_answer_has_it_at_every_place(language, reader, test_seed):
    (found,) = needle_probe(reader(language, TOKENS), language, [TOKENS], train=240, test=TEXTS, seed=test_seed)
    assert (found.tokens, found.examples) == (TOKENS, TEXTS)
    assert found.accuracy == {"start": 1.0, "middle": 1.0, "end": 1.0}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_encoder_that_knows_the_answer_at_the_start_alone_is_seen_through(language, reader, test_seed):
    """Elsewhere it knows the four drugs that a text names, and must guess which of them is meant."""
    until = 24  # the question has eight to eleven tokens, the longest fact ten
    (found,) = needle_probe(reader(language, until), language, [TOKENS], train=240, test=TEXTS, seed=test_seed)
    assert found.accuracy["start"] > 0.9
    assert max(found.accuracy["middle"], found.accuracy["end"]) < most(1 / 4)


@pytest.mark.parametrize("distractors", [0, 3, 7])
def test_an_encoder_that_knows_the_drugs_and_not_their_rooms_guesses_among_them(distractors, reader, test_seed):
    (found,) = needle_probe(
        reader("en", 0), "en", [TOKENS], distractors=distractors, train=240, test=TEXTS, seed=test_seed
    )
    if distractors:
        assert max(found.accuracy.values()) < most(1 / (1 + distractors))
    else:
        assert min(found.accuracy.values()) == 1.0
