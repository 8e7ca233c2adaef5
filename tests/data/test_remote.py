from __future__ import annotations

import functools
import http.server
import shutil
import threading
import time
from pathlib import Path

import pytest

from detour.data import remote
from detour.data.loader import StreamSpec, build_loader
from detour.data.remote import RemoteStream
from detour.data.verify import verify_rows
from detour.errors import DataError

pytestmark = pytest.mark.timeout(120)


def loader_of(cache: Path, remote: str | Path, *, workers: int = 0, **options):
    settings = {"device_batch_size": 4, "shuffle": True, "shuffle_seed": 3, "canonical_nodes": 1, **options}
    stream = StreamSpec(path=str(cache), remote=str(remote))
    return build_loader(streams=[stream], workers=workers, prefetch_batches=2, timeout_s=30, **settings)


def ids_of(loader) -> list[list[int]]:
    return [batch["input_ids"].tolist() for batch in loader]


def local_ids(folder: Path) -> list[list[int]]:
    settings = {"device_batch_size": 4, "shuffle": True, "shuffle_seed": 3, "canonical_nodes": 1}
    return ids_of(build_loader(streams=[StreamSpec(path=str(folder))], workers=0, **settings))


def flip(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_rows_are_the_local_ones(write_rows, tmp_path, workers):
    folder = write_rows(rows=60)
    expected = local_ids(folder)
    for _ in range(2):  # an empty cache, then a full one
        loader = loader_of(tmp_path / "cache", folder, workers=workers)
        assert ids_of(loader) == expected
        loader.__del__()
    assert len(list((tmp_path / "cache").glob("*.mds"))) == len(list(folder.glob("*.mds")))


@pytest.mark.faults(7, "a cached shard flipped or truncated: caught, and fetched again")
@pytest.mark.parametrize("damage", [flip, lambda shard: shard.write_bytes(shard.read_bytes()[:-9])])
def test_a_damaged_cached_shard_is_fetched_again(write_rows, tmp_path, damage):
    folder, cache = write_rows(rows=60), tmp_path / "cache"
    expected = ids_of(loader_of(cache, folder))
    damage(cache / "shard.00001.mds")
    assert ids_of(loader_of(cache, folder)) == expected
    assert (cache / "shard.00001.mds").read_bytes() == (folder / "shard.00001.mds").read_bytes()


@pytest.mark.faults(7, "a shard that arrives damaged: fetched again")
def test_a_shard_that_arrives_damaged_once_is_fetched_again(write_rows, tmp_path, monkeypatch):
    folder, cache, bad = write_rows(rows=60), tmp_path / "cache", []
    expected = local_ids(folder)
    fetch = RemoteStream._download_file

    def unlucky(self, name, *args):
        local = fetch(self, name, *args)
        if name == "shard.00002.mds" and not bad:
            bad.append(name)
            flip(Path(local))
        return local

    monkeypatch.setattr(RemoteStream, "_download_file", unlucky)
    assert ids_of(loader_of(cache, folder)) == expected
    assert bad


@pytest.mark.faults(7, "a shard bad or gone at its origin: an error, the bad copy removed")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("damage", "match"), [
    (flip, r"shard\.00002\.mds: arrived damaged 2 times: .*xxh64"),
    (Path.unlink, r"shard\.00002\.mds: cannot be fetched"),
])  # fmt: skip
def test_a_shard_that_is_bad_or_gone_at_its_origin_is_an_error_not_a_hang(write_rows, tmp_path, workers, damage, match):
    folder = write_rows(rows=60)
    damage(folder / "shard.00002.mds")
    loader = loader_of(tmp_path / "cache", folder, workers=workers)
    with pytest.raises(DataError, match=match):
        list(loader)
    if workers:  # another one may have been killed while it tried for itself; the next start looks
        verify_rows(tmp_path / "cache", hashes=True, is_cache=True)
    assert not (tmp_path / "cache" / "shard.00002.mds").exists()
    loader.__del__()


def test_the_cache_stays_under_its_limit(write_rows, tmp_path):
    folder, cache = write_rows(rows=200), tmp_path / "cache"
    size = (folder / "shard.00000.mds").stat().st_size
    limit = (folder / "index.json").stat().st_size + 5 * size
    most, seen = 0, []
    for batch in loader_of(cache, folder, cache_bytes=limit, shuffle=False):
        most = max(most, len(list(cache.glob("*.mds"))))
        seen += batch["sample_id"].tolist()
    assert seen == list(range(200))
    in_flight = 3  # not counted until they have arrived
    assert 0 < most <= 5 + in_flight < len(list(folder.glob("*.mds"))) // 2


def test_a_limit_never_deletes_local_originals(write_rows, tmp_path):
    folder = write_rows()
    streams = [StreamSpec(path=str(folder)), StreamSpec(path=str(tmp_path / "c"), remote=str(folder))]
    with pytest.raises(DataError, match="has no remote"):
        build_loader(
            streams=streams, device_batch_size=2, shuffle=False, shuffle_seed=0, canonical_nodes=1, cache_bytes=1 << 30
        )


def test_a_cache_of_another_dataset_is_refused(write_rows, tmp_path):
    loader_of(tmp_path / "cache", write_rows("a"))
    with pytest.raises(DataError, match="caches another dataset"):
        loader_of(tmp_path / "cache", write_rows("b", rows=20))


def test_an_origin_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere/manifest\.json: cannot be fetched"):
        loader_of(tmp_path / "cache", tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be fetched: Unsupported remote path"):
        loader_of(tmp_path / "cache", "gopher://host/rows")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_shards_come_over_http(write_rows, tmp_path):
    folder = write_rows(rows=40)
    shutil.copytree(folder, tmp_path / "www" / "rows")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/rows"
        assert ids_of(loader_of(tmp_path / "cache", address)) == local_ids(folder)
        with pytest.raises(DataError, match=r"absent/manifest\.json: cannot be fetched"):
            loader_of(tmp_path / "other", address.replace("rows", "absent"))
        server.shutdown()


@pytest.mark.faults(16, "a remote that sends without end: given up, the disk is not filled")
@pytest.mark.parametrize("name", ["manifest.json", "shard.00001.mds"])
def test_what_is_larger_than_it_may_be_is_given_up(write_rows, tmp_path, monkeypatch, name):
    monkeypatch.setattr(remote, "METADATA_BYTES", 1 << 16)
    folder, over = write_rows(rows=40), threading.Event()

    class Endless(_Quiet):
        def copyfile(self, source, outputfile):
            while self.path.endswith(name) and not over.is_set():
                outputfile.write(bytes(1 << 14))
                time.sleep(0.001)
            super().copyfile(source, outputfile)

        def send_header(self, keyword, value):
            if keyword != "Content-Length":
                super().send_header(keyword, value)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Endless, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(DataError, match=rf"{name}: cannot be fetched: more than [0-9,]+ bytes"):
            ids_of(loader_of(tmp_path / "cache", f"http://127.0.0.1:{server.server_port}"))
        over.set()
        deadline = time.monotonic() + 20  # another thread may have tried for itself
        while list((tmp_path / "cache").glob("shard.00001*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list((tmp_path / "cache").glob("shard.00001*")), "nothing of it stays"
        server.shutdown()


def test_what_a_killed_download_left_is_no_harm(write_rows, tmp_path):
    folder, cache = write_rows(rows=40), tmp_path / "cache"
    cache.mkdir()
    (cache / "shard.00001.mds.4711-1.tmp").write_bytes(bytes(1 << 20))  # more than the shard may have
    assert ids_of(loader_of(cache, folder)) == local_ids(folder)
    assert not list(cache.glob("*.tmp"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_a_killed_process_was_fetching_is_not_waited_for_without_end(write_rows, tmp_path, workers):
    loader = loader_of(tmp_path / "cache", write_rows(rows=40), workers=workers)
    for stream in loader.dataset.streams:
        stream.download_timeout = 0.5
    loader.dataset._shard_states[1] = 2  # its mark while it fetches
    with pytest.raises(DataError, match=r"shard\.00001\.mds: another process has been fetching it for 1 seconds"):
        list(loader)
    loader.__del__()


def test_a_manifest_that_was_cut_short_is_no_other_dataset(write_rows, tmp_path):
    folder, cache = write_rows(rows=40), tmp_path / "cache"
    ids_of(loader_of(cache, folder))
    whole = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"manifest\.json: not readable as JSON"):
        loader_of(cache, folder)
    (folder / "manifest.json").write_bytes(whole)
    assert ids_of(loader_of(cache, folder)) == local_ids(folder)
