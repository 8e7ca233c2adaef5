import math

import pytest
import torch
from scipy import stats

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.errors import ConfigError
from detour.objectives import MLM, RowRandom
from detour.testing import make_batch, make_vocab

SIGMAS = 5


def corrupt(batch, vocab, *, seed=0, step=0, **options):
    return MLM(**options)(batch, vocab, RowRandom(seed=seed, step=step, sample_id_B=batch["sample_id"]))


def assert_share(count, total, p):
    assert abs(count - p * total) <= SIGMAS * math.sqrt(total * p * (1 - p)), (
        f"{count} of {total}, expected a share of {p}"
    )


def constant_batch(token, *, rows=64, T=1024) -> Batch:
    """Rows of one document in which every token is the same."""
    batch = make_batch([[T]] * rows, specials=False)
    return {**batch, "input_ids": torch.full((rows, T), token)}


@pytest.mark.parametrize("rate", [0.02, 0.15, 0.3, 0.95])
def test_the_share_of_eligible_tokens_selected_is_the_rate(rate):
    vocab, batch = make_vocab(500), make_batch([[500, 300], [1, 900, 17]] * 32, T=1000)
    eligible_BT = (doc_ids_of(batch) >= 0) & ~vocab.is_special_V[batch["input_ids"]]
    chosen_BT = corrupt(batch, vocab, rate=rate)["labels"] != IGNORE
    assert_share(int(chosen_BT.sum()), int(eligible_BT.sum()), rate)


@pytest.mark.parametrize(("mask", "random"), [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.25)])
def test_of_the_selected_the_stated_shares_are_masked_replaced_and_kept(mask, random):
    vocab, token = make_vocab(1005), 77
    out = corrupt(constant_batch(token), vocab, mask_fraction=mask, random_fraction=random)
    ids = out["input_ids"][out["labels"] != IGNORE]
    masked, kept = ids == vocab.mask_id, ids == token
    drawn_again = random / 1000  # a random replacement may be the token itself
    assert_share(int(masked.sum()), len(ids), mask)
    assert_share(int(kept.sum()), len(ids), 1 - mask - random + drawn_again)
    assert_share(int((~masked & ~kept).sum()), len(ids), random - drawn_again)


def test_random_replacements_are_uniform_over_the_ordinary_ids():
    vocab = make_vocab(105)
    out = corrupt(constant_batch(77), vocab, rate=0.9, mask_fraction=0.0, random_fraction=1.0)
    counts_V = out["input_ids"][out["labels"] != IGNORE].bincount(minlength=vocab.size)
    assert counts_V[vocab.is_special_V].sum() == 0
    assert stats.chisquare(counts_V[vocab.ordinary_ids].numpy()).pvalue > 1e-3


def test_the_label_is_the_clean_token_and_other_inputs_stay():
    batch = make_batch([[60, 40], [100]], T=110)
    out = corrupt(batch, make_vocab())
    chosen_BT = out["labels"] != IGNORE
    assert torch.equal(out["labels"][chosen_BT], batch["input_ids"][chosen_BT])
    assert torch.equal(out["input_ids"][~chosen_BT], batch["input_ids"][~chosen_BT])


def test_special_tokens_and_padding_are_never_selected():
    vocab, batch = make_vocab(), make_batch([[3] * 20, [5, 9], [1] * 40], T=64)
    batch["input_ids"][0, 1::6] = vocab.mask_id  # a mask token that stands in the text
    special_BT = vocab.is_special_V[batch["input_ids"]]
    out = corrupt(batch, vocab, rate=0.999)
    assert special_BT.sum() > 50
    assert (out["labels"][special_BT] == IGNORE).all()
    assert torch.equal(out["input_ids"][special_BT], batch["input_ids"][special_BT])
    assert (out["labels"][~special_BT] != IGNORE).float().mean() > 0.95


def test_a_row_in_which_chance_selects_nothing_gets_one_position():
    vocab, batch = make_vocab(), make_batch([[16], [1], [1, 1, 2], [4, 5]] * 8, T=20)
    chosen_BT = corrupt(batch, vocab, rate=1e-7)["labels"] != IGNORE
    assert (chosen_BT.sum(1) == 1).all()
    assert not (chosen_BT & (vocab.is_special_V[batch["input_ids"]] | (doc_ids_of(batch) < 0))).any()


def test_the_position_given_to_an_empty_row_is_spread_over_the_row():
    chosen_BT = corrupt(constant_batch(9, rows=2000, T=10), make_vocab(), rate=1e-7)["labels"] != IGNORE
    assert stats.chisquare(chosen_BT.sum(0).numpy()).pvalue > 1e-3


def test_a_row_of_special_tokens_only_stays_without_labels():
    vocab = make_vocab()
    out = corrupt(constant_batch(vocab.special_ids[1], rows=2, T=8), vocab, rate=0.9)
    assert (out["labels"] == IGNORE).all()


# ---- whole words


def words_of(batch: Batch, vocab) -> list[list[tuple[int, int]]]:
    """The words as lists of (row, position), found token by token: an independent reading of the rule."""
    words, ids_BT, doc_BT = [], batch["input_ids"].tolist(), doc_ids_of(batch).tolist()
    for row, (ids, docs) in enumerate(zip(ids_BT, doc_BT, strict=True)):
        for at, (token, doc) in enumerate(zip(ids, docs, strict=True)):
            if doc < 0 or vocab.is_special_V[token]:
                continue
            follows_on = at > 0 and docs[at - 1] == doc and not vocab.is_special_V[ids[at - 1]]
            if follows_on and not vocab.starts_word_V[token]:
                words[-1].append((row, at))
            else:
                words.append([(row, at)])
    return words


@pytest.mark.parametrize("rate", [0.15, 0.5, 1e-7])
def test_whole_word_selects_every_token_of_a_word_or_none(rate):
    vocab, batch = make_vocab(), make_batch([[200, 1, 1, 2, 3, 90], [290]] * 4, T=300)
    chosen_BT = corrupt(batch, vocab, rate=rate, whole_word=True)["labels"] != IGNORE
    shares = [[bool(chosen_BT[at]) for at in word] for word in words_of(batch, vocab)]
    assert all(len(set(word)) == 1 for word in shares)
    assert any(len(word) > 1 and word[0] for word in shares) or rate < 1e-3  # some longer word was selected


def test_whole_words_are_selected_at_the_rate():
    vocab, batch = make_vocab(), make_batch([[1000]] * 32)
    chosen_BT = corrupt(batch, vocab, rate=0.3, whole_word=True)["labels"] != IGNORE
    words = words_of(batch, vocab)
    assert_share(sum(bool(chosen_BT[word[0]]) for word in words), len(words), 0.3)


def test_a_word_does_not_reach_over_a_document_or_a_special_token():
    vocab = make_vocab()
    piece, sep = 6, 2  # 6 continues a word, were there one to continue
    assert not vocab.starts_word_V[piece]
    batch = {**make_batch([[1] * 4 + [6]] * 400), "input_ids": torch.tensor([[piece] * 6 + [sep] + [piece] * 3] * 400)}
    chosen_BT = corrupt(batch, vocab, rate=0.5, whole_word=True)["labels"] != IGNORE
    for a, b in ((0, 1), (1, 2), (3, 4), (5, 7)):
        assert 0.3 < (chosen_BT[:, a] == chosen_BT[:, b]).float().mean() < 0.7, (
            f"positions {a} and {b} are not independent"
        )
    assert (chosen_BT[:, 4] == chosen_BT[:, 5]).all()
    assert (chosen_BT[:, 7] == chosen_BT[:, 9]).all()


def test_whole_word_needs_a_tokenizer_that_tells_where_words_begin():
    with pytest.raises(ConfigError, match="whole_word needs a tokenizer"):
        corrupt(make_batch([[8]]), make_vocab(words=False), whole_word=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0, expected a number in \\(0, 1\\)"),
        ({"rate": 1.0}, "rate is 1.0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"mask_fraction": 0.8, "random_fraction": 0.3}, "sum to <= 1"),
        ({"mask_fraction": -0.1}, "must be >= 0"),
        ({"random_fraction": -0.1}, "must be >= 0"),
        ({"mask_fraction": math.nan}, "must be >= 0"),
        ({"random_fraction": math.nan}, "must be >= 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MLM(**options)
