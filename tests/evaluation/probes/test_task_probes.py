"""Probes: what states carry is found, what they do not carry is not; scores against direct computations."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, pearsonr
from transformers import AutoModel, AutoModelForMaskedLM
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, DataError, ModelError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.examples import Example
from detour.evaluation.data.features import encode_words
from detour.evaluation.probes import needle, task_probes
from detour.evaluation.probes.frozen import Frozen, mean_of
from detour.evaluation.probes.masked_lm import held_out_probe
from detour.evaluation.probes.needle import haystack, needle_probe
from detour.evaluation.probes.task_probes import linear_probe, retrieval_probe

TEXTS = ["the patient had a fever and some pain at home", "rest", "seen in the clinic today and again after some days"]


@pytest.fixture(scope="module")
def frozen(encoder):
    return Frozen(encoder)


@pytest.fixture(scope="module")
def speaking(encoder):
    return Frozen(encoder, masked_lm=True)


@pytest.fixture(scope="module")
def reading(constructed):
    """The state of a word names the word: what a probe must find in it is known, and by which margin."""
    return Frozen(constructed)


def test_states_are_pooled_as_transformers_gives_them(frozen, encoder):
    vectors, cut = frozen.embed(TEXTS, max_length=100)
    model = AutoModel.from_pretrained(encoder).eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            states = model(**frozen.tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state
        np.testing.assert_allclose(vector, states[0].mean(0).numpy(), atol=1e-5)
    assert cut == 0
    _, cut = frozen.embed(TEXTS, max_length=6)
    assert cut == 2


def test_padding_is_no_part_of_a_mean():
    states = torch.arange(12.0).reshape(1, 4, 3)
    torch.testing.assert_close(mean_of(states, torch.tensor([[1, 1, 0, 0]])), states[:, :2].mean(1))


def test_words_have_the_states_of_their_first_tokens(frozen, encoder):
    """Of a document in windows too, each word's state being that of the window in which it is read."""
    words = [text.split() for text in (*TEXTS, " ".join(TEXTS * 3))]
    examples = [Example(id=str(i), parts=tuple(w), target=("O",) * len(w)) for i, w in enumerate(words)]
    encoded = encode_words(frozen.tokenizer, examples, {"O": 0}, max_length=24)
    assert len(encoded.features) > len(examples)
    states = frozen.states_of_words(encoded)
    assert len(states) == sum(map(len, words))
    model = AutoModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        windows = [model(torch.tensor([f["input_ids"]])).last_hidden_state[0].numpy() for f in encoded.features]
    expected = [windows[window][position] for places in encoded.positions_W2 for window, position in places]
    np.testing.assert_allclose(states, np.stack(expected), atol=1e-5)
    encoded.positions_W2[0][1] = -1
    assert not frozen.states_of_words(encoded)[1].any()


@pytest.mark.trains
def test_a_linear_probe_of_words_finds_entities(reading, made, make_task, data_root, monkeypatch):
    splits = made.ner()
    task = make_task("signs", "ner", splits)
    data = load_dataset(task, data_root)
    found = linear_probe(reading, task, data)
    assert found.scores["span_micro_f1"] == 1.0
    assert found.settings["train_words"] == sum(len(record["tokens"]) for record in splits["train"])
    with monkeypatch.context() as patch:
        patch.setattr(task_probes, "WORDS", 300)
        assert 300 <= linear_probe(reading, task, data).settings["train_words"] < 320
    for record in splits["train"]:
        record["tokens"] = record["tokens"][::-1]  # tags stay, and are now of other words
    lost = linear_probe(reading, task, load_dataset(make_task("signs", "ner", splits), data_root))
    assert lost.scores["span_micro_f1"] < 0.5


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_linear_probe_finds_what_the_words_say(kind, reading, made, make_task, data_root):
    task = make_task("easy", kind, getattr(made, kind)())
    found = linear_probe(reading, task, load_dataset(task, data_root))
    assert found.scores[task.metric] > 0.85  # about 1; chance is 0.5
    assert found.examples == 64


@pytest.mark.trains
def test_a_linear_probe_of_drawn_labels_is_at_chance(reading, made, make_task, data_root):
    task = make_task("drawn", "classification", made.classification(shuffled=True))
    accuracy = linear_probe(reading, task, load_dataset(task, data_root)).scores["accuracy"]
    low, high = binom.interval(1 - 1e-6, 64, 0.5)  # 64 throws of a coin
    assert low <= 64 * accuracy <= high


@pytest.mark.trains
def test_a_label_without_examples_is_never_given(reading, made, make_task, data_root):
    task = make_task("rare", "multilabel", made.multilabel(), labels=["fever", "pain", "never"])
    scores = linear_probe(reading, task, load_dataset(task, data_root)).scores
    assert scores["micro_f1"] > 0.85
    assert scores["macro_f1"] == pytest.approx(2 / 3, abs=0.1)  # of the third label there is nothing to find


def test_similarity_is_the_cosine_of_the_pooled_states(frozen, made, make_task, data_root):
    task = make_task("pairs", "similarity", made.similarity())
    data = load_dataset(task, data_root)
    a, b = (frozen.embed([e.parts[side] for e in data.splits["test"]], max_length=64)[0] for side in (0, 1))
    cosines = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    scores = linear_probe(frozen, task, data).scores
    assert scores["pearson"] == pytest.approx(pearsonr(cosines, [e.target for e in data.splits["test"]])[0], abs=1e-5)


def test_retrieval_ranks_the_own_text_among_all(frozen, made, make_task, data_root):
    splits = made.similarity()
    for i, record in enumerate(splits["test"]):
        record |= {"text_a": f"{record['text_a']} {i}", "text_b": f"{record['text_a']} {i}"}
    splits["test"][1]["text_b"] = splits["test"][0]["text_b"]  # a copy of another one's
    task = make_task("found", "similarity", splits)
    found = retrieval_probe(frozen, task, load_dataset(task, data_root))
    assert found.settings == {"candidates": 63}
    assert found.scores["recall_at_1"] >= 63 / 64  # all but perhaps the one whose text was taken away
    assert found.scores["recall_at_1"] <= found.scores["mrr"] <= 1
    for record in splits["test"]:
        record["text_b"] = "the same"
    same = make_task("same", "similarity", splits)
    assert retrieval_probe(frozen, same, load_dataset(same, data_root)).scores["recall_at_1"] == 1  # one candidate


def test_retrieval_at_random_is_at_chance(frozen, made, make_task, data_root):
    splits = made.similarity()
    rng = np.random.default_rng(0)
    for i, record in enumerate(splits["test"]):
        record |= {
            "text_a": " ".join(rng.choice(TEXTS[0].split(), 8)),
            "text_b": f"{' '.join(rng.choice(TEXTS[2].split(), 8))} {i}",
        }
    task = make_task("noise", "similarity", splits)
    assert retrieval_probe(frozen, task, load_dataset(task, data_root)).scores["recall_at_1"] < 0.15  # 1 in 64


def test_probes_refuse_tasks_that_they_are_not_for(frozen, made, make_task, data_root):
    task = make_task("signs", "ner", made.ner())
    data = load_dataset(task, data_root)
    with pytest.raises(ConfigError, match="needs pairs of texts"):
        retrieval_probe(frozen, task, data)
    task = make_task("nested", "nested_ner", made.ner())
    with pytest.raises(ConfigError, match="no form for the kind nested_ner"):
        linear_probe(frozen, task, load_dataset(task, data_root))


def test_masked_accuracy_is_that_of_counting(speaking, encoder):
    """Every ordinary token masked, so that nothing is drawn."""
    texts = [TEXTS[0], TEXTS[2]]
    found = held_out_probe(speaking, texts, mask_fraction=1.0, single=1000)
    model = AutoModelForMaskedLM.from_pretrained(encoder).eval()
    tokenizer, hits, losses, alone = speaking.tokenizer, 0, [], []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        inner = torch.arange(1, ids.shape[1] - 1)
        with torch.no_grad():
            logits = model(input_ids=ids.index_fill(1, inner, tokenizer.mask_token_id)).logits[0, inner]
            for t in inner.tolist():
                one = ids.clone()
                one[0, t] = tokenizer.mask_token_id
                alone.append(-model(input_ids=one).logits[0, t].log_softmax(-1)[ids[0, t]].item())
        hits += int((logits.argmax(-1) == ids[0, inner]).sum())
        losses += torch.nn.functional.cross_entropy(logits, ids[0, inner], reduction="none").tolist()
    assert found.masked == found.tokens == found.single == len(losses)
    assert found.accuracy == hits / len(losses)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.pseudo_perplexity == pytest.approx(math.exp(np.mean(alone)), rel=1e-4)


def test_long_documents_become_windows_and_none_is_left_out(speaking):
    long = " ".join(TEXTS) + " "
    whole = held_out_probe(speaking, [long * 12], window=10_000, single=2)
    parts = held_out_probe(speaking, [long * 12], window=40, single=2)
    assert whole.windows < parts.windows
    assert parts.tokens > whole.tokens * 0.97  # but a rest of under 8 tokens
    first = held_out_probe(speaking, [long] * 50, window=40, single=2, max_tokens=100)
    assert first.tokens < 200
    with pytest.raises(DataError, match="no window"):
        held_out_probe(speaking, ["a"])


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("position", needle.POSITIONS)
def test_a_haystack_is_as_long_as_asked_and_holds_the_fact_at_its_position(frozen, language, position):
    rng = np.random.default_rng(1)
    value = needle.VALUES[language][3]
    text = haystack(frozen, language, 200, position, value, rng, distractors=2)
    assert 150 < len(frozen.tokenizer(needle.QUESTIONS[language], text)["input_ids"]) <= 200
    assert text.count(value) == 1
    assert sum(text.count(other) for other in needle.VALUES[language]) == 3
    where = text.index(value) / len(text)
    assert {"start": where < 0.25, "middle": 0.25 < where < 0.75, "end": where > 0.75}[position]
    assert str(needle.ROOM) in text


def test_needles_that_cannot_be_hidden_are_refused(frozen):
    with pytest.raises(ConfigError, match="no templates in 'de'"):
        needle_probe(frozen, "de", [64])
    with pytest.raises(ConfigError, match="512 tokens, the model takes 256"):
        needle_probe(frozen, "en", [512])
    with pytest.raises(ConfigError, match="hold no sentence"):
        needle_probe(frozen, "en", [24])


def test_a_folder_without_its_head_does_not_speak(encoder, tmp_path):
    AutoModel.from_pretrained(encoder).save_pretrained(tmp_path / "bare")
    Frozen(encoder).tokenizer.save_pretrained(tmp_path / "bare")
    Frozen(tmp_path / "bare")
    with pytest.raises(ModelError, match="weights are missing"):
        Frozen(tmp_path / "bare", masked_lm=True)


def test_the_command_line_writes_what_it_shows(encoder, made, write_task, data_root, tmp_path):
    path = write_task("easy", "classification", made.classification())
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    calls = [
        ["linear", str(encoder), "--task", str(path), "--data", str(data_root)],
        ["held-out", str(encoder), "--text", str(tmp_path / "held.jsonl"), "--single", "4"],
    ]
    wanted = [
        {"accuracy", "micro_f1", "macro_f1", "weighted_f1"},
        {"masked_accuracy", "masked_loss", "pseudo_perplexity"},
    ]
    for call, metrics in zip(calls, wanted, strict=True):
        out = tmp_path / f"{call[0]}.csv"
        assert CliRunner().invoke(app, ["probe", *call, "--out", str(out)], catch_exceptions=False).exit_code == 0
        with out.open() as file:
            rows = list(csv.DictReader(file))
        assert {row["metric"] for row in rows} == metrics
        assert {row["probe"] for row in rows} == {call[0]}
        assert all(json.loads(row["settings"]) for row in rows)
