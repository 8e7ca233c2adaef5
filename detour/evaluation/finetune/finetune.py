"""Fine-tuning of one encoder on one task with one seed: transformers' own classes and Trainer.

The best epoch by validation is kept in memory; the test split is predicted once, with it.
Shapes: N examples, C labels, B batch, T positions.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
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
    Trainer,
    TrainingArguments,
)

from detour.batch import IGNORE
from detour.data.tokenizer import load_tokenizer
from detour.errors import ModelError
from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example, longest_entity
from detour.evaluation.data.features import Encoded, encode_texts, encode_words
from detour.evaluation.data.task import Task
from detour.evaluation.finetune.callbacks import KeepBest, Progress, Report
from detour.evaluation.finetune.heads import BiLstmCrf
from detour.evaluation.finetune.scoring import predictions_of, score
from detour.evaluation.models import load_pretrained, takes_types


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a fine-tuning.

    Attributes:
        test: Every score of the task's kind on the test split, with the best epoch's weights.
        validation: The same on dev.
        epoch: The epoch kept, from 1.
        curve: The task's metric on dev after each epoch.
        max_length: Tokens of an input: the task's, or what the model can take if that is less.
        truncated: Examples of each split that were cut there.
        windows: NER: inputs that the examples of each split became.
        unreadable: NER: words of each split that no token stands for; they are predicted O.
        steps: Optimizer steps.
        seconds: Of training and prediction.
        precision: "fp32" or "bf16".
        predictions: Of the test split, in its order.
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


def finetune(
    folder: Path, task: Task, data: Dataset, *, seed: int, progress: Progress = lambda done, total: None
) -> Outcome:
    """Trains a head and the encoder under it, and scores both splits.

    On a CPU the same seed gives the same scores bit for bit; it draws the head, the order of examples and dropout.
    On a GPU training is in bf16 where the card has it, and kernels may differ in the last bits from run to run.

    Raises:
        ModelError: The folder is no encoder that transformers knows, or lacks weights.
        ConfigError: max_length is too small for any text.
    """
    began = time.monotonic()
    transformers.set_seed(seed)
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, task, data)
    max_length = min(task.max_length, longest_input(model, tokenizer))
    encoded = {split: encode(tokenizer, model, task, data, split, max_length) for split in data.splits}
    own_loss = isinstance(model, BiLstmCrf)  # it is over whole chains of tags
    best = KeepBest(f"eval_{task.metric}")
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    with tempfile.TemporaryDirectory() as scratch, _one_process():
        trainer = Trainer(
            model=model,
            args=_arguments(task, seed=seed, scratch=scratch, bf16=bf16),
            train_dataset=encoded["train"].features,  # type: ignore[arg-type]  # it takes any sequence
            eval_dataset=encoded["dev"].features,  # type: ignore[arg-type]
            data_collator=_collator(task, tokenizer),
            compute_metrics=lambda p: score(
                task, data, "dev", predictions_of(task, data, encoded["dev"], p.predictions)
            ),
            compute_loss_func=None if own_loss else loss_of(task, _positive_weights(task, encoded["train"].features)),
            preprocess_logits_for_metrics=_reduced,
            optimizers=(_optimizer(model, task), None),  # type: ignore[arg-type]
            callbacks=[best, Report(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.load_state_dict(best.weights)
        trainer.compute_metrics = None
        predictions = {
            split: predictions_of(task, data, encoded[split], trainer.predict(encoded[split].features).predictions)  # type: ignore[arg-type]
            for split in ("dev", "test")
        }
    scores = {split: score(task, data, split, predictions[split]) for split in predictions}
    return Outcome(
        test=scores["test"],
        validation=scores["dev"],
        epoch=best.epoch,
        curve=best.curve,
        max_length=max_length,
        truncated={split: encoded[split].truncated for split in encoded},
        windows={split: len(encoded[split].features) for split in encoded} if task.kind == "ner" else {},
        unreadable={split: encoded[split].unreadable for split in encoded} if task.kind == "ner" else {},
        steps=trainer.state.global_step,
        seconds=round(time.monotonic() - began, 2),
        precision="bf16" if bf16 else "fp32",
        predictions=predictions["test"],
    )


def load_model(folder: Path, task: Task, data: Dataset) -> PreTrainedModel | BiLstmCrf:
    """The encoder with a fresh head. Only safetensors are read, and no code of the folder is run.

    Raises:
        ModelError: It cannot be loaded, or weights of the encoder itself are not in the folder.
    """
    auto = AutoModelForTokenClassification if task.kind == "ner" else AutoModelForSequenceClassification
    names = dict(enumerate(data.labels or ["score"]))
    ids = {label: i for i, label in names.items()}
    model, missing = load_pretrained(auto, folder, num_labels=len(names), id2label=names, label2id=ids)
    base = f"{model.base_model_prefix}."
    if lost := [key for key in missing if key.startswith(base) and ".pooler." not in key]:
        raise ModelError(f"{folder}: {len(lost)} weights of the encoder are not there, such as {lost[0]}")
    if task.training.head == "linear":
        return model
    longest = longest_entity(data.splits["train"]) if task.training.head == "bilstm_crf_biaffine" else 0
    return BiLstmCrf(model.base_model, data.labels, longest=longest)  # type: ignore[arg-type]


def longest_input(model: PreTrainedModel | BiLstmCrf, tokenizer: PreTrainedTokenizerFast) -> int:
    """Tokens that the model has positions for, special ones included."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**9
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= int(module.padding_idx) + 1  # type: ignore[arg-type]  # RoBERTa and its kin count from there
            break
    return min(positions, tokenizer.model_max_length)


def encode(
    tokenizer: PreTrainedTokenizerFast, model: nn.Module, task: Task, data: Dataset, split: str, max_length: int
) -> Encoded:
    """The inputs of a split."""
    examples = data.splits[split]
    if task.kind == "ner":
        ids = {label: i for i, label in enumerate(data.labels)}
        return encode_words(tokenizer, examples, ids, max_length=max_length)
    targets = [_target(task, data, example) for example in examples]
    return encode_texts(tokenizer, examples, targets, max_length=max_length, types=takes_types(model))


def _target(task: Task, data: Dataset, example: Example) -> Any:
    """A class number, floats [C], or a score."""
    if task.kind == "classification":
        return data.labels.index(str(example.target))
    if task.kind == "multilabel":
        return [float(label in example.target) for label in data.labels]  # type: ignore[operator]
    return float(example.target)  # type: ignore[arg-type]


def loss_of(task: Task, weights_C: Tensor | None = None) -> Callable[..., Tensor]:
    """The Trainer's loss: a mean over what is labeled in the whole batch, so that micro-batches do not change it.

    Cross-entropy for one label and for tags, binary cross-entropy for several (positives times ``weights_C``), squared
    error for scores.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"].float()
        if task.kind == "similarity":
            each = F.mse_loss(logits.squeeze(-1), labels, reduction="none")
        elif task.kind == "multilabel":
            weights = None if weights_C is None else weights_C.to(logits.device)
            each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=weights)
        else:
            each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none")
        count = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORE).sum()
        return each.sum() / max(int(count), 1)

    return loss


def _positive_weights(task: Task, features: Sequence[dict[str, Any]]) -> Tensor | None:
    """float [C]: examples without over examples with a label; 1 for a label that train does not hold."""
    if not task.training.class_weights:
        return None
    with_C = torch.tensor([feature["labels"] for feature in features]).sum(0)
    return torch.where(with_C > 0, (len(features) - with_C) / with_C.clamp(min=1), 1.0)


def _optimizer(model: nn.Module, task: Task) -> torch.optim.Optimizer:
    """AdamW; no decay of biases and norms, as the Trainer itself does; the head's own rate where one is asked for."""
    rate, base = task.training.learning_rate, f"{model.base_model_prefix}."  # type: ignore[operator]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_head = not name.startswith(base)
        own = task.training.head_learning_rate if in_head and task.training.head_learning_rate else rate
        decay = task.training.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((own, decay), []).append(parameter)
    return torch.optim.AdamW([{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()])


@contextmanager
def _one_process() -> Iterator[None]:
    """Hides ``LOCAL_RANK``, by which accelerate takes a process for one of several.

    Composer leaves it in the environment of a process that has trained, and of those that it starts, without an address.
    """
    local_rank = os.environ.pop("LOCAL_RANK", None) if os.environ.get("WORLD_SIZE") == "1" else None
    try:
        yield
    finally:
        if local_rank is not None:
            os.environ["LOCAL_RANK"] = local_rank


def _arguments(task: Task, *, seed: int, scratch: str, bf16: bool) -> TrainingArguments:
    training = task.training
    micro = training.micro_batch_size or training.batch_size
    return TrainingArguments(
        output_dir=scratch,
        seed=seed,
        data_seed=seed,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=training.batch_size // micro,
        num_train_epochs=training.epochs,
        max_steps=training.steps or -1,
        warmup_ratio=training.warmup_fraction,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        eval_strategy="epoch",
        save_strategy="no",  # the best weights stay in memory
        logging_strategy="no",
        bf16=bf16,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )


def _collator(task: Task, tokenizer: PreTrainedTokenizerFast) -> Any:
    return DataCollatorForTokenClassification(tokenizer) if task.kind == "ner" else DataCollatorWithPadding(tokenizer)


def _reduced(logits: Any, labels: Tensor) -> Tensor:
    """Tags in place of their logits, [B, T, C] -> [B, T]: a long test split would fill the memory."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    return logits.argmax(-1) if logits.ndim == 3 else logits
