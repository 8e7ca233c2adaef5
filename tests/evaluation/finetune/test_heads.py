"""The CRF and the biaffine against all tag sequences and spans written out, and the tagger as a whole."""

from __future__ import annotations

import math
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detour.batch import IGNORE
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.examples import Example, fault_of, longest_entity
from detour.evaluation.finetune.finetune import finetune
from detour.evaluation.finetune.heads import FORBIDDEN, Biaffine, BiLstmCrf, span_losses

LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]


class Embedding(nn.Module):
    """Stands for an encoder: a state for each id, whatever is around it."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=8)
        self.states = nn.Embedding(20, 8)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.states(input_ids))


@pytest.fixture(params=[0, 3], ids=["crf", "biaffine"])
def head(request):
    torch.manual_seed(0)
    head = BiLstmCrf(Embedding(), LABELS, longest=request.param)
    nn.init.normal_(head.transitions_CC)
    nn.init.normal_(head.start_C)
    return head


def weight(head, emissions_WC, tags):
    """Written out, with no tensor of more than one sequence."""
    total = head.start_C[tags[0]]
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


def spans_of(tags):
    """(first word, last word, type number); a leading I- is what is seen of an entity that began before."""
    spans = []
    for w, tag in enumerate(tags):
        if tag and (tag % 2 == 1 or w == 0):
            spans.append((w, w, (tag - 1) // 2))
        elif tag:
            spans[-1] = (spans[-1][0], w, spans[-1][2])
    return spans


def strict(tags):
    return all(not LABELS[b].startswith("I-") or LABELS[a][2:] == LABELS[b][2:] for a, b in pairwise(tags))


def test_the_biaffine_is_its_formula_for_each_span_and_type():
    torch.manual_seed(0)
    biaffine = Biaffine(8, 2, 3, size=5)
    states = torch.randn(2, 4, 8)
    odds = biaffine(states)
    assert odds.shape == (2, 4, 3, 2)
    first, last = (torch.relu(layer(states)) for layer in (biaffine.first, biaffine.last))
    for b, w, step, kind in product(range(2), range(4), range(3), range(2)):
        if w + step >= 4:
            assert odds[b, w, step, kind] == 0
            continue
        f, g = first[b, w], last[b, w + step]
        expected = biaffine.last_alone.bias[kind]
        for i, j in product(range(5), range(5)):
            expected = expected + f[i] * biaffine.pair_DED[i, kind, j] * g[j]
        for i in range(5):
            expected = (
                expected + biaffine.first_alone.weight[kind, i] * f[i] + biaffine.last_alone.weight[kind, i] * g[i]
            )
        torch.testing.assert_close(odds[b, w, step, kind], expected)
    assert biaffine(states[:, :2]).shape == (2, 2, 3, 2)  # fewer words than the longest span


def test_the_loss_of_spans_is_that_of_each_span_that_fits():
    torch.manual_seed(0)
    lengths, tags = [5, 3, 0], torch.tensor([[2, 2, 1, 3, 4], [0, 1, 2, 0, 0], [0, 0, 0, 0, 0]])
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    odds = torch.randn(3, 5, 3, 2)
    for b, n in enumerate(lengths):
        said = spans_of(tags[b, :n].tolist())
        expected = 0.0
        for first, step, kind in product(range(n), range(3), range(2)):
            if first + step < n:
                p = 1 / (1 + math.exp(-odds[b, first, step, kind].item()))
                expected -= math.log(p if (first, first + step, kind) in said else 1 - p)
        assert span_losses(odds, tags, mask)[b].item() == pytest.approx(expected, rel=1e-5)
    assert spans_of([2, 2, 1, 3, 4]) == [(0, 1, 0), (2, 2, 0), (3, 4, 1)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("longest", [2, 3, 5])
def test_the_tags_of_both_are_the_best_of_all_tag_sequences(longest, seed, head):
    torch.manual_seed(seed)
    lengths = [5, 3, 1, 0]
    emissions, odds = torch.randn(4, 5, 5), 2 * torch.randn(4, 5, longest, 2)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    best = head.best_spans(emissions, odds, mask)
    for b, n in enumerate(lengths[:3]):
        values = {}
        for tags in filter(strict, product(range(5), repeat=n)):
            spans = spans_of(tags)
            if all(last - first < longest for first, last, _ in spans):
                added = sum(odds[b, first, last - first, kind] for first, last, kind in spans)
                values[tags] = float(weight(head, emissions[b], tags) + added)
        assert tuple(best[b, :n].tolist()) == max(values, key=values.__getitem__)


def test_without_opinions_on_spans_the_tags_are_those_of_the_crf(head):
    emissions, mask = torch.randn(4, 9, 5), torch.arange(9) < torch.tensor([9, 4, 1, 7])[:, None]
    best, both = head.best(emissions, mask), head.best_spans(emissions, torch.zeros(4, 9, 9, 2), mask)
    assert torch.equal(best.where(mask, 0), both.where(mask, 0))


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


@pytest.mark.trains
@pytest.mark.parametrize("head", ["bilstm_crf", "bilstm_crf_biaffine"])
def test_the_tagger_learns_and_says_strict_iob2(head, constructed, made, make_task, data_root, test_seed):
    """Windows cut some of the entities in two. The states name the words, so the tags are a matter of a few steps."""
    training = {"learning_rate": 3e-3, "head_learning_rate": 1e-2, "batch_size": 16, "epochs": 4, "head": head}
    task = make_task("chains", "ner", made.ner(), training=training, max_length=9)
    outcome = finetune(constructed, task, load_dataset(task, data_root), seed=test_seed)
    assert outcome.windows["test"] > 64
    assert outcome.test["span_micro_f1"] > 0.9
    poor = make_task("poor", "ner", made.ner(), training=training | {"epochs": 1, "steps": 1}, max_length=9)
    tags = finetune(constructed, poor, load_dataset(poor, data_root), seed=test_seed).predictions
    assert [fault_of(said) for said in tags] == [None] * len(tags)


def test_an_entity_that_is_cut_by_a_window_is_no_surprise(head):
    """Its second part is a chain that begins with I-X; a loss of thousands there would be all that a batch says."""
    head.eval()
    ids, labels = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 2, 0]])
    loss = head(ids, torch.ones_like(ids), labels)["loss"]
    assert loss < 20


def test_the_longest_entity_is_counted_in_words():
    tags = [("O", "B-X", "I-X", "O"), ("B-X", "B-X", "I-X", "I-X", "B-Y"), ("O",)]
    examples = [Example(id=str(i), parts=said, target=said) for i, said in enumerate(tags)]
    assert longest_entity(examples) == 3
    assert longest_entity(examples[2:]) == 1
