"""Memory of a training step on one device, estimated from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

from detour.models.constants import CHUNK_ELEMENTS
from detour.models.modernbert.architecture import Architecture

# Bytes that autograd keeps a token and layer, as [precision]: of each hidden unit in a global layer, and of each unit of the
# gated MLP. Counted on the tensors that a step really saves, see tests/cost/test_memory.py.
HIDDEN = {"fp32": 44, "bf16": 27}
GATED = {"fp32": 16, "bf16": 8}
STATE_BYTES = 16  # fp32 weight, gradient and two moments of a parameter


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, at the peak of a step.

    Attributes:
        state: Weights, gradients and the optimizer's moments.
        activations: Kept from the forward to the backward pass of one micro-batch.
        loss: The chunk of logits, and the gradient of the vocabulary projection while it is summed.
    """

    state: float
    activations: float
    loss: float

    @property
    def total(self) -> float:
        return self.state + self.activations + self.loss


def parameters(arch: Architecture) -> int:
    """Number of weights, biases of the decoder included, tied ones once."""
    H, I, L = arch.hidden_size, arch.intermediate_size, arch.num_hidden_layers
    matrices = L * (4 * H * H + 3 * H * I) + H * H + arch.vocab_size * H
    return matrices + (2 * L + 2) * H + arch.vocab_size * arch.decoder_bias


def step_memory(
    arch: Architecture,
    *,
    tokens: int,
    supervised: float,
    attention: str,
    precision: str,
    device: str,
    checkpointing: bool = False,
    shards: int = 1,
) -> Memory:
    """The estimate for a micro-batch.

    Args:
        arch: The model.
        tokens: Tokens of the micro-batch, padding included.
        supervised: How many of them carry loss.
        attention: "bidirectional" or "causal".
        precision: "fp32" or "bf16" (mixed, weights in fp32).
        device: "cpu" or "gpu"; varlen kernels are assumed on a GPU, blocks with a halo of neighboring keys elsewhere.
        checkpointing: Layers are computed again in the backward pass.
        shards: Devices that share weights, gradients and moments (FSDP); 1 for DDP.

    Left out: what libraries, the caching allocator and communication take; on a GPU add about 2 GB and 10%.
    """
    H, I, L = arch.hidden_size, arch.intermediate_size, arch.num_hidden_layers
    value = 4 if precision == "fp32" else 2
    layer = HIDDEN[precision] * H + GATED[precision] * I
    halo = 0
    if device == "cpu":  # keys and values with the blocks beside them, against keys and values alone
        halo = (value if attention == "bidirectional" else -value) * H
    layers = [layer + (0 if arch.is_global(i) else halo) for i in range(L)]
    kept = 4 * H * L + max(layers) if checkpointing else sum(layers)
    outside = 3 * 4 * H * tokens + 6 * 4 * H * supervised  # embedding and last norm; head, at supervised positions
    chunk = 4 * CHUNK_ELEMENTS["cuda" if device == "gpu" else "cpu"] * (1 if precision == "fp32" else 1.5)
    return Memory(
        state=STATE_BYTES * parameters(arch) / shards,
        activations=kept * tokens + outside,
        loss=min(chunk, 4 * supervised * arch.vocab_size) + 4 * arch.vocab_size * H,
    )
