"""A configuration is right or it is refused, with every problem named by its full key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detour.config.load import from_mapping, load, to_yaml
from detour.config.schema import RunConfig
from detour.errors import ConfigError


def values(**changes: Any) -> dict[str, Any]:
    """A small valid run; ``model__size="x"`` or ``phases__0__tokens=1`` replaces one value."""
    run: dict[str, Any] = {
        "name": "run",
        "model": {"size": "tiny", "tokenizer": "folder"},
        "data": {
            "train": [{"path": "rows"}],
            "validation": [{"path": "held-out"}],
            "seq_len": 64,
            "global_batch_size": 4,
            "micro_batch_size": 2,
        },
        "phases": [
            {
                "name": "detour",
                "objective": "clm",
                "tokens": 1000,
                "freeze": {"layers": "0"},
                "data": {"train": [{"path": "others"}]},
            },
            {"name": "decay", "objective": "mlm", "tokens": 300, "options": {"rate": 0.15}},
        ],
        "schedule": {"peak_lr": 1e-3, "final_lr": 1e-4, "warmup_tokens": 10, "decay_phase": "decay"},
        "optimizer": {},
        "system": {},
        "checkpoint": {"interval_tokens": 100},
        "evaluation": {"interval_tokens": 100},
        "logging": {},
    }
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        at: Any = run
        for part in parents:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        at[last] = value
    return run


def problems(run: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(run)
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path):
    """Writes a YAML of the given values or text and returns its path."""

    def write(content: dict | str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


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


# --- contradictions: one case for each check ------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__size": "tinny"}, "model.size: no 'tinny'; did you mean 'tiny'?"),
        (
            {"model__architecture": {"num_attention_heads": 3}},
            "architecture: hidden_size 128 over num_attention_heads 3",
        ),
        ({"model__architecture": {"num_attention_heads": 0}}, "architecture: num_attention_heads is 0"),
        ({"model__attention_backend": "flsh"}, "model.attention_backend: 'flsh'; did you mean 'flash'?"),
        ({"model__tokenizer": None}, "model.tokenizer: missing"),
        ({"data__train": []}, "data.train: empty"),
        (
            {"data__train": [{"path": "a", "proportion": 1.0}, {"path": "b"}]},
            "data.train: proportion is given for some",
        ),
        ({"data__train__0__proportion": 0.0}, "data.train: every proportion must be above 0"),
        ({"data__train__0__proportion": NAN}, "data.train: every proportion must be above 0"),
        ({"data__train__0__proportion": 0.9}, "data.train: proportions sum to 0.9, expected 1"),
        (
            {"data__validation__0__proportion": 2.0},
            "data.validation: rows are drawn in proportion to the folders' sizes",
        ),
        ({"data__train__0__name": "x"}, "data.train: name is for folders of held-out rows, as in data.validation"),
        ({"data__validation__0__name": "a/b"}, "data.validation: the name 'a/b' holds '/'"),
        (
            {"data__validation": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]},
            "data.validation: 2 folders are called 'x'",
        ),
        ({"data__seq_len": 7}, "data.seq_len: 7, expected at least 8"),
        ({"data__global_batch_size": 0}, "data.global_batch_size: 0, expected at least 1"),
        ({"data__micro_batch_size": 0}, "data.micro_batch_size: 0, expected at least 1"),
        ({"data__canonical_nodes": 0}, "data.canonical_nodes: 0, expected at least 1"),
        ({"data__timeout_seconds": 0}, "data.timeout_seconds: 0, expected at least 1"),
        ({"data__workers": -1}, "data.workers: -1, expected at least 0"),
        ({"data__shuffle_seed": -1}, "data.shuffle_seed: -1, expected 0 to 4294967295"),
        ({"phases": [], "schedule__decay_phase": None, "schedule__warmup_tokens": 0}, "phases: empty"),
        ({"phases__0__name": "decay"}, "phases: the name 'decay' is used 2 times"),
        ({"phases__0__objective": "clmm"}, "phases[0]: objectives: no 'clmm'; did you mean 'clm'?"),
        ({"phases__1__options": {"rate": 2.0}}, "phases[1]: objective 'mlm': "),
        ({"phases__0__freeze__layers": "0-99"}, "phases[0].freeze.layers: '0-99' is not a range of layers 0 to 3"),
        ({"phases__0__freeze__layers": "low"}, "phases[0].freeze.layers: 'low' is not a list of layers"),
        ({"phases__0__optimizer_state": "drop"}, "phases[0].optimizer_state: 'drop'; expected one of keep, reset"),
        ({"phases__0__tokens": 0}, "phases[0].tokens: 0, expected at least one step of 256 tokens"),
        ({"phases__1__rewarm_tokens": 301}, "phases[1].rewarm_tokens: 301, expected 0 to the phase's 300 tokens"),
        ({"phases__1__rewarm_tokens": -1}, "phases[1].rewarm_tokens: -1, expected 0"),
        ({"phases__0__lr_factor": -0.1}, "phases[0].lr_factor: -0.1, expected at least 0"),
        ({"phases__0__lr_factor": NAN}, "phases[0].lr_factor: nan, expected at least 0"),
        (
            {"phases__0__optimizer": {"betas": [0.9, 1.0]}},
            "phases[0].optimizer.betas: [0.9, 1.0], expected two numbers",
        ),
        (
            {"phases__0__optimizer": {"weight_decay": -1.0}},
            "phases[0].optimizer.weight_decay: -1.0, expected at least 0",
        ),
        (
            {"phases__0__optimizer": {"clip_norm": 0.0}},
            "phases[0].optimizer.clip_norm: 0.0, expected a number above 0, or",
        ),
        (
            {"phases__0__optimizer": {"clip_norm": NAN}},
            "phases[0].optimizer.clip_norm: nan, expected a number above 0, or",
        ),
        (
            {"phases__0__rope": {"theta": 0.0}},
            "phases[0].rope: architecture: global_rope_theta is 0.0, expected a number",
        ),
        (
            {"phases__0__rope": {"scaling": {"rope_type": "yarn", "factor": 8.0}}},
            "phases[0].rope: architecture: global_rope_scaling has factor, rope_type; yarn takes rope_type, factor, orig",
        ),
        (
            {"phases__0__rope": {"local_theta": NAN}},
            "phases[0].rope: architecture: local_rope_theta is nan, expected a",
        ),
        ({"schedule__shape": "cosin"}, "schedule.shape: 'cosin'; did you mean 'cosine'?"),
        ({"schedule__decay_phase": "decoy"}, "schedule.decay_phase: 'decoy'; did you mean 'decay'?"),
        ({"schedule__final_lr": 1.0}, "schedule: final_lr 1.0 and peak_lr 0.001"),
        ({"schedule__final_lr": -1.0}, "schedule: final_lr -1.0 and peak_lr 0.001"),
        ({"schedule__peak_lr": 0.0, "schedule__final_lr": 0.0}, "schedule: final_lr 0.0 and peak_lr 0.0"),
        ({"schedule__peak_lr": INF}, "schedule: final_lr 0.0001 and peak_lr inf"),
        ({"schedule__warmup_tokens": 1301}, "schedule.warmup_tokens: 1301, expected 0 to the run's 1300 tokens"),
        ({"schedule__warmup_tokens": -1}, "schedule.warmup_tokens: -1, expected 0"),
        ({"optimizer__name": "adam"}, "optimizer.name: 'adam'; did you mean 'adamw'?"),
        ({"optimizer__betas": [0.9, 1.0]}, "optimizer.betas: [0.9, 1.0], expected two numbers in [0, 1)"),
        ({"optimizer__weight_decay": -1e-5}, "optimizer.weight_decay: -1e-05, expected at least 0"),
        ({"optimizer__eps": NAN}, "optimizer.eps: nan, expected at least 0"),
        ({"optimizer__clip_norm": 0.0}, "optimizer.clip_norm: 0.0, expected a number above 0"),
        ({"system__device": "tpu"}, "system.device: 'tpu'"),
        ({"system__precision": "fp16"}, "system.precision: 'fp16'"),
        ({"system__parallelism": "dp"}, "system.parallelism: 'dp'"),
        ({"system__timeout_seconds": 0}, "system.timeout_seconds: 0, expected at least 1"),
        ({"system__max_minutes": -1.0}, "system.max_minutes: -1.0, expected at least 0"),
        ({"guard__max_skips": -1}, "guard.max_skips: -1, expected at least 0"),
        ({"guard__spike_factor": 1.0}, "guard.spike_factor: 1.0, expected a number above 1"),
        ({"guard__spike_factor": NAN}, "guard.spike_factor: nan, expected a number above 1"),
        ({"guard__spike_window": 0}, "guard.spike_window: 0, expected at least 1"),
        ({"checkpoint__interval_tokens": 0}, "checkpoint.interval_tokens: 0, expected at least 1"),
        ({"checkpoint__keep": 0}, "checkpoint.keep: 0, expected at least 1"),
        ({"evaluation__interval_tokens": 0}, "evaluation.interval_tokens: 0, expected at least 1"),
        ({"evaluation__rows": 0}, "evaluation.rows: 0, expected at least 1"),
        ({"evaluation__objectives": {"mmlm": {}}}, "evaluation.objectives.mmlm: objectives: no 'mmlm'"),
        ({"seed": -1}, "seed: -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed: 4294967296, expected 0 to 4294967295"),
        ({"name": "a/b"}, "name: 'a/b' holds '/', which would make it a path"),
        ({"name": ".."}, "name: '..' begins with a dot"),
        ({"name": ""}, "name: '' is empty"),
        ({"name": "x" * 300}, f"name: '{'x' * 80}' is 300 bytes long, expected at most 200"),
        ({"name": "a\n---\nb"}, "name: 'a\\n---\\nb' holds the character U+000A"),
        ({"phases__0__name": "a\nb"}, "phases[0].name: 'a\\nb' holds the character U+000A"),
        ({"data__micro_batch_size": 2**40}, "data.micro_batch_size: 1099511627776, expected at most 1048576"),
        ({"data__workers": 10**9}, "data.workers: 1000000000, expected at most 1024"),
        ({"system__timeout_seconds": 10**12}, "system.timeout_seconds: 1000000000000, expected at most 10000000"),
        ({"evaluation__rows": 2**40}, "evaluation.rows: 1099511627776, expected at most"),
        ({"phases__0__tokens": 10**30}, "phases: 1000000000000000000000000000"),
        ({"model__architecture": {"vocab_size": 2**40}}, "architecture: vocab_size is 1099511627776, expected 1 to"),
        (
            {
                "data__cache_gigabytes": 0.0,
                "data__train": [{"path": "a", "remote": "b"}],
                "phases__0__data": {"train": [{"path": "c", "remote": "d"}]},
            },
            "data.cache_gigabytes: 0.0, expected",
        ),
        ({"data__train": [{"path": "a"}, {"path": "./b/../a"}]}, "data.train: the folder "),
        ({"data__validation": [{"path": "a"}, {"path": "a/"}]}, "data.validation: the folder "),
        ({"data__train": [{"path": "a\0b"}]}, "data.train[0].path: 'a\\x00b' cannot be a path"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_a_contradiction_is_refused(changes, message):
    found = problems(values(**changes))
    assert found.startswith(f"config: {message}"), found


@pytest.mark.parametrize(
    "changes",
    [
        {"model__init": "folder", "model__tokenizer": None},
        {"data__train": [{"path": "a", "proportion": 0.3}, {"path": "b", "proportion": 0.7}]},
        {"data__seq_len": 8},
        {"phases__1__rewarm_tokens": 100},
        {"phases__0__lr_factor": 0.0},
        {"phases__0__optimizer": {"betas": [0.0, 0.5], "weight_decay": 0, "clip_norm": "none"}},
        {"schedule__warmup_tokens": 1100},
        {"schedule__final_lr": 1e-3},
        {"optimizer__clip_norm": 1.0},
        {"seed": 2**32 - 1},
        {"evaluation__objectives": {}},
    ],
    ids=str,
)
def test_the_edges_of_what_is_allowed_are_allowed(changes):
    assert isinstance(from_mapping(values(**changes)), RunConfig)


def test_the_objectives_that_are_named_are_the_ones_evaluated():
    run = from_mapping(values(evaluation__objectives={"clm": None}))
    assert dict(run.evaluation.objectives) == {"clm": None}
    assert set(from_mapping(values()).evaluation.objectives) == {"mlm", "clm"}


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "found duplicate key seed"),
        ("phases:\n  - {name: a, name: b}", "found duplicate key name"),
        ("name: [", "while parsing"),
        ("- name: run", "expected a mapping of keys to values"),
        ("name: !!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
        ("name: !!python/name:os.getcwd", "could not determine a constructor for the tag"),
        ("name: ${nothing}", "Interpolation key 'nothing' not found"),
        ("extends: ${nothing}", "Interpolation key 'nothing' not found"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused_by_its_name(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_file_that_is_absent_or_not_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "noise.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"noise\.yaml"):
        load(tmp_path / "noise.yaml")


def test_problems_begin_with_the_file_s_name(write):
    path = write(values(sede=1))
    with pytest.raises(ConfigError) as caught:
        load(path)
    line = 1 + path.read_text().splitlines().index("sede: 1")
    assert str(caught.value) == f"{path}: sede: unknown key; did you mean 'seed'? (line {line})"


def test_extends_merges_mappings_and_replaces_lists(write):
    write(values(seed=5, schedule__final_lr=5e-4), "base.yaml")
    child = {"extends": "base.yaml", "schedule": {"peak_lr": 2e-3, "decay_phase": "only"}}
    child["phases"] = [{"name": "only", "objective": "mlm", "tokens": 770}]
    run = load(write(child))
    assert (run.seed, run.schedule.peak_lr, run.schedule.final_lr) == (5, 2e-3, 5e-4)
    assert [(phase.name, phase.tokens) for phase in run.phases] == [("only", 770)]
    assert run.phases[0].freeze.layers == ""


def test_extends_is_relative_to_the_file(write, tmp_path):
    (tmp_path / "inner").mkdir()
    write(values(seed=5), "base.yaml")
    assert load(write("extends: ../base.yaml", "inner/run.yaml")).seed == 5


def test_extending_an_absent_file_names_it(write):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load(write("extends: nowhere.yaml"))


def test_extends_goes_to_any_depth_the_nearest_file_wins_and_paths_are_relative_to_each_file(write, tmp_path):
    (tmp_path / "inner").mkdir()
    write(values(seed=5, schedule__peak_lr=4e-3, schedule__final_lr=5e-4), "a.yaml")
    write("extends: ../a.yaml\nseed: 6\nschedule: {final_lr: 3e-4}", "inner/b.yaml")
    write("extends: b.yaml\nschedule: {final_lr: 2e-4}", "inner/c.yaml")
    run = load(write("extends: inner/c.yaml\nseed: 7", "d.yaml"))
    assert (run.seed, run.schedule.peak_lr, run.schedule.final_lr) == (7, 4e-3, 2e-4)
    for depth in range(40):
        write(
            f"extends: {'d' if depth == 0 else f'long{depth - 1}'}.yaml\ndata: {{shuffle_seed: {depth}}}",
            f"long{depth}.yaml",
        )
    assert load(tmp_path / "long39.yaml").data.shuffle_seed == 39


def test_a_problem_in_a_base_two_files_away_names_that_file_and_line(write, tmp_path):
    text = write(values(sede=1), "a.yaml").read_text()
    write("extends: a.yaml", "b.yaml")
    with pytest.raises(ConfigError) as caught:
        load(write("extends: b.yaml"))
    line = 1 + text.splitlines().index("sede: 1")
    assert f"did you mean 'seed'? (line {line} of {tmp_path / 'a.yaml'})" in str(caught.value)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_files_that_extend_one_another_in_a_circle_are_refused_with_the_chain(write, tmp_path, length):
    for i in range(length):
        write(f"extends: f{(i + 1) % length}.yaml\nseed: {i}", f"f{i}.yaml")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "f0.yaml")
    chain = [str(tmp_path / f"f{i % length}.yaml") for i in range(length + 1)]
    assert str(caught.value) == f"{chain[0]}: extends itself: {', which extends '.join(chain)}"


def test_a_circle_further_up_is_found_too(write):
    write("extends: b.yaml", "a.yaml")
    write("extends: ./../{}/a.yaml".format(write("", "x.yaml").parent.name), "b.yaml")
    with pytest.raises(ConfigError, match=r"extends itself: .*run\.yaml, which extends .*a\.yaml, which extends"):
        load(write("extends: a.yaml", "run.yaml"))


def test_a_list_over_a_mapping_is_refused_when_extending(write):
    write(values(), "base.yaml")
    path = write("extends: base.yaml\nschedule: [1]")
    with pytest.raises(ConfigError, match="extends") as caught:
        load(path)
    assert str(path) in str(caught.value)


# --- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("seed=3", lambda run: run.seed, 3),
        ("schedule.peak_lr=5e-3", lambda run: run.schedule.peak_lr, 5e-3),
        ("phases.0.tokens=1234", lambda run: run.phases[0].tokens, 1234),
        ("phases[1].tokens=1_000", lambda run: run.phases[1].tokens, 1000),
        ("phases.1.options.rate=2e-1", lambda run: run.phases[1].options["rate"], 0.2),
        ("data.train=[{path: a}, {path: b}]", lambda run: [s.path for s in run.data.train], ["a", "b"]),
        ("optimizer.clip_norm=1.0", lambda run: run.optimizer.clip_norm, 1.0),
        ("optimizer.clip_norm=null", lambda run: run.optimizer.clip_norm, None),
        ("logging.wandb_project=a=b", lambda run: run.logging.wandb_project, "a=b"),
        ("logging.progress_bar=false", lambda run: run.logging.progress_bar, False),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_an_override_sets_one_value(write, override, read, expected):
    assert read(load(write(values()), [override])) == expected
    assert read(load(write(values()))) != expected or expected is None


def test_later_overrides_win_and_the_parent_is_overridden_too(write):
    write(values(), "base.yaml")
    assert load(write("extends: base.yaml\nseed: 4"), ["seed=5", "seed=6"]).seed == 6


@pytest.mark.parametrize(
    "override",
    ["seed", "=3", "", "seed=[", "phases.9.tokens=1", "phases.first.tokens=1", "data.train.1.path=b", "name=${x"],
)
def test_a_malformed_override_is_quoted_back(write, override):
    with pytest.raises(ConfigError) as caught:
        load(write(values()), [override])
    assert str(caught.value).startswith(f"override '{override}': ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=3", "sede: unknown key; did you mean 'seed'?"),
        ("phases.0.tokns=3", "phases[0].tokns: unknown key"),
        ("seed=abc", "seed: 'abc', expected int"),
        ("schedule=5", "schedule: 5, expected a mapping"),
        ("extends=other.yaml", "extends: unknown key"),
    ],
)
def test_an_override_is_checked_like_the_file(write, override, message):
    with pytest.raises(ConfigError, match=r"run\.yaml: ") as caught:
        load(write(values()), [override])
    assert message in str(caught.value)


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
