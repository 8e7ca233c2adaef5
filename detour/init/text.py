"""A look at the text of a new project: formats, documents, lengths, languages, duplicates.

A small corpus is read completely, of a large one a sample: counts are then scaled up by bytes, and marked as estimates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from detour.corpus.document import Document
from detour.corpus.steps.exact_dedup import ExactDedup
from detour.corpus.text import HARMLESS
from detour.init.columns import Table
from detour.units import counted

LANGUAGE_DOCUMENTS = 300
LANGUAGE_CHARACTERS = 4000
TOKENIZED_BYTES = 4_000_000  # two seconds (`detour.data.tokenizer.encoder_of`)
BYTES_PER_TOKEN = 4.5  # without the tokenizer. Biomedical text: ModernBERT's 4.7 (English), CamemBERTv2's 4.4 (French)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one format, or those of them in one language, as a preparation reads them.

    Attributes:
        name: Of its rows' folder.
        kind: Reader.
        paths: Of the preparation.
        table: Columns and delimiter, for formats that have them.
        options: Options of the reader.
        files: Number of files.
        bytes: Their size on disk.
        complete: Whether all of them were read to the end.
        documents: Documents read.
        weights: Of each, the number of documents of all files that it stands for; 1 if everything was read.
        skipped: Why records were not usable, counted.
        where: Location of the first one, by reason.
        mixed: Why its files of several languages are one source; empty if they are not of several.
    """

    name: str
    kind: str
    paths: list[str]
    table: Table
    options: dict[str, Any]
    files: int
    bytes: int
    complete: bool
    documents: list[Document] = field(repr=False)
    weights: list[float] = field(repr=False)
    skipped: Counter[str]
    where: dict[str, str]
    mixed: str = ""

    @property
    def count(self) -> int:
        """Documents in all files; an estimate unless it is complete."""
        return round(sum(self.weights))


@dataclass(frozen=True, kw_only=True)
class Text:
    """What was seen of the text.

    Attributes:
        sources: By format.
        ignored: Files of other formats.
    """

    sources: list[Source]
    ignored: list[str]

    @property
    def complete(self) -> bool:
        """Whether everything was read."""
        return all(source.complete for source in self.sources)

    @property
    def documents(self) -> int:
        """Documents in all sources."""
        return sum(source.count for source in self.sources)

    @property
    def bytes(self) -> int:
        """Size of all files on disk."""
        return sum(source.bytes for source in self.sources)

    @cached_property
    def sample(self) -> list[Document]:
        """The documents that were read."""
        return [document for source in self.sources for document in source.documents]

    @cached_property
    def duplicated(self) -> float:
        """Fraction of the bytes read that repeat an earlier document, but for case and white space."""
        step, seen, repeated, total = ExactDedup(), set(), 0, 0
        for document in self.sample:
            key, size = step.sign(document).tobytes(), len(document.text)
            repeated, total = repeated + size * (key in seen), total + size
            seen.add(key)
        return repeated / max(1, total)

    @cached_property
    def languages(self) -> dict[str, float]:
        """ISO 639-1 code -> fraction of the characters of some documents, the largest first (py3langid)."""
        return languages_of(self.sample, LANGUAGE_DOCUMENTS)

    @cached_property
    def text_bytes(self) -> float:
        """UTF-8 bytes of all documents."""
        return float(self._weights_N @ self._sizes_N)

    @cached_property
    def _sizes_N(self) -> np.ndarray:
        return np.array([len(document.text.encode()) for document in self.sample], dtype=np.float64)

    @cached_property
    def _weights_N(self) -> np.ndarray:
        return np.array([weight for source in self.sources for weight in source.weights])

    def tokens(self, encode: Callable[[list[str]], Sequence[np.ndarray]] | None) -> Tokens:
        """Counts tokens.

        Args:
            encode: As `detour.data.tokenizer.encoder_of` returns it; None estimates from the size of the text.
        """
        chosen = range(len(self.sample))
        if encode is not None:
            share = min(1.0, TOKENIZED_BYTES / max(1.0, self._sizes_N.sum()))
            chosen = evenly(chosen, max(1, int(len(chosen) * share)))
        index = np.array(chosen)
        sizes_N, weights_N = self._sizes_N[index], self._weights_N[index]
        lengths_N = sizes_N / BYTES_PER_TOKEN
        if encode is not None:
            lengths_N = np.array([len(ids) for ids in encode([self.sample[i].text for i in index])], dtype=np.float64)
        total = self.text_bytes * float(weights_N @ lengths_N) / max(1.0, float(weights_N @ sizes_N))
        median, long, longest = (
            int(n) for n in np.quantile(lengths_N, (0.5, 0.95, 1.0), weights=weights_N, method="inverted_cdf")
        )
        return Tokens(
            total=round(total),
            mean=total / max(1, self.documents),
            median=median,
            p95=long,
            longest=longest,
            exact=encode is not None and self.complete and len(index) == len(self.sample),
            lengths_N=lengths_N,
            weights_N=weights_N,
        )


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Numbers of tokens.

    Attributes:
        total: Of the corpus, before cleaning.
        mean: Per document.
        median: Per document of the sample.
        p95: 95% of the sampled documents have at most so many.
        longest: Of the sample.
        exact: Whether all documents were tokenized.
        lengths_N: Of the sample.
        weights_N: Documents of the corpus that each stands for.
    """

    total: int
    mean: float
    median: int
    p95: int
    longest: int
    exact: bool
    lengths_N: np.ndarray = field(repr=False)
    weights_N: np.ndarray = field(repr=False)

    def longer_than(self, seq_len: int) -> float:
        """Fraction of the documents that are longer, and are split into rows of so many tokens."""
        return float(self.weights_N[self.lengths_N > seq_len].sum() / self.weights_N.sum())


def languages_of(documents: Sequence[Document], most: int) -> dict[str, float]:
    """ISO 639-1 code -> fraction of the characters of at most ``most`` documents, the largest first (py3langid)."""
    from detour.corpus.steps.language import identify

    counts: Counter[str] = Counter()
    for document in evenly(documents, most):
        text = document.text[:LANGUAGE_CHARACTERS]
        counts[identify(text)[0]] += len(text)
    total = counts.total()
    return {code: count / total for code, count in counts.most_common() if count >= 0.01 * total}


def faults(text: Text) -> list[str]:
    """What could not be used, one line for each reason, without what is harmless."""
    return [
        f"{source.name}: {counted(n, 'record')} skipped, {reason}; the first at {source.where.get(reason, '?')}"
        for source in text.sources
        for reason, n in source.skipped.most_common(4)
        if reason not in HARMLESS
    ]


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` items, evenly spaced."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
