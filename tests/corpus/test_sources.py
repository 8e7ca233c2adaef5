from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from detour.corpus import readers
from detour.corpus.text import Columns, Document, ReadReport
from detour.errors import ConfigError, DataError, DetourError

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def read(kind: str, path: Path, report: ReadReport | None = None, columns: Columns | None = None, **options):
    reader = readers.build(kind, options)
    report = report or ReadReport()
    return [
        document
        for file in reader.input_files([str(path)])
        for document in reader.read(file, columns or Columns(), report)
    ]


def brief(documents: list[Document]) -> list[tuple]:
    return [(d.text, d.id, d.license, d.language) for d in documents]


@pytest.mark.parametrize("packing", PACK)
def test_json_lines_carry_id_licence_language_and_named_metadata(tmp_path, packing):
    path = tmp_path / f"a.jsonl{packing}"
    lines = [{"body": "Ça.", "pmid": 7, "license": "CC0", "lang": "fr", "score": 3.5, "other": 1}, {"body": "b"}]
    path.write_bytes(PACK[packing]("\n".join(json.dumps(line) for line in lines).encode()))
    columns = Columns(text="body", id="pmid", language="lang", metadata=("score", "absent"))
    first, second = read("jsonl", path, columns=columns)
    assert brief([first, second]) == [("Ça.", "7", "CC0", "fr"), ("b", f"a.jsonl{packing}:2", None, None)]
    assert first.metadata == {"score": 3.5}
    assert second.metadata is None


def test_further_text_columns_follow_as_paragraphs(tmp_path):
    records = [{"instruction": "Q", "input": "", "output": "A"}, {"instruction": "Q2", "output": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    columns = Columns(text="instruction", more_text=("input", "output"))
    for kind in ("jsonl", "parquet"):
        assert [d.text for d in read(kind, tmp_path / f"a.{kind}", columns=columns)] == ["Q\n\nA", "Q2"]


def test_names_of_unnamed_documents_hold_no_folder_of_the_machine(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.jsonl").write_text('{"text": "x"}')
    for given in (tmp_path / "in", tmp_path / "in" / "**" / "*.jsonl"):
        assert [d.id for d in read("jsonl", given)] == ["deep/a.jsonl:1"]


@pytest.mark.parametrize("packing", PACK)
def test_tables_may_have_line_breaks_in_quoted_fields(tmp_path, packing):
    path = tmp_path / f"a.csv{packing}"
    path.write_bytes(PACK[packing]('\ufeffid,text,license\n1,"two\nlines, ""so""",CC0\n2,b,\n'.encode()))
    assert brief(read("csv", path)) == [('two\nlines, "so"', "1", "CC0", None), ("b", "2", "", None)]
    path = tmp_path / f"a.tsv{packing}"
    path.write_bytes(PACK[packing](b'text\tid\r\n"a\tx\r\n'))
    assert brief(read("csv", path, quoted=False)) == [('"a', "x", None, None)]


def test_a_row_of_a_table_that_does_not_fit_is_reported_by_its_first_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,id\n"a\nb",1\nonly\n\xff\xfe,2\nz,3\n')
    report = ReadReport()
    assert [d.text for d in read("csv", path, report)] == ["a\nb", "z"]
    assert report.examples == {
        "number of fields differs from the header": [f"{path}:4"],
        "not valid UTF-8": [f"{path}:5"],
    }


def test_a_quoted_field_keeps_its_blank_lines_and_a_row_with_a_bad_line_goes_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"one\n\ntwo"\n\n  \n2,"x\n\xff\xfe\ny"\n3,z\n')
    report = ReadReport()
    assert [(d.id, d.text) for d in read("csv", path, report)] == [("1", "one\n\ntwo"), ("3", "z")]
    assert report.examples == {"not valid UTF-8": [f"{path}:8"]}


@pytest.mark.parametrize(("rows", "kept", "lines"), [
    (b'1,"open\n2,b\n3,c\n', ["b", "c"], [2]),
    (b'1,a\n2,"open\n3,c\n4,"d"\n', ["a", "c", "d"], [3]),
    (b'1,"said" so\n2,b\n', ["b"], [2]),
])  # fmt: skip
def test_a_quote_that_is_never_closed_takes_no_other_row_with_it(tmp_path, rows, kept, lines):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n" + rows)
    report = ReadReport()
    assert [d.text for d in read("csv", path, report)] == kept
    assert [place for places in report.examples.values() for place in places] == [f"{path}:{n}" for n in lines]


def test_a_line_too_long_to_hold_ends_a_row_of_a_table_not_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("detour.corpus.text.MAX_RECORD_BYTES", 100)
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"a\n' + b"x" * 200 + b'\nb"\n2,c\n')
    report = ReadReport()
    assert [d.text for d in read("csv", path, report)] == ["c"]
    assert list(report.examples.values()) == [[f"{path}:3"]]


def test_a_table_with_carriage_returns_for_line_ends_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\r1,a\r2,b\r")
    with pytest.raises(DataError, match=r"a\.csv:1: not a table header: its lines end in carriage returns only"):
        read("csv", path)


@pytest.mark.parametrize(("kind", "name", "content"), [
    ("jsonl", "a.jsonl", b'{"text": "x"}\n'), ("text", "a.txt", b"x"), ("csv", "a.csv", b"text\nx\n"),
])  # fmt: skip
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, kind, name, content):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + content)
    report = ReadReport()
    assert [d.text for d in read(kind, path, report)] == ["x"]
    assert not report.skipped


def test_a_blank_id_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n,a\n ,b\n")
    assert [d.id for d in read("csv", path)] == ["a.csv:2", "a.csv:3"]


def test_parquet_is_read_batch_by_batch(tmp_path):
    path = tmp_path / "a.parquet"
    rows = {"text": [f"t{i}" for i in range(10)] + [None], "score": list(range(11)), "junk": ["x"] * 11}
    pq.write_table(pa.table(rows), path)
    report = ReadReport()
    documents = read("parquet", path, report, Columns(metadata=("score",)), batch_rows=3)
    assert [(d.text, d.id, d.metadata) for d in documents[:2]] == [
        ("t0", "a.parquet:1", {"score": 0}),
        ("t1", "a.parquet:2", {"score": 1}),
    ]
    assert len(documents) == 10
    assert report.examples == {"'text' is not a string": [f"{path}:11"]}


@pytest.mark.parametrize(("kind", "name", "content"), [
    ("csv", "a.csv", b"title,id\nx,1\n"),
    ("parquet", "a.parquet", None),
])  # fmt: skip
def test_a_table_without_the_text_column_is_named_with_what_it_has(tmp_path, kind, name, content):
    path = tmp_path / name
    path.write_bytes(content) if content else pq.write_table(pa.table({"title": ["x"], "id": [1]}), path)
    with pytest.raises(DataError, match=f"{name}.*no 'text' column, found title, id"):
        read(kind, path)


def test_a_row_of_parquet_that_is_no_text_is_reported_and_the_rest_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([b"a", b"\xff", b"b"], pa.binary()).view(pa.utf8())}), path)
    report = ReadReport()
    assert [(d.text, d.id) for d in read("parquet", path, report)] == [("a", "a.parquet:1"), ("b", "a.parquet:3")]
    assert report.examples == {"not valid UTF-8": [f"{path}:2"]}


def test_a_damaged_parquet_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        read("parquet", path)


@pytest.mark.parametrize("packing", PACK)
def test_a_text_file_is_one_document_and_a_brat_folder_only_its_annotated_texts(tmp_path, packing):
    (tmp_path / "sub").mkdir()
    for name in ("README", "sub/case1"):
        (tmp_path / f"{name}.txt{packing}").write_bytes(PACK[packing](b"Text."))
    (tmp_path / "sub" / "case1.ann").write_text("T1\tX 0 4\tText")
    assert [d.id for d in read("text", tmp_path)] == [f"README.txt{packing}", f"sub/case1.txt{packing}"]
    if not packing:
        assert [d.id for d in read("brat", tmp_path)] == ["sub/case1.txt"]


PUBMED = """<?xml version="1.0"?>
<!DOCTYPE PubmedArticleSet SYSTEM "http://dtd.nlm.nih.gov/pubmed.dtd">
<PubmedArticleSet>
<PubmedArticle><MedlineCitation><PMID Version="1">11</PMID><Article>
<Journal><JournalIssue><PubDate><Year>1999</Year></PubDate></JournalIssue><Title>J</Title></Journal>
<ArticleTitle>A <i>title</i>.</ArticleTitle>
<Abstract><AbstractText Label="METHODS">We   did.</AbstractText>
<AbstractText Label="RESULTS">It &lt; was.</AbstractText></Abstract>
<PublicationTypeList><PublicationType>Case Reports</PublicationType></PublicationTypeList>
</Article><OtherAbstract Language="fre"><AbstractText>Nous.</AbstractText></OtherAbstract></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>12</PMID><Article><ArticleTitle>[Bare.]</ArticleTitle></Article></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><Article/></MedlineCitation></PubmedArticle>
</PubmedArticleSet>"""


@pytest.mark.parametrize("packing", PACK)
def test_pubmed_gives_title_and_abstract(tmp_path, packing):
    path = tmp_path / f"pubmed24n0001.xml{packing}"
    path.write_bytes(PACK[packing](PUBMED.encode()))
    report = ReadReport()
    documents = read("pubmed", path, report, Columns(metadata=("year", "publication_types")))
    assert [(d.id, d.language, d.text) for d in documents] == [
        ("11", "en", "A title.\n\nMETHODS: We did.\nRESULTS: It < was."),
        ("11-fr", "fr", "Nous."),
    ]
    assert documents[0].metadata == {"year": "1999", "publication_types": ["Case Reports"]}
    assert report.skipped == {"no abstract": 1, "no PMID": 1}
    assert [d.id for d in read("pubmed", path, abstracts_only=False)] == ["11", "11-fr", "12"]


JATS = """<article xmlns:xlink="http://www.w3.org/1999/xlink" article-type="case-report" xml:lang="en">
<front><journal-meta><journal-title-group><journal-title>J</journal-title></journal-title-group></journal-meta>
<article-meta><article-id pub-id-type="pmid">5</article-id><article-id pub-id-type="pmc">77</article-id>
<title-group><article-title>The <bold>title</bold></article-title></title-group>
<pub-date><year>2020</year></pub-date>
<permissions><license xlink:href="https://creativecommons.org/licenses/by/4.0/"><license-p>Free</license-p></license></permissions>
<abstract><sec><title>Aim</title><p>Short.</p></sec></abstract></article-meta></front>
<body><sec><title>Case</title><p>A man [<xref>1</xref>] of 40 (<xref>2</xref>, <xref>3</xref>).
<fig><caption><p>no</p></caption></fig></p>
<table-wrap><table><tr><td>no</td></tr></table></table-wrap><list><list-item><p>item</p></list-item></list></sec></body>
<back><ref-list><ref>no</ref></ref-list></back></article>"""


@pytest.mark.parametrize("namespace", ["", ' xmlns="https://jats.nlm.nih.gov/ns/archiving/1.3/"'])
def test_jats_gives_title_abstract_and_body_without_tables_and_citations(tmp_path, namespace):
    path = tmp_path / "a.nxml"
    path.write_text(JATS.replace("<article ", f"<article{namespace} ", 1))
    (document,) = read("jats", path, columns=Columns(metadata=("article_type", "year")))
    assert document.text == "The title\n\nAim\n\nShort.\n\nCase\n\nA man of 40.\n\nitem"
    assert (document.id, document.license, document.language) == ("PMC77", "by/4.0", "en")
    assert document.metadata == {"year": "2020", "article_type": "case-report"}


def test_entities_are_not_expanded_and_broken_xml_is_an_error(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY x "&#65;"><!ENTITY y "&x;&x;">]><PubmedArticleSet>&y;</PubmedArticleSet>'
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    external = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]><a>&x;</a>'
    for content, match in ((bomb, "declares entities"), (external, "declares entities"), ("<a><b></a>", "well-formed")):
        path = tmp_path / "a.xml"
        path.write_text(content)
        with pytest.raises(DataError, match=f"a.xml: .*{match}"):
            read("pubmed", path)


def test_a_saved_hugging_face_dataset_is_read(tmp_path):
    saved = datasets.Dataset.from_dict({"text": ["a", "b"], "id": ["x", "y"], "language": ["en", "fr"]})
    saved.save_to_disk(tmp_path / "saved")
    assert brief(read("huggingface", tmp_path / "saved")) == [("a", "x", None, "en"), ("b", "y", None, "fr")]
    with pytest.raises(DataError, match="no 'body' column, found text, id"):
        read("huggingface", tmp_path / "saved", columns=Columns(text="body"))
    (tmp_path / "junk").mkdir()
    with pytest.raises(DetourError, match="cannot be opened as a dataset"):
        read("huggingface", tmp_path / "junk")


def test_a_hub_that_fails_on_the_way_is_an_error_not_a_damaged_file(tmp_path, monkeypatch):
    class Failing:
        column_names, num_shards = ["text"], 1

        def __iter__(self):
            yield {"text": "a"}
            raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: Failing())
    with pytest.raises(DetourError, match="some/name: reading failed after row 1: gone") as caught:
        read("huggingface", Path("some/name"))
    assert not isinstance(caught.value, DataError)


def test_a_streamed_hugging_face_dataset_is_read_shard_by_shard(tmp_path, monkeypatch):
    def shard(shards):
        yield from ({"text": f"{shard}-{i}"} for shard in shards for i in range(2))

    streamed = datasets.IterableDataset.from_generator(shard, gen_kwargs={"shards": [0, 1, 2]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: streamed)
    documents = read("huggingface", Path("some/name"))
    assert brief(documents) == [(f"{s}-{i}", f"some/name#{s}:{i + 1}", None, None) for s in range(3) for i in range(2)]


def test_paths_without_a_file_of_the_kind_are_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    for given, match in (
        (tmp_path, "no .csv or .tsv file"),
        (tmp_path / "absent", "no such file"),
        (tmp_path / "a.txt", "unexpected suffix, expected .csv"),
        (tmp_path / "*.csv", "no .csv"),
    ):
        with pytest.raises(DataError, match=match):
            readers.build("csv").input_files([str(given)])
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match="named twice"):
        readers.build("csv").input_files([str(tmp_path / "a.csv"), str(tmp_path)])


def test_a_wrong_kind_or_option_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'jsonl'"):
        readers.build("json")
    with pytest.raises(ConfigError, match=r"reader 'csv': delimeter: unknown key; did you mean 'delimiter'"):
        readers.build("csv", {"delimeter": ","})
    with pytest.raises(ConfigError, match="expected one character"):
        readers.build("csv", {"delimiter": "||"})


def article(front: str, body: str) -> str:
    return f"<article><front><article-meta>{front}</article-meta></front><body>{body}</body></article>"


def test_an_article_with_comments_before_its_root_is_read(tmp_path):
    path = tmp_path / "a.nxml"
    path.write_text('<?xml version="1.0"?>\n<!-- made by -->\n<?style x?>\n' + article("", "<p>Body.</p>"))
    assert [d.text for d in read("jats", path)] == ["Body."]


def test_entities_of_a_publishers_dtd_are_characters(tmp_path):
    path = tmp_path / "a.nxml"
    declared = '<!DOCTYPE article PUBLIC "-//NLM//DTD Journal" "journalpublishing.dtd">'
    path.write_text(declared + article("", "<p>caf&eacute; 5&nbsp;&mu;g &amp; &nosuchname; <i>&beta;</i></p>"))
    assert [d.text for d in read("jats", path)] == ["café 5 μg & &nosuchname; β"]


def test_blocks_inside_a_paragraph_keep_their_words_apart(tmp_path):
    items = "<list><list-item><p>one</p><p>two</p></list-item><list-item><p>three</p></list-item></list>"
    terms = "<def-list><def-item><term>BMI</term><def><p>body mass</p></def></def-item></def-list>"
    path = tmp_path / "a.nxml"
    path.write_text(article("", f"<p>First:{items}</p>{items}{terms}<p>H<sub>2</sub>O<break/>end</p>"))
    expected = ["First: one two three", "one two", "three", "BMI body mass", "H2O end"]
    assert read("jats", path)[0].text.split("\n\n") == expected


@pytest.mark.parametrize(("title", "read_as"), [
    ("[Un titre traduit].", "Un titre traduit."), ("[Un [autre] titre]", "Un [autre] titre"),
    ("[18F]FDG in [11C]choline", "[18F]FDG in [11C]choline"), ("Plain [sic]", "Plain [sic]"),
])  # fmt: skip
def test_only_brackets_around_a_whole_title_are_taken_off(tmp_path, title, read_as):
    path = tmp_path / "a.xml"
    path.write_text(
        f"<Set><PubmedArticle><MedlineCitation><PMID>1</PMID><Article><ArticleTitle>{title}</ArticleTitle><Abstract>"
        "<AbstractText>A.</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle></Set>"
    )
    assert [d.text for d in read("pubmed", path)] == [f"{read_as}\n\nA."]


def test_an_article_without_abstract_is_no_fault_and_a_file_without_articles_is(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<S><PubmedArticle><MedlineCitation><PMID>1</PMID></MedlineCitation></PubmedArticle></S>")
    report = ReadReport(strict=True)
    assert read("pubmed", path, report) == []
    assert report.skipped == {"no abstract": 1}
    path.write_text("<S><x/></S>")
    with pytest.raises(DataError, match=r"a\.xml: no <PubmedArticle> in this file"):
        read("pubmed", path, ReadReport(strict=True))


@pytest.mark.parametrize("column", ["license", "licence"])
def test_parquet_and_csv_read_both_spellings_of_the_license_column(tmp_path, column):
    pq.write_table(pa.table({"text": ["a"], column: ["CC0"]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(f"text,{column}\na,CC0\n")
    assert [d.license for kind in ("parquet", "csv") for d in read(kind, tmp_path / f"a.{kind}")] == ["CC0", "CC0"]
