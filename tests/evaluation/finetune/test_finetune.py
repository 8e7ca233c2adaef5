"""Fine-tuning: what can be learnt is learnt, what cannot is not, and a seed decides everything."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom
from sklearn.metrics import accuracy_score
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from detour.data.tokenizer import load_tokenizer
from detour.errors import ModelError
from detour.evaluation.data.dataset import load_dataset
from detour.evaluation.data.features import Encoded
from detour.evaluation.finetune import finetune as module
from detour.evaluation.finetune import losses
from detour.evaluation.finetune.callbacks import KeepBest
from detour.evaluation.finetune.finetune import finetune
from detour.evaluation.finetune.losses import loss_of
from detour.evaluation.finetune.settings import CellTrainer, trainer_arguments


def outcome_of(encoder, task, root, *, seed=1):
    return finetune(encoder, task, load_dataset(task, root), seed=seed)


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["classification", "multilabel", "similarity", "ner"])
def test_an_answer_that_stands_in_the_text_is_learnt(kind, constructed, made, make_task, data_root, test_seed):
    """From states that name the words it is a matter of a few steps, on any CPU."""
    training = {"learning_rate": 5e-3, "batch_size": 8, "epochs": 10}
    task = make_task("easy", kind, getattr(made, kind)(), training=training)
    outcome = outcome_of(constructed, task, data_root, seed=test_seed)
    assert outcome.test[task.metric] > 0.8  # 0.97 and more; chance is 0.5, of a correlation 0
    assert outcome.validation[task.metric] == max(outcome.curve)
    assert outcome.epoch == outcome.curve.index(max(outcome.curve)) + 1


@pytest.mark.trains
def test_drawn_labels_are_scored_at_chance(encoder, made, make_task, data_root, test_seed):
    task = make_task("drawn", "classification", made.classification(shuffled=True))
    accuracy = outcome_of(encoder, task, data_root, seed=test_seed).test["accuracy"]
    low, high = binom.interval(1 - 1e-6, 64, 0.5)  # 64 throws of a coin
    assert low <= 64 * accuracy <= high


@pytest.mark.trains
def test_the_same_seed_gives_the_same_scores_and_another_one_others(encoder, made, make_task, data_root):
    task = make_task("scores", "similarity", made.similarity(), training={"epochs": 1, "batch_size": 16})
    first, second, other = (asdict(outcome_of(encoder, task, data_root, seed=seed)) for seed in (1, 1, 2))
    for outcome in (first, second, other):
        del outcome["seconds"]
    assert first == second
    assert first["predictions"] != other["predictions"]


@pytest.mark.trains
def test_micro_batches_give_the_same_training(encoder, made, make_task, data_root, monkeypatch):
    """Tags are not equally many in each micro-batch, so their losses may not be averaged as if they were.

    With plain gradient descent: Adam makes a whole step of a gradient that is nothing but rounding.
    """
    splits = made.ner()
    for i, record in enumerate(splits["train"]):
        del record["tokens"][1 + i % 5 :], record["ner_tags"][1 + i % 5 :]
    monkeypatch.setattr(module, "optimizer_of", lambda model, task: torch.optim.SGD(model.parameters(), lr=1.0))
    models, load = [], module.load_model
    monkeypatch.setattr(module, "load_model", lambda *arguments: models.append(load(*arguments)) or models[-1])
    for micro in (0, 4):
        training = {"steps": 6, "batch_size": 16, "micro_batch_size": micro}
        task = make_task("micro", "ner", splits, training=training)
        finetune(encoder, task, load_dataset(task, data_root), seed=3)
    whole, parts = (dict(model.named_parameters()) for model in models)
    start = load_file(encoder / "model.safetensors")
    moved = [(whole[name] - start[name]).abs().max().item() for name in start.keys() & whole.keys()]
    apart = [(whole[name] - parts[name]).abs().max().item() for name in whole]
    assert max(moved) > 0.05
    assert max(apart) < 1e-4  # rounding is 1e-8, a mean over means 1e-2


def test_training_starts_from_the_weights_of_the_folder(encoder, made, make_task, data_root):
    task = make_task("start", "classification", made.classification())
    model = module.load_model(encoder, task, load_dataset(task, data_root))
    saved = load_file(encoder / "model.safetensors")
    loaded = model.state_dict()
    shared = [name for name in saved if name in loaded]
    assert any(name.startswith("model.layers.1") for name in shared)
    assert "head.dense.weight" in shared  # ModernBERT's head for masked words is kept under the classifier
    assert all(torch.equal(saved[name], loaded[name]) for name in shared)


def test_a_folder_that_lacks_weights_of_the_encoder_is_refused(encoder, made, make_task, data_root, tmp_path):
    shutil.copytree(encoder, tmp_path / "broken")
    weights = load_file(encoder / "model.safetensors")
    del weights["model.layers.1.mlp.Wi.weight"]
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    task = make_task("lost", "classification", made.classification())
    with pytest.raises(
        ModelError, match=r"1 weights of the encoder are missing, the first is model\.layers\.1\.mlp\.Wi"
    ):
        outcome_of(tmp_path / "broken", task, data_root)


def test_pickled_weights_are_not_read(encoder, made, make_task, data_root, tmp_path):
    shutil.copytree(encoder, tmp_path / "pickled")
    torch.save(load_file(encoder / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    task = make_task("pickled", "classification", made.classification())
    with pytest.raises(ModelError, match="safetensors"):
        outcome_of(tmp_path / "pickled", task, data_root)


def test_the_first_of_equally_good_epochs_is_kept():
    model, best = nn.Linear(1, 1), KeepBest("eval_accuracy")
    for epoch, value in enumerate([0.2, 0.7, 0.7, 0.5], start=1):
        nn.init.constant_(model.weight, float(epoch))
        best.on_evaluate(None, None, None, {"eval_accuracy": value}, model)
    assert best.epoch == 2
    assert best.weights["weight"].item() == 2.0
    assert best.curve == [0.2, 0.7, 0.7, 0.5]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "similarity"])
def test_the_loss_is_that_of_transformers(kind, encoder, made, make_task, data_root):
    task = make_task("loss", kind, getattr(made, kind)())
    torch.manual_seed(0)
    count = {"classification": 2, "multilabel": 2, "similarity": 1}[kind]
    problem = {"classification": "single_label_classification", "multilabel": "multi_label_classification"}
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=count, problem_type=problem.get(kind, "regression")
    ).eval()
    ids = torch.randint(10, 600, (4, 12))
    labels = {
        "classification": torch.tensor([0, 1, 1, 0]),
        "multilabel": torch.randint(0, 2, (4, 2)).float(),
        "similarity": torch.randn(4),
    }[kind]
    theirs = model(input_ids=ids, labels=labels)
    torch.testing.assert_close(loss_of(task)({"logits": theirs.logits}, labels), theirs.loss)


def test_weights_of_positives_balance_a_rare_label(make_task, made):
    splits = made.multilabel()
    for i, record in enumerate(splits["train"]):
        record["labels"] = ["pain"] if i % 4 == 0 else []
    splits["train"][0]["labels"] = ["pain", "fever"]
    task = make_task("rare", "multilabel", splits, labels=["pain", "fever", "cough"], training={"class_weights": True})
    features = [{"labels": [float(label in r["labels"]) for label in task.labels]} for r in splits["train"]]
    weights = losses._positive_weights(task, features)
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([3.0, 95.0, 1.0]))


def test_the_head_may_have_a_rate_of_its_own(encoder, made, make_task, data_root):
    training = {"learning_rate": 1e-4, "head_learning_rate": 1e-2, "weight_decay": 0.1}
    task = make_task("rates", "classification", made.classification(), training=training)
    model = module.load_model(encoder, task, load_dataset(task, data_root))
    named = {parameter: name for name, parameter in model.named_parameters()}
    groups = module.optimizer_of(model, task).param_groups
    assert all(group["fused"] for group in groups)
    seen = {named[parameter]: (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert seen.keys() == set(named.values())
    assert seen["classifier.weight"] == (1e-2, 0.1)
    assert seen["classifier.bias"] == (1e-2, 0.0)
    assert seen["model.layers.0.attn.Wqkv.weight"] == (1e-4, 0.1)
    assert seen["model.final_norm.weight"] == (1e-4, 0.0)


def test_long_texts_are_cut_at_what_the_model_takes_and_counted(encoder, made, make_task, data_root):
    splits = made.classification()
    splits["test"][5]["text"] += " and then" * 300
    splits["train"][7]["text"] += " and then" * 300
    task = make_task("long", "classification", splits, max_length=1000, training={"epochs": 1})
    outcome = outcome_of(encoder, task, data_root)
    assert outcome.max_length == 256  # max_position_embeddings of the model
    assert outcome.truncated == {"train": 1, "dev": 0, "test": 1}


@pytest.mark.trains
def test_no_word_of_a_long_document_is_left_out(constructed, made, make_task, data_root):
    """Documents of five windows, in which every word counts for the score."""
    splits = made.ner()
    for records in splits.values():
        joined = {"tokens": [], "ner_tags": []}
        for record in records:
            joined["tokens"] += record["tokens"]
            joined["ner_tags"] += record["ner_tags"]
        records[:] = [{"id": records[0]["id"], **joined}]
    task = make_task(
        "notes", "ner", splits, training={"learning_rate": 3e-3, "batch_size": 4, "epochs": 12}, max_length=64
    )
    outcome = outcome_of(constructed, task, data_root)
    assert outcome.windows["test"] >= 5
    assert outcome.unreadable["test"] == 0
    (tags,) = outcome.predictions
    target = splits["test"][0]["ner_tags"]
    assert len(tags) == len(target)
    assert accuracy_score(target, tags) > 0.98


@pytest.mark.parametrize("kind", ["classification", "similarity", "ner"])
def test_sorting_by_length_changes_no_prediction(kind, encoder, made, make_task, data_root, monkeypatch):
    """Batches of 8 texts of 1 to 4 times the length, in the order of the file or the longest first."""
    splits = getattr(made, kind)()
    for records in splits.values():
        for number, record in enumerate(records):
            for key in ("text", "text_b", "tokens", "ner_tags"):
                if key in record:
                    again = record[key] if kind == "ner" else f" {record[key]}"
                    record[key] += again * (number % 4)
    task = make_task("lengths", kind, splits, training={"epochs": 1, "batch_size": 8}, max_length=128)
    data = load_dataset(task, data_root)
    found = finetune(encoder, task, data, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(Encoded, "by_length", property(lambda self: list(range(len(self.features)))))
        plain = finetune(encoder, task, data, seed=1)
    if kind == "similarity":  # other padding, other sums
        assert found.predictions == pytest.approx(plain.predictions, abs=1e-5)
    else:
        assert found.predictions == plain.predictions
        assert (found.test, found.validation, found.curve) == (plain.test, plain.validation, plain.curve)


def test_features_are_sorted_the_longest_first_and_outputs_come_back_in_order():
    encoded = Encoded(features=[{"input_ids": [0] * length} for length in (3, 9, 1, 9, 4)])
    assert encoded.by_length == [1, 3, 4, 0, 2]
    assert [len(feature["input_ids"]) for feature in encoded.sorted_features] == [9, 9, 4, 3, 1]
    outputs = np.array([[1.0], [3.0], [4.0], [0.0], [2.0]])  # of a model that names the feature
    assert encoded.in_order(outputs)[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_other_encoders_are_trained_too(family, corpus, made, make_task, data_root, tmp_path):
    """With pairs of texts, which BERT tells apart by token types, and positions that RoBERTa counts from its padding."""
    tokenizer = load_tokenizer(corpus.tokenizer)
    sizes = {
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config, cls = {"bert": (BertConfig, BertForMaskedLM), "roberta": (RobertaConfig, RobertaForMaskedLM)}[family]
    torch.manual_seed(0)
    cls(config(**sizes, max_position_embeddings=42, pad_token_id=tokenizer.pad_token_id)).save_pretrained(
        tmp_path / family
    )
    tokenizer.save_pretrained(tmp_path / family)
    splits = made.similarity()
    splits["dev"][0]["text_a"] += " and then" * 50
    task = make_task("pairs", "similarity", splits, training={"learning_rate": 1e-3, "batch_size": 16, "epochs": 1})
    outcome = outcome_of(tmp_path / family, task, data_root)
    assert outcome.max_length == {"bert": 42, "roberta": 42 - tokenizer.pad_token_id - 1}[family]
    assert outcome.truncated["dev"] >= 1


def test_steps_in_place_of_epochs(encoder, made, make_task, data_root):
    task = make_task("steps", "classification", made.classification(), training={"steps": 15, "batch_size": 8})
    outcome = outcome_of(encoder, task, data_root)
    assert outcome.steps == 15
    assert len(outcome.curve) == 2  # 12 steps are an epoch


def test_progress_counts_every_step(encoder, made, make_task, data_root):
    task = make_task("told", "classification", made.classification(), training={"epochs": 1, "batch_size": 16})
    told = []
    data = load_dataset(task, data_root)
    finetune(encoder, task, data, seed=1, progress=lambda done, total: told.append((done, total)))
    batches = 32 // 16 + 32 // 16 + 64 // 16  # of dev after the epoch, then of dev and test with the best weights
    assert told == [*((i, 6) for i in range(1, 7)), *[(6, 6)] * batches]


def test_the_threshold_of_several_labels_is_a_probability(made, make_task, data_root):
    task = make_task("threshold", "multilabel", made.multilabel(), training={"threshold": 0.7})
    data = load_dataset(task, data_root)
    logits = torch.logit(torch.tensor([[0.69, 0.71]])).numpy()
    (labels,) = module.predictions_of(task, data, None, logits)
    assert labels == [data.labels[1]]


def test_an_example_without_a_label_may_get_its_best_one(make_task, made, data_root):
    splits = made.multilabel()
    logits = np.array([[-2.0, -1.0], [1.0, -3.0], [2.0, 3.0], [-1.0, -5.0]])
    wanted = {False: [[], ["fever"], ["fever", "pain"], []], True: [["pain"], ["fever"], ["fever", "pain"], ["fever"]]}
    for best_label, expected in wanted.items():
        task = make_task("best", "multilabel", splits, training={"best_label": best_label})
        data = load_dataset(task, data_root)
        assert data.labels == ["fever", "pain"]
        assert module.predictions_of(task, data, Encoded(features=[]), logits) == expected


def test_the_epoch_is_selected_by_the_metric_that_selects(encoder, made, make_task, data_root):
    training = {"epochs": 2, "batch_size": 16}
    task = make_task(
        "selects",
        "classification",
        made.classification(),
        training=training,
        metric="macro_f1",
        selection_metric="accuracy",
    )
    outcome = outcome_of(encoder, task, data_root)
    assert max(outcome.curve) == outcome.validation["accuracy"]
    assert "macro_f1" in outcome.test


def test_grouped_batches_train_on_similar_lengths_and_predict_in_order(encoder, made, make_task, tmp_path):
    """transformers' own Trainer groups what it predicts, too; predictions would belong to other examples."""
    task = make_task("grouped", "ner", made.ner(), training={"group_by_length": True, "batch_size": 4})
    rows = [
        {"input_ids": [1] * n, "attention_mask": [1] * n, "labels": [0] * n}
        for n in np.random.default_rng(0).integers(3, 60, 400)
    ]
    trainer = CellTrainer(
        model=nn.Linear(2, 2),
        args=trainer_arguments(task, seed=1, scratch=str(tmp_path)),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=lambda features: {"lengths": torch.tensor([len(f["input_ids"]) for f in features])},
    )
    lengths = [len(row["input_ids"]) for row in rows]
    predicted = [int(n) for batch in trainer.get_eval_dataloader() for n in batch["lengths"]]
    assert predicted == lengths
    batches = [batch["lengths"] for batch in trainer.get_train_dataloader()]
    assert sorted(int(n) for batch in batches for n in batch) == sorted(lengths)
    widths = [int(batch.max() - batch.min()) for batch in batches]
    assert np.mean(widths) < 15  # of four drawn from 3 to 59 at random it is 34
