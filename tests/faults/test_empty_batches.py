"""Batches in which no token carries loss: nothing is learned from them, the clock moves, and nothing fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detour.build import build_trainer, close
from detour.data.manifest import ShardManifest
from detour.data.shards import RowWriter
from detour.errors import DataError

pytestmark = pytest.mark.timeout(300)
EMPTY = {4, 5, 6, 7, 8, 9, 13}  # rows: the whole second batch, one process's half of the third, some of the fourth


@pytest.fixture
def rows(corpus, tmp_path) -> Callable[[str, int, set[int]], Path]:
    """A function that writes rows of 64 tokens, those named of special tokens only."""
    info = ShardManifest.load(corpus.train).tokenizer
    special = np.array([info.pad_id + 2, info.mask_id, info.pad_id + 3], np.uint16)  # [CLS], [MASK], [SEP]

    def write(name: str, number: int, empty: set[int]) -> Path:
        rng = np.random.default_rng(0)
        with RowWriter(tmp_path / name, seq_len=64, tokenizer=info, seed=0) as writer:
            for row in range(number):
                ids = rng.choice(special, 64) if row in empty else rng.integers(5, 600, 64).astype(np.uint16)
                writer.write([ids])
            writer.finish(sources=[], documents=number, empty_skipped=0, documents_split=0)
        return tmp_path / name

    return write


def run_on(tiny_run, folder: Path, name: str, **sections):
    return tiny_run(
        name,
        data={"train": [{"path": str(folder)}], "validation": [], "shuffle": False},
        phases=[{"name": "only", "objective": "mlm", "tokens": 5 * 256}],
        schedule={"decay_phase": None, "warmup_tokens": 0},
        optimizer={"weight_decay": 0.1},
        checkpoint={"interval_tokens": 1},
        **sections,
    )


def test_an_empty_batch_changes_no_weight_and_moves_the_clock(tiny_run, rows, start, left):
    run = run_on(tiny_run, rows("rows", 20, EMPTY), "alone")
    (child,) = start(run)
    assert child.code() == 0, child.text()
    result = left(run)
    tokens = [checkpoint.tokens for checkpoint in result.saved]
    assert tokens == [256, 512, 768, 1024, 1280], "all that was read"
    models = [checkpoint.tensors("model") for checkpoint in result.saved]
    moments = [checkpoint.tensors("optimizer") for checkpoint in result.saved]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    assert all(torch.equal(tensor, moments[1][name]) for name, tensor in moments[0].items())
    for before, after in ((1, 2), (2, 3), (3, 4)):
        assert any(not torch.equal(tensor, models[after][name]) for name, tensor in models[before].items())
    (entry,) = result.last.state()["callbacks"]["Ledger"]["entries"]
    assert (entry["steps"], entry["skipped"], entry["tokens"]) == (4, 1, 1280)
    (event,) = result.rejected_steps
    assert (event["rejected_step"]["problem"], event["rejected_step"]["action"]) == ("no token is supervised", "skip")
    assert event["rejected_step"]["rows"] == [4, 5, 6, 7]
    lines = {line["batch"]: line for line in result.lines if "lr" in line}
    assert "loss/train/total" not in lines[2], "a 0 would be a dip in the curve"
    assert all(4 < lines[batch]["loss/train/total"] < 9 for batch in (1, 3, 4, 5)), "ln(600) is 6.4"


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_two_processes_agree_with_one_where_one_of_them_has_nothing_to_learn(tiny_run, rows, start, left, parallelism):
    folder = rows("rows", 20, EMPTY | {16, 18})  # whichever way the rows of a batch are shared out
    alone = run_on(tiny_run, folder, "alone")
    both = run_on(tiny_run, folder, parallelism, system={"parallelism": parallelism})
    assert [child.code() for child in start(alone)] == [0]
    assert [child.code() for child in start(both, processes=2)] == [0, 0]
    for first, second in zip(left(alone).saved, left(both).saved, strict=True):
        assert first.tokens == second.tokens
        one, two = first.tensors("model"), second.tensors("model")
        assert max((tensor - two[name]).abs().max().item() for name, tensor in one.items()) < 1e-5
    one, two = (left(run).last.state()["callbacks"]["Ledger"]["entries"][0] for run in (alone, both))
    assert [one[key] for key in ("steps", "skipped", "supervised")] == [
        two[key] for key in ("steps", "skipped", "supervised")
    ]
    assert two["skipped"] == 1


def test_a_resume_behind_an_empty_batch_is_bitwise_the_unbroken_run(tiny_run, rows, start, left, assert_same_end):
    folder = rows("rows", 20, EMPTY)
    whole, part = run_on(tiny_run, folder, "whole"), run_on(tiny_run, folder, "part")
    assert start(whole)[0].code() == 0
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(start(part, "system.max_minutes=0")[0].code())
        assert len(codes) < 8
    assert codes[-1] == 0
    assert_same_end(left(whole), left(part))


def test_held_out_rows_without_a_supervised_token_are_one_clear_error(tiny_run, rows):
    run = tiny_run(data={"validation": [{"path": str(rows("held-out", 8, set(range(8))))}]})
    trainer = build_trainer(run)
    with pytest.raises(DataError, match="held-out loss: no held-out token is supervised"):
        trainer.eval()
    close(trainer)
