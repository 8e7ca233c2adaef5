"""The estimate of memory against the tensors that autograd really keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detour.batch import IGNORE
from detour.cost.memory import step_memory
from detour.models.encoder import Encoder
from detour.models.families import architecture, sizes
from detour.models.modernbert.architecture import ModernBertArchitecture

ARCH = ModernBertArchitecture(
    vocab_size=500,
    hidden_size=96,
    intermediate_size=160,
    num_hidden_layers=7,
    num_attention_heads=3,
    local_attention=64,
)


def kept_bytes(arch: ModernBertArchitecture, *, attention: str, precision: str, checkpointing: bool) -> int:
    """Bytes of the distinct storages saved for the backward pass, parameters left out."""
    encoder = Encoder(arch, gradient_checkpointing=checkpointing)
    own = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(500, (2, 512))
    labels = torch.full((2, 512), IGNORE)
    labels[:, ::4] = 7
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        encoder(ids, torch.tensor([[300, 212], [512, 0]]), labels, attention)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_the_activations_are_those_that_autograd_keeps(attention, precision, checkpointing):
    estimate = step_memory(
        ARCH, tokens=1024, supervised=256, attention=attention, precision=precision, device="cpu",
        checkpointing=checkpointing,
    ).activations  # fmt: skip
    measured = kept_bytes(ARCH, attention=attention, precision=precision, checkpointing=checkpointing)
    if checkpointing:  # the layer that is computed again comes only in the backward pass
        whole = step_memory(
            ARCH, tokens=1024, supervised=256, attention=attention, precision=precision, device="cpu"
        ).activations
        assert measured < estimate < whole / 2
    else:
        assert estimate == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("size", ["tiny", "ettin-17m", "modernbert-base"])
def test_the_parameters_are_the_models(size):
    with torch.device("meta"):
        encoder = Encoder(sizes()[size])
    assert sizes()[size].parameters == sum(p.numel() for p in encoder.parameters())


def test_sharding_divides_the_state_and_a_gpu_needs_no_halo():
    common = {"tokens": 4096, "supervised": 1000, "attention": "bidirectional", "precision": "bf16"}
    one, four = (step_memory(ARCH, device="gpu", shards=n, **common) for n in (1, 4))
    assert four.state * 4 == one.state == 16 * ARCH.parameters
    assert four.total < one.total
    assert one.activations < step_memory(ARCH, device="cpu", **common).activations


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "arch",
    [
        # without dropout of attention probabilities, for which torch keeps them on a CPU
        architecture("bert-base", {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4,
                                   "attention_probs_dropout_prob": 0.0}),
        architecture("eurobert-210m", {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4,
                                       "num_key_value_heads": 4, "head_dim": 32}),
        architecture("tiny-llama"),
    ],
    ids=lambda arch: f"{arch.family} {arch.num_hidden_layers}",
)  # fmt: skip
def test_a_layer_of_every_family_keeps_what_its_architecture_says(arch, precision):
    """The difference of two depths, so that embeddings and loss cancel."""
    kept = [
        kept_bytes(replace(arch, vocab_size=600, num_hidden_layers=depth), attention="causal", precision=precision,
                   checkpointing=False)
        for depth in (1, 3)
    ]  # fmt: skip
    assert arch.saved_bytes(precision) == pytest.approx((kept[1] - kept[0]) / 2 / 1024, rel=0.1)
