"""Phases with their own betas, weight decay and clipping norm: a Composer run against torch's AdamW by hand."""

from __future__ import annotations

import json

import pytest
import torch
from composer.core import Callback

from detour.build import build_trainer
from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.phase_clock import PhaseClock
from detour.training.run_folder import RunFolder

PHASES = [
    {"name": "before", "objective": "mlm", "tokens": 1000},
    {
        "name": "detour",
        "objective": "clm",
        "tokens": 1000,
        "optimizer": {"betas": [0.8, 0.9], "weight_decay": 0.3, "clip_norm": 0.2},
    },
    {"name": "decay", "objective": "mlm", "tokens": 1000, "optimizer": {"clip_norm": "none"}},
]
BY_HAND = {0: ((0.9, 0.98), 0.1, 0.5), 1: ((0.8, 0.9), 0.3, 0.2), 2: ((0.9, 0.98), 0.1, None)}  # the same, written out
OPTIMIZER = {"weight_decay": 0.1, "clip_norm": 0.5}


class Watch(Callback):
    """Notes the weights before training, and at each step its first token and the gradients that the optimizer got."""

    def __init__(self) -> None:
        self.start: list[torch.Tensor] = []
        self.steps: list[tuple[int, list[torch.Tensor]]] = []

    def fit_start(self, state, logger) -> None:
        self.start = [parameter.detach().clone() for parameter in _encoder(state).parameters()]

    def batch_end(self, state, logger) -> None:
        gradients = [parameter.grad.detach().clone() for parameter in _encoder(state).parameters()]
        self.steps.append((state.previous_timestamp.token.value, gradients))


def _encoder(state) -> Encoder:
    return next(module for module in state.model.modules() if isinstance(module, Encoder))


@pytest.fixture
def trained(tiny_run):
    """The run, what was watched, the weights it reached, and the gradient norm of each step before clipping."""
    run = tiny_run(phases=PHASES, optimizer=OPTIMIZER)
    trainer = build_trainer(run)
    watcher = Watch()
    trainer.state.callbacks.append(watcher)
    trainer.fit()
    reached = [parameter.detach().clone() for parameter in _encoder(trainer.state).parameters()]
    trainer.close()
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    return run, watcher, reached, [line["grad_norm"] for line in lines if "grad_norm" in line]


def test_the_weights_are_those_of_torch_with_the_groups_changed_at_the_boundary(trained):
    run, watcher, reached, norms = trained
    weights = [torch.nn.Parameter(tensor.clone()) for tensor in watcher.start]
    groups = [{"params": [w for w in weights if w.ndim >= 2]}, {"params": [w for w in weights if w.ndim < 2]}]
    optimizer = torch.optim.AdamW(groups, eps=1e-6, fused=True)
    steps_of = [0, 0, 0]
    for (token, gradients), norm in zip(watcher.steps, norms, strict=True):
        index = sum(token >= boundary for boundary in (1000, 2000))
        betas, decay, clip = BY_HAND[index]
        for group, strength in zip(optimizer.param_groups, (decay / run.schedule.peak_lr, 0.0), strict=True):
            group.update(lr=run.lr_at(token), betas=betas, weight_decay=strength)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        after = float(torch.nn.utils.get_total_norm(gradients))
        assert after == pytest.approx(norm if clip is None else min(norm, clip), rel=1e-4)
        assert clip is None or norm > clip  # each phase clips, so that its norm can be told
        optimizer.step()
        steps_of[index] += 1
    assert min(steps_of) >= 3
    assert all(torch.equal(a, b) for a, b in zip(weights, reached, strict=True))


def test_a_clock_without_the_optimizer_refuses_a_phase_that_changes_it(tiny_run):
    run = tiny_run(phases=PHASES, optimizer=OPTIMIZER)
    with pytest.raises(ConfigError, match=r"phases\[1\].optimizer: betas \(0.8, 0.9\), .* was given no optimizer"):
        PhaseClock(phases=run.phase_schedule, wsd=run.schedule, vocab=None, seed=1)  # type: ignore[arg-type]


def test_where_no_phase_changes_it_the_groups_are_left_alone(tiny_run):
    run = tiny_run(optimizer=OPTIMIZER)
    clock = PhaseClock(
        phases=run.phase_schedule,
        wsd=run.schedule,
        vocab=None,  # type: ignore[arg-type]
        seed=1,
        optimizer=run.optimizer,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2, 2))], lr=9.0, weight_decay=7.0)
    clock.at(1500).apply(optimizer)
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 7.0
    assert "betas" not in group
    assert clock.at(1500).clip_norm == 0.5
