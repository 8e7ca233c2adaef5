"""A comparison of runs: nothing that differs or is unknown passes for equal, and what is equal is not called different."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from detour.cli.main import main
from detour.config.load import from_mapping
from detour.data.fingerprint import Fingerprint
from detour.errors import ConfigError, DataError, DetourError
from detour.export.run import export_run
from detour.report.compare import compare_runs
from detour.report.compare_tables import as_json, final_losses
from detour.report.compared_run import UNKNOWN
from detour.report.notes import reading_notes
from detour.train import train
from detour.training.run_folder import RunFolder

ENVIRONMENT = {"detour": "1", "commit": "c0ffee", "python": "3.11", "machine": "cpu", "processes": 1, "torch": "2.7"}
RESOLVED = {"system.device": "cpu", "model.attention_backend": "sdpa"}


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return int(exit.value.code or 0)


def fingerprint_of(batches: int, *, other_from: int | None = None) -> dict:
    """Of so many batches of four rows; from one of them on other rows."""
    found = Fingerprint()
    for batch in range(batches):
        value = batch if other_from is None or batch < other_from else -batch
        found.add(torch.tensor([value, 0, 4]))
    return found.state_dict()


def make(
    folder: Path, config: dict, *, batches: int = 12, rows: dict | None = None, change=lambda record: None
) -> Path:
    """A finished run's folder, as training leaves it, with a record that ``change`` has worked on."""
    record = {
        "config": copy.deepcopy(config), "tokenizer": "a" * 64, "data": [["b" * 64, None]], "validation": ["c" * 64],
        "start_weights": "d" * 64, "resolved": dict(RESOLVED), "environment": dict(ENVIRONMENT),
    }  # fmt: skip
    change(record)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "metrics.jsonl").write_text("")
    tokens = sum(phase["tokens"] for phase in config["phases"])
    entries = [
        {"phase": p["name"], "objective": p["objective"], "tokens": p["tokens"], "supervised": 10, "flops": 1e6,
         "device_seconds": 1.5, "matmul_flops": 2e6, "steps": 4, "skipped": 0}
        for p in config["phases"]
    ]  # fmt: skip
    state = {
        "timestamp": {"batch": batches},
        "run": record,
        "callbacks": {"Ledger": {"entries": entries, "fingerprint": rows or fingerprint_of(batches)}},
    }
    checkpoint = folder / "checkpoints" / f"tokens-{tokens:015d}"
    checkpoint.mkdir(parents=True)
    write_state(checkpoint, state)
    return folder


def write_state(checkpoint: Path, state: object) -> None:
    text = json.dumps(state)
    (checkpoint / "state.json").write_text(text)
    files = {"state.json": {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}}
    (checkpoint / "manifest.json").write_text(json.dumps({"files": files}))


@pytest.fixture
def config(tiny_run) -> dict:
    return asdict(tiny_run("first"))


def changed(config: dict, **changes) -> dict:
    """Another run's configuration: ``changed(config, schedule__peak_lr=1)``, numbers for items of lists."""
    result = copy.deepcopy(config) | {"name": changes.pop("name", "second")}
    for key, value in changes.items():
        *above, last = [int(part) if part.isdigit() else part for part in key.split("__")]
        place = result
        for part in above:
            place = place[part]
        place[last] = value
    return result


CASES = {  # what the two runs of the first attempt differed in and were told to be the same
    "schedule.peak_lr": {"schedule__peak_lr": 1e-5},
    "optimizer.weight_decay": {"optimizer__weight_decay": 0.3},
    "phases[0].options.rate": {"phases__0__options": {"rate": 0.7}},
    "phases[1].rope.theta": {"phases__1__rope": {"theta": 1e6, "local_theta": None}},
    "phases[1].optimizer.weight_decay": {
        "phases__1__optimizer": {"betas": None, "weight_decay": 0.3, "clip_norm": None}
    },
    "seed": {"seed": 18},
    "model.architecture.num_hidden_layers": {"model__architecture": {"num_hidden_layers": 5}},
    "evaluation.objectives.mlm.rate": {"evaluation__objectives": {"mlm": {"rate": 0.2}, "clm": {}}},
    "evaluation.objectives.clm": {"evaluation__objectives": {"mlm": {"rate": 0.15}}},
    "optimizer.betas": {"optimizer__betas": [0.9, 0.999]},
    "data.train[0].proportion": {"data__train__0__proportion": 1.0},
    "phases[2].freeze.layers": {"phases__2__freeze__layers": "0-1"},
}


@pytest.mark.parametrize("key", CASES)
def test_a_setting_that_differs_is_found_unless_it_was_declared(config, tmp_path, key, capsys):
    first, second = make(tmp_path / "a", config), make(tmp_path / "b", changed(config, **CASES[key]))
    found = compare_runs([first, second])
    if key.startswith("model.architecture"):
        assert key in found.of("differs")
    else:
        assert found.of("differs") == [key]
    assert not found.same
    assert call("compare", first, second) == 3
    assert re.search(rf"DIFFERS, not declared.*{re.escape(key)}", capsys.readouterr().out)
    section = key.partition(".")[0].partition("[")[0]
    assert compare_runs([first, second], differ=[section]).same
    assert call("compare", first, second, "--differ", section) == 0
    assert f"declared to differ: {key}" in capsys.readouterr().out or key.startswith("model.architecture")


FACTS = {
    "start_weights": lambda record: record.update(start_weights="e" * 64),
    "tokenizer": lambda record: record.update(tokenizer="e" * 64),
    "data.train[0].rows": lambda record: record.update(data=[["e" * 64, None]]),
    "data.validation[0].rows": lambda record: record.update(validation=["e" * 64]),
    "system.device": lambda record: record["resolved"].update({"system.device": "gpu"}),
    "model.attention_backend": lambda record: record["resolved"].update({"model.attention_backend": "flash"}),
    "environment.torch": lambda record: record["environment"].update(torch="2.8"),
}


@pytest.mark.parametrize("key", FACTS)
def test_another_start_tokenizer_data_device_or_library_is_found(config, tmp_path, key):
    folders = [make(tmp_path / "a", config), make(tmp_path / "b", changed(config), change=FACTS[key])]
    found = compare_runs(folders)
    assert (found.of("differs"), found.same) == ([key], False)
    assert compare_runs(folders, differ=[key]).of("declared") == [key]


def test_runs_that_are_alike_but_for_names_and_places_are_the_same(config, tmp_path, capsys):
    elsewhere = changed(config, folder="other", data__train__0__path="moved", model__tokenizer="moved too")
    elsewhere["phases"][0]["options"] = {"rate": 0.3, "whole_word": False}  # the defaults, spelt out
    elsewhere["system"]["device"] = "cpu"  # what "auto" became for the other
    folders = [make(tmp_path / "a", config), make(tmp_path / "b", elsewhere)]
    assert compare_runs(folders).same
    assert call("compare", *folders) == 0
    out = capsys.readouterr().out
    assert "a and b" not in out
    assert "first and second: the same 48 rows in the same order (12 batches)" in out
    assert "The runs are equal in everything compared." in out


@pytest.mark.parametrize("differ", [[], ["phases"], ["phases", "schedule"]])
def test_a_run_of_other_warm_up_and_budget_is_never_the_same(config, tmp_path, differ):
    longer = changed(config, schedule__warmup_tokens=700, phases__2__tokens=4000)
    folders = [make(tmp_path / "a", config, batches=15), make(tmp_path / "b", longer, batches=30)]
    found = compare_runs(folders, differ=differ)
    assert "rows" in found.of("differs")
    assert not found.same
    assert found.rows[0][2].common_batches == 15
    assert compare_runs(folders, differ=["phases", "schedule", "rows"]).same


def test_the_first_batch_that_differs_is_named(config, tmp_path):
    other = fingerprint_of(12, other_from=7)
    found = compare_runs([make(tmp_path / "a", config), make(tmp_path / "b", changed(config), rows=other)])
    assert found.of("differs") == ["rows"]
    assert found.rows[0][2].text == "different rows: the same up to batch 7, no longer at batch 8"


@pytest.mark.parametrize(
    ("lacking", "unknown"),
    [
        ("start_weights", ["start_weights"]),
        ("tokenizer", ["tokenizer"]),
        ("validation", ["data.validation[0].rows"]),
        ("data", ["data.train[0].rows"]),
        ("resolved", ["model.attention_backend", "system.device"]),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_what_an_older_run_did_not_record_is_unknown_and_not_equal(config, tmp_path, lacking, unknown, both, capsys):
    def forget(record):
        del record[lacking]

    folders = [
        make(tmp_path / "a", config, change=forget if both else lambda record: None),
        make(tmp_path / "b", changed(config), change=forget),
    ]
    found = compare_runs(folders)
    assert (found.of("unknown"), found.of("differs"), found.same) == (unknown, [], False)
    assert call("compare", *folders) == 3
    out = capsys.readouterr().out
    assert "UNKNOWN, not recorded by a run: " + ", ".join(unknown) in out
    assert "(not recorded)" in out
    assert compare_runs(folders, differ=unknown).same


def test_a_setting_that_an_older_version_did_not_have_is_unknown(config, tmp_path):
    older = changed(config)
    del older["data"]["canonical_nodes"], older["phases"][1]["lr_factor"]
    found = compare_runs([make(tmp_path / "a", config), make(tmp_path / "b", older)])
    assert (found.of("unknown"), found.of("differs")) == (["data.canonical_nodes", "phases[1].lr_factor"], [])


def test_a_run_from_before_phases_could_change_optimizer_and_positions_changed_neither(config, tmp_path):
    older = changed(config)
    for phase in older["phases"]:
        del phase["optimizer"], phase["rope"]
    assert compare_runs([make(tmp_path / "a", config), make(tmp_path / "b", older)]).same
    own = {"betas": [0.8, 0.9], "weight_decay": None, "clip_norm": "none"}
    now = make(tmp_path / "c", changed(config, phases__0__optimizer=own))
    found = compare_runs([now, tmp_path / "b"])
    assert found.of("differs") == ["phases[0].optimizer.betas", "phases[0].optimizer.clip_norm"]
    assert "Optimizer in phase before: betas (0.8, 0.9), clip_norm none." in reading_notes(found.runs[0].history)
    rope = make(tmp_path / "d", changed(config, phases__0__rope={"theta": 1e4, "local_theta": None}))
    found = compare_runs([rope, tmp_path / "b"])
    assert found.of("differs") == ["phases[0].rope.theta"]
    scaled = make(tmp_path / "e", changed(config, phases__0__rope={"scaling": {"rope_type": "linear", "factor": 2.0}}))
    assert compare_runs([scaled, tmp_path / "b"]).of("differs") == ["phases[0].rope.scaling"]
    whole = make(tmp_path / "f", changed(config, phases__0__rope={"scaling": {"rope_type": "linear", "factor": 2}}))
    assert compare_runs([scaled, whole]).same
    assert any(
        note.startswith("Rotary positions: theta 10,000 in phase ") for note in reading_notes(found.runs[0].history)
    )


def test_without_its_record_a_run_is_read_from_its_newest_whole_checkpoint(config, tmp_path):
    first, second = make(tmp_path / "a", config), make(tmp_path / "b", changed(config))
    (second / "run.json").unlink()
    assert compare_runs([first, second]).same
    (state,) = second.glob("checkpoints/*/state.json")
    state.write_text(state.read_text().replace("c0ffee", "coffee"))  # no longer what the manifest says
    found = compare_runs([first, second])
    assert {"start_weights", "tokenizer", "rows", "data.train[0].rows"} <= set(found.of("unknown"))
    assert found.rows[0][2] is None


def test_three_runs_stand_side_by_side_and_a_shared_name_becomes_the_folder(config, tmp_path, capsys):
    folders = [
        make(tmp_path / name, changed(config, name="x", seed=seed)) for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    ]
    found = compare_runs(folders)
    assert found.of("differs") == ["seed"]
    assert [run.name for run in found.runs] == [str(folder) for folder in folders]
    assert len(found.rows) == 3
    call("compare", *folders)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("seed ")]
    assert line.split() == ["seed", "1", "1", "2", "differs"]


def test_the_ledger_and_the_final_losses_are_those_of_the_files(config, tmp_path, capsys):
    first, second = make(tmp_path / "a", config), make(tmp_path / "b", changed(config))
    (path,) = second.glob("checkpoints/*/state.json")
    state = json.loads(path.read_text())
    state["callbacks"]["Ledger"]["entries"][1]["flops"] = 3e6
    write_state(path.parent, state)
    lines = [
        {"batch": b, "token": 250 * b, "phase/index": (b - 1) // 4, "loss/train/total": 8.0 - b / 4}
        for b in range(1, 13)
    ]
    lines.append({"batch": 12, "token": 3000, "loss/eval/mlm": 5.125})
    (second / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    target = tmp_path / "out" / "compare.json"
    assert call("compare", first, second, "--json", target) == 0
    out = capsys.readouterr().out
    assert re.search(r"FLOPs +3e\+06 +5e\+06 \(x 1\.6667\)", out)
    assert re.search(r"training, mlm +\(none\) +5\.3750 at token 3,000, mean of 4 batches", out)  # 5.75 5.5 5.25 5
    assert re.search(r"held-out, mlm +\(none\) +5\.1250 at token 3,000", out)
    written = json.loads(target.read_text())
    assert written["same"] is True
    assert written["final_losses"]["second"]["training, mlm"] == {"loss": 5.375, "token": 3000, "batches": 4}
    assert [phase["FLOPs"] for phase in written["ledger"]["second"]] == [1e6, 3e6, 1e6]


def test_no_cell_is_wrapped_or_cut_in_a_log_of_80_columns(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"a-long-name-of-a-run-with-many-words-{i}" for i in range(3)]
    folders = [make(tmp_path / name, changed(config, name=name)) for name in names]
    assert call("compare", *folders, "--all") == 0
    out = capsys.readouterr().out
    assert any(all(name in line for name in names) for line in out.splitlines())
    assert re.search(r"environment\.processes +1 +1 +1", out)


def test_settings_that_are_equal_are_counted(config, tmp_path, capsys):
    folders = [make(tmp_path / "a", config), make(tmp_path / "b", changed(config, seed=18))]
    found = compare_runs(folders)
    assert call("compare", *folders) == 3
    out = capsys.readouterr().out
    assert re.search(r"\bseed +17 +18 +differs", out)
    assert "start_weights" in out
    assert "environment." not in out
    for first in ("environment", "settings"):
        equal = sum(
            (item.key.startswith("environment")) == (first == "environment")
            for item in found.keys
            if item.status == "same"
            and item.key not in ("start_weights", "tokenizer", "rows", "progress")
            and not item.key.endswith("].rows")
        )
        more = "more " if first == "settings" else ""
        assert f"{first}: {equal} {more}equal in all runs (--all lists them)" in out


def test_markup_in_a_name_is_shown_as_it_is(config, tmp_path, capsys):
    folders = [make(tmp_path / "a", config), make(tmp_path / "b", changed(config, name="[red]x[/red]"))]
    assert call("compare", *folders) == 0
    assert "[red]x[/red]" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_clear_error(config, tmp_path):
    first, second = make(tmp_path / "a", config), make(tmp_path / "b", changed(config))
    with pytest.raises(ConfigError, match="expected two or more"):
        compare_runs([first])
    with pytest.raises(ConfigError, match="given twice"):
        compare_runs([first, tmp_path / "b" / ".." / "a"])
    with pytest.raises(ConfigError, match=r"--differ phasse: no such key; did you mean 'phases"):
        compare_runs([first, second], differ=["phasse"])
    with pytest.raises(ConfigError, match=r"--differ phases,seed: no such key; give --differ once for each key"):
        compare_runs([first, second], differ=["phases,seed"])
    with pytest.raises(DataError, match="no such folder"):
        compare_runs([first, tmp_path / "nowhere"])
    (second / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        compare_runs([first, second])


def test_a_declaration_of_what_does_not_differ_is_said(config, tmp_path, capsys):
    assert (
        call("compare", make(tmp_path / "a", config), make(tmp_path / "b", changed(config)), "--differ", "phases") == 0
    )
    assert "declared, but equal: phases" in capsys.readouterr().out


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(
    key=st.sampled_from(["config", "tokenizer", "data", "validation", "start_weights", "resolved", "environment"]),
    odd=ODD,
)
def test_a_record_of_any_shape_is_compared_or_refused(tmp_path_factory, key, odd):
    root = tmp_path_factory.mktemp("odd")
    config = {"name": "x", "phases": [{"name": "p", "objective": "mlm", "tokens": 10}]}
    folders = [make(root / "a", config), make(root / "b", config, change=lambda record: record.update({key: odd}))]
    try:
        found = compare_runs(folders)
        json.dumps(as_json(found))
    except DetourError:
        return
    assert not found.same or key not in ("tokenizer", "start_weights")


SETTINGS = {
    "seed": st.integers(0, 9), "data.shuffle_seed": st.integers(0, 9), "schedule.peak_lr": st.floats(1e-3, 1e-2),
    "schedule.warmup_tokens": st.integers(0, 900), "optimizer.eps": st.floats(1e-9, 1e-6),
    "system.deterministic": st.booleans(), "evaluation.rows": st.integers(1, 99), "checkpoint.keep": st.integers(1, 9),
}  # fmt: skip


@QUICK
@given(changes=st.fixed_dictionaries({}, optional=SETTINGS), declared=st.sets(st.sampled_from(sorted(SETTINGS))))
def test_what_differs_is_what_was_changed_less_what_was_declared(tmp_path_factory, tiny_run, changes, declared):
    root, config = tmp_path_factory.mktemp("pair"), asdict(tiny_run("first"))
    other = changed(config, **{key.replace(".", "__"): value for key, value in changes.items()})
    apart = {
        key
        for key in changes
        if changes[key] != (config[key] if "." not in key else config[key.split(".")[0]][key.split(".")[1]])
    }
    found = compare_runs([make(root / "a", config), make(root / "b", other)], differ=sorted(declared))
    assert set(found.of("differs")) == apart - declared
    assert set(found.of("declared")) == apart & declared
    assert found.same == (not apart - declared)


# --- runs that were trained -----------------------------------------------------------------------------------------


def record_of(run) -> dict:
    return json.loads((RunFolder.of(run).path / "run.json").read_text())


def hash_of(weights: dict[str, np.ndarray]) -> str:
    """The start hash, computed from a safetensors file without torch."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(json.dumps([name, "torch.float32", list(weights[name].shape)]).encode() + weights[name].tobytes())
    return digest.hexdigest()


def test_the_start_weights_are_hashed_before_the_first_step_and_kept_through_a_resume(tiny_run, tmp_path):
    first = tiny_run("first")
    train(first)
    drawn = record_of(first)["start_weights"]
    assert record_of(first)["resolved"] == RESOLVED
    export_run(RunFolder.of(first).path, tmp_path / "encoder")
    stored = dict(load_file(tmp_path / "encoder" / "model.safetensors"))
    stored.pop("decoder.weight", None)  # tied

    runs = [tiny_run(f"seed{seed}", seed=seed, model={"init": str(tmp_path / "encoder")}) for seed in (1, 2)]
    for run in runs:
        train(run)
    assert record_of(runs[0])["start_weights"] == record_of(runs[1])["start_weights"] == hash_of(stored)
    assert hash_of(stored) != drawn
    found = compare_runs([RunFolder.of(run).path for run in runs])
    assert found.of("differs") == ["seed"]
    assert not found.of("unknown")
    assert {item.key: item.values for item in found.keys}["start_weights"] == (hash_of(stored),) * 2

    more = [asdict(phase) for phase in first.phases] + [{"name": "more", "objective": "mlm", "tokens": 500}]
    longer = from_mapping(asdict(first) | {"phases": more, "schedule": asdict(first.schedule) | {"decay_phase": None}})
    again = tiny_run("first", phases=more[:2] + more[2:], schedule={"decay_phase": "decay"})
    assert longer.phases == again.phases
    train(again)
    assert record_of(again)["start_weights"] == drawn
    losses = final_losses(compare_runs([RunFolder.of(again).path, RunFolder.of(runs[0]).path]).runs[0])
    lines = [json.loads(line) for line in RunFolder.of(again).metrics.read_text().splitlines()]
    tail = [line["loss/train/total"] for line in lines if line.get("phase/index") == 3]
    assert losses["training, mlm"].loss == pytest.approx(sum(tail) / len(tail))


def test_two_trained_runs_are_compared_and_an_unfinished_record_is_unknown(tiny_run, capsys):
    twin = [{"name": "all", "objective": "mlm", "tokens": 3000}]
    runs = [
        tiny_run("a"),
        tiny_run("b", phases=twin, schedule={"decay_phase": None}),
        tiny_run("c", data={"shuffle_seed": 1}),
    ]
    for run in runs:
        train(run)
    a, b, c = (RunFolder.of(run).path for run in runs)
    assert call("compare", a, b) == 3
    assert call("compare", a, b, "--differ", "phases", "--differ", "schedule.decay_phase") == 0
    assert "a and b: the same 48 rows in the same order (12 batches)" in capsys.readouterr().out
    found = compare_runs([a, c])
    assert found.of("differs") == ["rows", "data.shuffle_seed"]
    assert "different rows" in found.rows[0][2].text
    (a / "run.json").unlink()
    for state in a.glob("checkpoints/*/state.json"):
        values = json.loads(state.read_text())
        for key in ("start_weights", "resolved", "validation"):  # as runs of before were recorded
            del values["run"][key]
        write_state(state.parent, values)
    older = compare_runs([a, b], differ=["phases", "schedule.decay_phase"])
    assert older.of("unknown") == [
        "start_weights",
        "data.validation[0].rows",
        "model.attention_backend",
        "system.device",
    ]
    assert all(UNKNOWN in item.values for item in older.keys if item.status == "unknown")
