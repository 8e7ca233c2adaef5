"""A configuration is right or it is refused, with every problem named by its full key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detour.config.load import from_mapping, load, to_yaml
from detour.config.schema import RunConfig
from tests.config.values import problems, values

# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "meant"),
    [
        ("sede", "sede", "seed"),
        ("model__sise", "model.sise", "size"),
        ("data__train__0__paht", "data.train[0].paht", "path"),
        ("phases__1__tokns", "phases[1].tokns", "tokens"),
        ("phases__0__freeze__layer", "phases[0].freeze.layer", "layers"),
        ("schedule__peak_rl", "schedule.peak_rl", "peak_lr"),
    ],
)
def test_an_unknown_key_is_named_in_full_with_the_nearest_known_one(path, key, meant):
    assert problems(values(**{path: 1})) == f"config: {key}: unknown key; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("phases__1__options__rat", "phases[1]: objective 'mlm': rat: unknown key; did you mean 'rate'?"),
        ("evaluation__objectives", "evaluation.objectives.mlm: objective 'mlm': rat: unknown key"),
        ("model__architecture", "model.architecture.rat: unknown key"),
    ],
)
def test_an_unknown_key_inside_free_options_is_refused_too(path, message):
    inner = {"mlm": {"rat": 1}} if path.endswith("objectives") else {"rat": 1}
    assert message in problems(values(**{path: 0.1 if path.endswith("rat") else inner}))


def all_keys(cls: type = RunConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key of the schema; a list is entered at its first item."""
    for key, hint in get_type_hints(cls).items():
        yield (*path, key)
        if is_dataclass(hint):
            yield from all_keys(hint, (*path, key))  # type: ignore[arg-type]
        elif get_origin(hint) is list and is_dataclass(get_args(hint)[0]):
            yield from all_keys(get_args(hint)[0], (*path, key, "0"))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(list(all_keys())), st.data())
def test_a_misspelt_key_is_refused_by_name_wherever_it_stands(path, data):
    right = path[-1]
    letter = st.sampled_from("abcdefghijklmnopqrstuvwxyz_")
    at, new = data.draw(st.integers(0, len(right) - 1)), data.draw(letter)
    wrong = data.draw(st.sampled_from([right[:at] + new + right[at + 1 :], right[:at] + right[at + 1 :], right + new]))
    assume(wrong and ".".join((*path[:-1], wrong)) not in {".".join(key) for key in all_keys()})
    assume(not wrong.isdigit() and "__" not in wrong)  # what separates the parts of a path in `values`
    full = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in (*path[:-1], wrong)).lstrip(".")
    assert f"{full}: unknown key" in problems(values(**{"__".join((*path[:-1], wrong)): 1}))


def test_the_walk_over_the_schema_reaches_its_leaves():
    keys = set(all_keys())
    assert {("phases", "0", "freeze", "layers"), ("data", "validation", "0", "path"), ("seed",)} <= keys
    assert len(keys) > 60


# --- types and missing values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "seventeen", "seed: 'seventeen', expected int"),
        ("seed", 1.5, "seed: 1.5, expected int"),
        ("seed", True, "seed: True, expected int"),
        ("seed", None, "seed: "),
        ("name", None, "name: "),
        ("schedule__peak_lr", "fast", "schedule.peak_lr: "),
        ("data__shuffle", "perhaps", "data.shuffle: "),
        ("data__train__0__proportion", "half", "data.train[0].proportion: "),
        ("phases__0__tokens", 1e3, "phases[0].tokens: "),
        ("phases__1__tokens", [1], "phases[1].tokens: "),
        ("phases__1__options", [1], "phases[1].options: "),
        ("phases__1__options", None, "phases[1].options: "),
        ("phases__0", 5, "phases[0]: 5, expected a mapping"),
        ("phases__0__freeze", None, "phases[0].freeze: None, expected a mapping"),
        ("phases", {"detour": {}}, "phases: {'detour': {}}, expected a list"),
        ("model", "tiny", "model: 'tiny', expected a mapping"),
        ("optimizer__betas", [0.9], "optimizer.betas: "),
        ("phases__0__rope", {"thta": 1e4}, "phases[0].rope.thta: unknown key; did you mean 'theta'?"),
        ("phases__0__optimizer", {"beta": 1}, "phases[0].optimizer.beta: unknown key; did you mean 'betas'?"),
        ("phases__0__optimizer", {"clip_norm": "off"}, "phases[0].optimizer.clip_norm: 'off', expected "),
        ("phases__0__optimizer", {"eps": 1e-6}, "phases[0].optimizer.eps: unknown key"),
        ("optimizer__betas", [0.9, 0.98, 0.99], "optimizer.betas: "),
        ("optimizer__betas", 0.9, "optimizer.betas: "),
        ("model__architecture", {"hidden_size": "wide"}, "model.architecture.hidden_size: 'wide', expected int"),
        ("evaluation__objectives", {"mlm": [1]}, "evaluation.objectives.mlm: [1], expected a mapping"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(path, value, message):
    assert problems(values(**{path: value})).startswith(f"config: {message}")


MISSING = ["name", "model.size", "data.seq_len", "phases[0].tokens", "phases[1].objective", "schedule.peak_lr"]


@pytest.mark.parametrize("key", MISSING)
@pytest.mark.parametrize("written", ["absent", "???"])
def test_a_missing_value_without_a_default_is_named(key, written):
    run: Any = values()
    *parents, last = key.replace("[", ".").replace("]", "").split(".")
    at = run
    for part in parents:
        at = at[int(part) if part.isdigit() else part]
    if written == "absent":
        del at[last]
    else:
        at[last] = written
    assert problems(run) == f"config: {key}: missing, and it has no default"


def test_a_missing_section_is_reported_by_the_keys_it_must_hold():
    run = values()
    del run["checkpoint"]
    assert problems(run) == "config: checkpoint.interval_tokens: missing, and it has no default"


def test_every_problem_is_in_the_one_message():
    message = problems(values(sede=1, name=None, phases__0__tokens="many", data__train__0__paht="x", system="cpu"))
    assert message.startswith("config: 5 problems\n")
    for key in ("sede", "name", "phases[0].tokens", "data.train[0].paht", "system"):
        assert f"\n  - {key}: " in message


def test_every_contradiction_is_in_the_one_message():
    message = problems(values(checkpoint__keep=0, phases__0__tokens=0, optimizer__eps=-1.0))
    assert message.startswith("config: 3 problems\n")


# --- the result -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 3, "folder": "elsewhere", "optimizer__betas": [0.8, 0.9], "optimizer__clip_norm": 1.0},
        {"model__architecture": {"hidden_size": 64}, "phases__0__freeze": {"layers": "0-2", "embeddings": True}},
        {"evaluation__objectives": {"clm": {}}, "logging__wandb_project": "p: [odd] #name", "data__validation": []},
        {"schedule__peak_lr": 1e-05, "schedule__final_lr": 1e-20, "phases__1__options": {"rate": 0.1 + 0.2}},
        {"data__train": [{"path": "a b", "proportion": 1 / 3}, {"path": "007", "proportion": 2 / 3}]},
    ],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_to_yaml_is_read_back_as_an_equal_run(write, changes):
    run = from_mapping(values(**changes))
    assert load(write(to_yaml(run))) == run


def test_to_yaml_says_every_default(write):
    written = yaml.safe_load(to_yaml(from_mapping(values())))
    assert written.keys() == {field.name for field in fields(RunConfig)}
    assert written["optimizer"]["betas"] == [0.9, 0.98]


def test_a_run_cannot_be_changed():
    run = from_mapping(values())
    with pytest.raises(FrozenInstanceError):
        run.seed = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        run.phases[0].tokens = 1  # type: ignore[misc]
