"""CORD-19, PubTator, Europe PMC, saved datasets, odd Parquet: what a user brings along besides."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import detour.corpus.revisions
from detour.config.load import load as load_run
from detour.corpus import readers
from detour.corpus.config import load
from detour.corpus.prepare import prepare
from detour.corpus.text import Columns, ReadReport
from detour.data.tokenizer import train_bpe
from detour.errors import ConfigError, DataError, DetourError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["Le cœur bat."] * 3, vocab_size=300).save_pretrained(folder)
    return folder


def read(kind: str, path: Path, report: ReadReport | None = None, columns: Columns | None = None, **options):
    reader, report = readers.build(kind, options), report or ReadReport()
    return [d for file in reader.input_files([str(path)]) for d in reader.read(file, columns or Columns(), report)]


def test_cord_19_gives_title_abstract_and_sections(tmp_path):
    article = {
        "paper_id": "0a1", "metadata": {"title": "The title"},
        "abstract": [{"text": "Short.", "section": "Abstract"}],
        "body_text": [
            {"text": "One.", "section": "Intro"}, {"text": "Two.", "section": "Intro"}, {"text": "Three.", "section": "End"},
            {"text": "Four.", "section": ""}, {"section": "no text"},
        ],
    }  # fmt: skip
    (tmp_path / "0a1.json").write_text(json.dumps(article, indent=4))
    (tmp_path / "b.json").write_text(json.dumps({"title": "another thing"}))
    report = ReadReport()
    (document,) = read("cord19", tmp_path, report)
    assert document.text == "The title\n\nShort.\n\nIntro\n\nOne.\n\nTwo.\n\nEnd\n\nThree.\n\nFour."
    assert document.id == "0a1"
    assert report.skipped == {"not a CORD-19 article (paper_id, metadata, abstract, body_text)": 1}


@pytest.mark.parametrize("name", ["a.pubtator", "a.txt", "a.pubtator.gz"])
def test_pubtator_gives_titles_and_abstracts_without_annotations(tmp_path, name):
    import gzip

    text = (
        "12|t|A title\r\n12|a|With | a bar|a|b.\r\n12\t0\t7\tA title\tDisease\tD1\r\n12\tCID\tD1\tD2\r\n\r\n"
        "13|t|Alone\r\n13|a|\r\nstray\r\n"
    )
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    report = ReadReport()
    documents = read("pubtator", tmp_path / name, report)
    assert [(d.id, d.text) for d in documents] == [("12", "A title\n\nWith | a bar|a|b."), ("13", "Alone")]
    assert report.examples == {
        "neither a title, an abstract nor an annotation in PubTator format": [f"{tmp_path / name}:8"]
    }  # fmt: skip


def test_records_inside_an_object_are_read_where_the_config_says_where(tmp_path):
    answer = {
        "hitCount": 2,
        "resultList": {"result": [{"id": "1", "abstractText": "a"}, {"id": "2", "abstractText": "b"}]},
    }
    (tmp_path / "a.json").write_text(json.dumps(answer) + "\n" + json.dumps({"hitCount": 0}))
    report, columns = ReadReport(), Columns(text="abstractText")
    documents = read("jsonl", tmp_path / "a.json", report, columns, records="resultList.result")
    assert [(d.id, d.text) for d in documents] == [("1", "a"), ("2", "b")]
    assert report.examples == {"no list of records in 'resultList.result'": [f"{tmp_path / 'a.json'}:2"]}


def test_several_articles_in_one_file_as_europe_pmc_gives_them(tmp_path):
    article = '<article><front><article-meta><article-id pub-id-type="pmcid">PMC{0}</article-id></article-meta></front>'
    article += "<body><p>Body {0}</p></body></article>"
    (tmp_path / "PMC1_PMC9.xml").write_text(f"<articles>{article.format(1)}\n{article.format(9)}</articles>")
    assert [(d.id, d.text) for d in read("jats", tmp_path)] == [("PMC1", "Body 1"), ("PMC9", "Body 9")]


def test_the_split_of_a_saved_dataset_is_the_one_that_is_asked_for(tmp_path):
    data = datasets.Dataset.from_dict({"text": ["a"]})
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"training": data, "test": data}).save_to_disk(tmp_path / "several")
    assert (
        len(read("huggingface", tmp_path / "one")) == len(read("huggingface", tmp_path / "several", split="test")) == 1
    )
    with pytest.raises(DetourError, match="no split 'train', found training, test"):
        read("huggingface", tmp_path / "several")
    with pytest.raises(DetourError, match="is the single split 'train', expected 'test'"):
        read("huggingface", tmp_path / "one", split="test")
    with pytest.raises(DataError, match=r"sev\*: datasets cannot be given by a pattern"):
        read("huggingface", tmp_path / "sev*")


def config_of(folder: Path, tokenizer: Path, **source) -> Path:
    settings = {
        "out": str(folder / "out"),
        "tokenizer": str(tokenizer),
        "seq_len": 64,
        "sources": [{"name": "s", **source}],
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))
    return folder / "c.yaml"


def test_a_saved_dataset_that_changed_is_another_preparation(tmp_path, tokenizer):
    datasets.Dataset.from_dict({"text": ["old text"]}).save_to_disk(tmp_path / "d")
    config = config_of(tmp_path, tokenizer, kind="huggingface", paths=[str(tmp_path / "d")])
    record, worked = prepare(load(config))
    assert worked
    assert record["sources"]["s"]["files"][0]["sha256"]
    assert not prepare(load(config))[1]
    datasets.Dataset.from_dict({"text": ["another text, and longer"]}).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match=r"finished preparation that differs in inputs\.s/d/"):
        prepare(load(config))


@pytest.mark.parametrize(("values", "found"), [
    (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    (pa.array([["a"], ["b"]]), "is a list"),
    (pa.array([{"text": "a"}]), "is a dict"),
    (pa.array([b"a"]), "is a bytes"),
])  # fmt: skip
def test_a_parquet_column_gives_its_texts_or_says_what_it_holds(tmp_path, values, found):
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    report = ReadReport()
    texts = [document.text for document in read("parquet", tmp_path / "a.parquet", report)]
    if isinstance(found, list):
        assert texts == found
    else:
        assert report.examples["'text' is not a string"][0] == f"{tmp_path / 'a.parquet'}:1 ({found})"


def test_a_column_inside_another_is_not_found_and_the_outer_ones_are_told(tmp_path):
    pq.write_table(pa.table({"doc": [{"text": "a"}], "id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no 'doc\.text' column, found doc, id"):
        read("parquet", tmp_path / "a.parquet", columns=Columns(text="doc.text"))


def test_what_comes_from_the_environment_stands_in_no_output(tmp_path, tokenizer, monkeypatch):
    secret = "a-very-long-secret"
    (tmp_path / "the-place-of-data").mkdir()
    monkeypatch.setenv("MY_PLACE", str(tmp_path / "the-place-of-data"))
    monkeypatch.setenv("MY_VALUE", secret)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"text {i}", secret: 3}) + "\n" for i in range(40)))
    settings = {
        "out": "${oc.env:MY_PLACE}/out", "tokenizer": str(tokenizer), "seq_len": 64, "validation_fraction": 0.3,
        "sources": [
            {"name": "s", "kind": "jsonl", "paths": [str(tmp_path / "a.jsonl")], "license": "${oc.env:MY_VALUE}",
             "columns": {"metadata": ["${oc.env:MY_VALUE}"]}}
        ],
        "steps": [{"kind": "score", "options": {"column": "${oc.env:MY_VALUE}", "keep": "3"}}, {"kind": "exact_dedup"}],
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    prepare(load(tmp_path / "c.yaml"))
    out = tmp_path / "the-place-of-data" / "out"
    holding = [path.name for path in out.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == []
    assert "the-place-of-data" not in (out / "streams.yaml").read_text()
    (tmp_path / "run.yaml").write_text((out / "streams.yaml").read_text() + "name: [1]\n")
    with pytest.raises(ConfigError) as problems:  # a run's YAML reads the paths, and refuses what is missing besides
        load_run(tmp_path / "run.yaml")
    assert "data.train" not in str(problems.value)
    assert not prepare(load(tmp_path / "c.yaml"))[1]
    monkeypatch.setenv("MY_VALUE", "quite-another-value")
    with pytest.raises(DataError, match="differs in hidden_values"):
        prepare(load(tmp_path / "c.yaml"))


def test_a_kill_between_the_marks_of_revisions_changes_nothing(tmp_path, tokenizer, monkeypatch):
    one = "<S><PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><Abstract><AbstractText>{}</AbstractText></Abstract>"
    one += "</Article></MedlineCitation></PubmedArticle></S>"
    for n in range(4):
        (tmp_path / f"pubmed25n000{n}.xml").write_text(one.format(1 if n < 2 else n, f"text {n}"))
    config = config_of(tmp_path, tokenizer, kind="pubmed", paths=[str(tmp_path / "*.xml")])
    mark, marked = detour.corpus.revisions._save_decisions, []

    def killed(*arguments):
        if len(marked) == 1:
            raise KeyboardInterrupt
        marked.append(mark(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(detour.corpus.revisions, "_save_decisions", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(load(config))
    record, _ = prepare(load(config))
    assert record["sources"]["s"]["documents_read"] == record["sources"]["s"]["folders"]["train"]["documents"] == 3
