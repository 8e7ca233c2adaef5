"""Named sets of held-out texts, such as those of a domain and general ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.corpus.text import find_files, read_documents
from detour.errors import ConfigError
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.masked_lm import RowLosses, masked_losses
from detour.files import sha256_of
from detour.names import fault_of_name


@dataclass(frozen=True)
class HeldOutSet:
    """Held-out texts under a name.

    Attributes:
        name: Name in tables.
        files: Its files, as `find_files` returns them.
    """

    name: str
    files: tuple[Path, ...]

    def texts(self) -> Iterator[str]:
        """The texts, in order."""
        return (document.text for document in read_documents(self.files))

    def describe(self) -> dict[str, Any]:
        """Names and hashes of the files, as recorded."""
        return {file.name: sha256_of(file) for file in self.files}

    def losses(self, encoder: Frozen, *, window: int, tokens: int, seed: int = 0) -> RowLosses:
        """Losses of a model loaded with its masked-LM head (`masked_losses`)."""
        return masked_losses(encoder, self.texts(), window=window, max_tokens=tokens, seed=seed)


def read_sets(given: Sequence[str]) -> list[HeldOutSet]:
    """Sets from ``NAME=FILE`` arguments; several with one name are one set. FILE may be a folder.

    Raises:
        ConfigError: Another form, or a name that cannot be part of a path.
        DataError: A path does not exist, or is no text.
    """
    paths: dict[str, list[str]] = {}
    for argument in given:
        name, equals, path = argument.partition("=")
        if not equals or not path:
            raise ConfigError(f"text '{argument[:80]}': expected NAME=FILE, such as general=wiki.jsonl.zst")
        if fault := fault_of_name(name):
            raise ConfigError(f"text '{argument[:80]}': the name {name[:40]!r} {fault}")
        paths.setdefault(name, []).append(path)
    return [HeldOutSet(name, tuple(find_files(files))) for name, files in paths.items()]
