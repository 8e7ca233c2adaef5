"""Configuration files: what one may hold, ``extends`` to any depth, overrides of the command line."""

from __future__ import annotations

import pytest

from detour.config.load import load
from detour.errors import ConfigError
from tests.config.values import values

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
