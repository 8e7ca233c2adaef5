"""Settings of transformers' Trainer, and the optimizer, from those of a task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from detour.evaluation.data.task import Task


def optimizer_of(model: nn.Module, task: Task) -> torch.optim.Optimizer:
    """torch's fused AdamW without weight decay on biases and norms, as the Trainer's; the head may have its own learning rate."""
    rate, base = task.training.learning_rate, f"{model.base_model_prefix}."  # type: ignore[operator]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_head = not name.startswith(base)
        own = task.training.head_learning_rate if in_head and task.training.head_learning_rate else rate
        decay = task.training.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((own, decay), []).append(parameter)
    parts = [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
    return torch.optim.AdamW(parts, fused=True)


@contextmanager
def one_process() -> Iterator[None]:
    """Context manager that hides ``LOCAL_RANK``, from which accelerate infers distributed training.

    Composer leaves it in the environment of a process that has trained, without the address that accelerate needs.
    """
    local_rank = os.environ.pop("LOCAL_RANK", None) if os.environ.get("WORLD_SIZE") == "1" else None
    try:
        yield
    finally:
        if local_rank is not None:
            os.environ["LOCAL_RANK"] = local_rank


class CellTrainer(Trainer):
    """transformers' Trainer, which predicts in the order of the data: its own would group dev and test by length, too."""

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)


def trainer_arguments(task: Task, *, seed: int, scratch: str) -> TrainingArguments:
    """Arguments of the Trainer of a cell.

    Args:
        task: The task.
        seed: Seed of the order of the examples, and of dropout.
        scratch: Folder in which the Trainer may write; nothing is saved.
    """
    training = task.training
    micro = training.micro_batch_size or training.batch_size
    return TrainingArguments(
        **_of_this_version(training.warmup_fraction, training.group_by_length),
        output_dir=scratch,
        seed=seed,
        data_seed=seed,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=training.batch_size // micro,
        num_train_epochs=training.epochs,
        max_steps=training.steps or -1,
        lr_scheduler_type="linear",
        max_grad_norm=training.max_grad_norm,
        eval_strategy="steps" if training.eval_steps else "epoch",
        eval_steps=training.eval_steps or None,
        save_strategy="no",  # the best weights stay in memory
        logging_strategy="no",
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )


def _of_this_version(warmup_fraction: float, group_by_length: bool) -> dict[str, Any]:
    """Arguments that transformers 5 has renamed."""
    known = TrainingArguments.__dataclass_fields__
    # transformers 5 takes the fraction as a number of steps below 1
    found: dict[str, Any] = {"warmup_ratio" if "warmup_ratio" in known else "warmup_steps": warmup_fraction}
    if "group_by_length" in known:
        found["group_by_length"] = group_by_length
    else:
        found["train_sampling_strategy"] = "group_by_length" if group_by_length else "random"
    return found
