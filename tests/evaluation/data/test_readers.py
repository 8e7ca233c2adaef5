"""Each form of data, read back as the examples that it holds; what is damaged is named by its place."""

from __future__ import annotations

import gzip
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour.errors import ConfigError, DataError, DetourError
from detour.evaluation.data import readers
from detour.evaluation.data.examples import Span, fault_of, tag_text, to_iob2

TEXT = "Acute renal failure after aspirin."
TAGGED = (("Acute", "renal", "failure", "after", "aspirin", "."), ("B-Dis", "I-Dis", "I-Dis", "O", "B-Drug", "O"))


def read(root, form, kind="ner", **options):
    return readers.build(form, {"path": "x", **options}).read(root, kind)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x").mkdir()
    return tmp_path / "x"


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_local_records_of_each_kind(folder, tmp_path):
    record = {"id": 7, "doc_id": "d", "text": "one", "label": 1, "labels": ["a", "b"], "text_a": "x", "text_b": "y"}
    record |= {"score": 2, "tokens": ["a", "b"], "ner_tags": ["B-X", "O"], "question": "q"}
    write_lines(folder / "train.jsonl", [record])
    wanted = {
        "classification": (("one",), "1"),
        "multilabel": (("one",), ("a", "b")),
        "similarity": (("x", "y"), 2.0),
        "ner": (("a", "b"), ("B-X", "O")),
    }
    for kind, (parts, target) in wanted.items():
        (example,) = read(tmp_path, "local", kind)["train"]
        assert (example.id, example.group, example.parts, example.target) == ("7", "d", parts, target)
    columns = {"text": "question", "pair": "text_a", "label": "score"}
    (example,) = read(tmp_path, "local", "classification", columns=columns)["train"]
    assert (example.parts, example.target) == (("q", "x"), "2")


def test_local_files_may_be_compressed_and_otherwise_named(folder, tmp_path):
    line = json.dumps({"id": "1", "text": "a", "label": "b"}) + "\n"
    (folder / "silver.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (folder / "test.jsonl").write_text(line)
    assert read(tmp_path, "local", "classification", files={"train": "silver"}).keys() == {"train", "test"}
    (folder / "dev.jsonl.xz").write_bytes(lzma.compress(line.encode()))
    assert [e.id for e in read(tmp_path, "local", "classification", files={"train": "silver"})["dev"]] == ["1"]
    (folder / "test.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    with pytest.raises(DataError, match=r"test\.jsonl and test\.jsonl\.gz"):
        read(tmp_path, "local", "classification", files={"train": "silver"})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "a"}, "no 'label'; found text. Name yours in source.options: {columns: {label: ...}}"),
        (
            {"txt": "a", "y": 1},
            "no 'text'; did you mean 'txt'?, no 'label'; found txt, y. Name yours in source.options",
        ),
        ({"text": "a", "label": None}, "'label' is null, expected a label"),
        ({"text": "a", "label": " "}, "'label' is empty"),
        ({"text": " ", "label": "x"}, "'text' is empty"),
        ({"text": ["a"], "label": "x"}, "'text' is \"['a']\", expected a text"),
        ([1], "expected a JSON object"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(record, message, folder, tmp_path):
    write_lines(folder / "train.jsonl", [{"text": "a", "label": "x"}, record])
    with pytest.raises(DataError) as error:
        read(tmp_path, "local", "classification")
    assert f"{folder / 'train.jsonl'}:2: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "record", "lacking"),
    [
        ("ner", {"words": []}, "no 'tokens', no 'ner_tags'"),
        ("multilabel", {"a": 1}, "no 'text', no 'labels'"),
        ("similarity", {"text": "a"}, "no 'text_a'.*no 'text_b'.*no 'score'"),
        ("nested_ner", {"a": 1}, "no 'text', no 'entities'"),
        ("nested_ner", {"tokens": ["a"]}, "no 'ner_tags'"),
    ],
)
def test_every_column_that_is_missing_is_named_at_once(kind, record, lacking, folder, tmp_path):
    write_lines(folder / "train.jsonl", [record])
    with pytest.raises(DataError, match=rf"train\.jsonl:1: {lacking}"):
        read(tmp_path, "local", kind)


def test_tables_are_read_as_records(folder, tmp_path):
    (folder / "train.csv").write_text('id,text,label\n7,"a, ""b""\nc",x\n8,d,y\n')
    (folder / "dev.tsv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfid\ttext\tlabel\r\n9\te\t2\r\n"))
    splits = read(tmp_path, "local", "classification")
    assert [(e.id, e.parts, e.target) for e in splits["train"]] == [("7", ('a, "b"\nc',), "x"), ("8", ("d",), "y")]
    assert [(e.id, e.parts, e.target) for e in splits["dev"]] == [("9", ("e",), "2")]
    (folder / "dev.tsv.gz").unlink()
    (folder / "train.csv").write_text("text;label\na, b;x\n")
    assert read(tmp_path, "local", "classification", delimiter=";")["train"][0].parts == ("a, b",)
    (folder / "train.csv").write_text("text,labels\na,x; y\nb,\n")
    assert [e.target for e in read(tmp_path, "local", "multilabel")["train"]] == [("x", "y"), ()]
    (folder / "train.csv").write_text("text_a,text_b,score\na,b,3.5\n")
    assert [e.target for e in read(tmp_path, "local", "similarity")["train"]] == [3.5]


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        ("classification", "text,label\na\n", "row 1 has 1 cells, the header has 2"),
        ("classification", "text,text\na,b\n", "the header is text, text, expected a name for each column, each once"),
        ("classification", "", "the header is empty"),
        ("classification", 'text,label\na,b\n"a"b,c\n', "row 2: "),
        ("classification", "text;label\na;b\n", "separated by ';'; set source.options: {delimiter: ';'}"),
        ("similarity", "text_a,text_b,score\na,b,high\n", "'score' is 'high', expected a number"),
        ("ner", "tokens,ner_tags\na,O\n", "train.csv': contains cells of text, so the task's kind must be"),
    ],
)
def test_a_bad_table_is_named_by_file_and_row(kind, text, match, folder, tmp_path):
    (folder / "train.csv").write_text(text)
    with pytest.raises(DetourError, match=match):
        read(tmp_path, "local", kind)


def test_tags_that_are_not_strict_iob2_are_refused(folder, tmp_path):
    write_lines(folder / "train.jsonl", [{"id": "a", "tokens": ["x", "y"], "ner_tags": ["O", "I-X"]}])
    with pytest.raises(DataError, match=r"jsonl:1: tag 'I-X' after 'O', expected a B-X before it"):
        read(tmp_path, "local")
    write_lines(folder / "train.jsonl", [{"id": "a", "tokens": ["x", "y"], "ner_tags": ["O"]}])
    with pytest.raises(DataError, match="2 words and 1 tags"):
        read(tmp_path, "local")


def test_what_is_not_there_is_named(tmp_path, folder):
    for form in ("local", "conll", "brat", "bioc"):
        with pytest.raises(DataError, match="no such folder"):
            readers.build(form, {"path": "absent"}).read(tmp_path, "ner")
        with pytest.raises(DataError, match=str(folder)):
            read(tmp_path, form)


def test_conll(folder, tmp_path):
    words = "\n".join(f"{word}\tNN\t{tag}" for word, tag in zip(*TAGGED, strict=True))
    for name in ("train.tsv", "devel.tsv", "test.tsv"):
        (folder / name).write_text(f"-DOCSTART- -X- O\n\n{words}\n\nShort\tNN\tO\n\n-DOCSTART- -X- O\n\n{words}\n")
    splits = read(tmp_path, "conll")
    assert splits.keys() == {"train", "dev", "test"}
    first, second, third = splits["dev"]
    assert (first.parts, first.target) == TAGGED == (third.parts, third.target)
    assert second.parts == ("Short",)
    assert first.group == second.group != third.group
    assert len({example.id for examples in splits.values() for example in examples}) == 9
    with pytest.raises(DataError, match=r"train\.tsv:3: 3 columns, too few"):
        read(tmp_path, "conll", tag_column=5)
    with pytest.raises(ConfigError, match="kind must be 'ner', got 'multilabel'"):
        read(tmp_path, "conll", "multilabel")


@pytest.mark.parametrize("form", ["conll", "brat"])
def test_files_of_one_name_in_two_folders_are_two(form, folder, tmp_path):
    """Names such as 1.txt say nothing of what is in them."""
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "1.tsv").write_text("Rest\tO\n")
        (folder / split / "1.txt").write_text("Rest")
        (folder / split / "1.ann").write_text("")
    places = {"train": "train", "test": "test"}
    options = {"folders": places} if form == "brat" else {"files": {split: f"{split}/1.tsv" for split in places}}
    splits = read(tmp_path, form, **options)
    assert splits["train"][0].parts == splits["test"][0].parts == ("Rest",)
    assert splits["train"][0].id != splits["test"][0].id


def brat(folder, annotation, text=TEXT):
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train" / "d1.txt").write_text(text)
    (folder / "train" / "d1.ann").write_text(annotation)


def test_brat(folder, tmp_path, caplog):
    """T3 is discontinuous (renal ... aspirin), and loses to the longer ones it overlaps; T4 is nested in T1."""
    brat(
        folder,
        "T1\tDis 0 19\tAcute renal failure\nT2\tDrug 26 33\taspirin\nT4\tDis 6 11\trenal\nR1\tX Arg1:T1 Arg2:T2\n#1\tnote\n",
    )
    options = {"folders": {"train": "train"}}
    (example,) = read(tmp_path, "brat", **options)["train"]
    assert (example.id, example.parts, example.target) == ("train/d1", *TAGGED)
    assert "1 of 3 entities left out" in caplog.text
    brat(folder, "T1\tDis 6 11;26 33\trenal aspirin\n")
    (example,) = read(tmp_path, "brat", **options)["train"]
    assert example.target == ("O", "B-Dis", "I-Dis", "I-Dis", "I-Dis", "O")
    (example,) = read(tmp_path, "brat", types=["Drug"], **options)["train"]
    assert set(example.target) == {"O"}


@pytest.mark.parametrize("line", ["T1\tDis 6 200\trenal", "T1\tDis renal", "T1 Dis 0 3"])
def test_a_bad_line_of_brat_is_named(line, folder, tmp_path):
    brat(folder, f"T9\tDis 0 5\tAcute\n{line}\n")
    with pytest.raises(DataError, match=r"d1\.ann:2: "):
        read(tmp_path, "brat", folders={"train": "train"})


XML = """<?xml version="1.0"?><collection><document><id>d1</id>
<passage><infon key="type">title</infon><offset>0</offset><text>A title</text></passage>
<passage><offset>8</offset><text>{text}</text>
<annotation id="1"><infon key="type">Dis</infon><location offset="8" length="19"/><text>Acute renal failure</text></annotation>
<annotation id="2"><infon key="type">Drug</infon><location offset="34" length="7"/><text>aspirin</text></annotation>
</passage></document></collection>"""


def bioc_json():
    annotations = [
        {"infons": {"type": kind}, "locations": [{"offset": offset, "length": length}]}
        for kind, offset, length in [("Dis", 8, 19), ("Drug", 34, 7)]
    ]
    passages = [{"offset": 0, "text": "A title"}, {"offset": 8, "text": TEXT, "annotations": annotations}]
    return json.dumps({"documents": [{"id": "d1", "passages": passages}]})


@pytest.mark.parametrize("name", ["train.xml", "train.json"])
def test_bioc(name, folder, tmp_path):
    (folder / name).write_text(XML.format(text=TEXT) if name.endswith("xml") else bioc_json())
    title, body = read(tmp_path, "bioc", files={"train": name})["train"]
    assert (body.parts, body.target) == TAGGED
    assert set(title.target) == {"O"}
    assert title.group == body.group == "d1"
    assert title.id != body.id


def test_bioc_expands_no_entities_and_names_what_is_wrong(folder, tmp_path):
    files = {"train": "train.xml"}
    bomb = '<?xml version="1.0"?><!DOCTYPE c [<!ENTITY a "aspirin"><!ENTITY f SYSTEM "file:///etc/hostname">]>'
    xml = XML.format(text=TEXT).removeprefix('<?xml version="1.0"?>')
    (folder / "train.xml").write_text(bomb + xml.replace("A title", "&f;"))
    title_or_body = read(tmp_path, "bioc", files=files)["train"]
    assert [example.parts for example in title_or_body] == [TAGGED[0]]  # the title, an entity, is empty
    (folder / "train.xml").write_text(XML.format(text="short"))
    with pytest.raises(DataError, match="document d1, passage 1: characters 0 to 19, the text has 5"):
        read(tmp_path, "bioc", files=files)
    (folder / "train.xml").write_text("<collection><document>")
    with pytest.raises(DataError, match="not well-formed"):
        read(tmp_path, "bioc", files=files)
    (folder / "train.json").write_text('{"documents": [{"id": "d"}]}')
    with pytest.raises(DataError, match="not valid BioC: KeyError 'passages'"):
        read(tmp_path, "bioc", files={"train": "train.json"})


def test_a_dataset_of_the_hub_is_read_by_the_names_of_its_classes(folder, tmp_path, monkeypatch):
    """From a folder of parquet, which `datasets` opens as it does a repository."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tags = datasets.ClassLabel(names=["O", "B-X", "I-X"])
    features = datasets.Features(
        {
            "words": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(tags),
            "sentence": datasets.Value("string"),
            "class": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {"words": [["a", "b"]], "tags": [[1, 2]], "sentence": ["a b"], "class": [1]}
    for split in ("train", "validation", "test"):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}.parquet")

    def read_hub(kind, columns):
        return readers.build("hub", {"name": "x", "columns": columns}).read(tmp_path, kind)

    splits = read_hub("ner", {"tokens": "words", "tags": "tags"})
    assert {name: [e.target for e in split] for name, split in splits.items()} == {
        name: [("B-X", "I-X")] for name in ("train", "dev", "test")
    }
    splits = read_hub("classification", {"text": "sentence", "label": "class"})
    assert [e.target for e in splits["dev"]] == ["yes"]


def test_a_dataset_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="dataset 'nobody/nothing': cannot be loaded"):
        readers.build("hub", {"name": "nobody/nothing"}).read(tmp_path, "ner")


def test_other_schemes_become_iob2():
    assert to_iob2(["I-X", "I-X", "B-X", "O", "I-Y"], "iob1") == ["B-X", "I-X", "B-X", "O", "B-Y"]
    assert to_iob2(["S-X", "B-Y", "I-Y", "E-Y", "O"], "bioes") == ["B-X", "B-Y", "I-Y", "I-Y", "O"]
    assert fault_of(["O", "X"]) == "tag 'X', expected O, B-TYPE or I-TYPE"


@given(
    st.text(alphabet="ab é-.", max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.sampled_from("XY")), max_size=6),
)
def test_stand_off_annotation_becomes_strict_tags_of_the_text(text, raw):
    spans = [Span(start, min(start + length, len(text)), kind) for start, length, kind in raw if start < len(text)]
    words, tags, lost = tag_text(text, spans)
    assert "".join(words) == "".join(text.split())
    assert len(words) == len(tags)
    assert fault_of(tags) is None
    assert sum(tag.startswith("B-") for tag in tags) == len(spans) - lost
