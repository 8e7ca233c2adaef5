"""MNTP, prefix LM, masked diffusion, mixed and alternating objectives, position by position."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detour.batch import IGNORE, doc_ids_of, micro_batches
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.objectives import RowRandom, build
from detour.testing import make_batch, make_vocab
from detour.training.composer_model import DetourModel, tokens_for_trainer

VOCAB = make_vocab()
LENGTHS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=4)


def corrupt(objective, batch, *, step=0, seed=3):
    return objective(batch, VOCAB, RowRandom(seed=seed, step=step, sample_id_B=batch["sample_id"]))


def assert_same(a, b):
    assert set(a) == set(b)
    for key, value in a.items():
        assert torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key], key


# ---- mntp


@settings(max_examples=50, deadline=None)
@given(rows=LENGTHS, tail=st.integers(0, 4))
def test_mntp_labels_the_position_before_a_masked_token_of_the_same_document(rows, tail):
    batch = make_batch(rows, T=max(map(sum, rows)) + tail)
    out = corrupt(build("mntp", {"mask_fraction": 1.0, "random_fraction": 0.0}), batch)
    doc_BT, ids_BT = doc_ids_of(batch), batch["input_ids"]
    for b, t in (out["input_ids"] != ids_BT).nonzero().tolist():
        assert t
        assert doc_BT[b, t - 1] == doc_BT[b, t] >= 0
        assert out["labels"][b, t - 1] == ids_BT[b, t]
    changed = int((out["input_ids"] != ids_BT).sum())
    assert int((out["labels"] != IGNORE).sum()) == changed


# ---- prefix


@settings(max_examples=50, deadline=None)
@given(rows=LENGTHS, tail=st.integers(0, 4))
def test_a_prefix_sees_itself_whole_and_the_rest_is_predicted(rows, tail):
    batch = make_batch(rows, T=max(map(sum, rows)) + tail)
    out, ids_BT = corrupt(build("prefix_lm"), batch), batch["input_ids"]
    for b, lengths in enumerate(rows):
        start = 0
        for n in lengths:
            reach, labels = (out[key][b, start : start + n].tolist() for key in ("reach", "labels"))
            p = reach[0] + 1  # the length of the prefix
            assert 1 <= p <= max(1, n - 1)
            assert reach == [max(0, p - 1 - i) for i in range(n)]
            next_ids = ids_BT[b, start + 1 : start + n].tolist()
            assert labels == [IGNORE] * (p - 1) + next_ids[p - 1 :] + [IGNORE]
            start += n
    assert out["attention"] == "reach"


def test_the_length_of_a_prefix_is_uniform():
    batch = make_batch([[6] * 40] * 50)
    reach_BT = corrupt(build("prefix_lm"), batch)["reach"]
    counts = torch.bincount(reach_BT[:, ::6].flatten(), minlength=5)
    assert len(counts) == 5  # lengths 1 to 5
    sd = math.sqrt(2000 * 0.2 * 0.8)
    assert ((counts - 400).abs() < 5 * sd).all()


# ---- masked diffusion


@pytest.fixture
def model():
    """A tiny encoder with global and local layers."""
    torch.manual_seed(0)
    arch = ModernBertArchitecture(
        vocab_size=VOCAB.size, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
        local_attention=16,
    )  # fmt: skip
    return Encoder(arch)


def test_the_loss_of_masked_diffusion_is_that_of_a_dense_computation(model):
    """LLaDA's equation 3: for each row the masked tokens' cross-entropy over t, divided by the number of tokens."""
    batch = make_batch([[30, 18], [48], [7, 20]], T=48, vocab=VOCAB)
    out = corrupt(build("masked_diffusion"), batch)
    rng = RowRandom(seed=3, step=0, sample_id_B=batch["sample_id"])
    t_B = 0.001 + 0.999 * rng.uniform(1)[:, 0]

    with torch.no_grad():
        logits_BTV = model.logits(out["input_ids"], out["doc_lengths"], "bidirectional").double()
    total, tokens = 0.0, 0
    for b in range(3):
        real = doc_ids_of(batch)[b] >= 0
        eligible = real & ~VOCAB.is_special_V[batch["input_ids"][b]]
        masked = (out["input_ids"][b] == VOCAB.mask_id) & eligible
        nll = -logits_BTV[b].log_softmax(-1)[torch.arange(48), batch["input_ids"][b]]
        total += float(nll[masked].sum() / t_B[b].double())
        tokens += int(eligible.sum())

    wrapped = DetourModel(model)
    pieces = micro_batches(out, 2)
    counts = [tokens_for_trainer(piece)["loss_generating"] for piece in pieces]
    losses = [wrapped.loss(wrapped(piece), piece)["total"].item() for piece in pieces]
    assert sum(counts) == tokens
    assert sum(c * l for c, l in zip(counts, losses, strict=True)) / tokens == pytest.approx(total / tokens, rel=1e-5)


def test_a_row_of_which_chance_masks_nothing_has_a_target_of_weight_zero():
    batch = make_batch([[40]] * 400, vocab=VOCAB)
    out = corrupt(build("masked_diffusion", {"min_rate": 1e-6}), batch)
    labeled = out["labels"] != IGNORE
    assert (labeled.sum(1) >= 1).all()
    forced = labeled & (out["weights"] == 0)
    assert 0 < int(forced.any(1).sum()) < 400 * 0.1  # rows whose rate is below about 1/40
    assert (labeled[forced.any(1)].sum(1) == 1).all()


def test_blocks_see_themselves_whole_and_everything_before():
    out = corrupt(build("masked_diffusion", {"block": 4}), make_batch([[6, 5]], T=12))
    assert out["reach"].tolist() == [[3, 2, 1, 0, 3, 2, 3, 2, 1, 0, 3, 3]]


# ---- mixed


@pytest.mark.parametrize("chosen", ["clm", "mntp", "mlm", "prefix_lm", "masked_diffusion"])
def test_a_mixture_of_one_objective_is_that_objective_bitwise(chosen):
    batch = make_batch([[30, 18], [48], [7, 20]], T=48, vocab=VOCAB)
    other = "clm" if chosen != "clm" else "mlm"
    parts = [{"objective": other, "proportion": 0}, {"objective": chosen, "proportion": 1}]
    found = corrupt(build("mixed", {"objectives": parts}), batch)
    alone = corrupt(build(chosen), batch)
    assert found.pop("objective") == "mixed"
    assert alone.pop("objective") == chosen
    assert_same(found, alone)


def test_each_row_of_a_mixture_is_as_its_objective_alone_makes_it():
    batch = make_batch([[30, 18], [48], [7, 20], [40, 3]] * 20, T=48, vocab=VOCAB)
    parts = [{"objective": "clm", "proportion": 1}, {"objective": "mntp", "proportion": 3}]
    found = corrupt(build("mixed", {"objectives": parts}), batch)
    alone = {name: corrupt(build(name), batch) for name in ("clm", "mntp")}
    kinds = []
    for b in range(80):
        kind = "clm" if int(found["reach"][b].max()) == 0 else "mntp"
        kinds.append(kind)
        assert torch.equal(found["labels"][b], alone[kind]["labels"][b])
        assert torch.equal(found["input_ids"][b], alone[kind]["input_ids"][b])
        assert set(found["reach"][b].tolist()) == {0 if kind == "clm" else 48}
    assert abs(kinds.count("clm") - 20) < 5 * math.sqrt(80 * 0.25 * 0.75)


def test_the_loss_of_a_mixture_is_that_of_its_rows_each_under_its_own_attention(model):
    model = model.double()
    batch = make_batch([[30, 18], [48], [7, 20], [40, 3]] * 3, T=48, vocab=VOCAB)
    parts = [{"objective": "clm", "proportion": 1}, {"objective": "mntp", "proportion": 1}]
    out = corrupt(build("mixed", {"objectives": parts}), batch)
    found = model(out["input_ids"], out["doc_lengths"], out["labels"], out["attention"], reach_BT=out["reach"])
    expected = torch.zeros((), dtype=torch.float64)
    kinds = set()
    for b in range(12):
        attention = "causal" if int(out["reach"][b].max()) == 0 else "bidirectional"
        kinds.add(attention)
        logits_TV = model.logits(out["input_ids"][b : b + 1], out["doc_lengths"][b : b + 1], attention)[0]
        expected += F.cross_entropy(logits_TV, out["labels"][b], ignore_index=IGNORE, reduction="sum")
    assert kinds == {"causal", "bidirectional"}
    torch.testing.assert_close(found.total.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no proportion above 0"),
        ([{"objective": "mlm", "proportion": 0}], "no proportion above 0"),
        ([{"objective": "mlm", "proportion": -1}], "proportion is -1.0, expected a number of at least 0"),
        ([{"objective": "mlm"}], r"objectives\[0\].proportion: missing"),
        ([{"objective": "mlm", "proportion": 1, "options": {"rat": 1}}], "rat: unknown key; did you mean 'rate'"),
    ],
)
def test_a_malformed_mixture_is_refused(parts, message):
    with pytest.raises(ConfigError, match=message):
        build("mixed", {"objectives": parts})


# ---- alternate


def test_objectives_take_turns_by_steps():
    batch = make_batch([[30, 18], [48]], T=48, vocab=VOCAB)
    turns = [{"objective": "clm", "steps": 2}, {"objective": "mlm", "options": {"rate": 0.5}}]
    objective = build("alternate", {"turns": turns})
    order = [corrupt(objective, batch, step=step)["objective"] for step in range(7)]
    assert order == ["clm", "clm", "mlm", "clm", "clm", "mlm", "clm"]
    assert_same(corrupt(objective, batch, step=2), corrupt(build("mlm", {"rate": 0.5}), batch, step=2))
    assert_same(corrupt(objective, batch, step=3), corrupt(build("clm"), batch, step=3))
    assert [(part.name, share) for part, share in objective.parts] == [("clm", 2 / 3), ("mlm", 1 / 3)]
