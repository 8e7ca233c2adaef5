"""The phase clock against a table written by hand; no trainer."""

from __future__ import annotations

import pytest
import torch

from detour.phase_clock import PhaseClock
from detour.phases import Freeze, Phase, PhaseSchedule
from detour.schedule import WSD
from detour.vocab import Vocab

PHASES = [
    Phase(name="warm", objective="mlm", tokens=100),
    Phase(name="detour", objective="clm", tokens=50, freeze=Freeze(layers="0"), lr_factor=0.5),
    Phase(name="short", objective="mlm", tokens=10, optimizer_state="reset"),
    Phase(name="decay", objective="mlm", tokens=100, options={"rate": 0.15}),
]
VOCAB = Vocab(size=12, mask_id=1, pad_id=0, special_ids=(0, 1), ordinary_ids=torch.arange(2, 12))


@pytest.fixture
def clock() -> PhaseClock:
    wsd = WSD(peak_lr=1.0, final_lr=0.0, warmup_tokens=50, decay_phase="decay", shape="linear")
    return PhaseClock(phases=PhaseSchedule(PHASES), wsd=wsd, vocab=VOCAB, seed=17)


@pytest.mark.parametrize(
    ("tokens", "objective", "attention", "layers", "lr"),
    [
        (0, "mlm", "bidirectional", "", 0.0),
        (25, "mlm", "bidirectional", "", 0.5),
        (99, "mlm", "bidirectional", "", 1.0),
        (100, "clm", "causal", "0", 0.5),
        (149, "clm", "causal", "0", 0.5),
        (150, "mlm", "bidirectional", "", 1.0),
        (160, "mlm", "bidirectional", "", 1.0),
        (210, "mlm", "bidirectional", "", 0.5),
        (260, "mlm", "bidirectional", "", 0.0),
    ],
)
def test_each_token_has_its_objective_freezing_and_learning_rate(clock, tokens, objective, attention, layers, lr):
    settings = clock.at(tokens)
    assert (settings.objective.name, settings.objective.attention) == (objective, attention)
    assert settings.freeze.layers == layers
    assert settings.lr == pytest.approx(lr)
    assert clock.total_tokens == 260


def test_a_phase_is_new_once_and_a_reset_that_was_skipped_over_still_happens(clock):
    first = clock.at(0)
    assert (first.new_phase, first.reset_optimizer) == (True, False)
    again = clock.at(40, previous=first)
    assert (again.new_phase, again.reset_optimizer) == (False, False)
    flip = clock.at(120, previous=again)
    assert (flip.new_phase, flip.reset_optimizer) == (True, False)
    over = clock.at(165, previous=flip)  # the batch before ended past the whole of "short"
    assert (over.span.phase.name, over.new_phase, over.reset_optimizer) == ("decay", True, True)
    assert clock.at(165, previous=1).reset_optimizer  # by index, as a checkpoint keeps it


def test_the_same_rows_at_the_same_step_are_corrupted_alike_and_stay_clean(clock):
    ids_BT = torch.arange(2, 12).repeat(3, 4)
    batch = {"input_ids": ids_BT, "doc_lengths": torch.full((3, 1), 40), "sample_id": torch.tensor([5, 6, 7])}
    once, twice = (clock.corrupt(batch, clock.at(0), step=3) for _ in range(2))
    assert torch.equal(once["input_ids"], twice["input_ids"])
    assert torch.equal(once["labels"], twice["labels"])
    assert not torch.equal(once["input_ids"], clock.corrupt(batch, clock.at(0), step=4)["input_ids"])
    assert torch.equal(batch["input_ids"], ids_BT)
    assert "labels" not in batch


def test_settings_reach_every_parameter_group(clock):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 9.0}])
    weight.grad = torch.ones(2)
    optimizer.step()
    clock.at(210, previous=3).apply(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.5)]
    assert optimizer.state
    clock.at(165, previous=1).apply(optimizer)
    assert not optimizer.state
