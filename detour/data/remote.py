"""Rows that lie elsewhere: fetched shard by shard into a local cache, each checked before a row of it is used."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from streaming import Stream
from streaming.base.format import Reader
from streaming.base.storage.download import DOWNLOADER_MAPPINGS, CloudDownloader

from detour.data.manifest import MANIFEST, ShardManifest
from detour.data.shards import INDEX, check_shard
from detour.errors import DataError

T = TypeVar("T")

ATTEMPTS = 2
METADATA_BYTES = 1 << 28  # most of an index or a manifest
ENDING = threading.Event()  # set when Python begins to end, which waits for all threads that read ahead
threading._register_atexit(ENDING.set)  # type: ignore[attr-defined]  # streaming goes by the same hook


class RemoteStream(Stream):
    """A remote folder of packed rows behind a local one that caches it.

    Args:
        remote: s3://, gs://, hf://datasets/, http(s):// or a path; credentials as each service's own tools find them.
        local: The cache. Must hold index and manifest already, see `fetch_metadata`.
        proportion: As in `StreamSpec`.
        manifest: What the shards must be.
        timeout_s: Seconds for one shard, from the asking to the last byte.
    """

    def __init__(
        self, *, remote: str, local: str, proportion: float | None, manifest: ShardManifest, timeout_s: float
    ) -> None:
        super().__init__(remote=remote, local=local, proportion=proportion, download_timeout=timeout_s)
        self._timeout_s = timeout_s
        self._expected = {shard.file: shard for shard in manifest.shards}

    def prepare_shard(self, shard: Reader) -> int:
        """Fetches and checks a shard; one that arrives damaged is fetched once more.

        Returns:
            Bytes by which the cache has grown.

        Raises:
            DataError: It cannot be fetched, or is damaged again.
        """
        name = shard.file_pairs[0][0].basename
        expected = self._expected[name]
        problem: Exception = DataError("never fetched")
        for _ in range(ATTEMPTS):
            try:
                grown = _watched(
                    lambda: Stream.prepare_shard(self, shard),
                    timeout_s=self._timeout_s,
                    path=Path(self.local, name),
                    most_bytes=expected.bytes,
                )
                check_shard(Path(self.local), expected, shard.samples, hashes=True)
            except DataError as error:
                problem = error
                Path(self.local, name).unlink(missing_ok=True)
            except Exception as error:  # every service has its own
                raise DataError(f"{self.remote}/{name}: cannot be fetched: {_first_line(error)}") from error
            else:
                return grown
        raise DataError(f"{self.remote}/{name}: arrived damaged {ATTEMPTS} times: {problem}")


def fetch_metadata(remote: str, local: str | Path, *, timeout_s: float) -> None:
    """Brings index and manifest of a remote folder into the cache. Any number of processes may do so at once.

    Raises:
        DataError: They cannot be fetched, or the cache holds another dataset.
    """
    local = Path(local)
    local.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix=".fetch", dir=local))
    try:
        for name in (MANIFEST, INDEX):
            try:
                path, address = fetched / name, f"{remote.rstrip('/')}/{name}"
                _watched(
                    partial(CloudDownloader.direct_download, address, str(path), timeout_s),
                    timeout_s=timeout_s,
                    path=path,
                    most_bytes=METADATA_BYTES,
                )
            except Exception as error:  # every service has its own
                raise DataError(f"{remote}/{name}: cannot be fetched: {_first_line(error)}") from error
        ShardManifest.load(fetched)  # one that was cut short is no other dataset
        if (local / MANIFEST).exists() and (local / MANIFEST).read_bytes() != (fetched / MANIFEST).read_bytes():
            raise DataError(f"{local}: caches another dataset than {remote}; choose another folder or delete it")
        for name in (INDEX, MANIFEST):
            os.replace(fetched / name, local / name)
    finally:
        shutil.rmtree(fetched, ignore_errors=True)  # one that was given up may still be writing


class _GivenUpError(Exception):
    """A download took too long or brought too much."""


def _watched(download: Callable[[], T], *, timeout_s: float, path: Path, most_bytes: int) -> T:
    """Result of a download that is given up when it takes longer or brings more than it may.

    The clients of the services know neither limit: their time-outs count from the last byte. So it runs in a thread,
    which is left behind where it is given up; the run ends of that.
    """
    outcome: list[T] = []
    problem: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(download())
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=work, daemon=True)
    for part in _parts(path):  # of a process that was killed
        part.unlink(missing_ok=True)
    thread.start()
    deadline = time.monotonic() + timeout_s
    while thread.is_alive():
        thread.join(0.5)
        reason = None
        if _bytes_of(path) > most_bytes:
            reason = f"more than {most_bytes:,} bytes"
        elif thread.is_alive() and time.monotonic() > deadline:
            reason = f"not here after {timeout_s:g} seconds (data.timeout_seconds)"
        elif thread.is_alive() and ENDING.is_set():
            reason = "the process ends"
        if reason:
            for part in [path, *_parts(path)]:
                part.unlink(missing_ok=True)
            raise _GivenUpError(reason)
    if problem:
        raise problem[0]
    return outcome[0]


def _parts(path: Path) -> list[Path]:
    """What clients keep under longer names until a file is whole."""
    return list(path.parent.glob(f"{path.name}.*"))


def _bytes_of(path: Path) -> int:
    """Size of a file, or of the largest of its parts."""
    size = 0
    for part in [path, *_parts(path)]:
        with suppress(OSError):  # it has just got its name
            size = max(size, part.stat().st_size)
    return size


class _HttpDownloader(CloudDownloader):
    """Plain HTTP, for shards on a web server; streaming has none of its own."""

    @staticmethod
    def _client_identifier() -> str:
        return "http"

    def clean_up(self) -> None:
        """Nothing is kept open."""

    def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
        aside = f"{local}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            with urllib.request.urlopen(remote, timeout=timeout) as answer, open(aside, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            os.replace(aside, local)
        except (TimeoutError, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            raise FileNotFoundError(f"{remote}: {error}") from error
        finally:
            Path(aside).unlink(missing_ok=True)


class _HttpsDownloader(_HttpDownloader):
    @staticmethod
    def _client_identifier() -> str:
        return "https"


DOWNLOADER_MAPPINGS |= {"http": _HttpDownloader, "https": _HttpsDownloader}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
