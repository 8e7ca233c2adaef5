"""A cell of `detour eval` against a bare loop with transformers' Trainer: the same model, examples, steps and evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from benchmarks.parts import Line
from detour.data.tokenizer import ROLES
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example
from detour.evaluation.data.task import ReaderConfig, Task, TrainingConfig
from detour.evaluation.finetune.finetune import finetune
from detour.evaluation.metrics import classification_scores

ROUNDS = 5
LABELS = ["no", "yes"]
EPOCHS, BATCH, RATE = 2, 8, 5e-5


def cell_against_trainer(examples: int = 48, rounds: int = ROUNDS, width: int = 128) -> Iterator[Line]:
    """CPU seconds of one cell, from the folder of the model to the scores on dev and test, alternating with the bare loop.

    Args:
        examples: Training examples; dev and test have half as many. Lengths are log-normal, median 60 words.
        rounds: Measurements of each; one of each comes before them.
        width: Hidden size of a ModernBERT of four layers with random weights.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder, width)
        data = drawn_data(examples)
        task = Task(
            name="cell", language="en", kind="classification", source=ReaderConfig(kind="local"), metric="macro_f1",
            license="made here", max_length=256,
            training=TrainingConfig(learning_rate=RATE, batch_size=BATCH, epochs=EPOCHS),
        )  # fmt: skip
        ours, theirs = [], []
        for _ in range(rounds + 1):
            begun = time.process_time()
            finetune(folder, task, data, seed=1)
            between = time.process_time()
            bare_loop(folder, data)
            ours.append(between - begun)
            theirs.append(time.process_time() - between)
    what = f"a cell of `detour eval`, {examples} examples, {EPOCHS} epochs"
    yield Line(what, "s of CPU", ours[1:], "bare Trainer loop", theirs[1:], goal="<= 1.1")


def bare_loop(folder: Path, data: Dataset) -> dict[str, float]:
    """What a user of transformers would write: the Trainer, an evaluation after each epoch, and one on test."""
    transformers.set_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(LABELS), reference_compile=False)

    def encoded(split: str) -> list[dict[str, Any]]:
        texts = [example.parts[0] for example in data.splits[split]]
        inputs = tokenizer(texts, truncation=True, max_length=256)
        labels = [LABELS.index(str(example.target)) for example in data.splits[split]]
        return [{**{key: inputs[key][i] for key in inputs}, "labels": label} for i, label in enumerate(labels)]

    def scores(predicted: Any) -> dict[str, float]:
        targets, predictions = (
            [LABELS[i] for i in each] for each in (predicted.label_ids, predicted.predictions.argmax(-1))
        )
        return classification_scores(targets, predictions, labels=LABELS)

    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch, seed=1, per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, num_train_epochs=EPOCHS,
            learning_rate=RATE, weight_decay=0.01, eval_strategy="epoch", save_strategy="no", logging_strategy="no",
            bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(), report_to=[], disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=encoded("train"),  # type: ignore[arg-type]
            eval_dataset=encoded("dev"),  # type: ignore[arg-type]
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=scores,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        return trainer.predict(encoded("test")).metrics or {}  # type: ignore[arg-type]


def write_encoder(folder: Path, width: int) -> None:
    """A ModernBERT with random weights, and a tokenizer with one token per word."""
    special = [ROLES[role] for role in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(2000))])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in special[1:3]]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **ROLES, model_max_length=256)
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id, bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
        reference_compile=False,
    )  # fmt: skip
    ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def drawn_data(examples: int) -> Dataset:
    """Random words with random labels; the time of a step does not depend on what can be learned."""
    rng = np.random.default_rng(0)

    def split(name: str, count: int) -> list[Example]:
        lengths = np.clip(rng.lognormal(np.log(60), 0.7, count), 4, 250).astype(int)
        texts = [" ".join(f"w{word}" for word in rng.integers(0, 2000, length)) for length in lengths]
        return [Example(id=f"{name}-{i}", parts=(text,), target=LABELS[i % 2]) for i, text in enumerate(texts)]

    counts = {"train": examples, "dev": examples // 2, "test": examples // 2}
    return Dataset(splits={name: split(name, count) for name, count in counts.items()}, labels=LABELS, sha256="")
