from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from streaming import Stream

from detour.data.stream import RowDataset
from detour.errors import DataError

pytestmark = pytest.mark.timeout(60)  # a hang is what some of these guard against


def dataset_of(*folders, seq_len=16, shuffle=True, proportions=None, seed=7) -> RowDataset:
    return RowDataset(
        vocab_size=1 << 16,
        streams=[
            Stream(local=str(folder), proportion=share)
            for folder, share in zip(folders, proportions or [None] * len(folders), strict=True)
        ],
        seq_len=seq_len,
        device_batch_size=2,
        shuffle=shuffle,
        shuffle_seed=seed,
        canonical_nodes=1,
    )


def test_a_sample_id_is_the_rows_index_over_all_folders(write_rows):
    rows = dataset_of(write_rows("a", rows=10), write_rows("b", rows=6))
    assert [rows[i]["sample_id"] for i in range(16)] == list(range(16))
    assert rows[12]["input_ids"][0] == 10 + 2  # row 2 of the second folder


def test_an_epoch_is_a_permutation_and_the_next_one_another(write_rows):
    rows = dataset_of(write_rows(rows=24))
    first, second = ([int(row["sample_id"]) for row in rows] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(24))
    assert len({tuple(first), tuple(second), tuple(range(24))}) == 3


def test_without_shuffle_rows_come_in_order(write_rows):
    assert [int(row["sample_id"]) for row in dataset_of(write_rows(), shuffle=False)] == list(range(24))


def test_a_shard_missing_at_open_is_an_error(write_rows):
    folder = write_rows()
    (folder / "shard.00001.mds").unlink()
    with pytest.raises(DataError, match=r"shard.00001.mds: this shard is missing"):
        dataset_of(folder)


def test_a_shard_deleted_while_running_is_an_error_not_an_end(write_rows):
    rows = dataset_of(write_rows(rows=200), shuffle=False)
    stream = iter(rows)
    next(stream)
    rows._path_of(rows.num_shards - 2).unlink()  # far beyond what is read ahead
    with pytest.raises(DataError, match="this shard is missing"):
        list(stream)


def test_a_shard_damaged_while_running_is_an_error(write_rows):
    rows = dataset_of(write_rows(rows=200), shuffle=False)
    stream = iter(rows)
    next(stream)
    rows._path_of(rows.num_shards - 2).write_bytes(b"")
    with pytest.raises(DataError, match=f"row .*shard.{rows.num_shards - 2:05}.mds"):
        list(stream)


def test_a_background_thread_that_dies_is_an_error(write_rows):
    """The trap itself: the parent class takes a dead thread for the end of the epoch."""
    rows = dataset_of(write_rows())
    stream = iter(rows)
    next(stream)
    rows._event.set()  # what the parent does when a thread of its own raises
    with pytest.raises(DataError, match="background thread"):
        list(stream)


def test_leaving_an_epoch_early_is_no_error(write_rows):
    rows = dataset_of(write_rows())
    for _ in range(3):
        stream = iter(rows)
        next(stream)
        stream.close()
    assert len(list(rows)) == 24


def test_a_row_that_breaks_the_contract_is_an_error(write_rows, monkeypatch):
    rows = dataset_of(write_rows(), seq_len=17)
    with pytest.raises(DataError, match=r"row 3 in .*\(16,\) ids .* expected \(17,\)"):
        rows[3]
    rows = dataset_of(write_rows("b"))
    bad = {"input_ids": np.zeros(16, np.uint16), "doc_lengths": np.array([10, 7], np.uint32)}
    monkeypatch.setattr("streaming.StreamingDataset.get_item", lambda *_: bad)
    with pytest.raises(DataError, match=r"documents of \[10, 7\]"):
        rows[3]


def test_a_folder_of_a_small_proportion_is_read_evenly_over_many_epochs(write_rows):
    """2 of 200 rows of an epoch come from 40, drawn anew each time: in 100 epochs each comes 5 times on average."""
    rows = dataset_of(write_rows("a", rows=160), write_rows("b", rows=40), proportions=[0.99, 0.01])
    seen = Counter(int(row["sample_id"]) for _ in range(100) for row in rows)
    small = [seen[i] for i in range(160, 200)]
    assert sum(small) == 200
    assert 0 < min(small) <= max(small) < 16  # Poisson's chance of 16 or more of 5: 7e-5
    large = [seen[i] for i in range(160)]  # 198 of 160 rows: each once, and 38 of them twice
    assert sum(large) == 19_800
    assert min(large) >= 100


@pytest.mark.parametrize("seed", range(5))
def test_a_proportion_of_less_than_a_row_is_refused_whatever_the_seed(write_rows, seed):
    folders = [write_rows(name, rows=n) for name, n in (("a", 90), ("b", 10))]
    with pytest.raises(DataError, match=r"b: its proportion, 0\.005, amounts to 0\.5 of the 100 rows per epoch"):
        dataset_of(*folders, proportions=[0.995, 0.005], seed=seed)


def test_a_proportion_that_rounding_changes_is_told(write_rows, caplog):
    rows = dataset_of(write_rows("a", rows=90), write_rows("b", rows=10), proportions=[0.9855, 0.0145])
    told = f"b: its proportion, 0.0145, amounts to 1.45 of the 100 rows per epoch; rounded to {rows.streams[1].choose}"
    assert told in caplog.text
