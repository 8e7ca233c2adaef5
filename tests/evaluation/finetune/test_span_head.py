"""The span head: its scores for each span written out, what its weights say is found, and what stands in a text is learnt."""

from __future__ import annotations

import json
import math
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detour.batch import IGNORE
from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError
from detour.evaluation.data.dataset import Dataset, load_dataset
from detour.evaluation.data.examples import Example, Span, spans_of_tags
from detour.evaluation.data.nested import as_words, spans_of_words, without_overlaps
from detour.evaluation.data.span_features import LONGEST, SpanCollator, encode_spans, scored_spans
from detour.evaluation.finetune.finetune import finetune
from detour.evaluation.finetune.scoring import predictions_of, score
from detour.evaluation.finetune.span_head import BIAFFINE, Contextualizer, SpanHead, may_follow, tag_names
from detour.evaluation.metrics import MEASURES, nested_scores

NESTED = "cancer du sein gauche"  # with "sein gauche" and "gauche" inside


class Embedding(nn.Module):
    """Stands for an encoder: a state for each id, whatever is around it."""

    def __init__(self, hidden: int = 8):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=hidden)
        self.states = nn.Embedding(20, hidden)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.states(input_ids))


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = SpanHead(Embedding(), 2)
    for weights in (head.transitions_CC, head.start_C, head.end_C, head.bias):
        nn.init.normal_(weights)
    return head.eval()


def inputs(lengths, most):
    ids = torch.randint(1, 20, (len(lengths), most), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(most) < torch.tensor(lengths)[:, None]).long()
    labels = torch.full((len(lengths), most, LONGEST), IGNORE, dtype=torch.int8)
    for b, n in enumerate(lengths):
        for t, k in product(range(n), range(LONGEST)):
            if t + k < n:
                labels[b, t, k] = 0
    return ids * mask, mask, labels


# Which entities of one label can be open between two tags, from what the tags mean: O has none on either side; a B or U opens
# one, an L or U closes one, an I has one open on either side; where entities overlap, others may be open as well.
BEFORE = {"O": {False}, "I": {True}, "B": {True, False}, "L": {True}, "U": {True, False}}
AFTER = {"O": {False}, "I": {True}, "B": {True}, "L": {True, False}, "U": {True, False}}


def test_a_tag_may_follow_where_the_open_entities_agree():
    names = tag_names(2)
    assert len(names) == 1 + 4 * 2
    for (kind, label), (next_kind, next_label) in product(names, names):
        agree = AFTER[kind] & BEFORE[next_kind]
        if label != next_label:  # nothing of a label may be open next to another label
            agree &= {False}
        assert may_follow((kind, label), (next_kind, next_label)) == bool(agree), (kind, label, next_kind, next_label)


def weights_of_all_sequences(head, emissions_TC):
    """P(tag) at each token from all sequences that the meaning of the tags allows."""
    names = tag_names(head.labels)
    length, tags = emissions_TC.shape
    total = torch.zeros(length, tags, dtype=torch.float64)
    for sequence in product(range(tags), repeat=length):
        kinds = [names[tag] for tag in sequence]
        if kinds[0][0] in "IL" or kinds[-1][0] in "IB":
            continue
        if not all(AFTER[a] & BEFORE[b] & ({True, False} if i == j else {False}) for (a, i), (b, j) in pairwise(kinds)):
            continue
        weight = head.start_C[sequence[0]] + head.end_C[sequence[-1]]
        weight = weight + sum(emissions_TC[t, tag] for t, tag in enumerate(sequence))
        weight = float(weight + sum(head.transitions_CC[a, b] for a, b in pairwise(sequence)))
        for t, tag in enumerate(sequence):
            total[t, tag] += math.exp(weight)
    return total / total.sum(1, keepdim=True)


@torch.no_grad()
def test_the_score_of_a_span_is_the_least_of_its_marginals_and_the_product_of_its_ends():
    """All tag sequences of three tokens and nine tags are gone through; the biaffine is its formula."""
    torch.manual_seed(0)
    head = SpanHead(Embedding(), 1).double().eval()
    for weights in (head.transitions_CC, head.start_C, head.end_C, head.bias):
        nn.init.normal_(weights)
    lengths = [3, 2]
    ids, mask, _ = inputs(lengths, 3)
    found = head.scores(ids, mask)
    assert found.shape == (2, 3, LONGEST, 2)
    states = head.context(head.encoder(ids, mask).last_hidden_state, mask.sum(1))
    for b, n in enumerate(lengths):
        p = weights_of_all_sequences(head, head.emit(states[b, :n]))
        begins, ends = (layer(states[b]).view(3, 2, BIAFFINE) for layer in (head.begin, head.end))
        for t, k, label in product(range(n), range(3), range(2)):
            if t + k < n:
                i, begin, last, unit = range(1 + 4 * label, 5 + 4 * label)
                marginal = min(
                    sum(math.log(p[s, i : unit + 1].sum()) for s in range(t, t + k + 1)),
                    math.log(p[t, begin] + p[t, unit]),
                    math.log(p[t + k, last] + p[t + k, unit]),
                )
                product_ = float(begins[t, label] @ ends[t + k, label]) / 8 + float(head.bias)
                assert float(found[b, t, k, label]) == pytest.approx(marginal + product_, abs=1e-5)


@torch.no_grad()
def test_a_layer_of_the_contextualizer_is_its_formula():
    torch.manual_seed(0)
    context = Contextualizer(6, width=4, layers=1).eval()
    states = torch.randn(1, 5, 6)
    x = torch.nn.functional.gelu(context.project[0](states))
    read, _ = context.lstms[0](x)
    gate = 1 / (1 + torch.exp(-(read @ context.gates[0].weight.T + context.gates[0].bias)))
    mixed = (1 - gate) * x + gate * read
    expected = (mixed - mixed.mean(-1, keepdim=True)) / (mixed.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(context(states, torch.tensor([5])), expected)
    assert isinstance(Contextualizer(4, width=4).project, nn.Identity)


def test_the_loss_is_the_mean_over_scored_spans_of_the_mean_over_labels(head):
    ids, mask, labels = inputs([4, 2], 4)
    labels[0, 0, 1], labels[0, 1, 0], labels[1, 1, 0] = 1, 1, 1
    labels[0, 3, 0] = IGNORE  # left out
    entities = torch.tensor([[[0, 1, 0], [0, 1, 1], [1, 1, 1]], [[1, 1, 0], [-1, -1, -1], [-1, -1, -1]]])
    wanted = {(0, 0, 1): [0, 1, 1], (0, 1, 0): [0, 0, 1], (1, 1, 0): [0, 1, 0]}  # the first span has both types
    scores = head.scores(ids, mask)
    each = []
    for b, t, k in (labels != IGNORE).nonzero().tolist():
        target = wanted.get((b, t, k), [1, 0, 0])
        p = torch.sigmoid(scores[b, t, k].double())
        each.append(-sum(math.log(q if y else 1 - q) for q, y in zip(p.tolist(), target, strict=True)) / 3)
    assert len(each) == 10 + 3 - 1
    loss = head(ids, mask, labels, entities)["loss"]
    assert float(loss) == pytest.approx(sum(each) / len(each), rel=1e-5)
    halves = [
        head(*(x[b : b + 1] for x in (ids, mask, labels, entities)), num_items_in_batch=12)["loss"] for b in (0, 1)
    ]
    assert float(sum(halves)) == pytest.approx(float(loss), rel=1e-5)


def test_padding_changes_nothing(head):
    ids, mask, labels = inputs([4], 4)
    longer = nn.functional.pad(ids, (0, 3)), nn.functional.pad(mask, (0, 3))
    exists = labels != IGNORE
    torch.testing.assert_close(head.scores(*longer)[:, :4][exists], head.scores(ids, mask)[exists])
    entities = torch.tensor([[[0, 0, 0]]])
    labels[0, 0, 0] = 1
    padded = nn.functional.pad(labels, (0, 0, 0, 3), value=IGNORE)
    torch.testing.assert_close(
        head(*longer, padded, entities)["loss"], head(ids, mask, labels, entities)["loss"], rtol=1e-5, atol=1e-6
    )


class Planted(SpanHead):
    """A span head whose scores are given: what is decoded from them does not depend on any training."""

    def __init__(self, entities, length):
        super().__init__(Embedding(), 2)
        self.planted = torch.full((1, length, LONGEST, 3), -20.0)
        for first, last, kind, odds in entities:
            self.planted[0, first, last - first, kind + 1] = odds

    def scores(self, input_ids, attention_mask):
        return self.planted


WORDS = ["cancer", "du", "sein", "gauche", "x"]


@pytest.fixture
def tokenizer(word_tokenizer):
    return word_tokenizer(WORDS, model_max_length=64)


def decoded(tokenizer, text, planted):
    """The entities found in a text from scores of spans of words; [CLS] is token 0."""
    data = Dataset(splits={}, labels=["A", "B"], sha256="")
    encoded = encode_spans(tokenizer, [Example(id="1", parts=(text,), target=())], data.labels, max_length=64)
    batch = SpanCollator(tokenizer)(encoded.features)
    head = Planted(planted, batch["input_ids"].shape[1]).eval()
    outputs = head(**batch)["logits"].detach().numpy()
    task = SimpleNamespace(kind="nested_ner")
    return predictions_of(task, data, encoded, outputs)[0]


def test_nested_and_overlapping_entities_come_back(tokenizer):
    found = decoded(
        tokenizer, NESTED, [(1, 4, 0, 3.0), (3, 4, 1, 2.0), (2, 3, 1, 1.0), (4, 4, 0, 2.0), (1, 1, 1, -1.0)]
    )
    # of the overlapping B the more probable, of the overlapping A too; those of different types stay
    assert found == [Span(0, 21, "A"), Span(10, 21, "B")]
    found = decoded(tokenizer, NESTED, [(1, 3, 0, 3.0), (3, 4, 1, 2.0), (1, 1, 1, 0.1)])
    assert found == [Span(0, 6, "B"), Span(0, 14, "A"), Span(10, 21, "B")]


def test_an_entity_of_one_character_at_the_end_is_found(tokenizer):
    assert decoded(tokenizer, "cancer x", [(2, 2, 1, 5.0)]) == [Span(7, 8, "B")]
    text = "cancer du x"
    example = Example(id="1", parts=(text,), target=(Span(10, 11, "A"), Span(7, 11, "B")))
    encoded = encode_spans(tokenizer, [example], ["A", "B"], max_length=64)
    assert encoded.features[0]["entities"] == [[3, 3, 0], [2, 3, 1]]
    assert encoded.lost == 0


def test_spans_of_special_tokens_and_without_entities_are_not_entities(tokenizer):
    assert decoded(tokenizer, "cancer du", [(0, 1, 0, 9.0), (2, 3, 1, 9.0), (0, 0, 0, 9.0)]) == []
    assert decoded(tokenizer, "cancer du", []) == []


def test_of_overlapping_entities_of_a_type_the_more_probable_stays():
    a, b, c, d = Span(0, 4, "A"), Span(3, 9, "A"), Span(4, 6, "A"), Span(0, 9, "B")
    assert without_overlaps([(a, 0.6), (b, 0.9), (c, 0.7), (d, 0.55)]) == [d, b]
    assert without_overlaps([(a, 0.6), (b, 0.6), (c, 0.6)]) == [b]  # on ties the longest
    assert without_overlaps([(a, 0.6), (c, 0.7)]) == [a, c]


def test_long_texts_are_read_in_windows_and_each_entity_once(tokenizer):
    text = " ".join(["du"] * 30 + ["sein", "gauche"] + ["du"] * 10)
    start = text.index("sein")
    example = Example(id="1", parts=(text,), target=(Span(start, start + 11, "A"),))
    encoded = encode_spans(tokenizer, [example], ["A", "B"], max_length=18)
    assert len(encoded.features) > 2
    assert all(len(feature["input_ids"]) <= 18 for feature in encoded.features)
    holding = [i for i, feature in enumerate(encoded.features) if feature["entities"]]
    assert len(holding) == 2
    assert encoded.lost == 0
    most = max(len(feature["entities"]) for feature in encoded.features)
    rows = torch.full((len(encoded.features), max(most, 1), 4), float(IGNORE))
    for i in holding:
        ((first, last, kind),) = encoded.features[i]["entities"]
        rows[i, 0] = torch.tensor([first, last, kind, 0.6 + i / 10])
    data = Dataset(splits={}, labels=["A", "B"], sha256="")
    found = predictions_of(SimpleNamespace(kind="nested_ner"), data, encoded, rows.numpy())
    assert found == [[Span(start, start + 11, "A")]]


def test_entities_that_no_span_expresses_are_counted(tokenizer):
    text = " ".join(["du"] * 45)
    targets = (Span(0, 2, "A"), Span(0, 1, "A"), Span(0, 3 * 40 - 1, "B"), Span(0, 3 * 41 - 1, "B"))
    encoded = encode_spans(tokenizer, [Example(id="1", parts=(text,), target=targets)], ["A", "B"], max_length=64)
    assert encoded.lost == 2  # half a word, and 41 tokens
    with pytest.raises(ConfigError, match="leaves no room"):
        encode_spans(tokenizer, [Example(id="1", parts=(text,), target=())], ["A"], max_length=3)


def test_the_loss_takes_all_negatives_or_the_first_five_hundred_as_published():
    entities = [[1, 2, 0], [1, 2, 1], [60, 60, 0]]
    feature = {"input_ids": [9] * 72, "entities": entities, "inner": (1, 71), "first_negatives": False}
    scored = scored_spans(feature)
    assert int((scored != IGNORE).sum()) == 70 * 40 - 40 * 39 // 2  # the last 39 tokens begin fewer spans
    assert int((scored == 1).sum()) == 2
    first = scored_spans(feature | {"first_negatives": True})
    assert int((first == 0).sum()) == 500
    assert int((first == 1).sum()) == 2
    kept = (first == 0).nonzero()
    assert int(kept[:, 0].max()) == 13  # 40 spans begin at each token: 501 are counted in the 13th
    many = [[t, t, 0] for t in range(1, 21)]
    capped = scored_spans(feature | {"first_negatives": True, "entities": many})
    assert int((capped != IGNORE).sum()) == 512
    assert torch.equal(capped, scored_spans(feature | {"first_negatives": True, "entities": many}))


def test_exact_and_partial_scores_are_those_of_a_hand_count():
    true = [[Span(0, 21, "A"), Span(10, 21, "B"), Span(15, 21, "B")], [Span(0, 4, "A")], []]
    guess = [
        [Span(0, 21, "A"), Span(10, 14, "B"), Span(0, 3, "B")],
        [Span(3, 9, "A"), Span(0, 4, "B")],
        [Span(1, 2, "A")],
    ]
    found = nested_scores(true, guess)
    assert found.keys() == set(MEASURES["nested_ner"])
    # exact: 1 of 6 predicted, 1 of 4 annotated
    assert found["exact_micro_precision"] == pytest.approx(1 / 6)
    assert found["exact_micro_recall"] == pytest.approx(1 / 4)
    assert found["exact_micro_f1"] == pytest.approx(2 / 10)
    # A: 1 of 3 predicted and 1 of 2 annotated; B: none
    assert found["exact_macro_f1"] == pytest.approx((2 / 5 + 0) / 2)
    # partial: A 0-21, B 10-14, A 3-9 of 6 predicted; A 0-21, B 10-21, A 0-4 of 4 annotated
    assert found["partial_micro_precision"] == pytest.approx(3 / 6)
    assert found["partial_micro_recall"] == pytest.approx(3 / 4)
    assert found["partial_micro_f1"] == pytest.approx(0.6)
    # A: 2 of 3 and 2 of 2; B: 1 of 3 and 1 of 2
    assert found["partial_macro_f1"] == pytest.approx((2 * (2 / 3) / (5 / 3) + 2 * (1 / 3) * (1 / 2) / (5 / 6)) / 2)
    assert nested_scores([[]], [[]])["exact_micro_f1"] == 0
    assert nested_scores(true, true)["partial_micro_f1"] == nested_scores(true, true)["exact_macro_f1"] == 1
    twice = nested_scores([[Span(0, 4, "A")]], [[Span(0, 4, "A"), Span(0, 4, "A")]])
    assert twice["exact_micro_precision"] == 1


@pytest.fixture
def nested(made):
    """The data of `made`, where "acute pain" is a SIGN and its "pain" a PAIN: one entity lies in the other."""
    splits = {}
    for split, records in made.ner().items():
        splits[split] = []
        for record in records[: 64 if split == "train" else 16]:
            text, entities = " ".join(record["tokens"]), []
            at = text.find("acute pain")
            while at >= 0:
                entities += [
                    {"type": "SIGN", "start": at, "end": at + 10},
                    {"type": "PAIN", "frags": [[at + 6, at + 10]]},
                ]
                at = text.find("acute pain", at + 1)
            splits[split].append({"id": record["id"], "text": text, "entities": entities})
    return splits


RATES = {"learning_rate": 1e-3, "head_learning_rate": 5e-3, "max_grad_norm": 10.0}
TRAINING = {**RATES, "batch_size": 16, "steps": 24, "eval_steps": 12}


def test_entities_of_tags_are_read_strictly():
    text = "a b, c d e"  # the comma is a word
    tags = ["B-X", "I-X", "I-Y", "I-Y", "B-Y", "I-Y"]
    assert spans_of_tags(text, tags) == [Span(0, 3, "X"), Span(7, 10, "Y")]
    assert spans_of_tags(text, ["I-X", "O", "I-X", "B-X", "O", "I-X"]) == [Span(5, 6, "X")]


@pytest.mark.trains
def test_entities_in_entities_are_learnt(nested, constructed, make_task, data_root, test_seed):
    """The states name the words: what is in a word decides all, so that a few steps are enough on any CPU."""
    options = {"metric": "exact_micro_f1", "max_length": 32}
    task = make_task("nested", "nested_ner", nested, training=TRAINING | {"head": "span"}, **options)
    outcome = finetune(constructed, task, load_dataset(task, data_root), seed=test_seed)
    assert len(outcome.curve) == 2
    assert outcome.test["exact_micro_f1"] > 0.9
    assert outcome.degenerate is None
    json.dumps(outcome.predictions)


def test_heads_over_words_are_scored_against_all_entities(nested, make_task, data_root):
    """Every PAIN lies in a SIGN, which is the longer one: of perfect tags, half of the entities come back."""
    task = make_task("flat", "nested_ner", nested, metric="exact_micro_f1")
    data = load_dataset(task, data_root)
    assert data.labels == ["PAIN", "SIGN"]
    inner, words = as_words(task, data)
    assert (inner.kind, words.labels) == ("ner", ["O", "B-PAIN", "I-PAIN", "B-SIGN", "I-SIGN"])
    found = spans_of_words(data.splits["test"], [example.target for example in words.splits["test"]])
    scores = score(task, data, "test", found)
    assert (scores["exact_micro_precision"], scores["exact_micro_recall"]) == (1, 0.5)
    assert scores["partial_micro_recall"] == 0.5  # a PAIN is met by a PAIN only


@pytest.mark.parametrize("head", ["linear", "bilstm_crf", "bilstm_crf_biaffine"])
def test_every_head_over_words_runs_on_nested_entities(head, nested, encoder, make_task, data_root):
    training = {"steps": 1, "batch_size": 4, "head": head}
    small = {split: records[:8] for split, records in nested.items()}
    task = make_task(head, "nested_ner", small, training=training, metric="exact_micro_f1")
    outcome = finetune(encoder, task, load_dataset(task, data_root), seed=1)
    assert len(outcome.predictions) == 8
    assert set(outcome.test) == set(MEASURES["nested_ner"])


@pytest.mark.trains
def test_micro_batches_are_one_batch_for_the_span_head(nested, encoder, make_task, data_root, monkeypatch):
    from detour.evaluation.finetune import finetune as module

    monkeypatch.setattr(module, "optimizer_of", lambda model, task: torch.optim.SGD(model.parameters(), lr=0.1))
    monkeypatch.setattr("detour.evaluation.finetune.span_head.DROPOUT", 0.0)
    monkeypatch.setattr(Contextualizer.__init__, "__defaults__", (400, 3, 0.0))
    models, load = [], module.load_model
    monkeypatch.setattr(module, "load_model", lambda *arguments: models.append(load(*arguments)) or models[-1])
    for micro in (0, 4):
        training = {"steps": 2, "batch_size": 16, "micro_batch_size": micro, "head": "span"}
        task = make_task("micro", "nested_ner", nested, training=training, metric="exact_micro_f1")
        finetune(encoder, task, load_dataset(task, data_root), seed=3)
    whole, parts = (dict(model.named_parameters()) for model in models)
    assert max((whole[name] - parts[name]).abs().max().item() for name in whole) < 1e-4


def test_the_tokenizer_of_a_model_with_sub_words_finds_boundaries(corpus):
    tokenizer = load_tokenizer(corpus.tokenizer)
    text = "Fièvre (38,5°) : céphalées"
    spans = (Span(0, 6, "A"), Span(8, 12, "B"), Span(17, 26, "A"), Span(12, 13, "B"))
    example = Example(id="1", parts=(text,), target=spans)
    encoded = encode_spans(tokenizer, [example], ["A", "B"], max_length=64)
    (feature,) = encoded.features
    characters = encoded.places[0][1]
    for span, (first, last, _) in zip(spans, feature["entities"], strict=True):
        assert characters[first, 0] <= span.start < characters[first, 1]
        assert characters[last, 0] < span.end <= characters[last, 1]
