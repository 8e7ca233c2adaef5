"""The CRF against all tag sequences written out, and the tagger as a whole."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detour.batch import IGNORE
from detour.evaluation.dataset import load_dataset
from detour.evaluation.examples import fault_of
from detour.evaluation.finetune import finetune
from detour.evaluation.heads import FORBIDDEN, BiLstmCrf

LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]


class Embedding(nn.Module):
    """Stands for an encoder: a state for each id, whatever is around it."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=8)
        self.states = nn.Embedding(20, 8)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.states(input_ids))


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = BiLstmCrf(Embedding(), LABELS)
    nn.init.normal_(head.transitions_CC)
    nn.init.normal_(head.start_C)
    return head


def weight(head, emissions_WC, tags):
    """Written out, with no tensor of more than one sequence."""
    total = head.start_C[tags[0]] + (FORBIDDEN - head.start_C[tags[0]] if LABELS[tags[0]].startswith("I-") else 0)
    for w, tag in enumerate(tags):
        total = total + emissions_WC[w, tag]
        if w:
            before, after = LABELS[tags[w - 1]], LABELS[tag]
            allowed = not after.startswith("I-") or before[2:] == after[2:]
            total = total + (head.transitions_CC[tags[w - 1], tag] if allowed else FORBIDDEN)
    return total


def test_the_crf_is_the_sum_and_the_best_of_all_tag_sequences(head):
    lengths = [4, 2, 1]
    emissions = torch.randn(3, 4, 5)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    log_partition, best = head.log_partition(emissions, mask), head.best(emissions, mask)
    for b, n in enumerate(lengths):
        all_tags = list(product(range(5), repeat=n))
        weights = torch.stack([weight(head, emissions[b], tags) for tags in all_tags])
        torch.testing.assert_close(log_partition[b], torch.logsumexp(weights, 0))
        assert tuple(best[b, :n].tolist()) == all_tags[int(weights.argmax())]
        tags = torch.zeros(1, 4, dtype=torch.int64)
        tags[0, :n] = torch.tensor(all_tags[7 % len(all_tags)])
        torch.testing.assert_close(
            head.score(emissions[b : b + 1], tags, mask[b : b + 1])[0], weight(head, emissions[b], tags[0, :n].tolist())
        )


def test_only_places_of_labels_are_read_and_padding_changes_nothing(head):
    head.eval()
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    labels = torch.tensor([[IGNORE, 0, IGNORE, 1, 2, IGNORE]])
    outputs = head(ids, torch.ones_like(ids), labels)
    assert (outputs["logits"][labels == IGNORE] == IGNORE).all()
    assert (outputs["logits"][labels != IGNORE] >= 0).all()
    other = head(ids, torch.ones_like(ids), torch.tensor([[IGNORE, 3, IGNORE, 0, 0, IGNORE]]))
    assert torch.equal(outputs["logits"], other["logits"])  # which labels stand there is not known to the tags
    changed = ids.index_fill(1, torch.tensor([0, 2, 5]), 9)
    torch.testing.assert_close(head(changed, torch.ones_like(ids), labels)["loss"], outputs["loss"])
    longer = torch.cat([ids, torch.zeros(1, 3, dtype=torch.int64)], 1)
    padded = torch.cat([labels, torch.full((1, 3), IGNORE)], 1)
    torch.testing.assert_close(head(longer, (longer > 0).long(), padded)["loss"], outputs["loss"])


def test_the_loss_of_a_batch_is_that_of_its_parts(head):
    head.eval()
    ids, labels = torch.randint(1, 20, (3, 6)), torch.randint(0, 2, (3, 6))
    labels[0, 2:] = IGNORE
    labels[2, :] = IGNORE  # a window in which no word is read
    whole = head(ids, torch.ones_like(ids), labels)["loss"]
    rows = [(i[None], torch.ones_like(i[None]), l[None]) for i, l in zip(ids, labels, strict=True)]
    parts = sum(head(*row, num_items_in_batch=8)["loss"] for row in rows)
    torch.testing.assert_close(whole, parts)


def test_the_tagger_learns_and_says_strict_iob2(encoder, made, make_task, data_root):
    training = {"learning_rate": 3e-3, "head_learning_rate": 1e-2, "batch_size": 16, "epochs": 4, "head": "bilstm_crf"}
    task = make_task("chains", "ner", made.ner(), training=training, max_length=24)
    outcome = finetune(encoder, task, load_dataset(task, data_root), seed=1)
    assert outcome.test["span_micro_f1"] > 0.9
    poor = make_task("poor", "ner", made.ner(), training=training | {"epochs": 1, "steps": 1})
    tags = finetune(encoder, poor, load_dataset(poor, data_root), seed=1).predictions
    assert [fault_of(said) for said in tags] == [None] * len(tags)
