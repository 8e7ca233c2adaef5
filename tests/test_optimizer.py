"""Settings of the optimizer: what a phase inherits, and what reaches the groups of each class of optimizer."""

from __future__ import annotations

import pytest
from torch import nn

from detour.optimizer import OptimizerConfig, PhaseOptimizer
from detour.training.optim import build_optimizer

RUN = OptimizerConfig(betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, clip_norm=1.0)


def test_a_phase_inherits_what_it_leaves_out():
    assert RUN.during(PhaseOptimizer()) == RUN
    own = RUN.during(PhaseOptimizer(betas=(0.8, 0.9)))
    assert (own.betas, own.eps, own.weight_decay, own.clip_norm) == ((0.8, 0.9), 1e-5, 0.1, 1.0)
    own = RUN.during(PhaseOptimizer(weight_decay=0.0, clip_norm=0.5))
    assert (own.betas, own.weight_decay, own.clip_norm) == ((0.9, 0.95), 0.0, 0.5)
    assert RUN.during(PhaseOptimizer(clip_norm="none")).clip_norm is None


def test_a_change_in_words_names_only_what_changes():
    assert PhaseOptimizer().words == []
    own = PhaseOptimizer(betas=(0.8, 0.95), weight_decay=0.0, clip_norm="none")
    assert own.words == ["betas (0.8, 0.95)", "weight_decay 0", "clip_norm none"]


@pytest.mark.parametrize("name", ["adamw", "stableadamw"])
def test_changed_groups_are_those_of_an_optimizer_that_was_built_so(name):
    """Also where the run's weight decay is 0, which does not tell the groups apart."""
    before = OptimizerConfig(name=name, betas=(0.9, 0.95), weight_decay=0.0)
    after = before.during(PhaseOptimizer(betas=(0.8, 0.9), weight_decay=9e-4))
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer, built = (build_optimizer(module, config, peak_lr=1e-2) for config in (before, after))
    after.set_groups(optimizer.param_groups, peak_lr=1e-2)
    for found, expected in zip(optimizer.param_groups, built.param_groups, strict=True):
        assert {k: v for k, v in found.items() if k != "params"} == {k: v for k, v in expected.items() if k != "params"}
    assert [bool(group["weight_decay"]) for group in built.param_groups] == [True, False]
