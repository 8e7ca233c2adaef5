from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from streaming import MDSWriter
from streaming.base.format import reader_from_json
from typer.testing import CliRunner

from detour.cli.main import app
from detour.corpus.pack import pack_corpus
from detour.data.manifest import ShardManifest
from detour.data.tokenizer import load_tokenizer, tokenizer_sha256, train_bpe
from detour.data.verify import verify_rows
from detour.errors import DataError

T = 32


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["the heart pumps blood and the lungs take in air"] * 5, vocab_size=300).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path) -> Path:
    """60 documents of 1 to 30 words, each with its number in it, then an empty one and a broken line."""
    words = ["heart", "blood", "lungs", "air", "the"]
    rng = np.random.default_rng(0)
    lines = [
        json.dumps({"text": f"{i} " + " ".join(rng.choice(words, rng.integers(1, 30))), "license": "CC0"})
        for i in range(60)
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join([*lines, '{"text": " "}', "{broken"]))
    return path


def pack(corpus: Path, tokenizer: Path, out: Path, **options):
    return pack_corpus([corpus], tokenizer=tokenizer, out=out, seq_len=T, **options)


def rows_of(folder: Path) -> list[tuple[list[int], list[int]]]:
    """(ids, document lengths) of each row, straight from the shards."""
    index = json.loads((folder / "index.json").read_text())
    shards = [reader_from_json(str(folder), "", shard) for shard in index["shards"]]
    return [(row["input_ids"].tolist(), row["doc_lengths"].tolist()) for shard in shards for row in shard]


def pieces_of(folder: Path) -> list[tuple[int, ...]]:
    pieces = []
    for ids, lengths in rows_of(folder):
        ends = np.cumsum(lengths)
        pieces += [tuple(ids[end - n : end]) for n, end in zip(lengths, ends, strict=True)]
    return pieces


def test_no_token_of_the_corpus_is_lost(corpus, tokenizer, tmp_path):
    pack(corpus, tokenizer, tmp_path / "rows")
    loaded = load_tokenizer(tokenizer)
    texts = [json.loads(line)["text"] for line in corpus.read_text().split("\n")[:60]]
    expected = [loaded(text)["input_ids"] for text in texts]
    assert all(ids[0] == loaded.cls_token_id and ids[-1] == loaded.sep_token_id for ids in expected)
    cut = Counter(tuple(ids[i : i + T]) for ids in expected for i in range(0, len(ids), T))
    assert Counter(pieces_of(tmp_path / "rows")) == cut


def test_rows_end_in_padding_only(corpus, tokenizer, tmp_path):
    pack(corpus, tokenizer, tmp_path / "rows")
    pad = load_tokenizer(tokenizer).pad_token_id
    for ids, lengths in rows_of(tmp_path / "rows"):
        assert len(ids) == T
        assert ids[sum(lengths) :] == [pad] * (T - sum(lengths))


def test_the_manifest_tells_what_was_read(corpus, tokenizer, tmp_path):
    manifest, report = pack(corpus, tokenizer, tmp_path / "rows", seed=5)
    assert verify_rows(tmp_path / "rows", hashes=True, seq_len=T) == manifest
    pieces = pieces_of(tmp_path / "rows")
    counts = manifest.counts
    assert (counts.documents, counts.empty_skipped, counts.pieces) == (60, 1, len(pieces))
    cls = load_tokenizer(tokenizer).cls_token_id
    assert sum(piece[0] == cls for piece in pieces) == counts.documents
    assert 0 < counts.documents_split <= len(pieces) - counts.documents
    assert counts.tokens == sum(map(len, pieces))
    assert manifest.seed == 5
    assert manifest.tokenizer.sha256 == tokenizer_sha256(load_tokenizer(tokenizer))
    source = manifest.sources[0]
    assert (source.path, source.bytes, source.documents, source.license) == (
        corpus.as_posix(), corpus.stat().st_size, 60, "CC0"
    )  # fmt: skip
    assert report.skipped == {"empty text": 1, "not valid JSON": 1}


def test_documents_are_split_at_a_limit_below_the_row_and_nothing_is_lost(corpus, tokenizer, tmp_path):
    pack(corpus, tokenizer, tmp_path / "whole")
    manifest, _ = pack(corpus, tokenizer, tmp_path / "split", max_document=10)
    pieces = pieces_of(tmp_path / "split")
    assert max(map(len, pieces)) == 10
    assert manifest.longest_document == ShardManifest.load(tmp_path / "split").longest_document == 10
    whole = pieces_of(tmp_path / "whole")
    assert Counter(id for piece in pieces for id in piece) == Counter(id for piece in whole for id in piece)
    document_lengths = np.load(tmp_path / "split" / "lengths.npy")
    assert manifest.counts.documents_split == sum(count for length, count in document_lengths if length > 10)


@pytest.mark.parametrize("seq_len", [7, (1 << 20) + 1, 10**9])
def test_a_row_length_out_of_range_is_refused_before_anything_is_read(corpus, tokenizer, tmp_path, seq_len):
    with pytest.raises(DataError, match=rf"--seq-len is {seq_len}, expected 8 to 1,048,576"):
        pack_corpus([corpus], tokenizer=tokenizer, out=tmp_path / "rows", seq_len=seq_len)


@pytest.mark.parametrize("limit", [7, T + 1])
def test_a_limit_beyond_the_row_or_below_eight_is_refused(corpus, tokenizer, tmp_path, limit):
    with pytest.raises(DataError, match=f"--max-document is {limit}, expected 8 to --seq-len, 32"):
        pack(corpus, tokenizer, tmp_path / "out", max_document=limit)


def test_packing_again_gives_the_same_bytes(corpus, tokenizer, tmp_path):
    manifests = [
        pack(corpus, tokenizer, tmp_path / name, seed=seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert manifests[0].rows_sha256 == manifests[1].rows_sha256 != manifests[2].rows_sha256
    assert Counter(pieces_of(tmp_path / "a")) == Counter(pieces_of(tmp_path / "c"))


def test_a_failed_run_leaves_no_folder(corpus, tokenizer, tmp_path, monkeypatch):
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"corpus.jsonl:62: not valid JSON"):
        pack(corpus, tokenizer, tmp_path / "rows", strict=True)
    monkeypatch.setattr(MDSWriter, "finish", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(corpus, tokenizer, tmp_path / "rows")
    assert set(tmp_path.iterdir()) == before


def test_a_corpus_without_text_is_an_error(tokenizer, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}')
    with pytest.raises(DataError, match="no document with text"):
        pack(tmp_path / "a.jsonl", tokenizer, tmp_path / "rows")


def test_a_template_around_nothing_is_an_empty_document(tokenizer, tmp_path):
    spec = json.loads((tokenizer / "tokenizer.json").read_text())
    spec["normalizer"] = {"type": "Replace", "pattern": {"String": "#"}, "content": ""}
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "a.jsonl").write_text('{"text": "###"}\n{"text": "air"}')
    manifest, _ = pack(tmp_path / "a.jsonl", tmp_path / "t", tmp_path / "rows")
    assert (manifest.counts.documents, manifest.counts.empty_skipped) == (1, 1)


SPELLED_OUT = ["air [MASK] blood [SEP] air", "[CLS][MASK] the heart", "[mask] is no special token"]


@pytest.mark.parametrize(("become", "split"), [("text", True), ("special", False)])
def test_special_tokens_spelled_out_in_a_text_are_counted_and_become_what_is_asked(tokenizer, tmp_path, become, split):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SPELLED_OUT))
    options = {} if become == "text" else {"special_tokens_in_text": become}
    manifest, _ = pack(tmp_path / "a.jsonl", tokenizer, tmp_path / "rows", **options)
    loaded = load_tokenizer(tokenizer)
    expected = [tuple(loaded(text, split_special_tokens=split).input_ids) for text in SPELLED_OUT]
    assert Counter(pieces_of(tmp_path / "rows")) == Counter(expected)
    assert manifest.counts.literal_special_tokens == 4  # by hand
    assert ShardManifest.load(tmp_path / "rows") == manifest


def test_a_folder_written_before_they_were_counted_is_read(corpus, tokenizer, tmp_path):
    pack(corpus, tokenizer, tmp_path / "rows")
    path = tmp_path / "rows" / "manifest.json"
    record = json.loads(path.read_text())
    assert record["counts"].pop("literal_special_tokens") == 0
    path.write_text(json.dumps(record))
    assert ShardManifest.load(tmp_path / "rows").counts.literal_special_tokens == 0


def test_another_treatment_of_special_tokens_is_refused(corpus, tokenizer, tmp_path):
    with pytest.raises(DataError, match="special_tokens_in_text: 'drop', expected text or special"):
        pack(corpus, tokenizer, tmp_path / "rows", special_tokens_in_text="drop")


@pytest.fixture
def command():
    return lambda *arguments: CliRunner().invoke(app, ["data", "pack", *map(str, arguments)])


def test_the_command_reports_what_it_did(command, corpus, tokenizer, tmp_path):
    out = tmp_path / "rows"
    result = command(corpus, "--tokenizer", tokenizer, "--out", out, "--seq-len", T)
    assert result.exit_code == 0, result.output
    for expected in ("documents", "60", "packing efficiency", "not valid JSON", "corpus.jsonl:62"):
        assert expected in result.output.replace("\n", "")
    assert verify_rows(out, hashes=True).seq_len == T


def test_the_command_refuses_a_folder_with_content_unless_told(command, corpus, tokenizer, tmp_path):
    arguments = (corpus, "--tokenizer", tokenizer, "--out", tmp_path / "rows", "--seq-len", T)
    assert command(*arguments).exit_code == 0
    again = command(*arguments)
    assert again.exit_code == 1
    assert "exists and is not empty" in again.output
    assert "Traceback" not in again.output
    assert command(*arguments, "--overwrite").exit_code == 0


@pytest.mark.corpora
@pytest.mark.skipif("DETOUR_CORPORA" not in os.environ, reason="DETOUR_CORPORA is not set")
def test_a_real_corpus_is_packed_to_99_percent(tmp_path):
    corpora = Path(os.environ["DETOUR_CORPORA"])
    manifest, report = pack_corpus(
        [corpora / "pretrain" / "en_bio" / "en_medquad.val.jsonl.zst"],
        tokenizer=corpora / "tokenizers" / "modernbert",
        out=tmp_path / "rows",
        seq_len=512,
    )
    assert (manifest.counts.documents, manifest.dtype) == (94, "uint16")
    assert manifest.packing_efficiency > 0.98
    assert not report.skipped
