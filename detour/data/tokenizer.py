"""Tokenizers: loading, telling them apart, what an objective must know of them, and training a new one."""

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
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from detour.data.literal_specials import encode_specials_as_text
from detour.data.manifest import TokenizerInfo
from detour.data.tokenizer_folder import build, needs_build
from detour.errors import DataError
from detour.vocab import Vocab

ROLES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
MODEL_INPUTS = ["input_ids", "attention_mask"]  # of ModernBERT; the library's default adds token_type_ids
REQUIRED = ("pad_token", "mask_token")
RESERVED = re.compile(r"[\[<]\|?(unused|reserved|extra_id)_?\d+\|?[\]>]", re.IGNORECASE)
WORD_STARTS = ("Ġ", "Ċ", "ĉ", "č", " ", "\n", "\t", "\r")  # byte-level forms; added tokens are stored as they are


def load_tokenizer(name_or_folder: str | Path) -> PreTrainedTokenizerFast:
    """A fast tokenizer with at least a padding and a mask token; no code from the folder or hub is run.

    A folder is read without network; ``tokenizer.json`` alone is enough. Special tokens it does not declare are taken
    by their usual names ([PAD], [UNK], [CLS], [SEP], [MASK]) where its vocabulary holds them.

    Raises:
        DataError: It cannot be loaded, has no fast form, or lacks a padding or mask token.
    """
    try:
        tokenizer = _load(Path(name_or_folder))
    except Exception as error:  # transformers and tokenizers raise a bare Exception for some damaged files
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{name_or_folder}: cannot be loaded as a tokenizer: {first_line}") from error
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


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 over all that decides which ids a text becomes: vocabulary, model, special ids, normalizer, template.

    The same for a hub folder and for its bare ``tokenizer.json``; padding, truncation and offset settings do not count.
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
    """What a manifest records of a tokenizer; a local folder goes by its last name, so that no path leaks."""
    name = tokenizer.name_or_path
    return TokenizerInfo(
        name=Path(name).name if Path(name).exists() else name,
        sha256=fingerprint(tokenizer),
        vocab_size=_smallest_size(tokenizer),
        mask_id=int(tokenizer.mask_token_id),  # type: ignore[arg-type]
        pad_id=int(tokenizer.pad_token_id),  # type: ignore[arg-type]
        separation=separation_of(tokenizer),
    )


def separation_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """What the tokenizer's template puts around a document: "[CLS] document [SEP]", "document <eos>", "document"."""
    encoded = tokenizer.backend_tokenizer.encode("a")
    marks = [
        token if special else "document"
        for token, special in zip(encoded.tokens, encoded.special_tokens_mask, strict=True)
    ]
    return " ".join(mark for i, mark in enumerate(marks) if mark != "document" or "document" not in marks[:i])


def vocab_of(tokenizer: PreTrainedTokenizerFast, size: int | None = None) -> Vocab:
    """The tokenizer as objectives see it.

    Args:
        tokenizer: From `load_tokenizer`.
        size: V where the model's embedding is padded beyond the tokenizer; the surplus ids are never drawn.

    Raises:
        DataError: ``size`` is smaller than the tokenizer.
    """
    smallest = _smallest_size(tokenizer)
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


BEFORE_SPACE = re.compile(r"\s(?=\S)")  # in a text that is read backwards
BEHIND_MARK = re.compile(r"[^\W_](?=[^\w\s'’])")
SLICE_CHARACTERS = 1 << 20  # of one text, tokenized at once: the library takes many times its size meanwhile


def encoder_of(
    tokenizer: PreTrainedTokenizerFast,
    *,
    dtype: str,
    slice_characters: int = SLICE_CHARACTERS,
    literal_specials: bool = False,
) -> Callable[[list[str]], list[np.ndarray]]:
    """A function from texts to their ids, ``dtype`` [n] each, with the tokenizer's own template and never truncated.

    Special tokens that a text spells out, such as "[MASK]", are encoded as text; with ``literal_specials`` they become
    the special ids.

    Texts of more than ``slice_characters`` go through in slices that begin with white space, or where there is none
    behind a punctuation mark: pre-tokenizers part words there anyway, so that the ids are the same, and the memory is a
    slice's. Nothing is lost where a tokenizer parts words elsewhere; two tokens then may stand for one at a slice's end.

    Cost: about 2 MB of text a second and core; the library's own threads share out the texts of one call.
    """
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    if not literal_specials:
        encode_specials_as_text(backend, tokenizer)

    def encode_long(text: str) -> np.ndarray:
        (start, end), *rest = _slices(text, slice_characters)
        first = backend.encode(text[start:end])  # with the template, whose end belongs behind the last slice
        closing = len(list(takewhile(bool, reversed(first.special_tokens_mask)))) % len(first.ids)
        parts = [first.ids[: len(first.ids) - closing]]
        for start, end in rest:
            parts.append(backend.encode(text[start:end], add_special_tokens=False).ids)
        parts.append(first.ids[len(first.ids) - closing :])
        return np.concatenate([np.array(ids, dtype) for ids in parts])

    def encode(texts: list[str]) -> list[np.ndarray]:
        short = [text for text in texts if len(text) <= slice_characters]
        encoded = iter(backend.encode_batch_fast(short))
        return [
            np.array(next(encoded).ids, dtype) if len(text) <= slice_characters else encode_long(text) for text in texts
        ]

    return encode


def _slices(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """Where to part a text: before the last run of white space of each stretch, else behind its last punctuation mark;
    anywhere if it has none."""
    start = 0
    while len(text) - start > longest:
        stretch = text[start : start + longest + 1]
        end = start + longest
        for place in (BEFORE_SPACE, BEHIND_MARK):
            if last := next(place.finditer(stretch[::-1]), None):
                end = start + len(stretch) - last.end()
                break
        yield start, end
        start = end
    yield start, len(text)


def train_bpe(texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the five special tokens and a ``[CLS] text [SEP]`` template; deterministic.

    `save_pretrained` writes it so that `AutoTokenizer` and `load_tokenizer` read it back.

    Args:
        texts: Training text; read once, held by the library as word counts.
        vocab_size: V, special tokens and the 256 byte symbols included; a small text may give fewer.
        min_frequency: Least count of a pair that is merged.

    Raises:
        DataError: ``vocab_size`` does not even hold the byte symbols.
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
    file, name = name_or_folder / "tokenizer.json", name_or_folder.as_posix()
    if file.is_file() and not (name_or_folder / "tokenizer_config.json").is_file():
        # AutoTokenizer would guess the class from the folder's name, and without the last argument a file that asks for
        # a leading space would silently lose it
        splitter = json.loads(file.read_text(encoding="utf-8"))["pre_tokenizer"] or {}
        return PreTrainedTokenizerFast(
            tokenizer_file=str(file),
            name_or_path=name,
            clean_up_tokenization_spaces=False,
            add_prefix_space=splitter.get("add_prefix_space", False),
        )
    config = get_tokenizer_config(name, local_files_only=name_or_folder.is_dir())
    for key, value in config.items():
        if key.endswith(("_file", "_files")):
            for file in value if isinstance(value, list) else [value]:
                if isinstance(file, str) and Path(file).name != file:
                    raise DataError(f"tokenizer_config.json: {key} {file!r} leads out of the folder")
    if needs_build(config):
        return build(name, config)
    return AutoTokenizer.from_pretrained(name, local_files_only=name_or_folder.is_dir(), trust_remote_code=False)


def _smallest_size(tokenizer: PreTrainedTokenizerFast) -> int:
    return max(tokenizer.get_vocab().values()) + 1  # ids may have gaps, so the count of tokens is not enough


def _without_offsets(part: object) -> object:
    """The JSON of a component without ``trim_offsets``, which some tokenizer classes rewrite and no id depends on."""
    if isinstance(part, dict):
        return {key: _without_offsets(value) for key, value in part.items() if key != "trim_offsets"}
    return [_without_offsets(item) for item in part] if isinstance(part, list) else part


def _word_start_test(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bool] | None:
    """Whether a token begins a word, told from its spelling; None where the spelling does not tell."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if backend["model"]["type"] == "WordPiece":
        prefix = backend["model"]["continuing_subword_prefix"]
        return lambda token: not token.startswith(prefix)
    outside = json.dumps([backend[part] for part in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    if '"ByteLevel"' in outside:
        return lambda token: token.startswith(WORD_STARTS)
    if "▁" in outside:  # SentencePiece and its kin mark the space before a word so
        return lambda token: token.startswith("▁")
    return None
