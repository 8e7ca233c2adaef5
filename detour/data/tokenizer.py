"""Tokenizers: loading, identity hash, the `Vocab` for objectives, batch encoding, and BPE training."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from detour.data.literal_specials import encode_specials_as_text
from detour.data.manifest import TokenizerInfo
from detour.data.tokenizer_folder import build, config_of, needs_build
from detour.errors import DataError, first_line, panics_named
from detour.hub import check_hub
from detour.vocab import Vocab

ROLES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
MODEL_INPUTS = ["input_ids", "attention_mask"]  # of ModernBERT; the default of transformers adds token_type_ids
REQUIRED = ("pad_token", "mask_token")
RESERVED = re.compile(r"[\[<]\|?(unused|reserved|extra_id)_?\d+\|?[\]>]", re.IGNORECASE)
# of words: byte-level symbols, and the characters themselves in added tokens
WORD_STARTS = ("Ġ", "Ċ", "ĉ", "č", " ", "\n", "\t", "\r")


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerFast:
    """Loads a fast tokenizer with at least a padding and a mask token. Never runs code from the folder or hub.

    A folder is read offline; ``tokenizer.json`` is sufficient. Undeclared special tokens are set to their usual names
    ([PAD], [UNK], [CLS], [SEP], [MASK]) if the vocabulary contains them.

    Raises:
        DataError: It cannot be loaded, is not a fast tokenizer, or has no padding or mask token.
    """
    try:
        tokenizer = _load(Path(name_or_folder))
    except Exception as error:  # transformers and tokenizers raise a bare Exception for some damaged files
        raise DataError(f"{name_or_folder}: cannot be loaded as a tokenizer: {first_line(error)}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"{name_or_folder}: {type(tokenizer).__name__} has no fast form, expected a tokenizer.json")
    known = tokenizer.get_vocab()
    for role, token in ROLES.items():
        if getattr(tokenizer, role) is None and token in known:
            setattr(tokenizer, role, token)
    for role in REQUIRED:
        token = getattr(tokenizer, role)
        if token is None or token not in known:
            raise DataError(f"{name_or_folder}: no {role}, expected {ROLES[role]} in its vocabulary or a declared one")
    return tokenizer


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 over everything that affects encoding: vocabulary, model, special ids, normalizer, template.

    Equal for a full folder and its ``tokenizer.json`` alone. Padding, truncation and offset settings are not included.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = ("normalizer", "pre_tokenizer", "post_processor", "model")
    record = {
        "vocabulary": tokenizer.get_vocab(),
        "roles": {role: tokenizer.convert_tokens_to_ids(getattr(tokenizer, role) or "") for role in ROLES},
        **{part: _without_offsets(backend[part]) for part in parts},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def tokenizer_info(tokenizer: PreTrainedTokenizerFast) -> TokenizerInfo:
    """The manifest entry of a tokenizer. A local folder is recorded by its last path part only."""
    name = tokenizer.name_or_path
    return TokenizerInfo(
        name=Path(name).name if Path(name).exists() else name,
        sha256=tokenizer_sha256(tokenizer),
        vocab_size=_vocab_size(tokenizer),
        mask_id=int(tokenizer.mask_token_id),  # type: ignore[arg-type]
        pad_id=int(tokenizer.pad_token_id),  # type: ignore[arg-type]
        separation=separation_of(tokenizer),
    )


def separation_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """The tokenizer's template around a document: "[CLS] document [SEP]", "document <eos>" or "document"."""
    encoded = tokenizer.backend_tokenizer.encode("a")
    marks = [
        token if special else "document"
        for token, special in zip(encoded.tokens, encoded.special_tokens_mask, strict=True)
    ]
    return " ".join(mark for i, mark in enumerate(marks) if mark != "document" or "document" not in marks[:i])


def vocab_of(tokenizer: PreTrainedTokenizerFast, size: int | None = None) -> Vocab:
    """The `Vocab` of a tokenizer, for objectives.

    Args:
        tokenizer: From `load_tokenizer`.
        size: V, if the model's embedding is larger than the vocabulary; the additional ids are never drawn.

    Raises:
        DataError: ``size`` is smaller than the vocabulary.
    """
    smallest = _vocab_size(tokenizer)
    size = smallest if size is None else size
    if size < smallest:
        raise DataError(f"tokenizer '{tokenizer.name_or_path}': has {smallest} ids, expected at most {size}")
    declared = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = declared | {*tokenizer.all_special_ids}
    tokens = {id: token for token, id in tokenizer.get_vocab().items()}
    ordinary = [id for id, token in sorted(tokens.items()) if id not in special and not RESERVED.fullmatch(token)]
    begins_word = _word_start_test(tokenizer)
    starts_word_V = None
    if begins_word is not None:
        starts_word_V = torch.zeros(size, dtype=torch.bool)
        starts_word_V[[id for id, token in tokens.items() if begins_word(token)]] = True
    return Vocab(
        size=size,
        mask_id=int(tokenizer.mask_token_id),  # type: ignore[arg-type]
        pad_id=int(tokenizer.pad_token_id),  # type: ignore[arg-type]
        special_ids=tuple(sorted(special)),
        ordinary_ids=torch.tensor(ordinary, dtype=torch.int64),
        starts_word_V=starts_word_V,
    )


BEFORE_SPACE = re.compile(r"\s(?=\S)")  # matched on reversed text
AFTER_PUNCTUATION = re.compile(r"[^\W_](?=[^\w\s'’])")
SLICE_CHARACTERS = 1 << 20  # of one text, tokenized at once: the library needs many times its size in memory


def encoder_of(
    tokenizer: PreTrainedTokenizerFast,
    *,
    dtype: str,
    slice_characters: int = SLICE_CHARACTERS,
    literal_specials: bool = False,
) -> Callable[[list[str]], list[np.ndarray]]:
    """Returns a function from texts to their ids, ``dtype`` [n] each, with the tokenizer's template and no truncation.

    Special tokens that a text spells out, such as "[MASK]", are encoded as text, or with ``literal_specials`` as the
    special ids. The function raises DataError where the tokenizer fails.

    Texts of more than ``slice_characters`` are encoded in slices that begin at white space or after punctuation, where
    pre-tokenizers split words anyway. So the ids are the same, and memory is bounded by a slice. If a tokenizer does not
    split there, one token at the end of a slice may become two; no text is lost.

    Cost: about 2 MB/s per core; the texts of one call are distributed over the library's threads.
    """
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    if not literal_specials:
        encode_specials_as_text(backend, tokenizer)

    def encode_long(text: str) -> np.ndarray:
        (start, end), *rest = _slices(text, slice_characters)
        first = backend.encode(text[start:end])  # with the template, whose end is moved after the last slice
        closing = len(list(takewhile(bool, reversed(first.special_tokens_mask)))) % len(first.ids)
        parts = [first.ids[: len(first.ids) - closing]]
        for start, end in rest:
            parts.append(backend.encode(text[start:end], add_special_tokens=False).ids)
        parts.append(first.ids[len(first.ids) - closing :])
        return np.concatenate([np.array(ids, dtype) for ids in parts])

    def encode(texts: list[str]) -> list[np.ndarray]:
        short = [text for text in texts if len(text) <= slice_characters]
        # a pattern of its tokenizer.json that needs too many steps, for example
        with panics_named(f"tokenizer '{tokenizer.name_or_path}': fails on a text"):
            encoded = iter(backend.encode_batch_fast(short))
            return [
                np.array(next(encoded).ids, dtype) if len(text) <= slice_characters else encode_long(text)
                for text in texts
            ]

    return encode


def _slices(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """(start, end) of slices of at most ``longest`` characters.

    A slice ends before its last white space, else after its last punctuation mark, else at the limit.
    """
    start = 0
    while len(text) - start > longest:
        window = text[start : start + longest + 1]
        end = start + longest
        for boundary in (BEFORE_SPACE, AFTER_PUNCTUATION):
            if last := next(boundary.finditer(window[::-1]), None):
                end = start + len(window) - last.end()
                break
        yield start, end
        start = end
    yield start, len(text)


def train_bpe(texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer with five special tokens and the template ``[CLS] text [SEP]``. Deterministic.

    After `save_pretrained`, both `AutoTokenizer` and `load_tokenizer` can load it.

    Args:
        texts: Training text; read once, held in memory as word counts.
        vocab_size: V, including special tokens and the 256 byte symbols; little text may give fewer tokens.
        min_frequency: Minimum count of a pair to merge.

    Raises:
        DataError: ``vocab_size`` is too small for the special tokens and byte symbols.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(ROLES) + len(alphabet):
        raise DataError(f"train_bpe: vocab_size is {vocab_size}, expected at least {len(ROLES) + len(alphabet)}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(ROLES.values())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_input_names=MODEL_INPUTS, **ROLES
    )


def _load(name_or_folder: Path) -> PreTrainedTokenizerBase:
    if not name_or_folder.is_dir():
        check_hub()
    file, name = name_or_folder / "tokenizer.json", name_or_folder.as_posix()
    if file.is_file() and not (name_or_folder / "tokenizer_config.json").is_file():
        # AutoTokenizer would guess the class from the folder's name; without add_prefix_space the class would reset it
        # in the file's pre-tokenizer
        splitter = json.loads(file.read_text(encoding="utf-8"))["pre_tokenizer"] or {}
        return PreTrainedTokenizerFast(
            tokenizer_file=str(file),
            name_or_path=name,
            clean_up_tokenization_spaces=False,
            add_prefix_space=splitter.get("add_prefix_space", False),
        )
    config = config_of(name_or_folder)
    for key, value in config.items():
        if key.endswith(("_file", "_files")):
            for file in value if isinstance(value, list) else [value]:
                if isinstance(file, str) and Path(file).name != file:
                    raise DataError(f"tokenizer_config.json: {key} {file!r} refers to a file outside the folder")
    if needs_build(config):
        return build(name, config)
    if name_or_folder.is_dir() and config.get("tokenizer_class") == PreTrainedTokenizerFast.__name__:
        return PreTrainedTokenizerFast.from_pretrained(name, local_files_only=True)  # what AutoTokenizer would call
    from transformers import AutoTokenizer  # imports torch's compiler, scikit-learn and more: three seconds

    return AutoTokenizer.from_pretrained(name, local_files_only=name_or_folder.is_dir(), trust_remote_code=False)


def _vocab_size(tokenizer: PreTrainedTokenizerFast) -> int:
    return max(tokenizer.get_vocab().values()) + 1  # ids may have gaps, so the number of tokens is not enough


def _without_offsets(part: object) -> object:
    """A component's JSON without ``trim_offsets``, which some tokenizer classes rewrite and which does not affect ids."""
    if isinstance(part, dict):
        return {key: _without_offsets(value) for key, value in part.items() if key != "trim_offsets"}
    return [_without_offsets(item) for item in part] if isinstance(part, list) else part


def _word_start_test(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bool] | None:
    """A function that tells from a token's spelling whether it begins a word; None if the tokenizer does not mark that."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if backend["model"]["type"] == "WordPiece":
        prefix = backend["model"]["continuing_subword_prefix"]
        return lambda token: not token.startswith(prefix)
    components = json.dumps([backend[part] for part in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    if '"ByteLevel"' in components:
        return lambda token: token.startswith(WORD_STARTS)
    if "▁" in components:  # SentencePiece marks the space before a word
        return lambda token: token.startswith("▁")
    return None
