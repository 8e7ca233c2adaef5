"""Rows 2, 3, 4 and 6: a process killed while it saves, a full disk, a flipped byte; the run goes on from what is whole."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from detour.training.checkpoints.files import newest_valid
from detour.training.run_folder import RunFolder

pytestmark = pytest.mark.timeout(1200)
EACH_STEP = {"interval_tokens": 1, "keep": 2}
CALLS = 12 * 13 + 8 * 2  # of `kill_in_save` in a run of 12 steps: in each save, and for each of 8 that are removed


@pytest.mark.faults(2, "SIGKILL at 15, and at 60, random moments while checkpoints are written and pruned")
@pytest.mark.parametrize("kills", [15, pytest.param(60, marks=pytest.mark.long)])
def test_whenever_a_writer_is_killed_the_newest_finished_checkpoint_is_whole(start, tiny_run, tmp_path, kills):
    """One process that does nothing but save, over and over in the same folder: most kills fall into a save."""
    rng, folder = random.Random(0), tmp_path / "checkpoints"
    in_mid_save = 0
    for kill in range(kills):
        (child,) = start(tiny_run(), fault=("save_for_ever", str(folder)))
        while not child.text():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child.pid, signal.SIGKILL)
        assert child.code() == -signal.SIGKILL
        finished = [int(line) for line in child.text().split("\n")[:-1]][-1]
        in_mid_save += bool(list(folder.glob(".*-tokens-*")))
        newest, passed_over = newest_valid(folder)
        assert newest is not None
        assert passed_over == [], f"kill {kill}: a checkpoint was visible and not whole"
        assert newest.tokens in (finished, finished + 1), "the last one that was reported, or the one after it"
    assert in_mid_save >= kills // 4


@pytest.mark.faults(2, "SIGKILL inside the saves of a real run; the same command ends bit for bit as the unbroken run")
@pytest.mark.parametrize("points", [2, pytest.param(50, marks=pytest.mark.long)])
def test_a_run_killed_inside_a_save_continues_bit_for_bit(tiny_run, start, left, assert_same_end, points):
    whole = tiny_run("whole", checkpoint=EACH_STEP)
    assert start(whole)[0].code() == 0
    rng = random.Random(points)
    for point in range(points):
        part = tiny_run(f"part-{point}", checkpoint={**EACH_STEP, "background": point % 2 == 1})
        (child,) = start(part, fault=("kill_in_save", rng.randrange(20, CALLS)))
        assert child.code() == -signal.SIGKILL
        before = left(part).saved
        (child,) = start(part)
        assert child.code() == 0
        assert f"resuming from {before[-1].path}" in child.text()
        assert_same_end(left(whole), left(part))
        assert not list((left(part).folder / "checkpoints").glob(".*"))


@pytest.mark.faults(3, "SIGKILL while a new checkpoint takes a damaged one's place (there is no `latest` to lose)")
def test_whenever_a_checkpoint_is_replaced_a_whole_one_is_there(start, tiny_run, tmp_path):
    seen = set()
    for nth in range(1, 40):
        folder = tmp_path / str(nth)
        (child,) = start(tiny_run(), fault=("kill_while_replacing", str(folder), nth))
        if child.code() == 0:
            break
        assert child.code() == -signal.SIGKILL
        newest, _ = newest_valid(folder)
        assert newest is not None
        assert (newest.tokens, newest.state()["at"]) in {(1, "first"), (2, "second")}
        seen.add(((folder / "tokens-000000000000002").exists(), newest.tokens))
    assert "finished" in child.text()
    assert seen == {(True, 1), (False, 1), (True, 2)}, "before, between and after"


@pytest.mark.faults(2, "SIGKILL in the very first save: from the beginning again, and it says so")
def test_a_run_killed_in_its_first_save_says_that_it_starts_over(tiny_run, start, left):
    run = tiny_run(checkpoint=EACH_STEP)
    assert start(run, fault=("kill_in_save", 8))[0].code() == -signal.SIGKILL
    assert left(run).saved == []
    (child,) = start(run)
    assert child.code() == 0
    assert "found, but no complete checkpoint; starting from the beginning" in child.text()


@pytest.mark.faults(2, "SIGKILL of all processes of a run whose rows are remote: the same command goes on")
def test_a_run_on_remote_rows_that_was_killed_whole_goes_on(tiny_run, start, left, corpus, tmp_path):
    streams = {"train": [{"path": str(tmp_path / "cache"), "remote": str(corpus.train)}], "workers": 1}
    run = tiny_run(data=streams, checkpoint=EACH_STEP)
    (child,) = start(run, fault=("kill_all", 6))
    assert child.code() == -signal.SIGKILL
    before = left(run).saved[-1]
    (child,) = start(run)  # each process has its own folder for temporary files
    assert child.code() == 0, child.text()
    assert f"resuming from {before.path}" in child.text()


@pytest.mark.faults(2, "checkpoints that are gone: from the beginning, and it says so; the old metrics are kept")
def test_a_run_whose_checkpoints_are_gone_says_that_it_starts_over(tiny_run, start, left):
    run = tiny_run(checkpoint=EACH_STEP)
    assert start(run)[0].code() == 0
    metrics = (left(run).folder / "metrics.jsonl").read_text()
    shutil.rmtree(left(run).folder / "checkpoints")
    (child,) = start(run)
    assert child.code() == 0
    assert "found, but no complete checkpoint; starting from the beginning" in child.text()
    assert (left(run).folder / "metrics.before-1.jsonl").read_text() == metrics


@pytest.mark.faults(2, "soak: a run killed at random moments, resumed by the same command each time; bitwise equal end")
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_a_soak_of_random_kills_ends_with_the_bits_of_the_unbroken_run(tiny_run, start, left, assert_same_end, kills):
    sections = {"phases": [
        {"name": "before", "objective": "mlm", "tokens": 1000 * kills},
        {"name": "detour", "objective": "clm", "tokens": 1000 * kills},
        {"name": "decay", "objective": "mlm", "tokens": 500 * kills},
    ], "checkpoint": {"interval_tokens": 500}, "evaluation": {"interval_tokens": 10**9, "rows": 4}}  # fmt: skip
    whole, part = tiny_run("whole", **sections), tiny_run("part", **sections)
    assert start(whole)[0].code() == 0
    rng, done = random.Random(kills), 0
    metrics = RunFolder.of(part).metrics
    while done < kills:
        (child,) = start(part, f"checkpoint.background={'true' if done % 2 else 'false'}")
        # a moment at random after a random number of steps from the last checkpoint
        lines, wanted = None, rng.randrange(1, 9)
        while child.wait(0.002) is None:
            now = metrics.read_text().count("\n") if metrics.exists() else 0
            lines = now if lines is None or now < lines else lines
            if now >= lines + wanted:
                time.sleep(rng.uniform(0, 0.05))
                os.kill(child.pid, signal.SIGKILL)
                break
        assert child.code() == -signal.SIGKILL, "it ended before its time"
        done += 1
    assert start(part)[0].code() == 0
    assert_same_end(left(whole), left(part))


@pytest.mark.faults(4, "a real full disk (a small tmpfs)")
def test_a_full_disk_ends_the_run_with_an_error_and_keeps_what_was_saved(tiny_run, start, left, tmp_path):
    disk = tmp_path / "runs"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        run = tiny_run(checkpoint={"interval_tokens": 1, "keep": 100})
        (child,) = start(run)
        assert child.code() == 1
        assert "cannot write a checkpoint" in child.text()
        assert os.strerror(errno.ENOSPC) in child.text()
        saved = left(run).saved
        assert saved
        assert all(checkpoint.validate() is None for checkpoint in saved)
        (child,) = start(run, "checkpoint.keep=1")  # room again
        assert child.code() in (0, 1)
        assert f"resuming from {saved[-1].path}" in child.text()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.faults(4, "a write that the system refuses (a limit on the size of files), on one of two processes")
@pytest.mark.parametrize("background", [False, True])
def test_a_refused_write_ends_every_process(tiny_run, start, left, background):
    run = tiny_run(checkpoint={**EACH_STEP, "background": background})
    children = start(run, fault=("file_size_limit", 100_000), processes=2)
    assert [child.code() for child in children] == [1, 1]
    for child in children:
        assert "error: " in child.text()
        assert "cannot write a checkpoint" in child.text()
        assert os.strerror(errno.EFBIG) in child.text()
    assert left(run).saved == []


@pytest.mark.faults(
    4, "a disk that fails in a save (EIO), or is full at a line of the metrics; on one of two processes"
)
@pytest.mark.parametrize(
    ("fault", "message", "number"),
    [
        (("failing_flush", 30, errno.EIO), "cannot write a checkpoint", errno.EIO),
        (("failing_metrics", 9, errno.ENOSPC), "metrics.jsonl: cannot be written", errno.ENOSPC),
    ],
    ids=["flush", "metrics"],
)
def test_a_disk_that_fails_ends_every_process_and_keeps_what_was_saved(
    tiny_run, start, left, assert_same_end, fault, message, number
):
    whole, part = (tiny_run(name, checkpoint={"interval_tokens": 1, "keep": 100}) for name in ("whole", "part"))
    assert [child.code() for child in start(whole, processes=2)] == [0, 0]
    children = start(part, fault=fault, processes=2)
    assert [child.code() for child in children] == [1, 1]
    assert f"error: {left(part).folder}" in children[0].text()
    assert message in children[0].text()
    assert os.strerror(number) in children[0].text()
    saved = left(part).saved
    assert saved
    assert all(checkpoint.validate() is None for checkpoint in saved)
    assert [child.code() for child in start(part, processes=2)] == [0, 0]
    assert_same_end(left(whole), left(part))


@pytest.mark.faults(6, "one byte flipped in any file of the newest checkpoint: loud fallback, same end")
def test_a_flipped_byte_is_passed_over_loudly(tiny_run, start, left, assert_same_end):
    run, again = (tiny_run(name, checkpoint={"interval_tokens": 1}) for name in ("run", "again"))
    assert start(run)[0].code() == 0
    assert start(again)[0].code() == 0
    for file in ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"):
        before, newest = left(again).saved[-2:]
        flip(newest.path / file)
        (child,) = start(again)
        assert child.code() == 0
        assert f"skipping a damaged checkpoint: {newest.path}: {file} differs from its SHA-256" in child.text()
        assert f"resuming from {before.path}" in child.text()
        assert_same_end(left(run), left(again))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data))] ^= 1 << 3
    path.write_bytes(data)
