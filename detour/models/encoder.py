"""The encoder of every family, on packed batches, with the attention rule chosen per call.

A family gives the trunk and the head; here is what families share: the plan of a forward pass, the loss at the supervised
positions, compiled regions, and the weights by name. Shapes: see `detour.batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detour.batch import Batch, target_positions
from detour.errors import ConfigError
from detour.models.architecture import Architecture, LayerRule
from detour.models.attention import BACKENDS
from detour.models.families import family_of
from detour.models.layers import BaseTrunk, Layer, LayerPlan
from detour.models.loss import linear_cross_entropy
from detour.models.packed import Packing
from detour.models.rope import rotary_table

PROJECTION = "decoder.weight"  # the vocabulary projection; if it is tied, only the embedding is stored
OBJECTIVES = "objectives."  # prefix of the modules of objectives
EMBEDDING = "model.embeddings.tok_embeddings.weight"


class LossSum(NamedTuple):
    """Summed loss (fp32 scalar) and the number of supervised positions (int64 scalar)."""

    total: Tensor
    supervised: Tensor


class Encoder(nn.Module):
    """A model with one language-modeling head, for masked and causal language modeling.

    Args:
        arch: Hyperparameters; their class decides on the family.
        backend: An attention backend, a name in `detour.models.attention.BACKENDS`; resolve "auto" with `select`.
        gradient_checkpointing: Recompute each layer in the backward pass. Cost: about a third more compute, for one
            stored [N, C] activation per layer instead of about fifteen.

    Attributes:
        objectives: Modules of the objectives that have one, by the objective's name; no part of the weights.
    """

    def __init__(self, arch: Architecture, *, backend: str = "sdpa", gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.arch = self._built_as = arch
        self.backend = BACKENDS[backend]
        self.gradient_checkpointing = gradient_checkpointing
        modules = family_of(arch).modules
        self.model: BaseTrunk = modules.Trunk(arch)
        self.head = modules.Head(arch)
        self.decoder = nn.Linear(arch.hidden_size, arch.vocab_size, bias=arch.has_decoder_bias)
        if arch.tied:
            self.decoder.weight = self.model.get_parameter("embeddings.tok_embeddings.weight")
        self.objectives = nn.ModuleDict()
        modules.reset_parameters(self, arch)

    def compile_regions(self) -> None:
        """Compiles the parts of a layer before and after attention, and the head; attention stays eager.

        A switch of objective therefore recompiles nothing. Cost: the first step takes tens of seconds longer.
        """
        for layer in self.model.layers:
            assert isinstance(layer, Layer)
            layer.before_attention = torch.compile(layer.before_attention)  # type: ignore[method-assign]
            layer.after_attention = torch.compile(layer.after_attention)  # type: ignore[method-assign]
        self.head.forward = torch.compile(self.head.forward, dynamic=True)  # type: ignore[method-assign]

    def use_rope(
        self,
        theta: float | None = None,
        local_theta: float | None = None,
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets bases and scaling of the rotary positions from the next forward pass on; `arch` has them.

        Args:
            theta: Base in layers that attend to the whole document; None for the one that the encoder was built with.
            local_theta: Base in layers with a window; None as above.
            scaling: Scaling in layers that attend to the whole document, as `Architecture.with_rope` takes it.

        Raises:
            ConfigError: The family has no such base or scaling.
        """
        self.arch = self._built_as.with_rope(theta=theta, local_theta=local_theta, scaling=scaling)

    def hidden(
        self,
        input_ids_BT: Tensor,
        doc_lengths_BD: Tensor,
        attention: str,
        packing: Packing | None = None,
        reach_BT: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states [N, C] of the flattened batch, including padding. Arguments: see `forward`."""
        if packing is None:
            packing = Packing.of(doc_lengths_BD, input_ids_BT.shape[1], limit=self.arch.longest_document)
        if reach_BT is not None:
            packing = replace(packing, reach_N=reach_BT.flatten())
        rules = self.arch.layer_rules(attention)
        plans = {rule: self._plan(packing, rule) for rule in dict.fromkeys(rules)}
        x_NC = self.model.embeddings(input_ids_BT.flatten(), packing.position_N)
        for layer, rule in zip(self.model.layers, rules, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x_NC = checkpoint(layer, x_NC, plans[rule], use_reentrant=False)
            else:
                x_NC = layer(x_NC, plans[rule])
        return self.model.final_norm(x_NC)

    def hidden_of(self, batch: Batch) -> Tensor:
        """Final hidden states [N, C] of a batch that an objective has corrupted, including padding."""
        return self.hidden(
            batch["input_ids"],
            batch["doc_lengths"],
            batch["attention"],  # type: ignore[typeddict-item]
            Packing.of_micro_batch(batch),
            batch.get("reach"),
        )

    def loss_of(self, batch: Batch) -> LossSum:
        """Summed loss of a corrupted batch under its objective, and the number by which its mean divides.

        Raises:
            ConfigError: The objective has a module, and it is not in `objectives`.
        """
        objective = batch.get("module_objective")
        if objective is None:
            out: LossSum = self(
                batch["input_ids"],
                batch["doc_lengths"],
                batch["labels"],  # type: ignore[typeddict-item]
                batch["attention"],  # type: ignore[typeddict-item]
                batch.get("supervised_at"),
                Packing.of_micro_batch(batch),
                batch.get("reach"),
                batch.get("weights"),
            )
            return out._replace(supervised=batch["loss_tokens"].sum()) if "loss_tokens" in batch else out
        if objective.name not in self.objectives:
            raise ConfigError(f"objective '{objective.name}': the encoder has no module for it in `objectives`")
        return objective.loss_sum(self, self.objectives[objective.name], batch)

    def forward(
        self,
        input_ids_BT: Tensor,
        doc_lengths_BD: Tensor,
        labels_BT: Tensor,
        attention: str,
        supervised_at_M: Tensor | None = None,
        packing: Packing | None = None,
        reach_BT: Tensor | None = None,
        weights_BT: Tensor | None = None,
    ) -> LossSum:
        """Cross-entropy summed over the supervised positions; logits are computed at these positions only.

        Args:
            input_ids_BT: Input tokens.
            doc_lengths_BD: Tokens per document of each row.
            labels_BT: Target of each position, or IGNORE.
            attention: As `detour.attention_rule.Rule.of` reads it.
            supervised_at_M: `target_positions` of the labels. If None they are computed here, which synchronizes with the
                device.
            packing: The documents as counted on the host (`Packing.of_micro_batch`). If None they are made from
                `doc_lengths_BD`, and kernels for GPUs launch blocks for rows of padding and empty documents.
            reach_BT: Number of tokens to its right that each token may attend to, if attention is "reach".
            weights_BT: Weight of each position's loss; None for 1.
        """
        x_NC = self.hidden(input_ids_BT, doc_lengths_BD, attention, packing, reach_BT)
        at_M = target_positions(labels_BT) if supervised_at_M is None else supervised_at_M
        target_M = labels_BT.flatten()[at_M]
        weight_M = None if weights_BT is None else weights_BT.flatten()[at_M]
        loss = linear_cross_entropy(self.head(x_NC[at_M]), self.decoder.weight, self.decoder.bias, target_M, weight_M)
        # created on the device, to avoid a synchronizing copy
        return LossSum(total=loss, supervised=torch.full((), len(at_M), dtype=torch.int64, device=loss.device))

    def logits(self, input_ids_BT: Tensor, doc_lengths_BD: Tensor, attention: str) -> Tensor:
        """All logits [B, T, V], for inspection and export checks; not used in training."""
        x_NC = self.hidden(input_ids_BT, doc_lengths_BD, attention)
        return self.decoder(self.head(x_NC)).unflatten(0, input_ids_BT.shape)

    def weights(self) -> dict[str, Tensor]:
        """Every weight by name; a tied projection and modules of objectives are left out."""
        return stored_weights(self.state_dict(), self.arch)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Loads what `weights` gives. Raises RuntimeError if a name is missing or unknown, or a shape differs."""
        tied = {PROJECTION: weights[EMBEDDING]} if self.arch.tied else {}
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(OBJECTIVES)}
        self.load_state_dict({**weights, **tied, **own})

    def _plan(self, packing: Packing, rule: LayerRule) -> LayerPlan:
        weight = self.decoder.weight
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        table = (None, None) if rule.rotary is None else rotary_table(packing.position_N, rule.rotary, dtype)
        return LayerPlan(*table, attend=self.backend(packing, rule.attention, dtype))


def stored_weights(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """An encoder's state by name, without modules of objectives, and without the projection if it is tied to the embedding."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not (name.startswith(OBJECTIVES) or (arch.tied and name == PROJECTION))
    }
