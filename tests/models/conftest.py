"""What the model's tests share: tiny shapes, weights large enough for a leak to show, the backends."""

import pytest
import torch

from detour.models.attention import BACKENDS, why_not
from detour.models.encoder import Encoder
from detour.models.modernbert.architecture import ModernBertArchitecture


def pytest_generate_tests(metafunc):
    """Runs a test that asks for `backend` once for each attention backend; skips those that cannot run on the CPU."""
    if "backend" not in metafunc.fixturenames:
        return
    reasons = {name: why_not(name, device="cpu", dtype=torch.float32) for name in BACKENDS}
    marks = {name: pytest.mark.skip(reason=f"{name} {reason}") if reason else () for name, reason in reasons.items()}
    metafunc.parametrize("backend", [pytest.param(name, marks=marks[name]) for name in BACKENDS])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def arch():
    """Makes a tiny architecture: four layers (global, local, local, global), windows of 8 on either side."""

    def make(**changes):
        base = {
            "vocab_size": 83,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "local_attention": 16,
            "global_rope_theta": 5000.0,
            "local_rope_theta": 300.0,
        }
        return ModernBertArchitecture(**(base | changes))

    return make


@pytest.fixture
def shake():
    """Fills a module with weights for which attention is sharp, logits have a spread near 1, and no bias is zero."""

    def fill(module, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
                centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
                parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
        return module

    return fill


@pytest.fixture
def encoder(arch, shake):
    """Makes a tiny encoder in eval mode; keywords are those of `Encoder` or `ModernBertArchitecture`."""

    def make(*, backend="sdpa", gradient_checkpointing=False, **changes):
        return shake(Encoder(arch(**changes), backend=backend, gradient_checkpointing=gradient_checkpointing)).eval()

    return make
