"""The phases of a run in a plain PyTorch loop, without Composer: ``python examples/plain_loop.py RUN.yaml [key=value ...]``."""

from __future__ import annotations

import sys

import torch

from detour.batch import count_tokens
from detour.config.load import load
from detour.config.schema import RunConfig
from detour.data.loader import build_loader
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, vocab_of
from detour.models.modernbert.encoder import Encoder
from detour.phase_clock import PhaseClock
from detour.training.gradient_gate import GradientGate
from detour.training.optim import build_optimizer


def train(run: RunConfig) -> list[float]:
    """Trains a model from random weights in one process, in fp32; returns the loss of every step."""
    tokenizer = load_tokenizer(run.model.tokenizer or "")
    torch.manual_seed(run.seed)
    encoder = Encoder(run.architecture)
    rows = build_loader(
        streams=run.data.train,
        device_batch_size=run.data.global_batch_size,
        shuffle=run.data.shuffle,
        shuffle_seed=run.data.shuffle_seed,
        workers=0,
        seq_len=run.data.seq_len,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
    )

    vocab = vocab_of(tokenizer, size=run.architecture.vocab_size)
    clock = PhaseClock(phases=run.phase_schedule, wsd=run.schedule, vocab=vocab, seed=run.seed)
    optimizer = build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr)
    gate = GradientGate(encoder, clip_norm=run.optimizer.clip_norm)
    losses, tokens, settings = [], 0, None
    while tokens < clock.total_tokens:
        for clean in rows:  # one epoch
            settings = clock.at(tokens, previous=settings)  # which objective, learning rate and frozen parameters
            batch = clock.corrupt(clean, settings, step=len(losses))
            settings.apply(optimizer)
            out = encoder(batch["input_ids"], batch["doc_lengths"], batch["labels"], batch["attention"])
            loss = out.total / out.supervised
            loss.backward()
            gate(settings.freeze)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += count_tokens(clean)["total"]
            if tokens >= clock.total_tokens:
                break
    return losses


if __name__ == "__main__":
    for step, loss in enumerate(train(load(sys.argv[1], sys.argv[2:]))):
        print(f"step {step}: loss {loss:.4f}")
