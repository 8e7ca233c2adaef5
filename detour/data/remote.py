"""Remote folders of packed rows: shards are fetched into a local cache and verified before use."""

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
from detour.data.shards import INDEX
from detour.data.verify import check_shard
from detour.errors import DataError, first_line

T = TypeVar("T")

ATTEMPTS = 2
METADATA_BYTES = 1 << 28  # maximum size of an index or manifest
ENDING = threading.Event()  # set when the interpreter begins to exit, which waits for all read-ahead threads
threading._register_atexit(ENDING.set)  # type: ignore[attr-defined]  # streaming uses the same hook


class RemoteStream(Stream):
    """A remote folder of packed rows with a local cache.

    Args:
        remote: s3://, gs://, hf://datasets/, http(s):// or a path. Credentials are found as by each service's own tools.
        local: The cache. Must contain index and manifest, see `fetch_metadata`.
        proportion: See `StreamSpec`.
        manifest: Expected sizes and hashes of the shards.
        timeout_s: Maximum seconds to fetch one shard, from the request to the last byte.
    """

    def __init__(
        self, *, remote: str, local: str, proportion: float | None, manifest: ShardManifest, timeout_s: float
    ) -> None:
        super().__init__(remote=remote, local=local, proportion=proportion, download_timeout=timeout_s)
        self._timeout_s = timeout_s
        self._expected = {shard.file: shard for shard in manifest.shards}

    def prepare_shard(self, shard: Reader) -> int:
        """Fetches and verifies a shard; a damaged one is fetched once more.

        Returns:
            Bytes added to the cache.

        Raises:
            DataError: The shard cannot be fetched, or is damaged twice.
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
                    max_bytes=expected.bytes,
                )
                check_shard(Path(self.local), expected, shard.samples, hashes=True)
            except DataError as error:
                problem = error
                Path(self.local, name).unlink(missing_ok=True)
            except Exception as error:  # each service has its own exceptions
                raise DataError(f"{self.remote}/{name}: cannot be fetched: {first_line(error)}") from error
            else:
                return grown
        raise DataError(f"{self.remote}/{name}: arrived damaged {ATTEMPTS} times: {problem}")


def fetch_metadata(remote: str, local: str | Path, *, timeout_s: float) -> None:
    """Fetches index and manifest of a remote folder into the cache. Safe to call from many processes at once.

    Raises:
        DataError: They cannot be fetched, or the cache belongs to another dataset.
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
                    max_bytes=METADATA_BYTES,
                )
            except Exception as error:  # each service has its own exceptions
                raise DataError(f"{remote}/{name}: cannot be fetched: {first_line(error)}") from error
        ShardManifest.load(fetched)  # so that a truncated manifest is not reported as another dataset
        if (local / MANIFEST).exists() and (local / MANIFEST).read_bytes() != (fetched / MANIFEST).read_bytes():
            raise DataError(f"{local}: caches another dataset than {remote}; choose another folder or delete it")
        for name in (INDEX, MANIFEST):
            os.replace(fetched / name, local / name)
    finally:
        shutil.rmtree(fetched, ignore_errors=True)  # an abandoned download may still be writing


class _AbandonedError(Exception):
    """A download exceeded its time or size limit."""


def _watched(download: Callable[[], T], *, timeout_s: float, path: Path, max_bytes: int) -> T:
    """Runs a download and returns its result; raises when it exceeds its time or size limit.

    The services' clients enforce neither limit: their timeouts restart with every byte. So the download runs in a daemon
    thread, which is abandoned at the limit; the error then ends the run.
    """
    outcome: list[T] = []
    problem: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(download())
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=work, daemon=True)
    for part in _partial_files(path):  # left by a killed process
        part.unlink(missing_ok=True)
    thread.start()
    deadline = time.monotonic() + timeout_s
    while thread.is_alive():
        thread.join(0.5)
        reason = None
        if _bytes_of(path) > max_bytes:
            reason = f"more than {max_bytes:,} bytes"
        elif thread.is_alive() and time.monotonic() > deadline:
            reason = f"not complete after {timeout_s:g} seconds (data.timeout_seconds)"
        elif thread.is_alive() and ENDING.is_set():
            reason = "the process is exiting"
        if reason:
            for part in [path, *_partial_files(path)]:
                part.unlink(missing_ok=True)
            raise _AbandonedError(reason)
    if problem:
        raise problem[0]
    return outcome[0]


def _partial_files(path: Path) -> list[Path]:
    """Incomplete downloads, which the clients store as ``NAME.*`` until they are complete."""
    return list(path.parent.glob(f"{path.name}.*"))


def _bytes_of(path: Path) -> int:
    """Size of a file or of its largest incomplete download."""
    size = 0
    for part in [path, *_partial_files(path)]:
        with suppress(OSError):  # it was renamed just now
            size = max(size, part.stat().st_size)
    return size


class _HttpDownloader(CloudDownloader):
    """Downloads over HTTP, which streaming does not support.

    Writes to ``NAME.*.tmp``, which `_watched` measures, and not through `atomic_write`, whose hidden files it would miss.
    """

    @staticmethod
    def _client_identifier() -> str:
        return "http"

    def clean_up(self) -> None:
        """No connection is kept open."""

    def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
        temporary = f"{local}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            with urllib.request.urlopen(remote, timeout=timeout) as answer, open(temporary, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            os.replace(temporary, local)
        except (TimeoutError, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # releases the connection
            raise FileNotFoundError(f"{remote}: {error}") from error
        finally:
            Path(temporary).unlink(missing_ok=True)


class _HttpsDownloader(_HttpDownloader):
    @staticmethod
    def _client_identifier() -> str:
        return "https"


DOWNLOADER_MAPPINGS |= {"http": _HttpDownloader, "https": _HttpsDownloader}
