"""Phases with their own rotary bases: what trains, what is measured, what is exported, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from composer.core import Callback

from detour.build import build_trainer
from detour.config.load import from_mapping, to_yaml
from detour.errors import CheckpointError, ConfigError
from detour.export.run import export_run
from detour.merging.checkpoints import merge_checkpoints
from detour.models.architecture import Rotary
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import read_architecture
from detour.phase_clock import PhaseClock
from detour.training.run_folder import RunFolder

PHASES = [
    {"name": "stable", "objective": "mlm", "tokens": 1000, "rope": {"theta": 10_000.0}},
    {"name": "extension", "objective": "mlm", "tokens": 1000, "rope": {"theta": 160_000.0, "local_theta": 300.0}},
    {"name": "decay", "objective": "mlm", "tokens": 1000},
]
MODEL = (5000.0, 10_000.0)  # of the architecture
EXPECTED = {0: (10_000.0, 10_000.0), 1: (160_000.0, 300.0), 2: MODEL}


class Watch(Callback):
    """Notes the bases of each training batch, and of each evaluation, with the phase that trained last."""

    def __init__(self) -> None:
        self.trained: list[tuple[int, tuple[float, float]]] = []
        self.evaluated: list[tuple[int, tuple[float, float]]] = []

    def before_forward(self, state, logger) -> None:
        self.trained.append((_phase(state.timestamp.token.value), _bases(state)))

    def eval_before_forward(self, state, logger) -> None:
        last = self.trained[-1][0] if self.trained else 0
        self.evaluated.append((last, _bases(state)))


def _phase(tokens: int) -> int:
    return sum(tokens >= boundary for boundary in (1000, 2000))


def _bases(state) -> tuple[float, float]:
    encoder = next(module for module in state.model.modules() if isinstance(module, Encoder))
    rules = encoder.arch.layer_rules("bidirectional")  # those that a forward pass reads
    return rules[0].rotary.theta, rules[1].rotary.theta


def test_training_evaluation_and_export_have_the_bases_of_the_phase(tiny_run, tmp_path):
    own = {**tiny_run().model.architecture, "global_rope_theta": MODEL[0]}
    run = tiny_run(model={"architecture": own}, phases=PHASES, checkpoint={"keep": 9})
    trainer = build_trainer(run)
    watcher = Watch()
    trainer.state.callbacks.append(watcher)
    trainer.fit()
    trainer.close()
    assert {index for index, _ in watcher.trained} == {0, 1, 2}
    assert all(bases == EXPECTED[index] for index, bases in watcher.trained)
    assert {index for index, _ in watcher.evaluated} == {0, 1, 2}
    assert all(bases == EXPECTED[index] for index, bases in watcher.evaluated)

    folder = RunFolder.of(run)
    saved = sorted(int(path.name.rpartition("-")[2]) for path in folder.checkpoints.iterdir() if "tokens-" in path.name)
    edges = [next(at for at in saved if at >= boundary) for boundary in (1000, 2000, 3000)]
    for index, at in enumerate(edges):  # export_run compares the logits with those of transformers
        export_run(folder.path, tmp_path / str(at), tokens=at)
        config = json.loads((tmp_path / str(at) / "config.json").read_text())
        assert _exported(config) == EXPECTED[index]
    with pytest.raises(
        CheckpointError, match=r"different rotary positions \(theta 10,000; theta 160,000, local_theta 300\)"
    ):
        merge_checkpoints(folder.path, tmp_path / "merged", tokens=edges[:2])


def _exported(config: dict) -> tuple[float, float]:
    """As transformers 4 and 5 write them."""
    if "rope_parameters" in config:
        kinds = ("full_attention", "sliding_attention")
        full, sliding = (config["rope_parameters"][kind]["rope_theta"] for kind in kinds)
        return full, sliding
    return config["global_rope_theta"], config["local_rope_theta"]


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "factor": 2.0}
SCALED = [
    {"name": "stable", "objective": "mlm", "tokens": 1000, "rope": {"scaling": {"rope_type": "default"}}},
    {"name": "extension", "objective": "mlm", "tokens": 1000, "rope": {"theta": 300.0, "scaling": YARN}},
    {"name": "decay", "objective": "mlm", "tokens": 1000},
]


def test_training_and_export_have_the_scaling_of_the_phase(tiny_run, tmp_path):
    shape = {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    run = tiny_run(
        model={"size": "tiny-llama", "architecture": {**shape, "rope_theta": 500.0, "rope_scaling": LINEAR}},
        phases=SCALED,
        checkpoint={"keep": 9},
    )
    trained: list[tuple[int, object]] = []

    class Look(Callback):
        def before_forward(self, state, logger) -> None:
            encoder = next(module for module in state.model.modules() if isinstance(module, Encoder))
            trained.append((_phase(state.timestamp.token.value), encoder.arch.layer_rules("causal")[0].rotary))

    trainer = build_trainer(run)
    trainer.state.callbacks.append(Look())
    trainer.fit()
    trainer.close()
    expected = {0: (500.0, None), 1: (300.0, YARN), 2: (500.0, LINEAR)}
    assert {phase for phase, _ in trained} == {0, 1, 2}
    assert all(rotary == Rotary.of(32, *expected[phase]) for phase, rotary in trained)

    folder = RunFolder.of(run)
    saved = sorted(int(path.name.rpartition("-")[2]) for path in folder.checkpoints.iterdir() if "tokens-" in path.name)
    edges = [next(at for at in saved if at >= boundary) for boundary in (1000, 2000, 3000)]
    for at, (theta, scaling) in zip(edges, expected.values(), strict=True):
        export_run(folder.path, tmp_path / str(at), tokens=at)  # compares the logits with those of transformers
        arch = read_architecture(tmp_path / str(at))
        assert (arch.rope_theta, arch.rope_scaling) == (theta, scaling)
    with pytest.raises(CheckpointError, match=r"different rotary positions \(scaling default; theta 300, scaling yarn"):
        merge_checkpoints(folder.path, tmp_path / "merged", tokens=edges[:2])


def test_a_loop_that_gives_no_encoder_is_refused(tiny_run):
    run = tiny_run(phases=PHASES)
    clock = PhaseClock(phases=run.phase_schedule, wsd=run.schedule, vocab=None, seed=1)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    with pytest.raises(ConfigError, match=r"phases\[2\].rope: phases change it, but apply was given no encoder"):
        clock.at(2500).apply(optimizer)


@pytest.mark.parametrize(
    ("size", "rope", "message"),
    [
        (
            "roberta-base",
            {"scaling": {"rope_type": "default"}},
            "models of the family bert have no rotary positions that could be set",
        ),
        ("roberta-base", {"theta": 1e6}, "models of the family bert have no rotary positions that could be set"),
        (
            "smollm2-135m",
            {"local_theta": 1e6},
            "models of the family llama have one rotary base, theta, and no local_theta",
        ),
    ],
)
def test_a_family_without_the_base_refuses_it(tiny_run, size, rope, message):
    values = yaml.safe_load(to_yaml(tiny_run(phases=PHASES)))
    values["model"] |= {"size": size, "architecture": {}}
    values["phases"] = [{"name": "p", "objective": "mlm", "tokens": 1000, "rope": rope}]
    values["schedule"]["decay_phase"] = None
    with pytest.raises(ConfigError) as error:
        from_mapping(values)
    assert str(error.value) == f"config: phases[0].rope: {message}"


def test_base_and_scaling_of_a_llama_are_those_of_every_layer():
    arch = architecture("smollm2-135m").with_rope(theta=7.0, scaling=YARN)
    assert {rule.rotary for rule in arch.layer_rules("causal")} == {Rotary.of(64, 7.0, YARN)}
