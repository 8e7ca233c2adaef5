"""The phases of a run in a plain PyTorch loop, without Composer: ``python examples/plain_loop.py RUN.yaml [key=value ...]``."""

from __future__ import annotations

import sys

from run_parts import build_parts

from detour.batch import count_tokens
from detour.config.load import load
from detour.config.schema import RunConfig


def train(run: RunConfig) -> list[float]:
    """Trains a model from random weights in one process, in fp32; returns the loss of every step."""
    parts = build_parts(run)
    encoder, clock, optimizer = parts.encoder, parts.clock, parts.optimizer
    losses, tokens, settings = [], 0, None
    while tokens < clock.total_tokens:
        for clean in parts.rows:  # one epoch
            settings = clock.at(tokens, previous=settings)  # which objective, learning rate and frozen parameters
            batch = clock.corrupt(clean, settings, step=len(losses))
            settings.apply(optimizer, encoder)
            out = encoder.loss_of(batch)
            loss = out.total / out.supervised
            loss.backward()
            parts.gate(settings.freeze, clip_norm=settings.clip_norm)
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
