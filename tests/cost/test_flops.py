"""FLOPs against a count by hand, token by token and key by key, and against the published sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from detour.cost.flops import training_flops, visible_keys
from detour.models.families import sizes
from detour.models.modernbert.architecture import ModernBertArchitecture

BASE = sizes()["modernbert-base"]
windows = st.one_of(st.none(), st.integers(0, 80))


def may_see(query: int, key: int, left: int | None, right: int | None) -> bool:
    return (left is None or query - key <= left) and (right is None or key - query <= right)


def counted(arch: ModernBertArchitecture, lengths: list[int], *, causal: bool, supervised: int) -> float:
    """Multiply-adds of every matrix product, one weight matrix and one pair of tokens at a time."""
    C, total = arch.hidden_size, 0
    for layer in range(arch.num_hidden_layers):
        is_global = layer % arch.global_attn_every_n_layers == 0
        left = None if is_global else arch.causal_left if causal else arch.local_attention // 2
        right = 0 if causal else None if is_global else arch.local_attention // 2
        for n in lengths:
            for query in range(n):
                total += C * 3 * C + C * C  # Wqkv, Wo of the attention
                total += C * 2 * arch.intermediate_size + arch.intermediate_size * C  # Wi (gated), Wo of the MLP
                for key in range(n):
                    total += 2 * C * may_see(query, key, left, right)  # q k and p v
    total += supervised * (C * C + C * arch.vocab_size)  # head and vocabulary projection
    return 6.0 * total  # two operations each; the backward pass is twice the forward


@given(st.integers(0, 60), windows, windows)
def test_visible_keys_is_the_number_of_pairs_of_a_token_and_a_key(n, left, right):
    pairs = sum(may_see(query, key, left, right) for query in range(n) for key in range(n))
    assert visible_keys([n], left=left, right=right).tolist() == [pairs]


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"local_attention": 2},
        {"local_attention": 500},
        {"global_attn_every_n_layers": 1},
        {"causal_left_window": 3, "num_hidden_layers": 5},
    ],
    ids=str,
)
def test_training_flops_equal_the_count_by_hand(shape, attention):
    values = {
        "vocab_size": 83, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 2, "local_attention": 16,
    }  # fmt: skip
    arch, lengths = ModernBertArchitecture(**(values | shape)), [1, 2, 8, 9, 17, 40]
    found = training_flops(arch, lengths, attention=attention, supervised=23)
    assert found == counted(arch, lengths, causal=attention == "causal", supervised=23)


def test_an_attention_that_differs_by_token_is_counted_pair_by_pair():
    arch = ModernBertArchitecture(
        vocab_size=83,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        local_attention=6,
    )
    lengths = np.array([[5, 7, 0], [12, 0, 0]])
    reach_BT = np.random.default_rng(0).integers(0, 9, (2, 14))
    pairs = 0
    for lengths_D, reach_T in zip(lengths.tolist(), reach_BT.tolist(), strict=True):
        start = 0
        for n in lengths_D:
            for query in range(n):
                for key in range(n):
                    ahead = key - query <= reach_T[start + query]
                    pairs += 2 * ahead  # two global layers of four
                    pairs += 2 * (ahead and may_see(query, key, 3, 3))
            start += n
    none = training_flops(arch, lengths, attention="causal", supervised=0)
    causal_pairs = sum(
        (2 + 2 * (query - key <= 3)) for n in (5, 7, 12) for query in range(n) for key in range(query + 1)
    )
    found = training_flops(arch, lengths, attention="reach", supervised=0, reach_BT=reach_BT)
    assert found == none + 6 * 2 * 16 * (pairs - causal_pairs)
    assert found < training_flops(arch, lengths, attention="reach", supervised=0)  # not known: an upper bound


def test_padding_entries_of_length_zero_cost_nothing():
    lengths = np.array([[5, 7, 0], [3, 0, 0]])
    assert training_flops(BASE, lengths, attention="causal", supervised=4) == training_flops(
        BASE, [5, 7, 3], attention="causal", supervised=4
    )


def per_token(length: float, *, causal: bool, rate: float) -> float:
    """The closed form for the base size: every token of a local layer sees a full window, as if it had no edges."""
    keys, local = ((length + 1) / 2, 65) if causal else (length, 129)
    return 6 * (110_297_088 + 2 * 768 * (8 * keys + 14 * local) + rate * (589_824 + 38_682_624))


@pytest.mark.parametrize(
    ("length", "causal", "rate", "mflop"),
    [
        (1024, False, 0.30, 824.6),
        (1024, False, 0.15, 789.3),
        (1024, True, 1.0, 943.6),
        (8192, False, 0.30, 1353.1),
        (8192, False, 0.15, 1317.8),
        (8192, True, 1.0, 1207.8),
    ],
)
def test_the_base_size_costs_what_is_published(length, causal, rate, mflop):
    attention = "causal" if causal else "bidirectional"
    found = training_flops(BASE, [length], attention=attention, supervised=rate * length) / length
    assert found / 1e6 == pytest.approx(mflop, rel=1e-3)
    assert found < per_token(length, causal=causal, rate=rate)  # tokens at the edges see less than a window


def test_the_causal_phase_is_dearer_on_short_documents_and_cheaper_beyond_about_4250_tokens():
    def ratio(length: int) -> float:
        causal = training_flops(BASE, [length], attention="causal", supervised=length)
        return causal / training_flops(BASE, [length], attention="bidirectional", supervised=0.3 * length)

    assert ratio(1024) == pytest.approx(1.144, abs=1e-3)
    assert ratio(8192) == pytest.approx(0.893, abs=1e-3)
    assert brentq(lambda length: ratio(round(length)) - 1, 1024, 8192, xtol=1) == pytest.approx(4250, abs=25)
