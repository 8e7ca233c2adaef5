"""Fine-tunes one encoder on one task with one seed, with transformers' classes and Trainer.

The weights of the epoch with the best dev score are kept in memory; the test split is predicted once, with them.
Shapes: N examples, C labels, B batch, T positions.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import transformers
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
)

from detour.data.tokenizer import load_tokenizer
from detour.errors import ModelError
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example, longest_entity
from detour.evaluation.data.features import Encoded, encode_texts, encode_words
from detour.evaluation.data.nested import as_words, spans_of_words
from detour.evaluation.data.span_features import SpanCollator, encode_spans
from detour.evaluation.data.task import Task
from detour.evaluation.finetune.callbacks import KeepBest, Progress, Report
from detour.evaluation.finetune.heads import BiLstmCrf
from detour.evaluation.finetune.losses import loss_for
from detour.evaluation.finetune.scoring import degenerate, predictions_of, score
from detour.evaluation.finetune.settings import CellTrainer, one_process, optimizer_of, trainer_arguments
from detour.evaluation.finetune.span_head import SpanHead
from detour.evaluation.models import load_pretrained, takes_types

Model: TypeAlias = PreTrainedModel | BiLstmCrf | SpanHead


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a fine-tuning.

    Attributes:
        test: All metrics of the task's kind on the test split, with the weights of the best epoch.
        validation: The same on dev.
        epoch: The best epoch, counted from 1; with `eval_steps`, the best evaluation.
        curve: The metric that selects on dev, after each epoch or every `eval_steps` steps.
        max_length: Maximum input length in tokens: the task's, or the model's if that is smaller.
        truncated: Number of truncated examples per split.
        windows: For NER, the number of input windows per split.
        unreadable: For NER, the number of words per split that the tokenizer maps to no token; they are predicted O. With the
            span head, the number of annotated entities that it cannot find (`encode_spans`).
        steps: Number of optimizer steps.
        seconds: Wall-clock time of training and prediction.
        precision: "fp32" or "bf16".
        predictions: Predictions for the test split, in its order.
        degenerate: Why the test predictions say nothing (`degenerate`); None if they say something.
    """

    test: dict[str, float]
    validation: dict[str, float]
    epoch: int
    curve: list[float]
    max_length: int
    truncated: dict[str, int]
    windows: dict[str, int]
    unreadable: dict[str, int]
    steps: int
    seconds: float
    precision: str
    predictions: list[Any]
    degenerate: str | None = None


def finetune(
    folder: Path, task: Task, data: Dataset, *, seed: int, progress: Progress = lambda done, total: None
) -> Outcome:
    """Fine-tunes an encoder with a new head and scores it on dev and test.

    The seed determines the initialization of the head, the order of the examples, and dropout. On a CPU, equal seeds give
    bitwise equal scores. On a GPU, training is in bf16 if supported, and results may differ in the last bits.

    Args:
        folder: Hugging Face folder of the encoder.
        task: The task.
        data: Its examples.
        seed: Seed of the fine-tuning.
        progress: Called with the steps done and the total.

    Raises:
        ModelError: The folder holds no encoder known to transformers, or weights are missing.
        ConfigError: `max_length` leaves no room for text.
    """
    began = time.monotonic()
    transformers.set_seed(seed)
    tokenizer = load_tokenizer(folder)
    by_words = task.kind == "nested_ner" and task.training.head != "span"
    seen = as_words(task, data) if by_words else (task, data)  # as the head sees them
    model = load_model(folder, *seen)
    max_length = min(task.max_length, longest_input(model, tokenizer))
    encoded = {split: encode(tokenizer, model, *seen, split, max_length) for split in data.splits}
    predict = partial(_predictions, seen, data, encoded)
    best = KeepBest(f"eval_{task.selection_metric or task.metric}")
    with tempfile.TemporaryDirectory() as scratch, one_process():
        trainer = CellTrainer(
            model=model,
            args=trainer_arguments(task, seed=seed, scratch=scratch),
            train_dataset=encoded["train"].features,  # type: ignore[arg-type]  # it takes any sequence
            eval_dataset=encoded["dev"].sorted_features,  # type: ignore[arg-type]
            data_collator=_collator(seen[0], tokenizer),
            compute_metrics=lambda p: score(task, data, "dev", predict("dev", p.predictions)),
            compute_loss_func=loss_for(model, seen[0], encoded["train"].features),
            preprocess_logits_for_metrics=None if isinstance(model, SpanHead) else _tags,
            optimizers=(optimizer_of(model, task), None),  # type: ignore[arg-type]
            callbacks=[best, Report(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.load_state_dict(best.weights)
        trainer.compute_metrics = None
        dev, test = (predict(s, trainer.predict(encoded[s].sorted_features).predictions) for s in ("dev", "test"))  # type: ignore[arg-type]
    return Outcome(
        test=score(task, data, "test", test),
        validation=score(task, data, "dev", dev),
        epoch=best.epoch,
        curve=best.curve,
        max_length=max_length,
        **_counts(task, encoded),
        steps=trainer.state.global_step,
        seconds=round(time.monotonic() - began, 2),
        precision="bf16" if trainer.args.bf16 else "fp32",
        predictions=test,
        degenerate=degenerate(task, data, "test", test),
    )


def _predictions(
    seen: tuple[Task, Dataset], data: Dataset, encoded: dict[str, Encoded], split: str, outputs: Any
) -> list[Any]:
    """Predictions in the form of the data's targets; ``seen`` is the task as the head sees it, maybe of tagged words."""
    found = predictions_of(*seen, encoded[split], encoded[split].in_order(outputs))
    return found if seen[1] is data else spans_of_words(data.splits[split], found)


def _counts(task: Task, encoded: dict[str, Encoded]) -> dict[str, dict[str, int]]:
    """Per split: truncated examples, and for NER windows and what is unreadable in them."""
    ner = encoded if task.kind in ("ner", "nested_ner") else {}
    return {
        "truncated": {split: each.truncated for split, each in encoded.items()},
        "windows": {split: len(each.features) for split, each in ner.items()},
        "unreadable": {split: each.unreadable for split, each in ner.items()},
    }


def load_model(folder: Path, task: Task, data: Dataset) -> Model:
    """Loads the encoder with a newly initialized head. Only safetensors are read, and no code of the folder is run.

    Raises:
        ModelError: The encoder cannot be loaded, or some of its weights are missing from the folder.
    """
    tokens = task.kind in ("ner", "nested_ner")
    auto = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    names = dict(enumerate(data.labels or ["score"]))
    ids = {label: i for i, label in names.items()}
    model, missing = load_pretrained(auto, folder, num_labels=len(names), id2label=names, label2id=ids)
    base = f"{model.base_model_prefix}."
    if lost := [key for key in missing if key.startswith(base) and ".pooler." not in key]:
        raise ModelError(f"{folder}: {len(lost)} weights of the encoder are missing, the first is {lost[0]}")
    if task.training.head == "linear":
        return model
    if task.training.head == "span":
        return SpanHead(model.base_model, len(data.labels), threshold=task.training.threshold)  # type: ignore[arg-type]
    longest = longest_entity(data.splits["train"]) if task.training.head == "bilstm_crf_biaffine" else 0
    return BiLstmCrf(model.base_model, data.labels, longest=longest)  # type: ignore[arg-type]


def longest_input(model: Model, tokenizer: PreTrainedTokenizerFast) -> int:
    """Maximum input length of the model in tokens, including special tokens."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= int(module.padding_idx) + 1  # type: ignore[arg-type]  # RoBERTa counts positions from there
            break
    return min(positions, tokenizer.model_max_length)


def encode(
    tokenizer: PreTrainedTokenizerFast, model: nn.Module, task: Task, data: Dataset, split: str, max_length: int
) -> Encoded:
    """Converts the examples of a split to model inputs."""
    examples = data.splits[split]
    if task.kind == "nested_ner":
        first = task.training.negatives == "first" and split == "train"
        return encode_spans(tokenizer, examples, data.labels, max_length=max_length, first_negatives=first)
    if task.kind == "ner":
        ids = {label: i for i, label in enumerate(data.labels)}
        return encode_words(tokenizer, examples, ids, max_length=max_length)
    targets = [_target(task, data, example) for example in examples]
    return encode_texts(tokenizer, examples, targets, max_length=max_length, types=takes_types(model))


def _target(task: Task, data: Dataset, example: Example) -> Any:
    """Training target of an example: a class index, floats [C], or a score."""
    if task.kind == "classification":
        return data.labels.index(str(example.target))
    if task.kind == "multilabel":
        return [float(label in example.target) for label in data.labels]  # type: ignore[operator]
    return float(example.target)  # type: ignore[arg-type]


def _collator(task: Task, tokenizer: PreTrainedTokenizerFast) -> Any:
    if task.kind == "nested_ner":
        return SpanCollator(tokenizer)
    return DataCollatorForTokenClassification(tokenizer) if task.kind == "ner" else DataCollatorWithPadding(tokenizer)


def _tags(logits: Any, labels: Tensor) -> Tensor:
    """Replaces logits of tags by the tags, [B, T, C] -> [B, T], to save memory on long test splits."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    return logits.argmax(-1) if logits.ndim == 3 else logits
