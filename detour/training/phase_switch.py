"""The switch: the one place where the objective, the learning rate and freezing follow the token clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from composer.core import Algorithm, Event, State
from composer.loggers import Logger
from torch import Tensor, nn

from detour import objectives
from detour.models.modernbert.encoder import Encoder
from detour.objectives import Objective, RowRandom
from detour.phases import Phase, PhaseSchedule, PhaseSpan
from detour.schedule import WSD
from detour.training.callbacks.step_guard import StepGuard
from detour.vocab import Vocab

log = logging.getLogger(__name__)


class PhaseSwitch(Algorithm):
    """Carries out the phases of a run: a function of the tokens seen, but for one number, the phase of the last batch.

    - After the loader: the phase's objective turns the clean batch into a supervised one. Prefetched batches are
      clean, so the flip falls exactly on the first batch whose first token lies past the boundary.
    - Before the step: sets the learning rate of that batch.
    - After the backward pass: drops the gradients of frozen parameters, or all of them if the guard finds the batch
      bad; clips, and logs the norm. A parameter without a gradient takes no part in the step.

    A frozen parameter keeps its weights and its optimizer state untouched. Dropping gradients works alike alone, with
    DDP and with FSDP, where turning `requires_grad` off in mid-run does not; the price is that the backward pass
    still visits frozen layers.

    Args:
        encoder: The model, before it is wrapped.
        schedule: The phases.
        wsd: The learning rate.
        vocab: The tokenizer's ids.
        seed: Seed of the corruption.
        guard: Judges each batch before it may change the weights.
        clip_norm: Largest norm of the gradient, or None.
        gradient_scale: Factor on the gradients before anything else, for `gloo_sums_gradients`. It is here and not in
            an algorithm of its own because Composer runs algorithms in reverse order after an event.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        schedule: PhaseSchedule,
        wsd: WSD,
        vocab: Vocab,
        seed: int,
        guard: StepGuard,
        clip_norm: float | None,
        gradient_scale: float = 1.0,
    ) -> None:
        self.encoder, self.schedule, self.wsd, self.vocab, self.seed = encoder, schedule, wsd, vocab, seed
        self.guard, self.clip_norm, self.gradient_scale = guard, clip_norm, gradient_scale
        self.objectives: list[Objective] = [objectives.build(p.objective, p.options) for p in schedule.phases]
        self._phase_of_last_batch: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"phase_of_last_batch": self._phase_of_last_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        last = state["phase_of_last_batch"]
        if last is not None and not (type(last) is int and 0 <= last < len(self.schedule.phases)):
            raise ValueError(
                f"phase_of_last_batch is {last!r}, expected an index of {len(self.schedule.phases)} phases"
            )
        self._phase_of_last_batch = last

    def touched(self, steps: Sequence[int]) -> set[nn.Parameter]:
        """Parameters that the optimizer has moments of: those that a step has changed since the last reset.

        Args:
            steps: Optimizer steps so far, of each phase.
        """
        last = -1 if self._phase_of_last_batch is None else self._phase_of_last_batch
        begun = self.schedule.phases[: last + 1]
        reset = max((i for i, phase in enumerate(begun) if i and phase.optimizer_state == "reset"), default=0)
        found: set[nn.Parameter] = set()
        for phase, count in list(zip(begun, steps, strict=False))[reset:]:
            if count:
                found |= set(self.encoder.parameters()) - set(self._frozen_parameters(phase))
        return found

    def match(self, event: Event, state: State) -> bool:
        return event in (Event.AFTER_DATALOADER, Event.BATCH_START, Event.AFTER_TRAIN_BATCH)

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        place = self.schedule.at(state.timestamp.token.value)
        if event == Event.AFTER_DATALOADER:
            self._corrupt(state, place)
        elif event == Event.BATCH_START:
            self._begin_batch(state, place, logger)
        else:
            self._finish_gradients(state, place, logger)

    def _corrupt(self, state: State, place: PhaseSpan) -> None:
        rng = RowRandom(seed=self.seed, step=state.timestamp.batch.value, sample_id_B=state.batch["sample_id"])
        state.batch = self.objectives[place.index](state.batch, self.vocab, rng)

    def _begin_batch(self, state: State, place: PhaseSpan, logger: Logger) -> None:
        tokens = state.timestamp.token.value
        rate = self.wsd.lr_at(tokens, self.schedule)
        last = self._phase_of_last_batch
        entered = [] if last is None else self.schedule.phases[last + 1 : place.index + 1]  # a short one may be skipped
        if last is None or entered:
            log.info(
                "phase %d '%s': %s from token %s", place.index, place.phase.name, place.phase.objective, f"{tokens:,}"
            )
        for optimizer in state.optimizers:
            if any(phase.optimizer_state == "reset" for phase in entered):
                optimizer.state.clear()
            for group in optimizer.param_groups:
                group["lr"] = rate
        self._phase_of_last_batch = place.index
        logger.log_metrics({"phase/index": place.index, "lr": rate})

    def _finish_gradients(self, state: State, place: PhaseSpan, logger: Logger) -> None:
        for parameter in self._frozen_parameters(place.phase):
            parameter.grad = None
        parameters = [p for p in self.encoder.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.gradient_scale != 1:
            for gradient in gradients:
                gradient.mul_(self.gradient_scale)
        norm = nn.utils.get_total_norm(gradients)
        check = self.guard.check(state, _whole(norm), phase=place.index)
        if check.problem is not None:
            for parameter in parameters:
                parameter.grad = None
        elif self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        logger.log_metrics({"grad_norm": check.norm})

    def _frozen_parameters(self, phase: Phase) -> list[nn.Parameter]:
        modules: list[nn.Module] = [self._layers[index] for index in phase.freeze.layer_indices(len(self._layers))]
        if phase.freeze.embeddings:
            modules.append(self.encoder.model.embeddings)
        return [parameter for module in modules for parameter in module.parameters()]

    @cached_property
    def _layers(self) -> list[nn.Module]:
        return list(self.encoder.model.layers)


def _whole(tensor: Tensor) -> Tensor:
    """A sharded tensor (DTensor) gathered; any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()  # type: ignore[operator]


def gloo_sums_gradients(*, sharded: bool) -> bool:
    """Whether FSDP2 here sums gradients over the processes instead of averaging them: torch 2.7 on gloo does.

    Adam hides the fault, plain comparisons with one process do not.
    """
    old = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2]) < (2, 8)
    return sharded and old and torch.distributed.get_backend() == "gloo"
