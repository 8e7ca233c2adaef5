"""Settings of the optimizer, and what a phase changes of them. Pure values, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class PhaseOptimizer:
    """Settings of the optimizer during a phase, where they differ from the run's `optimizer`.

    Attributes:
        betas: Decay rates of the two moments; null takes those of the run.
        weight_decay: Decoupled weight decay; null takes that of the run.
        clip_norm: Largest gradient norm; "none" does not clip, null takes that of the run.
    """

    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    clip_norm: float | Literal["none"] | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> PhaseOptimizer:
        """Of a recorded phase; one of an earlier version has none. Raises TypeError if it is not a mapping."""
        return cls(**(record.get("optimizer") or {}))

    @property
    def words(self) -> list[str]:
        """What it changes, one entry per setting: ``["weight_decay 0.1", "clip_norm none"]``."""
        betas = None if self.betas is None else ", ".join(f"{beta:g}" for beta in self.betas)
        decay = None if self.weight_decay is None else f"{self.weight_decay:g}"
        clip = f"{self.clip_norm:g}" if isinstance(self.clip_norm, float | int) else self.clip_norm
        given = {"betas": betas and f"({betas})", "weight_decay": decay, "clip_norm": clip}
        return [f"{key} {value}" for key, value in given.items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer (`detour.training.optim`).

    Attributes:
        name: "adamw" or "stableadamw".
        betas: Decay rates of the two moments.
        eps: Added to the denominator; above 0.
        weight_decay: Decoupled: the fraction of a weight subtracted per step at the peak learning rate, scaled with the
            learning rate below it. Biases and norms are not decayed.
        clip_norm: Largest gradient norm; null does not clip.
    """

    name: Literal["adamw", "stableadamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-5
    clip_norm: float | None = None

    def during(self, own: PhaseOptimizer) -> OptimizerConfig:
        """The settings during a phase."""
        changes: dict[str, Any] = {}
        if own.betas is not None:
            changes["betas"] = own.betas
        if own.weight_decay is not None:
            changes["weight_decay"] = own.weight_decay
        if own.clip_norm is not None:
            changes["clip_norm"] = None if own.clip_norm == "none" else own.clip_norm
        return replace(self, **changes)

    def group_weight_decay(self, peak_lr: float) -> float:
        """The value of `weight_decay` in a parameter group of the optimizer's class.

        torch's AdamW multiplies a weight by 1 - lr * weight_decay, so it receives weight_decay / peak_lr; StableAdamW
        divides by the peak learning rate itself.
        """
        return self.weight_decay if self.name == "stableadamw" else self.weight_decay / peak_lr

    def set_groups(self, groups: Sequence[dict[str, Any]], *, peak_lr: float) -> None:
        """Sets betas and weight decay of the parameter groups of an optimizer, in place.

        Args:
            groups: As `detour.training.optim.parameter_groups` divides them: biases and norms apart, which stay without decay.
            peak_lr: Peak learning rate.
        """
        for group in groups:
            group.update(self._group_betas())
            if any(parameter.ndim >= 2 for parameter in group["params"]):
                group["weight_decay"] = self.group_weight_decay(peak_lr)

    def _group_betas(self) -> Mapping[str, Any]:
        """The betas under the names that the optimizer's class gives them."""
        return {"beta1": self.betas[0], "beta2": self.betas[1]} if self.name == "stableadamw" else {"betas": self.betas}


def problems(where: str, settings: OptimizerConfig | PhaseOptimizer) -> Iterator[str]:
    """A line for each value out of range that both kinds of settings have, with its key under ``where``."""
    betas, decay, clip = settings.betas, settings.weight_decay, settings.clip_norm
    if betas is not None and not all(0 <= beta < 1 for beta in betas):
        yield f"{where}.betas: {list(betas)}, expected two numbers in [0, 1)"
    if decay is not None and not 0 <= decay < float("inf"):
        yield f"{where}.weight_decay: {decay}, expected at least 0"
    if isinstance(clip, float | int) and not clip > 0:
        off = "none" if isinstance(settings, PhaseOptimizer) else "null"
        yield f"{where}.clip_norm: {clip}, expected a number above 0, or {off} for no clipping"
