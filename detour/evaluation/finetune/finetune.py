"""Fine-tunes one encoder on one task with one seed, with transformers' classes and Trainer.

The weights of the epoch with the best dev score are kept in memory; the test split is predicted once, with them.
Shapes: N examples, C labels, B batch, T positions.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
from detour.evaluation.finetune.scoring import degenerate, predictions_of, score
from detour.evaluation.models import load_pretrained, takes_types


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a fine-tuning.

    Attributes:
        test: All metrics of the task's kind on the test split, with the weights of the best epoch.
        validation: The same on dev.
        epoch: The best epoch, counted from 1.
        curve: The task's metric on dev after each epoch.
        max_length: Maximum input length in tokens: the task's, or the model's if that is smaller.
        truncated: Number of truncated examples per split.
        windows: For NER, the number of input windows per split.
        unreadable: For NER, the number of words per split that the tokenizer maps to no token; they are predicted O.
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
    tokenizer, model = load_tokenizer(folder), load_model(folder, task, data)
    max_length = min(task.max_length, longest_input(model, tokenizer))
    encoded = {split: encode(tokenizer, model, task, data, split, max_length) for split in data.splits}
    predict = partial(_predictions, task, data, encoded)
    best = KeepBest(f"eval_{task.metric}")
    with tempfile.TemporaryDirectory() as scratch, _one_process():
        trainer = Trainer(
            model=model,
            args=_arguments(task, seed=seed, scratch=scratch),
            train_dataset=encoded["train"].features,  # type: ignore[arg-type]  # it takes any sequence
            eval_dataset=encoded["dev"].sorted_features,  # type: ignore[arg-type]
            data_collator=_collator(task, tokenizer),
            compute_metrics=lambda p: score(task, data, "dev", predict("dev", p.predictions)),
            compute_loss_func=_loss(model, task, encoded["train"].features),
            preprocess_logits_for_metrics=_reduced,
            optimizers=(_optimizer(model, task), None),  # type: ignore[arg-type]
            callbacks=[best, Report(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.load_state_dict(best.weights)
        trainer.compute_metrics = None
        dev, test = (predict(s, trainer.predict(encoded[s].sorted_features).predictions) for s in ("dev", "test"))  # type: ignore[arg-type]
    ner = encoded if task.kind == "ner" else {}
    return Outcome(
        test=score(task, data, "test", test),
        validation=score(task, data, "dev", dev),
        epoch=best.epoch,
        curve=best.curve,
        max_length=max_length,
        truncated={split: each.truncated for split, each in encoded.items()},
        windows={split: len(each.features) for split, each in ner.items()},
        unreadable={split: each.unreadable for split, each in ner.items()},
        steps=trainer.state.global_step,
        seconds=round(time.monotonic() - began, 2),
        precision="bf16" if trainer.args.bf16 else "fp32",
        predictions=test,
        degenerate=degenerate(task, data, "test", test),
    )


def _predictions(task: Task, data: Dataset, encoded: dict[str, Encoded], split: str, outputs: Any) -> list[Any]:
    return predictions_of(task, data, encoded[split], encoded[split].in_order(outputs))


def load_model(folder: Path, task: Task, data: Dataset) -> PreTrainedModel | BiLstmCrf:
    """Loads the encoder with a newly initialized head. Only safetensors are read, and no code of the folder is run.

    Raises:
        ModelError: The encoder cannot be loaded, or some of its weights are missing from the folder.
    """
    auto = AutoModelForTokenClassification if task.kind == "ner" else AutoModelForSequenceClassification
    names = dict(enumerate(data.labels or ["score"]))
    ids = {label: i for i, label in names.items()}
    model, missing = load_pretrained(auto, folder, num_labels=len(names), id2label=names, label2id=ids)
    base = f"{model.base_model_prefix}."
    if lost := [key for key in missing if key.startswith(base) and ".pooler." not in key]:
        raise ModelError(f"{folder}: {len(lost)} weights of the encoder are missing, the first is {lost[0]}")
    if task.training.head == "linear":
        return model
    longest = longest_entity(data.splits["train"]) if task.training.head == "bilstm_crf_biaffine" else 0
    return BiLstmCrf(model.base_model, data.labels, longest=longest)  # type: ignore[arg-type]


def longest_input(model: PreTrainedModel | BiLstmCrf, tokenizer: PreTrainedTokenizerFast) -> int:
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


def loss_of(task: Task, weights_C: Tensor | None = None) -> Callable[..., Tensor]:
    """Loss function for the Trainer: a mean over all labels of the batch, which does not depend on micro-batches.

    Classification and NER: cross-entropy. Multilabel: binary cross-entropy. Similarity: squared error.

    Args:
        task: The task.
        weights_C: float [C], weight of the positive examples of each label (multilabel only).
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


def _loss(model: nn.Module, task: Task, features: Sequence[dict[str, Any]]) -> Callable[..., Tensor] | None:
    """The loss for the Trainer; None if the model has its own, over sequences of tags."""
    return None if isinstance(model, BiLstmCrf) else loss_of(task, _positive_weights(task, features))


def _positive_weights(task: Task, features: Sequence[dict[str, Any]]) -> Tensor | None:
    """float [C]: negative over positive examples per label; 1 for labels absent from train. None if not configured."""
    if not task.training.class_weights:
        return None
    with_C = torch.tensor([feature["labels"] for feature in features]).sum(0)
    return torch.where(with_C > 0, (len(features) - with_C) / with_C.clamp(min=1), 1.0)


def _optimizer(model: nn.Module, task: Task) -> torch.optim.Optimizer:
    """AdamW without weight decay on biases and norms, like the Trainer's; the head may have its own learning rate."""
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
    """Context manager that hides ``LOCAL_RANK``, from which accelerate infers distributed training.

    Composer leaves it in the environment of a process that has trained, without the address that accelerate needs.
    """
    local_rank = os.environ.pop("LOCAL_RANK", None) if os.environ.get("WORLD_SIZE") == "1" else None
    try:
        yield
    finally:
        if local_rank is not None:
            os.environ["LOCAL_RANK"] = local_rank


def _arguments(task: Task, *, seed: int, scratch: str) -> TrainingArguments:
    training = task.training
    micro = training.micro_batch_size or training.batch_size
    # transformers 5 takes the fraction as a number of steps below 1
    key = "warmup_ratio" if "warmup_ratio" in TrainingArguments.__dataclass_fields__ else "warmup_steps"
    warmup: dict[str, Any] = {key: training.warmup_fraction}
    return TrainingArguments(
        output_dir=scratch,
        seed=seed,
        data_seed=seed,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=training.batch_size // micro,
        num_train_epochs=training.epochs,
        max_steps=training.steps or -1,
        **warmup,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        eval_strategy="epoch",
        save_strategy="no",  # the best weights stay in memory
        logging_strategy="no",
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )


def _collator(task: Task, tokenizer: PreTrainedTokenizerFast) -> Any:
    return DataCollatorForTokenClassification(tokenizer) if task.kind == "ner" else DataCollatorWithPadding(tokenizer)


def _reduced(logits: Any, labels: Tensor) -> Tensor:
    """Replaces logits of tags by the tags, [B, T, C] -> [B, T], to save memory on long test splits."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    return logits.argmax(-1) if logits.ndim == 3 else logits
