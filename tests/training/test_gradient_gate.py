"""Scale, freeze, check, clip: against torch's own clipping and norms computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.phases import Freeze
from detour.training.gradient_gate import GradientGate

SHAPE = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture
def encoder() -> Encoder:
    encoder = Encoder(architecture("tiny", SHAPE))
    for index, parameter in enumerate(encoder.parameters()):
        parameter.grad = torch.full_like(parameter, 0.01 * (index + 1))
    return encoder


def norm_of(parameters) -> float:
    return math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in parameters if p.grad is not None))


def test_frozen_parameters_have_no_gradient_and_count_for_no_norm(encoder):
    gate = GradientGate(encoder)
    frozen = [p for n, p in encoder.named_parameters() if n.startswith(("model.embeddings.", "model.layers.1."))]
    expected = norm_of(p for p in encoder.parameters() if not any(p is f for f in frozen))
    assert float(gate(Freeze(layers="1", embeddings=True))) == pytest.approx(expected, rel=1e-6)
    assert all(p.grad is None for p in frozen)
    assert sum(p.grad is None for p in encoder.parameters()) == len(frozen)


def test_clipping_is_that_of_torch(encoder):
    twin = [torch.nn.Parameter(p.detach().clone()) for p in encoder.parameters()]
    for mine, theirs in zip(encoder.parameters(), twin, strict=True):
        theirs.grad = mine.grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(twin, 0.3)
    assert float(GradientGate(encoder)(Freeze(), clip_norm=0.3)) == pytest.approx(float(expected), rel=1e-6)
    for mine, theirs in zip(encoder.parameters(), twin, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_rejected_step_leaves_no_gradient_and_the_check_sees_the_scaled_norm(encoder):
    expected, seen = norm_of(encoder.parameters()) / 2, []
    GradientGate(encoder, scale=0.5)(Freeze(), clip_norm=1.0, accept=lambda norm: bool(seen.append(float(norm))))
    assert seen == [pytest.approx(expected, rel=1e-6)]
    assert all(p.grad is None for p in encoder.parameters())


def test_a_layer_that_the_model_does_not_have_is_refused(encoder):
    with pytest.raises(ConfigError, match="layers 0 to 2"):
        GradientGate(encoder)(Freeze(layers="3"))
