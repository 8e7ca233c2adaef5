import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detour.attention_rule import Rule
from detour.errors import ConfigError
from detour.models.attention import BACKENDS, check_attention, flex, sdpa, select, why_not
from detour.models.packed import Packing
from detour.versions import torch_at_least

H, D = 2, 4
RULES = [Rule(causal=causal, window=w) for causal, w in ((False, None), (True, None), (False, (5, 5)), (True, (5, 0)))]
SEEING_AHEAD = [
    Rule(causal=True, window=window, lookahead=lookahead, reach=reach)
    for window, lookahead, reach in ((None, 3, False), ((5, 3), 3, False), (None, 0, True), ((5, 5), 0, True))
]
SIDES = st.one_of(st.none(), st.integers(0, 40))


def dense(lengths_S, rule, q_NHd, k_NHd, v_NHd):
    """Softmax attention with one N x N mask, built pair by pair from the words of the rule."""
    doc = [s for s, length in enumerate(lengths_S) for _ in range(length)]
    left, right = rule.window or (len(doc), len(doc))

    ahead = reach_of(len(doc)).tolist() if rule.reach else [rule.lookahead if rule.causal else len(doc)] * len(doc)

    def sees(i, j):
        return doc[i] == doc[j] and -left <= j - i <= right and j - i <= ahead[i]

    mask_NN = torch.tensor([[sees(i, j) for j in range(len(doc))] for i in range(len(doc))])
    scores_HNN = torch.einsum("qhd,khd->hqk", q_NHd, k_NHd) / q_NHd.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores_HNN.masked_fill(~mask_NN, float("-inf")).softmax(-1), v_NHd)


def reach_of(N):
    """For each token, how many tokens to its right a rule with `reach` allows: 0 to 8, as drawn."""
    return torch.randint(9, (N,), generator=torch.Generator().manual_seed(3))


def packing_of(lengths):
    N = sum(lengths)
    return Packing(lengths_S=torch.tensor(lengths), N=N, max_length=max(lengths), reach_N=reach_of(N))


def tensors(N, dtype=torch.float32, device="cpu"):
    """Queries, keys and values with sharp scores."""
    x = 2 * torch.randn(3, N, H, D, generator=torch.Generator().manual_seed(N))
    return [part.to(device, dtype).requires_grad_() for part in x]


def attended(backend, lengths, rule, qkv, dtype=torch.float32, dropout=0.0):
    return BACKENDS[backend](packing_of(lengths), rule, dtype)(*qkv, dropout)


def with_gradients(attend, qkv, dtype):
    """The output and the gradients of queries, keys and values, in float64."""
    leaves = [part.detach().to(dtype).requires_grad_() for part in qkv]
    out = attend(*leaves)
    mix = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * mix.to(dtype)).sum().backward()
    return torch.stack([part.detach().double() for part in (out, *(leaf.grad for leaf in leaves))])


def assert_equal_to_dense(backend, lengths, rule):
    """In float64 the same function, and in float32 the same up to rounding.

    To first order, rounding with unit roundoff u changes a score of at most S by (D + 3) u S, a softmax weight relatively
    by twice that, and a gradient, the product of two such terms, by 4 (D + 3) u S times its magnitude.
    """
    qkv = tensors(sum(lengths))
    expected = with_gradients(lambda *x: dense(lengths, rule, *x), qkv, torch.float64)
    for dtype in (torch.float64, torch.float32):
        found = with_gradients(lambda *x, t=dtype: attended(backend, lengths, rule, x, t), qkv, dtype)
        q_NHd, k_NHd, _ = qkv
        largest = (torch.einsum("nhd,mhd->hnm", q_NHd, k_NHd).abs().max() / D**0.5).clamp(min=1)
        bound = 4 * (D + 3) * torch.finfo(dtype).eps / 2 * (largest * expected.abs().max()).item()
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 35), min_size=1, max_size=6).filter(any),
    left=SIDES,
    right=st.integers(0, 40),
    causal=st.booleans(),
)
def test_sdpa_equals_attention_under_a_dense_mask(lengths, left, right, causal):
    window = None if left is None else (left, 0 if causal else right)
    assert_equal_to_dense("sdpa", lengths, Rule(causal=causal, window=window))


@pytest.mark.parametrize("window", [None, (0, 0), (1, 1), (8, 8), (16, 16), (17, 17), (64, 64)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [[1], [16], [64, 1], [15, 17, 0, 33], [65, 7]], ids=str)
def test_sdpa_equals_attention_under_a_dense_mask_at_the_edges_of_its_blocks(lengths, window, causal):
    assert_equal_to_dense(
        "sdpa", lengths, Rule(causal=causal, window=window and (window[0], 0 if causal else window[1]))
    )


@pytest.mark.parametrize("rule", RULES + SEEING_AHEAD, ids=str)
def test_every_backend_equals_attention_under_a_dense_mask(backend, rule):
    assert_equal_to_dense(backend, [21, 0, 1, 9, 30], rule)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_backend_equals_attention_under_a_dense_mask_on_a_gpu(name, rule):
    if reason := why_not(name, device="cuda", dtype=torch.bfloat16):
        pytest.skip(f"{name} {reason}")
    lengths, d = [210, 0, 1, 90, 300], 64
    q, k, v = (torch.randn(sum(lengths), H, d, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3))
    packing = Packing(lengths_S=torch.tensor(lengths, device="cuda"), N=sum(lengths), max_length=max(lengths))
    out = BACKENDS[name](packing, rule, torch.bfloat16)(q.cuda(), k.cuda(), v.cuda(), 0.0)
    torch.testing.assert_close(
        out.float().cpu(), dense(lengths, rule, q.float(), k.float(), v.float()), rtol=0, atol=2e-2
    )


def test_sdpa_with_a_window_makes_nothing_of_size_n_by_n(monkeypatch):
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, attn_mask, **kwargs):
        seen.append(attn_mask.numel())
        return original(q, k, v, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    N, window = 1600, 16
    attended("sdpa", [N], Rule(causal=False, window=(window, window)), tensors(N))
    assert seen == [N * 3 * window]


def test_dropout_acts_where_it_is_offered_and_is_refused_where_not():
    lengths, qkv = [20, 30], tensors(50)
    for window in (None, (4, 4)):
        rule = Rule(causal=False, window=window)
        sound, dropped = attended("sdpa", lengths, rule, qkv), attended("sdpa", lengths, rule, qkv, dropout=0.5)
        assert not torch.allclose(sound, dropped)
    with pytest.raises(ConfigError, match="'flex' has no dropout; set attention_dropout to 0 or use 'sdpa'"):
        attended("flex", lengths, Rule(causal=False), qkv, dropout=0.5)


def test_masks_take_the_type_of_the_compute():
    qkv = tensors(50, torch.bfloat16)
    out = attended("sdpa", [20, 30], Rule(causal=False, window=(4, 4)), qkv, torch.bfloat16)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("rule", "sides"),
    [
        (Rule(causal=False), (-1, -1)),
        (Rule(causal=True), (-1, 0)),
        (Rule(causal=False, window=(3, 4)), (3, 4)),
        (Rule(causal=True, window=(3, 0)), (3, 0)),
    ],
)
def test_sides_follow_the_kernels_convention(rule, sides):
    assert rule.sides == sides


@pytest.mark.parametrize(
    ("attention", "rule", "in_window"),
    [
        ("bidirectional", Rule(causal=False), (4, 4)),
        ("causal", Rule(causal=True), (4, 0)),
        ("lookahead:0", Rule(causal=True), (4, 0)),
        ("lookahead:3", Rule(causal=True, lookahead=3), (4, 3)),
        ("lookahead:90", Rule(causal=True, lookahead=90), (4, 4)),
        ("reach", Rule(causal=True, reach=True), (4, 4)),
    ],
)
def test_an_objectives_attention_is_a_rule_with_and_without_a_window(attention, rule, in_window):
    assert Rule.of(attention) == rule
    assert Rule.of(attention).within(4, 4).window == in_window


@pytest.mark.parametrize(
    "attention", ["", "Causal", "lookahead", "lookahead:", "lookahead:-1", "lookahead:1.5", "prefix"]
)
def test_an_unknown_attention_is_refused(attention):
    with pytest.raises(
        ConfigError, match=f"attention is '{attention}', expected 'bidirectional', 'causal', 'reach', or"
    ):
        Rule.of(attention)


def test_a_lookahead_over_the_whole_document_is_bidirectional_attention():
    lengths, qkv = [21, 1, 30], tensors(52, torch.float64)
    everything = attended("sdpa", lengths, Rule(causal=False), qkv, torch.float64)
    torch.testing.assert_close(attended("sdpa", lengths, Rule.of("lookahead:30"), qkv, torch.float64), everything)


@pytest.mark.parametrize("name", ["flash", "varlen"])
def test_kernels_without_masks_refuse_an_attention_that_differs_by_token(name):
    with pytest.raises(ConfigError, match=f"phases.*differs from token to token.*'{name}'.*set it to flex or sdpa"):
        check_attention(name, "reach", where="phases[1]")
    check_attention(name, "lookahead:4", where="phases[1]")
    check_attention("sdpa", "reach", where="phases[1]")


def test_a_batch_without_reach_under_a_rule_that_needs_it_is_refused():
    packing = Packing(lengths_S=torch.tensor([4]), N=4, max_length=4)
    with pytest.raises(ConfigError, match="the batch has no 'reach'"):
        BACKENDS["sdpa"](packing, Rule.of("reach"), torch.float32)


# ---- what the kernels for GPUs are told


def by_boundaries(told, q, k, v, cu, cu_k, longest, longest_k, *, causal, window):
    """A kernel's convention in plain words: document s is tokens cu[s] to cu[s + 1]; -1 is an unlimited side."""
    assert cu is cu_k
    assert longest == longest_k
    told.update(cu=cu.tolist(), longest=longest)
    left, right = (10**6 if side < 0 else side for side in window)
    lengths = cu.diff().tolist()
    return dense(lengths, Rule(causal=causal, window=(left, right)), q, k, v)


@pytest.fixture
def told(monkeypatch):
    """What the last call of a kernel was told; both kernels are replaced by `by_boundaries`."""
    seen = {}

    def flash_attn_varlen_func(*tensors, dropout_p, causal, window_size, deterministic):
        seen.update(dropout=dropout_p, deterministic=deterministic)
        return by_boundaries(seen, *tensors, causal=causal, window=window_size)

    def varlen_attn(*tensors, window_size):
        return by_boundaries(seen, *tensors, causal=window_size[1] == 0, window=window_size)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func))
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", SimpleNamespace(varlen_attn=varlen_attn))
    monkeypatch.setattr("detour.models.attention.torch_at_least", lambda major, minor: True)
    return seen


@pytest.mark.parametrize("name", ["flash", "varlen"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_kernel_gets_the_boundaries_and_sides_that_mean_the_rule(told, name, rule):
    lengths = [9, 1, 20, 3]
    qkv = [part.detach() for part in tensors(sum(lengths))]
    torch.testing.assert_close(attended(name, lengths, rule, qkv), dense(lengths, rule, *qkv))
    assert told["cu"] == [0, 9, 10, 30, 33]
    assert told["longest"] == 20


def test_deterministic_algorithms_reach_flash_attn(told):
    for exact in (False, True):
        torch.use_deterministic_algorithms(exact)
        try:
            attended("flash", [4], RULES[0], [part.detach() for part in tensors(4)])
        finally:
            torch.use_deterministic_algorithms(False)
        assert told["deterministic"] is exact


@pytest.mark.skipif(torch_at_least(2, 11), reason="the operator beneath torch's function is for older versions")
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_torch_s_operator_takes_our_arguments_forward_and_backward(rule):
    """On meta tensors, which have shapes only: what it computes needs a GPU."""
    q, k, v = (part.to("meta", torch.bfloat16).detach().requires_grad_() for part in torch.randn(3, 30, H, 8))
    packing = Packing(lengths_S=torch.tensor([10, 20], device="meta"), N=30, max_length=20)
    out = BACKENDS["varlen"](packing, rule, torch.bfloat16)(q, k, v, 0.0)
    out.sum().backward()
    assert out.shape == q.shape
    assert all(part.grad.shape == part.shape for part in (q, k, v))


# ---- choice


def choose(name, device="cpu", dtype=torch.float32):
    return select(name, device=device, dtype=dtype)


@pytest.fixture
def installed(monkeypatch):
    """Sets which kernels are found: those of flash-attn, and "varlen", torch's own."""

    def put(*names):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in names else None)
        monkeypatch.setattr("torch.backends.cuda.is_flash_attention_available", lambda: "varlen" in names)

    return put


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"model\.attention_backend: no 'flsh'; known: auto, sdpa, flash, varlen, flex"
    ):
        choose("flsh")


@pytest.mark.parametrize(
    ("name", "packages", "device", "dtype", "message"),
    [
        (
            "flash",
            (),
            "cuda",
            torch.bfloat16,
            "'flash' needs the package flash-attn \\(pip install -e '.\\[gpu\\]'\\)",
        ),
        ("flash", ("flash_attn",), "cpu", torch.bfloat16, "'flash' needs a GPU and bf16 precision"),
        ("flash", ("flash_attn",), "cuda", torch.float32, "'flash' needs a GPU and bf16 precision"),
        ("varlen", (), "cuda", torch.bfloat16, "'varlen' needs a torch built with FlashAttention, which .* is not"),
        ("varlen", ("varlen",), "cpu", torch.bfloat16, "'varlen' needs a GPU and bf16 precision"),
        ("varlen", ("varlen",), "cuda", torch.float32, "'varlen' needs a GPU and bf16 precision"),
    ],
)
def test_a_backend_that_cannot_run_is_refused_with_the_reason(installed, name, packages, device, dtype, message):
    installed(*packages)
    with pytest.raises(ConfigError, match=f"model.attention_backend: {message}"):
        choose(name, device, dtype)


@pytest.mark.parametrize(
    ("packages", "device", "dtype", "expected"),
    [
        ((), "cpu", torch.float32, "sdpa"),
        (("flash_attn", "varlen"), "cpu", torch.bfloat16, "sdpa"),
        (("flash_attn", "varlen"), "cuda", torch.bfloat16, "flash"),
        (("varlen",), "cuda", torch.bfloat16, "varlen"),
        (("flash_attn", "varlen"), "cuda", torch.float32, "sdpa"),
        ((), "cuda", torch.bfloat16, "sdpa"),
    ],
)
def test_auto_takes_the_fastest_that_runs_and_says_so(installed, caplog, packages, device, dtype, expected):
    installed(*packages)
    with caplog.at_level(logging.INFO, logger="detour.models.attention"):
        assert choose("auto", device, dtype) == expected
    assert f"attention backend: {expected} (chosen for {device}" in caplog.text


@pytest.mark.parametrize("name", ["sdpa", "flex"])
def test_a_backend_asked_for_that_runs_is_taken(name):
    device = "cpu" if why_not(name, device="cpu", dtype=torch.float32) is None else "cuda"
    assert choose(name, device) == name
    assert BACKENDS[name] in (sdpa, flex)
