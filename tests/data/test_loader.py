from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from multiprocessing import shared_memory
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detour.batch import check_batch
from detour.data.loader import StreamSpec, build_loader, collate
from detour.data.shared_memory import RESERVE, check_free
from detour.errors import DataError

pytestmark = pytest.mark.timeout(300)


def loader_of(*folders: Path, workers: int = 0, proportions=None, **options):
    proportions = proportions or [None] * len(folders)
    streams = [StreamSpec(path=str(f), proportion=p) for f, p in zip(folders, proportions, strict=True)]
    settings = {"device_batch_size": 4, "shuffle": True, "shuffle_seed": 3, "canonical_nodes": 1, **options}
    return build_loader(streams=streams, workers=workers, prefetch_batches=2, timeout_s=30, **settings)


def ids_of(batches) -> list[list[int]]:
    return [batch["sample_id"].tolist() for batch in batches]


def test_a_batch_keeps_the_contract(write_rows):
    for batch in loader_of(write_rows()):
        check_batch(batch)
        assert batch["input_ids"].shape == (4, 16)
        assert batch["doc_lengths"].tolist() == [[6, 8]] * 4
        expected = 10 + batch["sample_id"][:, None] + torch.arange(14)
        assert torch.equal(batch["input_ids"][:, :14], expected)
        assert (batch["input_ids"][:, 14:] == 0).all()


def test_document_lengths_are_padded_to_the_batchs_own_maximum():
    rows = [
        {"input_ids": np.arange(8, dtype=np.uint16), "doc_lengths": np.array(lengths, np.uint32), "sample_id": i}
        for i, lengths in enumerate([[8], [1, 2, 3], [4, 4]])
    ]
    batch = collate(rows)
    check_batch(batch)
    assert batch["doc_lengths"].tolist() == [[8, 0, 0], [1, 2, 3], [4, 4, 0]]


def test_ids_above_the_signed_range_survive():
    row = {"input_ids": np.array([65535], np.uint16), "doc_lengths": np.array([1], np.uint32), "sample_id": 0}
    assert collate([row])["input_ids"].tolist() == [[65535]]


@pytest.mark.parametrize("drop_last", [True, False])
def test_the_order_of_batches_does_not_depend_on_workers(write_rows, drop_last):
    folder = write_rows(rows=27)
    orders = []
    for workers in (0, 1, 2, 3):
        loader = loader_of(folder, workers=workers, drop_last=drop_last)
        orders.append([ids_of(loader) for _ in range(2)])
    assert all(order == orders[0] for order in orders)
    assert len(orders[0][0]) == 6 + (not drop_last)
    assert orders[0][0] != orders[0][1]


def test_the_length_of_the_loader_is_the_number_of_batches(write_rows):
    loader = loader_of(write_rows(rows=27))
    assert len(loader) == len(list(loader)) == 6


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("epoch", "position"), [(0, 1), (0, 3), (0, 5), (1, 1), (1, 4), (2, 2)])
def test_a_resume_continues_bit_for_bit(write_rows, workers, epoch, position):
    folders = write_rows("a", rows=14), write_rows("b", rows=10)
    options = {"workers": workers, "proportions": [0.7, 0.3]}

    whole = loader_of(*folders, **options)
    epochs = [list(whole) for _ in range(4)]

    stopped = loader_of(*folders, **options)
    for _ in range(epoch):
        list(stopped)
    batches = iter(stopped)
    for _ in range(position):
        next(batches)
    state = json.loads(json.dumps(stopped.state_dict()))

    resumed = loader_of(*folders, **options)
    resumed.load_state_dict(state)
    rest = [*epochs[epoch][position:], *epochs[epoch + 1]]
    for expected, found in zip(rest, [*resumed, *resumed], strict=True):
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("epochs", [0, 1, 2])
@pytest.mark.parametrize("composer", [True, False])
def test_a_resume_at_the_end_of_an_epoch_does_not_repeat_it(write_rows, epochs, composer):
    folder = write_rows()
    whole = loader_of(folder)
    expected = [ids_of(whole) for _ in range(epochs + 1)][epochs]
    stopped = loader_of(folder)
    for _ in range(epochs):
        list(stopped)
    resumed = loader_of(folder)
    resumed.load_state_dict(stopped.dataset.state_dict(0, True) if composer else stopped.state_dict())
    seen = [ids_of(resumed) for _ in range(2)]
    assert expected == next(batches for batches in seen if batches)
    assert resumed.dataset.state_dict(0, True)["epoch"] == resumed.dataset.next_epoch


def test_a_resume_may_change_the_number_of_workers(write_rows):
    folder = write_rows(rows=40)
    whole = ids_of(loader_of(folder))
    stopped = loader_of(folder, workers=2)
    batches = iter(stopped)
    next(batches), next(batches), next(batches)
    resumed = loader_of(folder, workers=3)
    resumed.load_state_dict(stopped.state_dict())
    assert ids_of(resumed) == whole[3:]


def test_a_resume_of_a_resume_is_exact(write_rows):
    folder = write_rows(rows=40)
    whole, seen, state = ids_of(loader_of(folder)), [], None
    for _ in range(5):
        loader = loader_of(folder)
        if state:
            loader.load_state_dict(state)
        batches = iter(loader)
        seen += ids_of([next(batches), next(batches)])
        state = loader.state_dict()
    assert seen == whole


def test_a_resume_reads_only_what_follows(write_rows, monkeypatch):
    folder = write_rows(rows=400)
    stopped = loader_of(folder)
    batches = iter(stopped)
    for _ in range(95):
        next(batches)
    resumed = loader_of(folder)
    resumed.load_state_dict(stopped.state_dict())
    read, get_item = [], type(resumed.dataset).get_item
    monkeypatch.setattr(type(resumed.dataset), "get_item", lambda *args: read.append(1) or get_item(*args))
    assert len(list(resumed)) == 5
    assert len(read) == 20


def test_proportions_hold_exactly_over_an_epoch(write_rows):
    loader = loader_of(write_rows("a", rows=30), write_rows("b", rows=10), proportions=[1.0, 3.0])
    ids = np.concatenate(ids_of(loader))
    assert (ids < 30).sum() == 10
    assert (ids >= 30).sum() == 30


CHILD = """
import json, sys
from detour.data.loader import StreamSpec, build_loader
folder, out, workers, skip = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
loader = build_loader(streams=[StreamSpec(path=folder)], device_batch_size=2, shuffle=True, shuffle_seed=3,
                      canonical_nodes=2, workers=workers)
if skip:
    loader.load_state_dict(json.load(open(out + ".state")))
epochs = [[batch["sample_id"].tolist() for batch in loader] for _ in range(2)]
json.dump(epochs, open(out, "w"))
"""


def run_two_ranks(
    python: str, folder: Path, out: Path, *, workers: int, state: dict | None = None
) -> list[list[list[int]]]:
    """Sample ids of each global batch, by epoch, as two processes of one machine saw them together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    children = []
    for rank in range(2):
        if state:
            Path(f"{out}.{rank}.state").write_text(json.dumps(state))
        command = [python, "-c", CHILD, str(folder), f"{out}.{rank}", str(workers), str(int(state is not None))]
        env = {**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(subprocess.Popen(command, env=env))
    try:
        assert [child.wait(240) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait()
    a, b = (json.loads(Path(f"{out}.{rank}").read_text()) for rank in range(2))
    return [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_together_the_global_batches_of_one(write_rows, forked_python, tmp_path, workers):
    folder = write_rows(rows=24)
    one = loader_of(folder, canonical_nodes=2)
    whole = [ids_of(one) for _ in range(2)]
    two = run_two_ranks(forked_python, folder, tmp_path / "seen", workers=workers)
    assert [[sorted(batch) for batch in epoch] for epoch in two] == [[sorted(b) for b in epoch] for epoch in whole]


@pytest.mark.slow
def test_a_run_of_one_rank_resumes_on_two(write_rows, forked_python, tmp_path):
    folder = write_rows(rows=24)
    one = loader_of(folder, canonical_nodes=2)
    whole = ids_of(one)
    stopped = loader_of(folder, canonical_nodes=2)
    batches = iter(stopped)
    next(batches), next(batches)
    two = run_two_ranks(forked_python, folder, tmp_path / "seen", workers=0, state=stopped.state_dict())
    assert [sorted(batch) for batch in two[0]] == [sorted(batch) for batch in whole[2:]]


def test_folders_that_do_not_fit_together_are_refused(write_rows):
    a, short, other = write_rows("a"), write_rows("b", seq_len=20), write_rows("c", sha256="cd" * 32)
    with pytest.raises(DataError, match="rows of 20 tokens, expected 16"):
        loader_of(a, short)
    with pytest.raises(DataError, match="made with tokenizer"):
        loader_of(a, other)
    with pytest.raises(DataError, match="rows of 16 tokens, expected 99"):
        loader_of(a, seq_len=99)
    with pytest.raises(DataError, match="made with tokenizer"):
        loader_of(a, tokenizer_sha256="00")


@pytest.mark.parametrize("proportions", [[0.5, None], [0.0, 1.0], [-1.0, 1.0], [float("nan"), 1.0]])
def test_proportions_are_given_for_all_or_none_and_positive(write_rows, proportions):
    with pytest.raises(DataError, match="proportion"):
        loader_of(write_rows("a"), write_rows("b"), proportions=proportions)


def test_no_folder_is_an_error():
    with pytest.raises(DataError, match="at least one folder"):
        loader_of()


@pytest.mark.faults(7, "a local shard flipped: caught before the first batch")
def test_a_flipped_bit_is_found_before_the_first_batch(write_rows):
    folder = write_rows()
    shard = folder / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match="xxh64"):
        loader_of(folder)
    loader_of(folder, verify_hashes=False)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [Path.unlink, lambda shard: shard.write_bytes(b"")])
def test_a_shard_lost_while_running_is_an_error_not_an_end_or_a_hang(write_rows, workers, damage):
    folder = write_rows(rows=200)
    loader = loader_of(folder, workers=workers, shuffle=False)
    batches = iter(loader)
    next(batches)
    damage(sorted(folder.glob("*.mds"))[-2])  # far beyond what is read ahead
    with pytest.raises(DataError, match=r"shard.\d+.mds"):
        list(batches)
    loader.__del__()  # stops the workers; left to the garbage collector, torch waits five seconds for each


def test_another_run_that_takes_the_shared_memory_first_is_stepped_aside_for(write_rows, monkeypatch):
    folder, taken = write_rows(), []
    original = shared_memory.SharedMemory.__init__

    def raced(self, name=None, create=False, size=0, **options):
        if create and str(name).endswith("_locals") and len(taken) < 3:
            taken.append(name)
            raise FileExistsError(17, "File exists", name)
        original(self, name=name, create=create, size=size, **options)

    monkeypatch.setattr(shared_memory.SharedMemory, "__init__", raced)
    assert len(list(loader_of(folder))) == 6
    assert len(taken) == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileExistsError(17, "File exists"), "no free shared memory found 10 times"),
        (
            ValueError("Reused local directory: ['x'] vs ['x']. ..."),
            "another run on this machine uses one of these caches",
        ),
    ],
    ids=["race", "claim"],
)
def test_shared_memory_that_cannot_be_had_is_one_clear_error(write_rows, monkeypatch, error, message):
    def refuse(*args, **options):
        raise error

    monkeypatch.setattr("streaming.base.dataset.get_shm_prefix", refuse)
    with pytest.raises(DataError, match=message):
        loader_of(write_rows())


def test_the_shared_memory_asked_for_holds_what_streaming_and_torch_put_there(write_rows, monkeypatch):
    """The order of rows as streaming creates it, and the batches that wait, counted in the bytes of their tensors."""
    folder, sizes, asked = write_rows(rows=96), {}, {}
    original = shared_memory.SharedMemory.__init__

    def counted(self, name=None, create=False, size=0, **options):
        if create:
            sizes[str(name).rpartition("_")[2]] = size
        original(self, name=name, create=create, size=size, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory.SharedMemory, "__init__", counted)
        patch.setattr("detour.data.loader.check_free", lambda **values: asked.update(values))
        batch = next(iter(loader_of(folder)))
        assert asked.pop("batches") == 0  # read in this process
        loader_of(folder, workers=2)
        assert asked.pop("batches") == 2 * 2  # loader processes, and batches that each reads ahead

    def free(count: int) -> None:
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=count, f_frsize=1))

    needed = sizes["data"] + 12 * sum(tensor.nbytes for tensor in batch.values())
    assert sizes["data"] == 8 * 96
    free(needed + RESERVE)
    check_free(**asked, batches=12)
    free(needed - 12 * batch["doc_lengths"].nbytes + RESERVE)
    with pytest.raises(DataError, match=r"for the order of 96 rows, .* for 12 batches"):
        check_free(**asked, batches=12)
