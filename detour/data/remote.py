"""Rows that lie elsewhere: fetched shard by shard into a local cache, each checked before a row of it is used."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from streaming import Stream
from streaming.base.format import Reader
from streaming.base.storage.download import DOWNLOADER_MAPPINGS, CloudDownloader

from detour.data.manifest import MANIFEST, ShardManifest
from detour.data.mds import INDEX, check_shard
from detour.errors import DataError

ATTEMPTS = 2


class RemoteStream(Stream):
    """A remote folder of packed rows behind a local one that caches it.

    Args:
        remote: s3://, gs://, hf://datasets/, http(s):// or a path; credentials as each service's own tools find them.
        local: The cache. Must hold index and manifest already, see `fetch_metadata`.
        proportion: As in `StreamSpec`.
        manifest: What the shards must be.
        timeout_s: Seconds for one shard.
    """

    def __init__(
        self, *, remote: str, local: str, proportion: float | None, manifest: ShardManifest, timeout_s: float
    ) -> None:
        super().__init__(remote=remote, local=local, proportion=proportion, download_timeout=timeout_s)
        self._expected = {shard.file: shard for shard in manifest.shards}

    def prepare_shard(self, shard: Reader) -> int:
        """Fetches and checks a shard; one that arrives damaged is fetched once more.

        Returns:
            Bytes by which the cache has grown.

        Raises:
            DataError: It cannot be fetched, or is damaged again.
        """
        name = shard.file_pairs[0][0].basename
        problem: Exception = DataError("never fetched")
        for _ in range(ATTEMPTS):
            try:
                grown = super().prepare_shard(shard)
                check_shard(Path(self.local), self._expected[name], shard.samples, hashes=True)
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
                CloudDownloader.direct_download(f"{remote.rstrip('/')}/{name}", str(fetched / name), timeout_s)
            except Exception as error:  # every service has its own
                raise DataError(f"{remote}/{name}: cannot be fetched: {_first_line(error)}") from error
        if (local / MANIFEST).exists() and (local / MANIFEST).read_bytes() != (fetched / MANIFEST).read_bytes():
            raise DataError(f"{local}: caches another dataset than {remote}; choose another folder or delete it")
        for name in (INDEX, MANIFEST):
            os.replace(fetched / name, local / name)
    finally:
        shutil.rmtree(fetched)


class _HttpDownloader(CloudDownloader):
    """Plain HTTP, for shards on a web server; streaming has none of its own."""

    @staticmethod
    def _client_identifier() -> str:
        return "http"

    def clean_up(self) -> None:
        """Nothing is kept open."""

    def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
        partial = f"{local}.{os.getpid()}.tmp"
        try:
            with urllib.request.urlopen(remote, timeout=timeout) as answer, open(partial, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            os.replace(partial, local)
        except (TimeoutError, urllib.error.URLError) as error:
            raise FileNotFoundError(f"{remote}: {error}") from error
        finally:
            Path(partial).unlink(missing_ok=True)


class _HttpsDownloader(_HttpDownloader):
    @staticmethod
    def _client_identifier() -> str:
        return "https"


DOWNLOADER_MAPPINGS |= {"http": _HttpDownloader, "https": _HttpsDownloader}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
