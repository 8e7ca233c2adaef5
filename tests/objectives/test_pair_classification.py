"""Pair classification: labels by hand, and its loss against transformers, pair by pair."""

from __future__ import annotations

import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

from detour.batch import IGNORE
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.objectives import RowRandom, build
from detour.testing import make_batch, make_vocab

CLASSES = ["cause", "drug", "none"]
VOCAB = make_vocab()


@pytest.fixture
def objective():
    return build("pair_classification", {"classes": CLASSES})


def corrupted(objective, batch):
    return objective(batch, VOCAB, RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))


def test_the_label_is_the_class_at_the_first_token_of_each_document(objective):
    batch = make_batch([(4, 3), (7,)], T=8, classes=3)
    batch["doc_classes"] = torch.tensor([[2, 0], [1, IGNORE]])
    labels = corrupted(objective, batch)["labels"].tolist()
    i = IGNORE
    assert labels == [[2, i, i, i, 0, i, i, i], [1, i, i, i, i, i, i, i]]


def test_the_loss_is_that_of_transformers_for_each_pair_alone(objective):
    config = ModernBertConfig(
        vocab_size=VOCAB.size, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2,
        local_attention=8, global_attn_every_n_layers=3, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = ModernBertModel(config).eval()
    sizes = {"vocab_size": VOCAB.size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    encoder = Encoder(architecture("tiny", {**sizes, "num_attention_heads": 2, "local_attention": 8})).eval()
    mine = dict(encoder.model.named_parameters())
    for name, parameter in theirs.named_parameters():
        mine[name].data.copy_(parameter)
    encoder.objectives["pair_classification"] = head = objective.build_module(encoder)
    batch = corrupted(objective, make_batch([(9, 14, 1), (20, 4), (2,)], T=24, vocab=VOCAB, seed=4, classes=3))
    expected, pairs = 0.0, 0
    for ids_T, lengths_D, classes_D, spans_D4 in zip(
        batch["input_ids"],
        batch["doc_lengths"].tolist(),
        batch["doc_classes"],
        batch["doc_spans"].tolist(),
        strict=True,
    ):
        at = 0
        for length, label, span in zip(lengths_D, classes_D, spans_D4, strict=True):
            if length:
                x_TC = theirs(input_ids=ids_T[None, at : at + length]).last_hidden_state[0]
                u, v = (x_TC[span[i] - at : span[i + 1] - at].mean(0) for i in (0, 2))
                logits = head.weight @ torch.cat([u, v, (u - v).abs()]) + head.bias
                expected -= logits.log_softmax(0)[label].item()
                at, pairs = at + length, pairs + 1
    total, supervised = encoder.loss_of(batch)
    assert (pairs, supervised.item()) == (6, 6)
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_an_objective_with_a_module_is_not_mixed_into_a_batch():
    part = {"objective": "pair_classification", "proportion": 1, "options": {"classes": CLASSES}}
    with pytest.raises(
        ConfigError, match="pair_classification computes its loss by a module or reads a stream of its own"
    ):
        build("mixed", {"objectives": [part]})


def test_objectives_in_turn_read_the_stream_of_the_one_whose_turn_it_is():
    turns = [{"objective": "mlm", "steps": 2}, {"objective": "pair_classification", "options": {"classes": CLASSES}}]
    both = build("alternate", {"turns": turns})
    assert [both.stream_at(step) for step in range(7)] == ["", "", "pairs", "", "", "pairs", ""]


@pytest.mark.parametrize("classes", [["one"], ["same", "same"], []])
def test_classes_that_cannot_be_told_apart_are_refused(classes):
    with pytest.raises(ConfigError, match="expected at least two different names"):
        build("pair_classification", {"classes": classes})
