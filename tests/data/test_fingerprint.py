from __future__ import annotations

import json

import pytest
import torch

from detour.data.fingerprint import MARKS, Fingerprint, RowComparison, compare_fingerprints, hash_rows
from detour.data.loader import StreamSpec, build_loader
from detour.errors import DataError


def batch_of(seed: int, rows: int = 4, T: int = 16):
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 900, (rows, T), generator=rng)
    return {"input_ids": ids, "doc_lengths": torch.tensor([[6, 8, 0]] * rows), "sample_id": torch.arange(rows)}


def take(batch, index):
    return {key: value[index] for key, value in batch.items()}


def run_of(*seeds: int) -> Fingerprint:
    run = Fingerprint()
    for seed in seeds:
        run.update(batch_of(seed))
    return run


def test_the_order_of_batches_counts():
    assert run_of(1, 2, 3) == run_of(1, 2, 3)
    assert run_of(1, 2, 3).digest != run_of(2, 1, 3).digest
    assert run_of(1, 2).digest != run_of(1, 2, 2).digest


@pytest.mark.parametrize("change", [
    lambda batch: batch["input_ids"].__setitem__((2, 3), 4),
    lambda batch: batch["doc_lengths"].__setitem__((2, slice(0, 2)), torch.tensor([7, 7])),
])  # fmt: skip
def test_one_id_or_one_boundary_counts(change):
    batch = batch_of(1)
    change(batch)
    assert not torch.equal(hash_rows(batch), hash_rows(batch_of(1)))


def test_padding_index_and_width_of_the_document_list_do_not_count():
    batch = batch_of(1)
    batch["input_ids"][:, 14:] = 0
    other = {**batch, "input_ids": batch["input_ids"].clone(), "sample_id": torch.arange(4) + 9}
    other["input_ids"][:, 14:] = 3
    other["doc_lengths"] = torch.cat([batch["doc_lengths"], torch.zeros(4, 2, dtype=torch.int64)], 1)
    assert torch.equal(hash_rows(batch), hash_rows(other))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_number_of_ranks_does_not_count(ranks):
    run = Fingerprint()
    for seed in (1, 2, 3):
        shares = [hash_rows(take(batch_of(seed), slice(rank, None, ranks))) for rank in range(ranks)]
        run.add(torch.stack(shares).sum(0))
    assert run == run_of(1, 2, 3)
    assert run.rows == 12


def test_rows_that_swap_places_between_batches_are_seen():
    one, two = batch_of(1), batch_of(2)
    one["input_ids"][0], two["input_ids"][0] = two["input_ids"][0].clone(), one["input_ids"][0].clone()
    run = Fingerprint()
    run.update(one)
    run.update(two)
    assert run.digest != run_of(1, 2).digest


def test_a_resume_continues_it():
    whole, part = run_of(*range(700)), run_of(*range(300))
    resumed = Fingerprint.from_state(json.loads(json.dumps(part.state_dict())))
    for seed in range(300, 700):
        resumed.update(batch_of(seed))
    assert resumed == whole
    assert len(whole.marks) <= MARKS


def test_a_damaged_record_is_refused():
    state = run_of(1, 2).state_dict()
    for bad in ({}, {**state, "marks": []}, {**state, "other": 1}):
        with pytest.raises(DataError, match="fingerprint: "):
            Fingerprint.from_state(bad)


def compared(a: Fingerprint, b: Fingerprint) -> RowComparison:
    assert (
        compare_fingerprints(a.state_dict(), b.state_dict()).same
        is compare_fingerprints(b.state_dict(), a.state_dict()).same
    )
    return compare_fingerprints(a.state_dict(), b.state_dict())


def test_twins_are_the_same_and_a_difference_is_placed():
    assert compared(run_of(*range(10)), run_of(*range(10))).text == "the same 40 rows in the same order (10 batches)"
    found = compared(run_of(*range(10)), run_of(*range(6), 99, *range(7, 10)))
    assert (found.same, found.common_batches) == (False, 6)
    assert "no longer at batch 7" in found.text
    found = compared(run_of(1), run_of(2))
    assert (found.same, found.common_batches) == (False, 0)


def test_a_longer_run_begins_like_a_shorter_one():
    found = compared(run_of(*range(600)), run_of(*range(9)))
    assert found.same
    assert found.common_batches >= 8
    assert not compared(run_of(*range(600)), run_of(*range(8), 99)).same or found.common_batches == 8


def test_two_loaders_of_the_same_rows_agree_whatever_the_workers(write_rows):
    runs = []
    for workers, seed in ((0, 3), (2, 3), (0, 4)):
        run = Fingerprint()
        loader = build_loader(
            streams=[StreamSpec(path=str(write_rows(f"r{workers}{seed}")))], device_batch_size=4, shuffle=True,
            shuffle_seed=seed, canonical_nodes=1, workers=workers,
        )  # fmt: skip
        for batch in loader:
            run.update(batch)
        runs.append(run)
    assert runs[0] == runs[1]
    assert runs[0].digest != runs[2].digest
