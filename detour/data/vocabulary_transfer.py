"""Which rows of a start model's embedding make the rows of another tokenizer's: copies, and means over pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from detour.data.tokenizer_folder import ROLE_KEYS
from detour.data.tokenizer_spelling import Spelling, kind_of, pieces_of, text_of
from detour.errors import DataError


@dataclass(frozen=True)
class RowSources:
    """Where the rows of an embedding come from.

    Attributes:
        rows: For each id the ids of the start model whose mean its row is: one for a copy, none where there is nothing to
            take; the mean over all the tokens of the start model then stands in.
        copied: Tokens that the start model has too.
        averaged: Tokens drawn from the pieces that the start model has for them.
        without_pieces: Tokens for which it has none, such as characters unknown to it.
    """

    rows: list[tuple[int, ...]]
    copied: int
    averaged: int
    without_pieces: int

    def record(self) -> dict[str, int]:
        """The counts, for the record of a run."""
        return {"copied": self.copied, "averaged": self.averaged, "without_pieces": self.without_pieces}


def row_sources(
    start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast, *, start_rows: int, rows: int
) -> RowSources:
    """Finds for each token of a tokenizer what to draw its embedding from.

    A token with a role ([MASK], ...) is copied from the token with that role; a token that both tokenizers have is
    copied, also if they spell it differently ("Ġfever", "fever", "▁fever"); any other is the mean of the pieces that
    the start model's tokenizer has for its text. Rows without a token, which pad the vocabulary, keep those of the
    start model as far as it has them.

    Args:
        start: Tokenizer of the start model.
        given: The other one.
        start_rows: Rows of the start model's embedding.
        rows: Rows of the new one.

    Raises:
        DataError: A tokenizer has more ids than there are rows.
    """
    for tokenizer, count in ((start, start_rows), (given, rows)):
        if (largest := max(tokenizer.get_vocab().values())) >= count:
            raise DataError(f"tokenizer '{tokenizer.name_or_path}': has the id {largest}, expected at most {count} ids")
    of, wanted = _sources(start, given), given.get_vocab()
    found: list[tuple[int, ...]] = [()] * rows
    for token, id in wanted.items():
        found[id] = of(token)
    counts = [len(found[id]) for id in wanted.values()]
    for id in set(range(min(start_rows, rows))) - {*wanted.values()} - {*start.get_vocab().values()}:
        found[id] = (id,)
    return RowSources(
        rows=found,
        copied=counts.count(1),
        averaged=sum(count > 1 for count in counts),
        without_pieces=counts.count(0),
    )


def _sources(start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast) -> Callable[[str], tuple[int, ...]]:
    """A function from a token of ``given`` to the ids of ``start`` that it is drawn from."""
    known, kinds = start.get_vocab(), (kind_of(start), kind_of(given))
    same = kinds[0] == kinds[1]
    special = {token.content for token in given.added_tokens_decoder.values() if token.special}
    roles = {
        getattr(given, role): known[getattr(start, role)]
        for role in reversed(ROLE_KEYS)  # where one token has several roles, the first counts
        if getattr(given, role) is not None and getattr(start, role) in known
    }
    spelled: dict[Spelling, int] = {}
    if not same and kinds[0] is not None:
        specials = {*start.all_special_ids}
        for token, id in known.items():
            if id not in specials and (spelling := text_of(kinds[0], token)):
                spelled.setdefault(spelling, id)

    def of(token: str) -> tuple[int, ...]:
        if token in roles:
            return (roles[token],)
        if token in known and (same or token in special):
            return (known[token],)
        spelling = text_of(kinds[1], token) if kinds[1] else None
        if token in special or kinds[0] is None:
            return ()
        if spelling is None:  # part of a character
            pieces = start.backend_tokenizer.model.tokenize(token) if same else []
            return tuple(piece.id for piece in pieces)
        if spelling in spelled:
            return (spelled[spelling],)
        return tuple(pieces_of(start, kinds[0], spelling))

    return of
