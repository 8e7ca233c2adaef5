"""The phases of a run under Hugging Face's Trainer: ``python examples/hf_trainer.py RUN.yaml [key=value ...]``."""

from __future__ import annotations

import sys
import tempfile

import torch
from run_parts import build_parts
from transformers import Trainer, TrainerCallback, TrainingArguments

from detour.batch import count_tokens, loss_denominator
from detour.config.load import load
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.phase_clock import PhaseClock
from detour.training.gradient_gate import GradientGate


class PhaseTrainer(Trainer):
    """A Trainer whose objective, learning rate and frozen parameters follow a phase clock."""

    def __init__(self, *, clock: PhaseClock, rows, **options) -> None:
        super().__init__(**options)
        self.clock, self.rows = clock, rows
        self.tokens, self.losses, self.settings = 0, [], None

    def get_train_dataloader(self):
        return self.rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.settings = self.clock.at(self.tokens, previous=self.settings)
        batch = self.clock.corrupt(inputs, self.settings, step=len(self.losses))
        self.settings.apply(self.optimizer, self.model)
        rest = {"reach_BT": batch.get("reach"), "weights_BT": batch.get("weights")}
        out = model(batch["input_ids"], batch["doc_lengths"], batch["labels"], batch["attention"], **rest)
        loss = out.total / loss_denominator(batch)
        self.losses.append(loss.item())
        self.tokens += count_tokens(inputs)["total"]
        return loss


class Gate(TrainerCallback):
    """Freezes and clips before each step, and ends the run at its last token."""

    def __init__(self, gate: GradientGate) -> None:
        self.gate = gate
        self.trainer: PhaseTrainer | None = None

    def on_pre_optimizer_step(self, args, state, control, **unused):
        assert self.trainer is not None
        settings = self.trainer.settings
        assert settings is not None
        self.gate(settings.freeze, clip_norm=settings.clip_norm)

    def on_step_end(self, args, state, control, **unused):
        assert self.trainer is not None
        control.should_training_stop = self.trainer.tokens >= self.trainer.clock.total_tokens


def train(run: RunConfig) -> list[float]:
    """Trains a model from random weights in one process, in fp32; returns the loss of every step."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=10**9,  # the callback stops at the last token
            max_grad_norm=0.0,  # the gate clips
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            remove_unused_columns=False,
        )
        parts = build_parts(run)
        if len(parts.encoder.objectives):
            raise ConfigError(
                f"{', '.join(parts.encoder.objectives)}: this loop computes the losses of the language model only"
            )
        callback = Gate(parts.gate)
        trainer = PhaseTrainer(
            clock=parts.clock,
            rows=parts.rows,
            model=parts.encoder,
            args=arguments,
            optimizers=(parts.optimizer, None),
            callbacks=[callback],
        )
        callback.trainer = trainer
        trainer.train()
    return trainer.losses


if __name__ == "__main__":
    for step, loss in enumerate(train(load(sys.argv[1], sys.argv[2:]))):
        print(f"step {step}: loss {loss:.4f}")
