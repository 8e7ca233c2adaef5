"""What a YAML adds to a run: plugins, callbacks, loggers, algorithms."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import catalogue
import pytest
import torch
import yaml
from composer.core import Algorithm, Callback, Event
from composer.loggers import LoggerDestination

from detour import extensions, objectives
from detour.build import build_trainer, close
from detour.cli.main import main
from detour.config.load import from_mapping, load, to_yaml
from detour.errors import ConfigError
from detour.extensions import Extensions, register_algorithm, register_callback, register_logger
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder

OBJECTIVE = '''
from dataclasses import dataclass
from detour import IGNORE, Objective, register_objective


@register_objective("first_half")
@dataclass(frozen=True, kw_only=True)
class FirstHalf(Objective):
    """Copies the first half of each row."""

    offset: int = 0

    def corrupt(self, batch, vocab, rng):
        labels = batch["input_ids"].clone()
        labels[:, labels.shape[1] // 2 :] = IGNORE
        return {**batch, "labels": labels}

    def target_fraction(self, mean_document_tokens):
        return 0.5
'''
PHASES = [{"name": "only", "objective": "first_half", "tokens": 1000, "options": {"offset": 1}}]


@pytest.fixture(autouse=True)
def _forget(monkeypatch) -> Iterator[None]:
    """What a test registers or imports, and where modules may lie, is forgotten at its end."""
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_spans", None)


@pytest.fixture
def write(tiny_run, tmp_path):
    """Writes a run's YAML into a folder of its own, with changes that may name what is not registered yet."""

    def write(plugin: str | None = None, **changes: Any) -> Path:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        if plugin is not None:
            (folder / "my_spans.py").write_text(plugin)
        values = {**yaml.safe_load(to_yaml(tiny_run("mine"))), **changes}
        (folder / "run.yaml").write_text(yaml.safe_dump(values))
        return folder / "run.yaml"

    return write


@pytest.fixture
def with_objective(write):
    return write(OBJECTIVE, plugins=["my_spans"], phases=PHASES, schedule={"peak_lr": 1e-3, "final_lr": 1e-4})


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


# --- plugins --------------------------------------------------------------------------------------------------------


def test_an_objective_in_one_file_beside_the_yaml_is_planned_trained_and_recorded(with_objective, capsys):
    assert code_of("plan", str(with_objective)) == 0
    assert "first_half" in capsys.readouterr().out
    assert code_of("train", str(with_objective)) == 0
    run = load(with_objective)
    folder = RunFolder.of(run)
    assert yaml.safe_load((folder.path / "config.yaml").read_text())["plugins"] == ["my_spans"]
    state = checkpoints.listing(folder.checkpoints)[-1].state()
    assert state["run"]["config"]["plugins"] == ["my_spans"]
    assert "loss/train/first_half" in folder.metrics.read_text()


def test_a_plugin_is_found_in_the_current_folder_too_as_main_py_would(write, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_spans.py").write_text(OBJECTIVE)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(write(plugins=["my_spans"], phases=PHASES, schedule={"peak_lr": 1e-3, "final_lr": 0.0})).phases


def test_a_plugin_lies_beside_the_file_that_an_extending_one_extends(write, with_objective, tmp_path):
    (tmp_path / "variant.yaml").write_text("extends: mine/run.yaml\nname: variant\n")
    assert load(tmp_path / "variant.yaml").plugins == ["my_spans"]


def test_an_override_names_a_plugin(write):
    path = write(OBJECTIVE, phases=PHASES, schedule={"peak_lr": 1e-3, "final_lr": 0.0})
    assert load(path, ["plugins=[my_spans]"]).phases[0].objective == "first_half"


def test_a_recorded_configuration_imports_nothing(with_objective, tmp_path, monkeypatch):
    values = yaml.safe_load(with_objective.read_text())
    monkeypatch.syspath_prepend(with_objective.parent)
    with pytest.raises(ConfigError, match="no 'first_half'"):
        from_mapping(values)
    assert "my_spans" not in sys.modules


def test_commands_on_a_run_folder_import_no_plugin_unless_it_is_named(with_objective, capsys, monkeypatch):
    train(run := load(with_objective))
    folder = str(RunFolder.of(run).path)
    other = shutil.copytree(folder, f"{folder}-copy")
    del sys.modules["my_spans"], catalogue.REGISTRY["detour", "objectives", "first_half"]
    monkeypatch.setattr(sys, "path", [*sys.path, str(with_objective.parent)])
    for command in (
        ["report", folder],
        ["export", folder, "--out", f"{folder}-encoder"],
        ["compare", folder, other],
    ):
        assert code_of(*command) == 0
        assert "my_spans" not in sys.modules
    assert code_of("compare", folder, other, "--plugin", "my_spans") == 0
    assert "my_spans" in sys.modules


def test_an_unknown_objective_says_how_to_make_one_known(write):
    with pytest.raises(ConfigError) as caught:
        load(write(phases=PHASES, schedule={"peak_lr": 1e-3, "final_lr": 0.0}))
    text = str(caught.value)
    assert "phases[0]: objectives: no 'first_half'; known: alternate, clm, mask" in text
    assert "list the module that registers it under plugins:" in text
    assert "entry point in the group detour_objectives" in text


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, r"run\.yaml: plugins\[0\]: no module 'my_spans' in .*mine.* or among the installed packages"),
        ("import no_such_library", r"'my_spans' cannot be imported: ModuleNotFoundError: No module named 'no_such_lib"),
        ("def", r"'my_spans' cannot be imported: SyntaxError: "),
        ("raise ValueError('of its own')", r"'my_spans' cannot be imported: ValueError: of its own"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_error(write, code, message):
    with pytest.raises(ConfigError, match=message):
        load(write(code, plugins=["my_spans"]))


@pytest.mark.parametrize("name", ["a/b", "", "a..b", "my lab"])
def test_a_plugin_is_named_as_a_module(tiny_run, name):
    with pytest.raises(ConfigError, match=r"plugins\[0\]: .*expected the dotted name of a Python module"):
        tiny_run(plugins=[name])


# --- callbacks, loggers, algorithms ---------------------------------------------------------------------------------


class Counter(Callback):
    """Counts the batches trained, and draws random numbers while it is built."""

    def __init__(self, seen: list[int] | None = None, every: int = 1) -> None:
        self.seen, self.every = [] if seen is None else seen, every
        torch.rand(3)

    def batch_end(self, state, logger) -> None:
        if state.timestamp.batch.value % self.every == 0:
            self.seen.append(state.timestamp.batch.value)


def weights_of(run) -> dict[str, torch.Tensor]:
    return checkpoints.listing(RunFolder.of(run).checkpoints)[-1].tensors("model")


def test_a_callback_of_the_yaml_sees_every_batch_and_changes_no_weight(tiny_run):
    seen: list[int] = []
    register_callback("counter")(lambda every=1: Counter(seen, every))
    train(plain := tiny_run("plain"))
    train(counted := tiny_run("counted", callbacks={"counter": None}))
    lines = [json.loads(line) for line in RunFolder.of(counted).metrics.read_text().splitlines()]
    assert seen == [line["batch"] for line in lines if "loss/train/total" in line]
    before, after = weights_of(plain), weights_of(counted)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_options_reach_a_callback_and_those_given_in_python_come_after(tiny_run):
    register_callback("counter")(Counter)
    mine = Counter(every=5)
    trainer = build_trainer(tiny_run(callbacks={"counter": {"every": 3}}), callbacks=[mine])
    first, second = [each for each in trainer.state.callbacks if isinstance(each, Counter)]
    close(trainer)
    assert first.every == 3
    assert second is mine


def test_train_takes_callbacks(tiny_run):
    train(tiny_run(), callbacks=[counter := Counter()])
    assert len(counter.seen) >= 12


def test_algorithms_and_loggers_of_the_yaml_and_of_python_run(tiny_run):
    class Watch(Algorithm):
        def __init__(self) -> None:
            self.batches = 0

        def match(self, event, state) -> bool:
            return event == Event.BATCH_END

        def apply(self, event, state, logger) -> None:
            self.batches += 1

    class Numbers(LoggerDestination):
        def __init__(self, run=None) -> None:
            self.run, self.names = run, set()

        def log_metrics(self, metrics, step=None) -> None:
            self.names |= metrics.keys()

    watch, numbers = Watch(), Numbers()
    made: list[Numbers] = []
    register_algorithm("watch")(lambda: watch)

    @register_logger("numbers")
    def numbers_of(run) -> LoggerDestination:
        made.append(Numbers(run))
        return made[0]

    run = tiny_run(algorithms={"watch": {}}, loggers={"numbers": {}})
    train(run, algorithms=[other := Watch()], loggers=[numbers])
    assert watch.batches == other.batches >= 12
    assert made[0].names == numbers.names > {"loss/train/total", "phase/index"}
    assert made[0].run == run


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"callbacks": {"countr": {}}}, "callbacks: no 'countr'; did you mean 'counter'?; known: counter. To add one, list"),
        ({"callbacks": {"counter": {"evry": 2}}}, "callbacks.counter: evry: unknown key; did you mean 'every'?"),
        ({"callbacks": {"counter": {"every": "2"}}}, "callbacks.counter: every: '2', expected int"),
        ({"callbacks": {"counter": [2]}}, "callbacks.counter: [2], expected a mapping of its options"),
        ({"loggers": {"tensorbord": {}}}, "loggers: no 'tensorbord'; did you mean 'tensorboard'?"),
        ({"loggers": {"tensorboard": {"flush_interval": 1.5}}}, "loggers.tensorboard: flush_interval: 1.5, expected int"),
        ({"loggers": {"neptune": {"mode": "of"}}}, "loggers.neptune: mode: 'of', expected one of async"),
    ],
)  # fmt: skip
def test_what_is_unknown_or_does_not_fit_is_refused_before_anything_is_read(tiny_run, sections, message):
    register_callback("counter")(Counter)
    with pytest.raises(ConfigError) as caught:
        build_trainer(tiny_run(data={"train": [{"path": "no/such/rows"}]}, **sections))
    assert message in str(caught.value)


def test_a_plan_refuses_an_unknown_callback(write, capsys):
    assert code_of("plan", str(write(callbacks={"nobody": {}}))) == 1
    assert "callbacks: no 'nobody'" in capsys.readouterr().err


def test_a_section_refuses_what_is_of_another_kind(tiny_run):
    register_callback("a_number")(lambda: 5)
    with pytest.raises(ConfigError, match=r"callbacks\.a_number: makes a int, expected a Callback of Composer"):
        build_trainer(tiny_run(callbacks={"a_number": {}}))


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "comet", "neptune"])
def test_a_logger_whose_package_is_missing_is_one_error(tiny_run, name):
    package = {"comet": "comet_ml"}.get(name, name)
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=rf"^loggers\.{name}: .*{package.split('_')[0]}"):
        build_trainer(tiny_run(loggers={name: {}}))


def test_tensorboard_writes_into_the_run_folder(tiny_run):
    pytest.importorskip("tensorboard")
    train(run := tiny_run(loggers={"tensorboard": {"flush_interval": 1}}))
    written = list((RunFolder.of(run).path / "tensorboard").rglob("events.out.tfevents.*"))
    assert sum(path.stat().st_size for path in written) > 1000


def test_keyword_arguments_that_a_factory_takes_freely_pass_unchecked():
    section = Extensions("things_with_any_option")

    def made(size: int, **rest: Any) -> dict[str, Any]:
        return {"size": size, **rest}

    section.register("open")(made)
    assert section.build("open", {"size": 2, "color": "red"}, None) == {"size": 2, "color": "red"}
    with pytest.raises(ConfigError, match="size: missing"):
        section.options("open", {"color": "red"})


def test_the_three_sections_have_registries_of_their_own():
    register_callback("same")(len)
    register_logger("same")(max)
    assert [section.section for section in extensions.SECTIONS] == ["callbacks", "loggers", "algorithms"]
    assert "same" not in extensions.algorithms.registry.names()
    assert "same" not in objectives.registry.names()
