"""Memory of a training step on one device: estimated from shapes, and measured."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from detour.models.architecture import Architecture
from detour.models.constants import CHUNK_ELEMENTS

STATE_BYTES = 16  # per parameter: fp32 weight, gradient and two moments


@dataclass(frozen=True)
class Memory:
    """Peak memory of a step on one device, in bytes.

    Attributes:
        state: Weights, gradients and the optimizer's moments.
        activations: Tensors that autograd saves for the backward pass of one micro-batch.
        loss: One chunk of logits, and the accumulated gradient of the vocabulary projection.
    """

    state: float
    activations: float
    loss: float

    @property
    def total(self) -> float:
        return self.state + self.activations + self.loss


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
    """Estimated peak memory of a step.

    Libraries, the caching allocator and communication are left out: on a GPU add about 2 GB and 10%.

    Args:
        arch: Architecture of the model.
        tokens: Tokens of the micro-batch, with padding.
        supervised: Number of them that carry loss.
        attention: As `detour.attention_rule.Rule.of` reads it.
        precision: "fp32" or "bf16" (mixed precision with fp32 weights).
        device: "cpu" or "gpu". On a GPU varlen kernels are assumed, on a CPU blocks with a halo of neighboring keys.
        checkpointing: Whether the backward pass recomputes the layers (gradient checkpointing).
        shards: Number of devices over which `fsdp_full_shard` shards weights, gradients and moments; 1 for DDP.
    """
    H, L = arch.hidden_size, arch.num_hidden_layers
    value = 4 if precision == "fp32" else 2
    layer = arch.saved_bytes(precision)
    halo = 0
    if device == "cpu":  # blocks that see to their right save their neighbors' keys and values too
        halo = (-value if attention == "causal" else value) * H
    layers = [layer + (halo if rule.attention.window else 0) for rule in arch.layer_rules(attention)]
    kept = 4 * H * L + max(layers) if checkpointing else sum(layers)
    outside = 3 * 4 * H * tokens + 6 * 4 * H * supervised  # embedding and final norm; head, at supervised positions
    chunk = 4 * CHUNK_ELEMENTS["cuda" if device == "gpu" else "cpu"] * (1 if precision == "fp32" else 1.5)
    return Memory(
        state=STATE_BYTES * arch.parameters / shards,
        activations=kept * tokens + outside,
        loss=min(chunk, 4 * supervised * arch.vocab_size) + 4 * arch.vocab_size * H,
    )


def peak_memory_bytes(device: str) -> int:
    """Peak memory of this process so far, in bytes.

    Args:
        device: "cuda" for memory allocated on the GPU since the peak was last reset; "cpu" for the resident set size.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
