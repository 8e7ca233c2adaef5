"""An export as a sentence-transformers model, and contrastive training; skipped where that library is not installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.task import load_task
from detour.evaluation.models import resolve
from detour.export.run import export_run
from detour.merging.folders import merge_models
from detour.merging.recipe import Recipe
from detour.train import train
from detour.training.run_folder import RunFolder

library = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed: pip install -e '.[embeddings]'"
)
TEXTS = [
    "Acute renal failure.",
    "The patient was seen in clinic today and then sent home after five days of rest.",
    "Rest",
]


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory):
    """A run of one phase, as both kinds of folder."""
    from detour.config.load import from_mapping

    root = tmp_path_factory.mktemp("run")
    run = from_mapping({
        "name": "run", "folder": str(root),
        "model": {"size": "tiny", "tokenizer": str(corpus.tokenizer),
                  "architecture": {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                                   "num_attention_heads": 2, "max_position_embeddings": 64}},
        "data": {"train": [{"path": str(corpus.train)}], "seq_len": 64, "global_batch_size": 4, "micro_batch_size": 4,
                 "workers": 0},
        "phases": [{"name": "only", "objective": "mlm", "tokens": 500}],
        "schedule": {"peak_lr": 1e-3},
        "checkpoint": {"interval_tokens": 1_000_000},
        "evaluation": {"interval_tokens": 1_000_000},
        "logging": {"progress_bar": False},
    })  # fmt: skip
    train(run)
    export_run(RunFolder.of(run).path, root / "plain")
    export_run(RunFolder.of(run).path, root / "sentence", sentence_transformers=True)
    return root


def mean_pooled(folder: Path) -> np.ndarray:
    """By transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            states = model.eval()(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state
        rows.append(states[0].mean(0).numpy())
    return np.stack(rows)


def test_the_folder_gives_normalized_means_of_the_last_states(exported):
    encoder = library.SentenceTransformer(str(exported / "sentence"), device="cpu")
    found, means = encoder.encode(TEXTS), mean_pooled(exported / "plain")
    np.testing.assert_allclose(found, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)
    assert encoder.max_seq_length == 64
    assert [type(module).__name__ for module in encoder] == ["Transformer", "Pooling", "Normalize"]
    np.testing.assert_allclose(mean_pooled(exported / "sentence"), means, atol=1e-6)
    assert "Sentence embeddings" in (exported / "sentence" / "README.md").read_text()


def test_a_merge_of_it_is_a_plain_folder_that_loads_too(exported, tmp_path):
    models = resolve([f"a={exported / 'sentence'}", f"b={exported / 'plain'}"])
    merge_models(models, tmp_path / "merged", Recipe(weights=(1.0, 0.0)))
    assert not (tmp_path / "merged" / "modules.json").exists()
    found = library.SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(TEXTS)  # its default: the mean
    np.testing.assert_allclose(found, mean_pooled(exported / "plain"), atol=1e-5)


@pytest.mark.trains
def test_contrastive_training_finds_the_pairs_that_it_was_shown(exported, tmp_path, test_seed):
    """Twelve pairs of words that have nothing in common, each among fillers: chance is 1/12 at rank 1, the bound halfway."""
    rng = np.random.default_rng(test_seed)
    words = ["fever", "pain", "renal", "acute", "clinic", "home", "rest", "days", "seen", "sent", "today", "five"]
    fillers = [f"{a}{b}" for a in "bcdf" for b in "aeo"]

    def pair(i: int) -> dict:
        texts = [
            " ".join([*rng.permutation(fillers)[:3], word]) for word in (words[i], words[(i + 5) % 12].upper() * 2)
        ]
        return {"text_a": texts[0], "text_b": texts[1], "score": 1.0}

    folder = tmp_path / "data" / "pairs"
    folder.mkdir(parents=True)
    for split, rounds in (("train", 20), ("dev", 1), ("test", 1)):
        lines = [{"id": f"{split}{n}", **pair(n % 12)} for n in range(12 * rounds)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = {"name": "pairs", "language": "en", "kind": "similarity", "metric": "spearman", "license": "none",
            "max_length": 48, "source": {"kind": "local", "options": {"path": "pairs"}}}  # fmt: skip
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(task))
    task = load_task(tmp_path / "pairs.yaml")
    path = Path(__file__).parents[2] / "examples" / "contrastive.py"
    spec = importlib.util.spec_from_file_location("contrastive", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    scores = example.finish(
        exported / "plain", task, load_dataset(task, tmp_path / "data"), tmp_path / "out", epochs=8, batch_size=12,
        learning_rate=2e-3, seed=test_seed,
    )  # fmt: skip
    assert scores["before"]["recall_at_1"] < 0.5
    assert scores["after"]["recall_at_1"] > 0.5
    encoder = library.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert np.linalg.norm(encoder.encode(TEXTS), axis=1) == pytest.approx(1, abs=1e-5)
