from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import pytest
import zstandard

from detour.corpus.text import ReadReport, find_files, read_chunks, read_documents
from detour.errors import DataError, UnreachableError

RECORDS = [{"text": "Ça bat.", "id": "x1", "license": "CC0"}, {"text": "two\nlines"}, {"text": "3", "license": "MIT"}]
LINES = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS).encode()

WRITE = {
    "": Path.write_bytes,
    ".gz": lambda path, data: path.write_bytes(gzip.compress(data)),
    ".zst": lambda path, data: path.write_bytes(zstandard.compress(data)),
}


def texts(*paths: Path, **options) -> list[str]:
    return [document.text for document in read_documents(paths, **options)]


@pytest.mark.parametrize("suffix", WRITE)
def test_json_lines_are_read_in_every_compression(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    WRITE[suffix](path, LINES)
    report = ReadReport()
    documents = list(read_documents([path], report=report))
    assert [d.text for d in documents] == ["Ça bat.", "two\nlines", "3"]
    assert [d.id for d in documents] == ["x1", f"{path}:2", f"{path}:3"]
    assert [d.license for d in documents] == ["CC0", None, "MIT"]
    assert (report.documents, report.bytes_read) == (3, path.stat().st_size)


@pytest.mark.parametrize("suffix", WRITE)
def test_a_text_file_is_one_document(tmp_path, suffix):
    path = tmp_path / f"novel.txt{suffix}"
    WRITE[suffix](path, b"One.\n\nTwo.\n")
    assert texts(path) == ["One.\n\nTwo.\n"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_of_several_frames_is_read_to_its_end(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    path.write_bytes(b"".join(compress(line + b"\n") for line in LINES.split(b"\n")))
    assert len(texts(path)) == 3


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"junk" + data])
def test_a_file_cut_short_or_damaged_is_an_error_even_if_not_strict(tmp_path, suffix, damage):
    path = tmp_path / f"a.jsonl{suffix}"
    WRITE[suffix](path, LINES * 50)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"a.jsonl{suffix}: cannot be read after line"):
        texts(path)


def test_a_long_zstd_window_is_read(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, write_content_size=False)
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(LINES))
    assert len(texts(path)) == 3


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_packs_well_is_never_unpacked_as_a_whole(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    WRITE[suffix](path, b"a" * (200 << 20))
    assert max(map(len, read_chunks(path, ReadReport()))) <= 33 << 20
    report = ReadReport()
    assert texts(path, report=report) == []
    assert report.examples == {"longer than 32 MiB": [f"{path}:1"]}


def test_a_line_longer_than_a_chunk_is_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "é" * 1_000_000}) + "\n" + json.dumps({"text": "b"}), encoding="utf-8")
    assert [len(text) for text in texts(path)] == [1_000_000, 1]


BROKEN = [
    (b'{"text": "a"', "not valid JSON"),
    (b'{"text": "\xff"}', "not valid UTF-8"),
    (b'{"body": "a"}', "no 'text' column"),
    (b'["a"]', "no 'text' column"),
    (b'{"text": 7}', "'text' is not a string"),
    (b'{"text": "\\ud800"}', "'text' holds a lone surrogate"),
    (b'{"id": "\\ud800", "text": "a"}', "a column beside the text holds a lone surrogate"),
    (b"[" * 100_000, "not valid JSON"),
    (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "not valid JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_an_unusable_line_is_counted_with_its_place_and_stops_only_a_strict_read(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "ok"}\n\n' + line + b'\n{"text": "end"}')
    report = ReadReport()
    assert texts(path, report=report) == ["ok", "end"]
    assert report.skipped == {reason: 1}
    assert [place.partition(" ")[0] for place in report.examples[reason]] == [f"{path}:3"]
    with pytest.raises(DataError, match=rf"a.jsonl:3( \(.*\))?: {reason}"):
        texts(path, strict=True)


def test_only_the_first_places_are_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x\n" * 100)
    report = ReadReport()
    assert texts(path, report=report) == []
    assert report.skipped["not valid JSON"] == 100
    assert report.examples["not valid JSON"] == [f"{path}:{i}" for i in range(1, 6)]


def test_empty_texts_are_counted_and_are_no_fault(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": ""}\n{"text": " \\n"}\n{"text": "a"}')
    report = ReadReport()
    assert texts(path, strict=True, report=report) == ["a"]
    assert report.skipped == {"empty text": 2}


def test_the_text_column_can_be_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "no", "body": "yes"}')
    assert texts(path, text_column="body") == ["yes"]


def test_folders_are_searched_in_sorted_order(tmp_path):
    for name in ("b.txt", "a.jsonl.zst", "sub/c.jsonl.gz", "README.md", "d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_files([tmp_path])] == ["a.jsonl.zst", "b.txt", "c.jsonl.gz"]


def test_inputs_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    for inputs, match in (
        (["absent.txt"], "absent.txt: no such file"),
        (["a.csv"], "a.csv: unknown format, expected .jsonl or .ndjson or .json or .txt"),
        (["empty"], "empty: no .jsonl or .ndjson or .json or .txt"),
        (["a.txt", "a.txt"], "a.txt: named twice"),
    ):
        with pytest.raises(DataError, match=match):
            find_files([tmp_path / name for name in inputs])


def test_a_disk_that_fails_is_no_damaged_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("detour.corpus.text.decompressed", fail)
    with pytest.raises(UnreachableError, match=r"a.jsonl: cannot be read after line 0: .*Input/output error"):
        list(read_documents([path]))


@pytest.mark.parametrize(
    ("record", "license"),
    [
        ({"license": "CC0"}, "CC0"),
        ({"licence": "CC BY 4.0"}, "CC BY 4.0"),
        ({"license": "CC0", "licence": "MIT"}, "CC0"),
        ({"license": None, "licence": "MIT"}, "MIT"),
        ({}, None),
    ],
)
def test_both_spellings_of_the_license_column_are_read_by_default(tmp_path, record, license):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", **record}))
    (document,) = read_documents([path])
    assert document.license == license
