"""Optimizers: Composer's decoupled AdamW step for step, and what is spared from decay."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from composer.optim import DecoupledAdamW
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from detour.config.schema import OptimizerConfig
from detour.models.encoder import Encoder
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.training.optim import build_optimizer, parameter_groups

PEAK = 1e-2
RATES = [PEAK * min((step + 1) / 5, (20 - step) / 10, 1) for step in range(20)]  # up, level, down


def network() -> nn.Module:
    """In double precision: Adam divides by gradients, and would make a step of what single precision rounds."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Embedding(11, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3, bias=False)
    )
    return layers.double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Gradients are drawn, not computed: a path is what the optimizer makes of them and depends on nothing else."""
    for step in steps:
        rng = np.random.default_rng(step)
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        for parameter in model.parameters():
            parameter.grad = torch.from_numpy(rng.normal(0.3, 1.0, tuple(parameter.shape)))
        optimizer.step()


def distance(first: nn.Module, second: nn.Module) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.trains
@pytest.mark.parametrize("weight_decay", [0.0, 1e-5, 0.1])
def test_adamw_walks_the_path_of_composer_s_decoupled_adamw(weight_decay):
    ours, theirs = network(), network()
    config = OptimizerConfig(betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay)
    groups = parameter_groups(theirs, weight_decay)
    reference = DecoupledAdamW(groups, lr=PEAK, betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay)
    optimizer = build_optimizer(ours, config, peak_lr=PEAK)
    for step in range(20):
        train(ours, optimizer, range(step, step + 1))
        train(theirs, reference, range(step, step + 1))
        assert distance(ours, theirs) < 1e-9
    assert distance(ours, network()) > 0.05  # they went somewhere


@pytest.mark.parametrize("name", ["adamw", "stableadamw"])
def test_a_step_takes_off_weight_decay_in_proportion_to_the_rate(name):
    """With gradients of zero only the decay moves: weight_decay of a weight at the peak, half of it at half the rate."""
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=9e-4), peak_lr=PEAK)
    for rate in (PEAK, PEAK / 2):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for parameter, start in zip(model.parameters(), before, strict=True):
        left = (1 - 9e-4) * (1 - 4.5e-4) if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), left * start, rtol=1e-6, atol=0)


def test_biases_and_norms_are_spared_and_every_parameter_is_in_one_group():
    biases = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    encoder = Encoder(ModernBertArchitecture(**sizes, num_attention_heads=2, **biases))
    decaying, spared = parameter_groups(encoder, 0.1)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    listed = [id(parameter) for group in (decaying, spared) for parameter in group["params"]]
    assert sorted(listed) == sorted(names)
    spared_names = {names[id(parameter)] for parameter in spared["params"]}
    assert spared_names == {name for name in names.values() if name.endswith(".bias") or "norm" in name}
    assert "model.embeddings.tok_embeddings.weight" not in spared_names


@pytest.mark.trains
def test_stableadamw_clips_an_update_by_its_root_mean_square():
    """A gradient a thousand times the last one moves AdamW by several rates and StableAdamW by about one (2304.13013)."""

    def longest_step(name: str) -> float:
        weight = nn.Parameter(torch.zeros(4, 4))
        optimizer = build_optimizer(
            nn.ParameterList([weight]), OptimizerConfig(name=name, weight_decay=0.0), peak_lr=PEAK
        )
        for size in (*[1e-3] * 50, 1.0):
            before = weight.detach().clone()
            weight.grad = torch.full_like(weight, size)
            optimizer.step()
        return (weight.detach() - before).abs().max().item() / PEAK

    assert longest_step("stableadamw") < 0.2 * longest_step("adamw")


@pytest.mark.trains
@pytest.mark.parametrize("name", ["adamw", "stableadamw"])
def test_the_state_survives_a_checkpoint_to_the_bit(name):
    """Through the functions that checkpoints use, in the middle of a run, into a fresh model and optimizer."""
    config, options = OptimizerConfig(name=name, weight_decay=9e-4), StateDictOptions(full_state_dict=True)
    model = network()
    optimizer = build_optimizer(model, config, peak_lr=PEAK)
    train(model, optimizer, range(10))
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    train(model, optimizer, range(10, 20))

    again = network()
    again.load_state_dict(weights)
    fresh = build_optimizer(again, config, peak_lr=PEAK)
    set_optimizer_state_dict(again, fresh, state, options=options)
    assert distance(again, model) > 1e-3
    train(again, fresh, range(10, 20))
    assert distance(again, model) == 0.0
