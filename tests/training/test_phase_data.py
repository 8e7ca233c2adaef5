"""Phases that change folders, row length and batch size: rows against an independent simulation, exact resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from composer.core import Callback

from detour.build import build_trainer
from detour.data.loader import build_loader
from detour.data.stream_spec import StreamSpec
from detour.errors import CheckpointError, ConfigError, DataError
from detour.train import train
from detour.training.checkpoints.files import newest_valid
from detour.training.run_folder import RunFolder


class Watch(Callback):
    """Notes the rows of each batch, and the size of its micro-batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, tuple[int, ...], tuple[int, ...], int]] = []

    def before_train_batch(self, state, logger) -> None:
        batch = state.batch
        self.batches.append((
            state.timestamp.token.value,
            tuple(batch["sample_id"].tolist()),
            tuple(batch["input_ids"].shape),
            state.device_train_microbatch_size,
        ))  # fmt: skip


def watch(run) -> list:
    trainer = build_trainer(run)
    watcher = Watch()
    trainer.state.callbacks.append(watcher)
    trainer.fit()
    trainer.close()
    return watcher.batches


def orders_of(run, streams) -> Iterator[list[int]]:
    """For each epoch, row numbers in the order in which single rows come without phases."""
    loader = build_loader(
        streams=[StreamSpec(**stream) if isinstance(stream, dict) else stream for stream in streams],
        device_batch_size=1,
        shuffle=run.data.shuffle,
        shuffle_seed=run.data.shuffle_seed,
        workers=0,
    )
    while True:
        yield [int(batch["sample_id"]) for batch in loader]


def expected_rows(run) -> list[tuple[int, ...]]:
    """Rows of each batch: a phase takes the next rows of its folders, in an epoch as many whole batches as there are."""
    tokens_of, epochs, orders, at, batches = {}, {}, {}, {}, []
    before, last = 0, None
    while before < run.phase_schedule.total_tokens:
        index = run.phase_schedule.at(before).index
        phase = run.phases[index]
        data = run.data_of(phase)
        key = json.dumps([vars(stream) for stream in data.train])
        if key not in orders:
            epochs[key] = orders_of(run, data.train)
            orders[key], at[key] = [next(epochs[key])], (0, 0)
            tokens_of[key] = counts_of(data)
        if phase.data.restart and last != index:
            at[key] = (0, 0)
        last = index
        epoch, row = at[key]
        if row + data.global_batch_size > len(orders[key][epoch]):
            epoch, row = epoch + 1, 0
            if epoch == len(orders[key]):
                orders[key].append(next(epochs[key]))
        rows = orders[key][epoch][row : row + data.global_batch_size]
        at[key] = (epoch, row + data.global_batch_size)
        batches.append((before, tuple(rows)))
        before += sum(tokens_of[key][r] for r in rows)
    return batches


def counts_of(data) -> dict[int, int]:
    """Tokens of each row, padding not counted."""
    loader = build_loader(
        streams=data.train if len(data.train) == 1 else [replace(stream, proportion=None) for stream in data.train],
        device_batch_size=1,
        shuffle=False,
        shuffle_seed=0,
        workers=0,
    )
    return {int(batch["sample_id"]): int(batch["doc_lengths"].sum()) for batch in loader}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_phase_reads_the_next_rows_of_its_own_folders(phased_run, workers):
    run = phased_run("rows", workers=workers)
    found = watch(run)
    assert [(before, rows) for before, rows, _, _ in found] == expected_rows(run)
    shapes = {run.phase_schedule.at(before).phase.name: (shape, micro) for before, _, shape, micro in found}
    assert shapes == {
        "general": ((4, 64), 2),
        "mixture": ((4, 64), 2),
        "long": ((2, 128), 1),
        "wide": ((6, 64), 3),
        "again": ((4, 64), 2),
    }


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_cut_at_any_checkpoint_and_resumed_is_the_unbroken_one_bitwise(phased_run, workers):
    whole = phased_run(f"whole{workers}", workers=workers)
    train(whole)
    folder = RunFolder.of(whole)
    expected, _ = newest_valid(folder.checkpoints)
    assert expected is not None
    saved = sorted(path for path in folder.checkpoints.iterdir() if path.is_dir())
    assert len(saved) >= 8  # within phases and at every boundary
    for cut in range(1, len(saved) - 1, 1 if workers == 0 else 3):
        again = replace(whole, name=f"cut{workers}_{cut}")
        shutil.copytree(folder.path, RunFolder.of(again).path)
        for path in saved[cut:]:
            shutil.rmtree(RunFolder.of(again).checkpoints / path.name)
        train(again)
        found, _ = newest_valid(RunFolder.of(again).checkpoints)
        assert found is not None
        for part in ("model", "optimizer"):
            ours, theirs = found.tensors(part), expected.tensors(part)
            assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), (cut, part)
        fingerprints = [state.state()["callbacks"]["Ledger"]["fingerprint"] for state in (found, expected)]
        assert fingerprints[0] == fingerprints[1]


def test_twins_that_differ_in_an_objective_read_equal_rows_in_every_phase(phased_run):
    run = phased_run("detour")
    twin = replace(run, name="twin", phases=[replace(phase, objective="mlm") for phase in run.phases])
    assert [batch[:3] for batch in watch(run)] == [batch[:3] for batch in watch(twin)]


def test_what_a_phase_would_read_later_may_change_at_a_resume_and_what_it_has_read_may_not(phased_run, phase_folders):
    run = phased_run("changed")
    train(replace(run, phases=run.phases[:3], schedule=replace(run.schedule, decay_phase=None)))
    later = replace(run.phases[3], data=replace(run.phases[3].data, global_batch_size=2))
    train(replace(run, phases=[*run.phases[:3], later], schedule=replace(run.schedule, decay_phase=None)))
    earlier = replace(run.phases[1], data=replace(run.phases[1].data, global_batch_size=2))
    with pytest.raises(CheckpointError, match=r"phases\[1\].data"):
        train(replace(run, phases=[run.phases[0], earlier, *run.phases[2:]]))


def test_a_resume_says_which_settings_of_the_rest_of_the_run_have_changed(tiny_run, caplog):
    run = tiny_run(
        "lengthened", phases=[{"name": "a", "objective": "mlm", "tokens": 1000}], schedule={"decay_phase": None}
    )
    train(run)
    caplog.clear()
    longer = replace(run, phases=[replace(run.phases[0], tokens=2000)], optimizer=run.optimizer)
    train(longer)
    assert (
        "settings that have changed since the run began or last resumed: phases[0].tokens: was 1000, now 2000"
        in caplog.text
    )
    caplog.clear()
    train(
        replace(
            longer, phases=[replace(longer.phases[0], tokens=2500)], logging=replace(run.logging, progress_bar=True)
        )
    )
    assert "last resumed: phases[0].tokens: was 2000, now 2500\n" in caplog.text


def test_a_plain_run_does_not_continue_as_one_whose_data_change_and_the_other_way_round(phased_run):
    run = phased_run("plain")
    plain = replace(run, phases=run.phases[:1], schedule=replace(run.schedule, decay_phase=None))
    train(plain)
    with pytest.raises(CheckpointError, match="read one stream of batches of one size"):
        train(replace(plain, phases=run.phases[:2]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"seq_len": 128}, r"phases\[0\].data.seq_len: 128, and no phases\[0\].data.train"),
        ({"global_batch_size": 0}, r"phases\[0\].data.global_batch_size: 0, expected at least 1"),
        ({"seq_len": 4}, r"phases\[0\].data.seq_len: 4, expected at least 8"),
        ({"train": [{"path": "a"}, {"path": "a"}]}, r"phases\[0\].data.train: the folder .* is listed 2 times"),
        (
            {"train": [{"path": "a", "proportion": 0.5}, {"path": "b"}]},
            r"phases\[0\].data.train: proportion is given for some",
        ),
        ({"trian": []}, r"phases\[0\].data.trian: unknown key; did you mean 'train'"),
    ],
)
def test_malformed_data_of_a_phase_are_refused(tiny_run, data, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run(
            phases=[{"name": "a", "objective": "mlm", "tokens": 1000, "data": data}], schedule={"decay_phase": None}
        )


def test_a_cache_of_remote_rows_in_two_mixtures_is_refused(tiny_run):
    cached = {"path": "cache", "remote": "s3://bucket/rows"}
    phases = [
        {"name": "a", "objective": "mlm", "tokens": 1000, "data": {"train": [cached]}},
        {"name": "b", "objective": "mlm", "tokens": 1000, "data": {"train": [cached]}},
        {"name": "c", "objective": "mlm", "tokens": 1000, "data": {"train": [cached, {"path": "other"}]}},
    ]
    with pytest.raises(ConfigError, match=r"phases\[2\].data.train: cache caches rows of a remote for another mixture"):
        tiny_run(phases=phases, schedule={"decay_phase": None})


def test_rows_of_another_length_than_the_phase_says_are_refused_before_training(tiny_run, phase_folders):
    phases = [
        {"name": "a", "objective": "mlm", "tokens": 1000},
        {"name": "b", "objective": "mlm", "tokens": 1000, "data": {"train": [{"path": phase_folders["long"]}]}},
    ]
    run = tiny_run("mismatch", phases=phases, schedule={"decay_phase": None})
    with pytest.raises(DataError, match=r"128.*64|64.*128"):
        build_trainer(run)
    assert not (Path(run.folder) / "mismatch" / "checkpoints").exists()


def test_the_plan_counts_the_steps_of_each_phase_by_its_own_batches(phased_run):
    from detour.cost.plan import plan

    lines = plan(phased_run("planned"))
    # full rows: 256 tokens a step, 256, 256, 384, 256, each step in the phase in which it begins
    ends = np.cumsum([900, 900, 1000, 1500, 500])
    at, steps = 0, []
    for end, step in zip(ends, (256, 256, 256, 384, 256), strict=True):
        steps.append(0)
        while at < end:
            steps[-1] += 1
            at += step
    assert [line.steps for line in lines] == steps
