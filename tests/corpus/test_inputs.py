"""What lies in a folder is read, or it is said why not: suffixes, compressions, encodings, forms of JSON, tables."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from detour.cli.main import app
from detour.corpus import readers
from detour.corpus.config import load
from detour.corpus.json_values import multiline_values
from detour.corpus.pack import pack_corpus
from detour.corpus.prepare import prepare
from detour.corpus.text import Columns, ReadReport, find_files, read_documents
from detour.data.tokenizer import train_bpe
from detour.errors import ConfigError, DataError, UnreachableError

PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
RECORDS = [{"text": f"Le cœur n° {i}.", "id": str(i)} for i in range(6)]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
FORMS = {
    "one a line": LINES,
    "an array": json.dumps(RECORDS),
    "an array over lines": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "objects over lines": "\n".join(json.dumps(record, indent=1) for record in RECORDS),
    "an array a line": "\n".join(json.dumps([record]) for record in RECORDS),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["Le cœur bat."] * 3, vocab_size=300).save_pretrained(folder)
    return folder


def read(kind: str, path: Path | str, report: ReadReport | None = None, **options):
    reader, report = readers.build(kind, options), report or ReadReport()
    return [document for file in reader.input_files([str(path)]) for document in reader.read(file, Columns(), report)]


def mixed_folder(folder: Path) -> None:
    """20 files of ten documents each, in every form that is read, and five files that are not."""
    names = [
        f"{stem}{suffix}"
        for stem, suffixes in (
            ("lines", [f".jsonl{packing}" for packing in PACK]),
            ("upper", [f".JSONL{packing.upper()}" for packing in PACK]),
            ("newline", [f".ndjson{packing}" for packing in PACK]),
            ("array", [f".json{packing}" for packing in PACK]),
        )
        for suffix in suffixes
    ]
    for n, name in enumerate(names):
        records = [{"text": f"{name} {i}", "id": f"{n}-{i}"} for i in range(10)]
        text = json.dumps(records) if ".json" in name and ".jsonl" not in name else "\n".join(map(json.dumps, records))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(
            PACK[Path(name).suffix.lower() if len(Path(name).suffixes) > 1 else ""](text.encode())
        )
    for name in ("README.md", "table.csv", "more.parquet", "old.jsonl.zip", "sub/notes.doc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "lines.jsonl.gz.md5", "._lines.jsonl", ".ipynb_checkpoints/lines-checkpoint.jsonl"):
        (folder / name).write_bytes(b"x")


PASSED_OVER = ["README.md", "more.parquet", "old.jsonl.zip", "sub/notes.doc", "table.csv"]


def test_packing_reads_the_whole_folder_and_tells_what_it_passes_over(tokenizer, tmp_path):
    mixed_folder(tmp_path / "in")
    out = {"tokenizer": tokenizer, "seq_len": 64}
    manifest, report = pack_corpus([tmp_path / "in"], out=tmp_path / "rows", **out)
    assert manifest.counts.documents == 200
    assert sorted(Path(p).relative_to(tmp_path / "in").as_posix() for p in report.ignored_files) == PASSED_OVER
    with pytest.raises(DataError, match=r"5 files ignored \(.*\.csv: 1.*\): .*README\.md"):
        pack_corpus([tmp_path / "in"], out=tmp_path / "strict", strict=True, **out)


@pytest.mark.parametrize("given", ["in", "in/*", "in/**"])
def test_preparing_reads_the_whole_folder_and_tells_what_it_passes_over(tokenizer, tmp_path, given):
    mixed_folder(tmp_path / "in")
    config = tmp_path / "c.yaml"
    source = {"name": "s", "kind": "jsonl", "paths": [str(tmp_path / given)]}
    settings = {"out": str(tmp_path / "out"), "tokenizer": str(tokenizer), "seq_len": 64, "sources": [source]}
    config.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(app, ["data", "prepare", str(config)])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "prepared.json").read_text())["sources"]["s"]
    assert told["documents_read"] == 200
    assert sorted(told["ignored_files"]) == sorted(
        PASSED_OVER if given != "in/*" else [*PASSED_OVER[:3], "sub/", "table.csv"]
    )
    assert "s: 5 files ignored" in done.output
    with pytest.raises(DataError, match="source 's': 5 files ignored"):
        prepare(load(config, ["strict=true", f"out={tmp_path / 'strict'}"]))


def test_files_that_are_passed_over_are_logged_where_nobody_asks_for_them(tmp_path, caplog):
    mixed_folder(tmp_path)
    assert len(find_files([tmp_path])) == 20
    assert "5 files ignored" in caplog.text


def test_linked_folders_are_read_once_and_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jsonl").write_text(LINES)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "in")
    assert [document.id for document in read("jsonl", tmp_path / "in")] == [str(i) for i in range(6)]
    assert len(find_files([tmp_path / "in"])) == 1
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("linked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for find in (lambda: read("jsonl", tmp_path / "in"), lambda: find_files([tmp_path / "in"])):
        with pytest.raises(UnreachableError, match="linked: this folder cannot be listed: Permission denied"):
            find()


def test_annotations_and_checksums_beside_their_files_are_not_passed_over(tmp_path):
    for name in ("a.txt", "a.ann", "B.TXT", "B.ANN", "annotation.conf", "README.txt"):
        (tmp_path / name).write_text("x")
    brat = readers.build("brat")
    assert [file.name for file in brat.input_files([str(tmp_path)])] == ["B.TXT", "a.txt"]
    assert brat.ignored_files([str(tmp_path)]) == ["README.txt"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_every_form_of_json_gives_its_documents_in_order(tmp_path, form, packing, suffix):
    path = tmp_path / f"a{suffix}{packing}"
    path.write_bytes(PACK[packing](FORMS[form].encode()))
    report = ReadReport(strict=True)
    found = [(document.text, document.id) for document in read("jsonl", path, report)]
    assert found == [(record["text"], record["id"]) for record in RECORDS]
    assert found == [(d.text, d.id) for d in read_documents([path], report=ReadReport(strict=True))]


@given(
    values=st.lists(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
    ), max_size=8),
    indent=st.sampled_from([None, 0, 2]), ascii=st.booleans(), size=st.integers(1, 40),
)  # fmt: skip
def test_an_array_is_read_as_the_json_library_reads_it_however_it_arrives(values, indent, ascii, size):
    data = json.dumps(values, indent=indent, ensure_ascii=ascii).encode()
    chunks = (data[i : i + size] for i in range(0, len(data), size))
    found = list(multiline_values(chunks, Path("a.json"), 1 << 20))
    assert [value for _, value in found] == json.loads(data)
    assert [number for number, _ in found] == list(range(1, len(values) + 1))


@pytest.mark.parametrize(("content", "kept", "match"), [
    (b'[{"text": "a"}, {"text": "b"', ["a"], "not valid JSON after record 1"),
    (b'[{"text": "a"}, {"text": "b"}', ["a", "b"], "ends in the middle of a JSON array, after record 2"),
    (b'[{"text": "a"} {"text": "b"}]', ["a"], "after record 1 .no comma between two elements"),
    (b'[{"text": "a"}, junk]', ["a"], "not valid JSON after record 1"),
    (b"[" + b"[" * 100_000, [], "not valid JSON after record 0 .too deep"),
])  # fmt: skip
def test_an_array_that_is_broken_is_an_error_behind_what_came_before(tmp_path, content, kept, match):
    (tmp_path / "a.json").write_bytes(content)
    documents = read_documents([tmp_path / "a.json"])
    assert [next(documents).text for _ in kept] == kept
    with pytest.raises(DataError, match=match):
        next(documents)


@pytest.mark.parametrize("form", ["[%s]", "%s"])
def test_an_element_that_cannot_be_used_costs_no_other(tmp_path, form):
    broken = [b'{"text": "\xe9"}', b'{"text": "x", "text": "y"}', b'{"body": "z"}', b"7"]
    content = (b", " if "[" in form else b"\n").join([*broken, b'{"text": "end"}'])
    (tmp_path / "a.json").write_bytes(form.encode() % content)
    report = ReadReport()
    assert [document.text for document in read_documents([tmp_path / "a.json"], report=report)] == ["end"]
    assert report.skipped == {"not valid UTF-8": 1, "a key twice in one object": 1, "no 'text' column": 2}
    assert report.examples["no 'text' column"] == [
        f"{tmp_path / 'a.json'}:3 (has body)", f"{tmp_path / 'a.json'}:4 (is a int, expected an object)"
    ]  # fmt: skip


@pytest.mark.parametrize("packing", [".bz2", ".xz"])
@pytest.mark.parametrize(
    "damage", [lambda a, b: a[:-9], lambda a, b: b"junk" + a, lambda a, b: a + b[:3] + b"junk" + b[7:]]
)
def test_a_damaged_stream_is_never_taken_for_the_end(tmp_path, packing, damage):
    path = tmp_path / f"a.jsonl{packing}"
    first, second = (PACK[packing](LINES.encode()) for _ in range(2))
    path.write_bytes(first + second)
    assert len(list(read_documents([path]))) == 12
    path.write_bytes(damage(first, second))
    with pytest.raises(DataError, match=r"cannot be read after line"):
        list(read_documents([path]))


ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252", "iso-8859-15", "gb18030"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("kind", "suffix"), [("jsonl", ".jsonl"), ("csv", ".csv"), ("text", ".txt")])
def test_text_in_another_encoding_is_read_where_it_is_named(tmp_path, encoding, kind, suffix):
    words = "été à Noël" if encoding != "gb18030" else "心脏 été"
    content = {"jsonl": json.dumps({"text": words}, ensure_ascii=False), "csv": f"text\n{words}\n", "text": words}[kind]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content.encode(encoding))
    assert [document.text for document in read(kind, path, encoding=encoding)] == [words]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    ("kind", "suffix"), [("jsonl", ".jsonl"), ("csv", ".csv"), ("text", ".txt"), ("jsonl", ".json")]
)
def test_a_file_in_two_bytes_a_letter_is_never_taken_for_utf_8(tmp_path, encoding, kind, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes('{"text": "The heart"}\n'.encode(encoding))
    with pytest.raises(DataError, match=rf"a\{suffix}: not UTF-8 but UTF-.*set the option `encoding: utf-"):
        read(kind, path)


def test_a_byte_that_an_encoding_does_not_know_costs_its_line_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\xe9"}\n{"text": "\x81"}\n{"text": "b"}\n')
    report = ReadReport()
    assert [document.text for document in read("jsonl", path, report, encoding="windows-1252")] == ["é", "b"]
    assert report.examples == {"not valid windows-1252": [f"{path}:2"]}


@pytest.mark.parametrize("name", ["utf-17", "zip", "base64", "undefined"])
def test_an_encoding_that_is_none_is_refused_at_once(tmp_path, tokenizer, name):
    with pytest.raises(ConfigError, match=f"reader 'csv': encoding is '{name}', expected a name such as utf-8"):
        readers.build("csv", {"encoding": name})
    with pytest.raises(DataError, match=f"--encoding is '{name}'"):
        pack_corpus([tmp_path], tokenizer=tokenizer, out=tmp_path / "rows", seq_len=64, encoding=name)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_whose_name_does_not_say_so_is_told(tmp_path, packing):
    (tmp_path / "a.jsonl").write_bytes(PACK[packing](LINES.encode()))
    with pytest.raises(DataError, match=r"a\.jsonl: not UTF-8 but compressed by"):
        read("jsonl", tmp_path / "a.jsonl")


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_table_parted_by_other_signs_is_told_how_to_read_it(tmp_path, sign):
    path = tmp_path / "a.csv"
    path.write_text(f'id{sign}"text"{sign}note, more\n1{sign}Un cœur, deux{sign}x\n')
    with pytest.raises(DataError, match=r"its fields are separated by .*set options: \{delimiter"):
        read("csv", path)
    assert [document.text for document in read("csv", path, delimiter=sign)] == ["Un cœur, deux"]


@pytest.mark.parametrize("options", [{}, {"delimiter": ";"}], ids=["", "delimiter"])
def test_a_table_that_excel_begins_with_its_separator(tmp_path, options):
    (tmp_path / "a.csv").write_bytes("\ufeffsep=;\r\nid;text\r\n1;Un cœur, deux\r\n".encode())
    assert [(d.id, d.text) for d in read("csv", tmp_path / "a.csv", **options)] == [("1", "Un cœur, deux")]


def test_spaces_around_the_names_of_columns_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("id, text\n1, a\n")
    with pytest.raises(
        DataError, match=r"no 'text' column, found 'id', ' text': there are spaces or quotes around the names"
    ):
        read("csv", tmp_path / "a.csv")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,id,text\na,1,b\n")
    table = pa.table([["a"], ["1"], ["b"]], names=["text", "id", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    for kind in ("csv", "parquet"):
        with pytest.raises(DataError, match=f"a.{kind}.*the column 'text' occurs twice"):
            read(kind, tmp_path / f"a.{kind}")
    (tmp_path / "b.csv").write_text("text,,\na,,\n")  # as spreadsheets write empty columns
    assert [document.text for document in read("csv", tmp_path / "b.csv")] == ["a"]


NOTHING = {  # kind, name, content, what must be said
    "UTF-16": (
        "jsonl", "a.jsonl", LINES.encode("utf-16"), "a.jsonl: not UTF-8 but UTF-16 text; set the option `encoding: utf-16`"
    ),
    "Windows-1252": (
        "jsonl", "a.jsonl", '{"text": "été"}\n'.encode("cp1252"), "not valid UTF-8; first at a.jsonl:1; if the file has"
    ),
    "an object that holds the records": (
        "jsonl", "a.json", b'{"data": [{"text": "a"}]}', "no 'text' column; first at a.json:1 (has data)"
    ),
    "MedQuAD": (
        "jats", "a.xml", b"<Document><QAPairs/></Document>", "no <article> in this file, whose root is <Document>"
    ),
    "BioC": (
        "pubmed", "a.xml", b"<collection><document/></collection>",
        "no <PubmedArticle> in this file, whose root is <collection>",
    ),
    "CR": ("csv", "a.csv", b"id,text\r1,a\r", "its lines end in carriage returns only"),
    "CR, JSON": (
        "jsonl", "a.jsonl", b'{"text": "a"}\r{"text": "b"}\r', "do its lines end in carriage returns only?"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTHING)
def test_a_corpus_that_yields_nothing_says_why(tokenizer, tmp_path, what):
    kind, name, content, said = NOTHING[what]
    (tmp_path / name).write_bytes(content)
    config = tmp_path / "c.yaml"
    source = {"name": "s", "kind": kind, "paths": [str(tmp_path / name)]}
    settings = {"out": str(tmp_path / "out"), "tokenizer": str(tokenizer), "seq_len": 64, "sources": [source]}
    config.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(app, ["data", "prepare", str(config)])
    assert done.exit_code == 1
    assert "no document is left to train on" in done.output
    assert said in done.output
    if kind == "jsonl" and what != "UTF-16":
        with pytest.raises(DataError, match=r"rows: no document with text\n  skipped 1 records, n"):
            pack_corpus([tmp_path / name], tokenizer=tokenizer, out=tmp_path / "rows", seq_len=64)


def test_documents_that_steps_drop_are_told_when_none_is_left(tokenizer, tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({
        "out": str(tmp_path / "out"), "tokenizer": str(tokenizer), "seq_len": 64,
        "sources": [{"name": "s", "kind": "jsonl", "paths": [str(tmp_path / "a.jsonl")]}],
        "steps": [{"kind": "length", "options": {"min_words": 99}}],
    }))  # fmt: skip
    with pytest.raises(DataError, match=r"s: 6 documents read from 1 files\n  s: length dropped 6, under 99 words"):
        prepare(load(config))
