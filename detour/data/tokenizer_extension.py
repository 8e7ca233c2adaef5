"""Extends a tokenizer by tokens of a domain. The base's ids, and text in which no new token occurs, stay as they are.

How each kind of model is extended, and why not by added tokens: docs/decisions/0022-extend-by-the-model.md.
"""

from __future__ import annotations

import heapq
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from detour.data.tokenizer_folder import rebuild
from detour.data.tokenizer_spelling import BYTE_LEVEL, SPACE, UNIGRAM, WORDPIECE, kind_of, text_of
from detour.errors import DataError

MIN_COUNT = 2  # occurrences of a token in the corpus: one that occurs once is noise
MARGIN = 1e-3  # by which a new Unigram piece scores above the pieces that it replaces


@dataclass(frozen=True)
class NewToken:
    """A token that was added.

    Attributes:
        token: As in the vocabulary.
        pieces: The tokens of the base that it replaces.
        count: How often these occurred in a row in the corpus when the token was added.
        merged: The two tokens, of the base or added before, that are merged; empty for an entire word.
    """

    token: str
    pieces: tuple[str, ...]
    count: int
    merged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extension:
    """A tokenizer with new tokens at the end of its vocabulary.

    Attributes:
        tokenizer: The extended tokenizer.
        added: The new tokens in the order of their ids, most pieces saved first.
        first_id: Id of the first new token.
    """

    tokenizer: PreTrainedTokenizerFast
    added: list[NewToken]
    first_id: int


def check_extensible(tokenizer: PreTrainedTokenizerFast) -> str:
    """The kind of a tokenizer that `extend` can extend, as `kind_of` names it.

    Raises:
        DataError: It is neither byte-level BPE without dropout, nor WordPiece, nor Unigram, or does not split text at
            white space before its model.
    """
    backend, name = tokenizer.backend_tokenizer, tokenizer.name_or_path
    spec, kind = json.loads(backend.to_str()), kind_of(tokenizer)
    if kind is None:
        raise DataError(
            f"tokenizer '{name}': its model is {spec['model']['type']}; byte-level BPE, WordPiece and Unigram can be extended"
        )
    odd = [
        key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
        if kind == BYTE_LEVEL and spec["model"].get(key)
    ]  # fmt: skip
    if odd:
        raise DataError(f"tokenizer '{name}': a BPE with {odd[0]} cannot be extended")
    if backend.pre_tokenizer is None or len(backend.pre_tokenizer.pre_tokenize_str("aa bb")) < 2:
        raise DataError(
            f"tokenizer '{name}': it does not split text into words before its model, so it cannot be extended"
        )
    return kind


def count_words(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Counter[str]:
    """Number of occurrences of each word, as the tokenizer's model receives words. Cost: about 3 MB/s."""
    backend = tokenizer.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))  # type: ignore[union-attr]
    return counts


def extend(tokenizer: PreTrainedTokenizerFast, words: Mapping[str, int], *, add: int) -> Extension:
    """Adds the tokens that save most pieces in a corpus: merges (BPE, Unigram) or entire words (WordPiece).

    Only words of letters are looked at: numbers and punctuation stay as they are. Deterministic.

    Args:
        tokenizer: The base, from `load_tokenizer`; not changed.
        words: From `count_words`.
        add: Number of new tokens. A small corpus may give fewer: each must occur at least `MIN_COUNT` times.

    Raises:
        DataError: The tokenizer cannot be extended (`check_extensible`), or the corpus gives no token.
    """
    kind = check_extensible(tokenizer)
    known = set(tokenizer.get_vocab())
    if kind == WORDPIECE:
        added = _whole_words(tokenizer, words, known, add)
    else:
        runs: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            for run in _runs(tokenizer, kind, word):
                runs[run] += count
        added = merges(runs, known, add)
    if not added:
        raise DataError(f"tokenizer '{tokenizer.name_or_path}': no word of the corpus can be added")
    first = max(tokenizer.get_vocab().values()) + 1
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    _fill(spec)
    {WORDPIECE: _add_entries, BYTE_LEVEL: _add_merges, UNIGRAM: _add_scores}[kind](spec["model"], added, first)
    backend = Tokenizer.from_str(json.dumps(spec))
    misplaced = [new.token for id, new in enumerate(added, first) if backend.token_to_id(new.token) != id]
    misplaced += [token for token, id in tokenizer.get_vocab().items() if backend.token_to_id(token) != id]
    if misplaced:
        raise DataError(f"tokenizer '{tokenizer.name_or_path}': {misplaced[0]!r} would change its id")
    return Extension(tokenizer=rebuild(tokenizer, backend), added=added, first_id=first)


def merges(runs: Mapping[tuple[str, ...], int], known: set[str], add: int) -> list[NewToken]:
    """The next merges that BPE training would learn on top of a vocabulary (arXiv 2512.03989), most frequent pair first.

    A pair whose concatenation is in the vocabulary already is never merged: old text would be encoded otherwise.

    Args:
        runs: Number of occurrences of each run of pieces.
        known: Tokens of the base.
        add: Number of merges.
    """
    pieces, counts = [list(run) for run in runs], list(runs.values())
    occurrences: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for index, run in enumerate(pieces):
        for pair in pairwise(run):
            occurrences[pair] += counts[index]
            places[pair].add(index)
    queue = [(-count, pair) for pair, count in occurrences.items()]
    heapq.heapify(queue)
    parts: dict[str, tuple[str, ...]] = {}
    added: list[NewToken] = []
    while queue and len(added) < add:
        negative, pair = heapq.heappop(queue)
        if -negative != occurrences[pair]:
            continue  # an outdated entry; the current one is in the queue too
        if -negative < MIN_COUNT:
            break
        token = "".join(pair)
        if token in known or token in parts:
            continue
        parts[token] = (*parts.get(pair[0], pair[:1]), *parts.get(pair[1], pair[1:]))
        added.append(NewToken(token, parts[token], -negative, pair))
        changed: set[tuple[str, str]] = set()
        for index in places.pop(pair):
            before, after = pieces[index], _merged(pieces[index], pair)
            for each, sign in ((before, -1), (after, 1)):
                for neighbors in pairwise(each):
                    occurrences[neighbors] += sign * counts[index]
                    changed.add(neighbors)
            for neighbors in pairwise(after):
                places[neighbors].add(index)
            pieces[index] = after
        for neighbors in sorted(changed - {pair}):
            heapq.heappush(queue, (-occurrences[neighbors], neighbors))
    return added


def _merged(run: list[str], pair: tuple[str, str]) -> list[str]:
    """The run with every occurrence of a pair, from the left, joined."""
    joined: list[str] = []
    for piece in run:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _runs(tokenizer: PreTrainedTokenizerFast, kind: str, word: str) -> Iterator[tuple[str, ...]]:
    """The runs of at least two pieces of a word that consist of letters."""
    model = tokenizer.backend_tokenizer.model
    if kind == BYTE_LEVEL:  # a piece may be part of a character, so the entire word is looked at
        spelling = text_of(kind, word)
        if spelling is None or not _letters(spelling.text):
            return
        run = tuple(piece.value for piece in model.tokenize(word))
        if len(run) > 1:
            yield run
        return
    run: tuple[str, ...] = ()
    for piece in model.tokenize(word):
        spelling = text_of(kind, piece.value)
        fits = spelling and piece.id != tokenizer.unk_token_id and (piece.value == SPACE or _letters(spelling.text))
        if not fits or piece.value.startswith(SPACE):
            if len(run) > 1:
                yield run
            run = ()
        if fits:
            run = (*run, piece.value)
    if len(run) > 1:
        yield run


def _letters(text: str) -> bool:
    """Whether a text is letters, with their marks, and nothing else."""
    return bool(text) and all(unicodedata.category(character)[0] in "LM" for character in text)


def _whole_words(
    tokenizer: PreTrainedTokenizerFast, words: Mapping[str, int], known: set[str], add: int
) -> list[NewToken]:
    """Words in order of the pieces that they save: occurrences x (pieces - 1).

    WordPiece takes the longest token from the left, so a new word also begins longer words. One that leaves the rest of
    a word of the corpus unknown is not taken.
    """
    model = tokenizer.backend_tokenizer.model
    unknown = model.token_to_id(model.unk_token)  # type: ignore[attr-defined]
    found: list[NewToken] = []
    encoded: list[str] = []
    for word, count in words.items():
        pieces = model.tokenize(word)
        if any(piece.id == unknown for piece in pieces):
            continue
        encoded.append(word)
        if len(pieces) > 1 and count >= MIN_COUNT and word not in known and _letters(word):
            found.append(NewToken(word, tuple(piece.value for piece in pieces), count))
    found.sort(key=lambda new: (-new.count * (len(new.pieces) - 1), new.token))
    taken, refused = found[:add], {""}
    while refused:
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        _fill(spec)
        _add_entries(spec["model"], taken, max(tokenizer.get_vocab().values()) + 1)
        changed = Tokenizer.from_str(json.dumps(spec))
        lost = [
            word for word in encoded if changed.token_to_id("[UNK]") in (p.id for p in changed.model.tokenize(word))
        ]
        refused = {new.token for new in taken if any(word.startswith(new.token) for word in lost)}
        found = [new for new in found if new.token not in refused]
        taken = found[:add]
    return taken


def _fill(spec: dict[str, Any]) -> None:
    """Puts added tokens into the model's vocabulary, under their ids.

    One that the model does not know gets its id at loading from the size of the model's vocabulary, which grows.
    """
    model = spec["model"]
    if model["type"] == "Unigram":
        lowest = min(score for _, score in model["vocab"])
        for token in sorted(spec["added_tokens"], key=lambda token: token["id"]):
            if token["id"] == len(model["vocab"]):
                model["vocab"].append([token["content"], lowest])
        return
    for token in spec["added_tokens"]:
        model["vocab"].setdefault(token["content"], token["id"])


def _add_entries(model: dict[str, Any], added: list[NewToken], first: int) -> None:
    for id, new in enumerate(added, first):
        model["vocab"][new.token] = id


def _add_merges(model: dict[str, Any], added: list[NewToken], first: int) -> None:
    _add_entries(model, added, first)
    for new in added:
        model["merges"].append([*new.merged])


def _add_scores(model: dict[str, Any], added: list[NewToken], first: int) -> None:
    """A piece scores as what it replaces, and a little more; never below the base's lowest, on which unknown text depends."""
    scores = dict(model["vocab"])
    lowest = min(scores.values())
    for new in added:
        score = max(sum(scores[piece] for piece in new.pieces) + MARGIN * (len(new.pieces) - 1), lowest)
        model["vocab"].append([new.token, score])
