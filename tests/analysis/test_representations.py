"""States of every layer against plain transformers, one text at a time without padding."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, ModernBertModel

from detour.analysis.representations import TextSet, depths_of, layer_states, read_texts, task_texts
from detour.errors import ConfigError, DataError
from detour.evaluation.data.task import load_task
from detour.evaluation.probes.frozen import Frozen

TEXTS = ["The patient was given insulin.", "Pain.", "A long history of fever and of pain in the chest. " * 4, "No."]


@torch.no_grad()
def reference(folder, text, max_length):
    model = ModernBertModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=max_length, return_tensors="pt")
    answer = model(input_ids=inputs["input_ids"], output_hidden_states=True)
    return [states[0].double().mean(0).numpy() for states in (*answer.hidden_states, answer.last_hidden_state)]


def test_states_are_the_hidden_states_of_transformers(folders):
    states, cut = layer_states(Frozen(folders["a"]), TEXTS, max_length=30, batch=3)
    assert depths_of(states) == ["embeddings", "0", "1", "2", "3", "final"]
    assert cut == 1
    for i, text in enumerate(TEXTS):
        for ours, theirs in zip(states, reference(folders["a"], text, 30), strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours[i], theirs, atol=1e-5)


def test_the_last_layer_comes_before_the_final_norm(folders):
    encoder = Frozen(folders["a"])
    inputs = encoder.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        answer = encoder.model(**inputs, output_hidden_states=True)
        normed = encoder.model.final_norm(answer.hidden_states[-1])
    torch.testing.assert_close(normed, answer.last_hidden_state)
    states, _ = layer_states(encoder, TEXTS[:1])
    np.testing.assert_allclose(states[-2][0], answer.hidden_states[-1][0].mean(0), atol=1e-5)
    np.testing.assert_allclose(states[-1][0], normed[0].mean(0), atol=1e-5)


def test_without_a_final_norm_the_two_are_equal(corpus, tmp_path):
    config = BertConfig(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    BertModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(corpus.tokenizer).save_pretrained(tmp_path)
    states, _ = layer_states(Frozen(tmp_path), TEXTS, max_length=64)
    assert depths_of(states) == ["embeddings", "0", "1", "final"]
    np.testing.assert_array_equal(states[-2], states[-1])


def test_the_order_of_the_texts_does_not_matter(folders):
    encoder = Frozen(folders["a"])
    one, _ = layer_states(encoder, TEXTS, batch=2)
    other, _ = layer_states(encoder, TEXTS[::-1], batch=2)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b[::-1])


def test_a_length_beyond_the_model_is_refused(folders):
    with pytest.raises(ConfigError, match="max_length 513 and batch 16: expected 1 to 512"):
        layer_states(Frozen(folders["a"]), TEXTS, max_length=513)


def test_a_text_set_depends_on_its_content_only(caplog):
    one = TextSet.of([*TEXTS, "Pain.", "Five", "Six"])
    other = TextSet.of(["Six", "Five", *TEXTS[::-1]])
    assert one.texts == other.texts
    assert one.sha256 == other.sha256 != TextSet.of(TEXTS).sha256
    assert (one.duplicates, other.duplicates) == (1, 0)
    assert "1 of 7 are copies" in caplog.text
    assert one.draw(4, 42) == other.draw(4, 42) == sorted(set(one.draw(4, 42)))
    assert len({tuple(one.draw(4, seed)) for seed in range(10)}) > 1
    assert one.draw(6, 0) == list(range(6))


def test_too_few_texts_are_refused():
    with pytest.raises(DataError, match="3 different ones, expected at least 4"):
        TextSet.of(["a", "b", "c", "c"])
    with pytest.raises(ConfigError, match="subset: 5 texts, expected 4 to 4"):
        TextSet.of(TEXTS).draw(5, 0)


def test_texts_come_from_compressed_files_too_and_a_damaged_record_is_an_error(tmp_path):
    import gzip

    import zstandard

    lines = "".join(json.dumps({"case": text}) + "\n" for text in TEXTS[:2]).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(lines))
    assert read_texts([tmp_path], column="case") == TEXTS[:2] * 2
    (tmp_path / "c.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:1"):
        read_texts([tmp_path / "c.jsonl"])


def test_texts_of_tasks_are_those_of_all_splits(tmp_path):
    records = {
        "ner": [{"id": "{}", "tokens": ["acute", "pain"], "ner_tags": ["B-X", "I-X"]}],
        "similarity": [{"id": "{}", "text_a": "one", "text_b": "two", "score": 1}],
    }
    expected = {"ner": ["acute pain"] * 3, "similarity": ["one", "two"] * 3}
    for kind, lines in records.items():
        for split in ("train", "dev", "test"):
            (tmp_path / kind).mkdir(exist_ok=True)
            text = "".join(json.dumps({**line, "id": split}) + "\n" for line in lines)
            (tmp_path / kind / f"{split}.jsonl").write_text(text)
        metric = {"ner": "span_micro_f1", "similarity": "pearson"}[kind]
        path = tmp_path / f"{kind}.yaml"
        path.write_text(
            f"{{name: {kind}, language: en, kind: {kind}, metric: {metric}, license: x, max_length: 64, "
            f"source: {{kind: local, options: {{path: {kind}}}}}}}"
        )
        assert task_texts(load_task(path), tmp_path) == expected[kind]
