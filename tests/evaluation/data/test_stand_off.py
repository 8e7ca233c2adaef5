"""Stand-off labels lie on the words that they name, whatever was done to line ends and byte order marks.

Every example is counted by hand: five entities in two lines, of which one is nested and one discontinuous.
"""

from __future__ import annotations

import codecs
import json
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour.errors import ConfigError, DataError
from detour.evaluation.data import readers
from detour.evaluation.data.readers.stand_off import Annotated, Claim, examples_of_documents

TEXT = "Douleur rénale aiguë.\nPas de fièvre;\nulcère duodénal ou gastrique, aspirine\n"
ENTITIES = [  # type, fragments, words: offsets counted by hand on TEXT
    ("DISO", [(0, 20)], "Douleur rénale aiguë"),
    ("ANAT", [(8, 14)], "rénale"),
    ("DISO", [(29, 35)], "fièvre"),
    ("DISO", [(37, 43), (56, 65)], "ulcère gastrique"),
    ("CHEM", [(67, 75)], "aspirine"),
]
KEPT = ["DISO Douleur rénale aiguë", "DISO fièvre", "DISO ulcère duodénal ou gastrique", "CHEM aspirine"]
ANN = "".join(
    f"T{i}\t{kind} {';'.join(f'{a} {b}' for a, b in fragments)}\t{words}\n"
    for i, (kind, fragments, words) in enumerate(ENTITIES, start=1)
)
BOM = codecs.BOM_UTF8


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def entities(examples) -> list[str]:
    """TYPE and words of each entity of tagged examples, in order."""
    found = []
    for example in examples:
        for word, tag in zip(example.parts, example.target, strict=True):
            if tag.startswith("B-"):
                found.append(f"{tag[2:]} {word}")
            elif tag.startswith("I-"):
                found[-1] += f" {word}"
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x" / "train").mkdir(parents=True)
    return tmp_path / "x"


def read(folder, form, **options):
    return readers.build(form, {"path": folder.name, **options}).read(folder.parent, "ner")["train"]


def read_brat(folder, text: bytes, annotation: bytes, **options):
    (folder / "train" / "d.txt").write_bytes(text)
    (folder / "train" / "d.ann").write_bytes(annotation)
    return read(folder, "brat", folders={"train": "train"}, **options)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        (TEXT.encode(), ANN.encode()),
        (crlf(TEXT), ANN.encode()),
        (crlf(TEXT), crlf(ANN)),
        (TEXT.encode(), BOM + ANN.encode()),
        (BOM + TEXT.encode(), ANN.encode()),
        (BOM + crlf(TEXT), BOM + crlf(ANN)),
        (TEXT.encode(), ANN.replace("\n", "\r").encode()),
    ],
    ids=["plain", "crlf text", "crlf both", "bom in .ann", "bom in .txt", "bom and crlf in both", "cr in .ann"],
)
def test_brat_entities_are_on_their_words(text, annotation, folder, caplog):
    assert entities(read_brat(folder, text, annotation)) == KEPT
    assert "1 of 5 entities left out, nested" in caplog.text


def test_brat_offsets_that_count_a_mark_or_line_ends_that_are_gone(folder):
    moved = ANN.replace("29 35", "30 36").replace("37 43;56 65", "39 45;58 67").replace("67 75", "69 77")
    assert entities(read_brat(folder, TEXT.encode(), moved.encode())) == KEPT  # counted on CR LF
    by_one = "T1\tDISO 1 21\tDouleur rénale aiguë\nT2\tDISO 30 36\tfièvre\n"
    assert entities(read_brat(folder, BOM + TEXT.encode(), by_one.encode())) == [KEPT[0], KEPT[1]]


def test_brat_suffixes_in_upper_case_are_read(folder):
    (folder / "train" / "a.TXT").write_text(TEXT)
    (folder / "train" / "a.Ann").write_text(ANN)
    assert entities(read(folder, "brat", folders={"train": "train"})) == KEPT
    assert entities(read_brat(folder, TEXT.encode(), ANN.encode())) == [*KEPT, *KEPT]
    (folder / "train" / "a.txt").write_text("another text")
    with pytest.raises(DataError, match=r"a\.txt: a\.TXT is there, too"):
        read(folder, "brat", folders={"train": "train"})


def test_brat_of_deft_with_every_kind_of_line_and_an_entity_over_a_line_break(folder):
    """In the style of DEFT 2020: French labels, brat's fragments at a line end, events, relations and notes beside them."""
    text = "Homme de 54 ans, fièvre à 39 °C.\nŒdème du bras droit et de la jambe.\n"
    annotation = (  # offsets counted by hand
        "T1\tsosy 17 31\tfièvre à 39 °C\nT2\tvaleur 9 11\t54\nT3\tsosy 33 52\tŒdème du bras droit\n"
        "T4\tanatomie 42 52\tbras droit\nT5\tanatomie 62 67\tjambe\nE1\tsosy:T1 val:T4\nR1\tsiege Arg1:T3 Arg2:T4\n"
        "A1\tassertion T1 present\nM1\tnegation T3\n#1\tAnnotatorNotes T1\tnote\n*\tEquiv T1 T3\nN1\tReference T1 X:1\tf\n"
    )
    assert entities(read_brat(folder, text.encode(), annotation.encode())) == [
        "valeur 54", "sosy fièvre à 39 ° C", "sosy Œdème du bras droit", "anatomie jambe",
    ]  # fmt: skip
    broken = "T1\tsosy 29 32;33 38\t°C. Œdème\n"  # brat writes one fragment per line, joined by a space
    assert entities(read_brat(folder, text.encode(), broken.encode())) == ["sosy ° C . Œdème"]
    with pytest.raises(DataError, match=r"\.ann: not valid UTF-8"):
        read_brat(folder, text.encode(), "T1\tsosy 17 23\tfièvre\n".encode("latin-1"))


def test_brat_entities_that_cannot_be_placed_are_counted_and_above_a_fraction_refused(folder, caplog):
    wrong = ANN.replace("67 75", "66 74").replace("aspirine", "paracétamol")
    with pytest.raises(DataError) as error:
        read_brat(folder, TEXT.encode(), wrong.encode())
    assert "1 of 5 entities do not cover the text that they name, expected at most 1.0%" in str(error.value)
    assert "d.ann:5: characters 66 to 74 are ' aspirin', expected 'paracétamol'" in str(error.value)
    assert entities(read_brat(folder, TEXT.encode(), wrong.encode(), max_misplaced=0.2)) == KEPT[:3]
    assert "1 of 5 entities left out that do not cover the text that they name" in caplog.text
    with pytest.raises(ConfigError, match=r"max_misplaced: 1\.5, expected a fraction"):
        read_brat(folder, TEXT.encode(), wrong.encode(), max_misplaced=1.5)


def test_brat_files_that_lack_their_other_half_are_said(folder, caplog):
    (folder / "train" / "readme.txt").write_text("no annotation")
    assert entities(read_brat(folder, TEXT.encode(), ANN.encode())) == KEPT
    assert "1 .txt files without an .ann file left out" in caplog.text
    (folder / "train" / "e.ann").write_text(ANN)
    with pytest.raises(DataError, match=r"e\.ann: no \.txt file beside it"):
        read(folder, "brat", folders={"train": "train"})
    (folder / "train" / "e.ann").unlink()
    with pytest.raises(DataError, match=r"d\.ann:1: begins with '<html>', expected one of"):
        read_brat(folder, TEXT.encode(), b"<html>\n")


LINES = [(0, 21), (22, 36), (37, 75)]  # characters of TEXT that are its lines


def bioc_json(*, sentences: bool, shift: int = 100) -> str:
    """Offsets of the document, which begins at 100; text by sentence or whole."""
    annotations = [
        {
            "infons": {"type": kind},
            "text": words,
            "locations": [{"offset": a + shift, "length": b - a} for a, b in fragments],
        }
        for kind, fragments, words in ENTITIES
    ]
    passage = {"offset": shift, "text": TEXT, "annotations": annotations}
    if sentences:
        parts = [
            {
                "offset": shift + begin,
                "text": TEXT[begin:end],
                "annotations": [a for a in annotations if begin <= a["locations"][0]["offset"] - shift < end],
            }
            for begin, end in LINES
        ]
        passage = {"offset": shift, "sentences": parts}
    return json.dumps({"documents": [{"id": "d", "passages": [passage]}]})


def bioc_xml(text: str) -> str:
    """The JSON form, element by element."""

    def part(name: str, value: dict) -> str:
        said = f"<offset>{value['offset']}</offset>" + (
            f"<text>{escape(value['text'])}</text>" if "text" in value else ""
        )
        said += "".join(part("sentence", sentence) for sentence in value.get("sentences", []))
        for a in value.get("annotations", []):
            places = "".join(f'<location offset="{p["offset"]}" length="{p["length"]}"/>' for p in a["locations"])
            said += f'<annotation><infon key="type">{a["infons"]["type"]}</infon>{places}<text>{a["text"]}</text></annotation>'
        return f"<{name}>{said}</{name}>"

    (document,) = json.loads(text)["documents"]
    body = "".join(part("passage", passage) for passage in document["passages"])
    return f'<?xml version="1.0" encoding="UTF-8"?><collection><document><id>d</id>{body}</document></collection>'


@pytest.mark.parametrize("sentences", [False, True], ids=["passage", "sentences"])
@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize("mark", [b"", BOM], ids=["", "bom"])
def test_bioc_entities_are_on_their_words(sentences, form, mark, folder):
    text = bioc_json(sentences=sentences)
    (folder / f"t.{form}").write_bytes(mark + (text if form == "json" else bioc_xml(text)).encode())
    assert entities(read(folder, "bioc", files={"train": f"t.{form}"})) == KEPT


def test_bioc_in_the_encoding_that_its_xml_declares(folder):
    text = bioc_xml(bioc_json(sentences=False)).replace("UTF-8", "ISO-8859-1")
    (folder / "t.xml").write_bytes(text.encode("latin-1"))
    assert entities(read(folder, "bioc", files={"train": "t.xml"})) == KEPT


def test_bioc_that_moves_or_overlaps_is_refused_and_labels_without_a_place_are_counted(folder, caplog):
    moved = json.loads(bioc_json(sentences=False))
    (passage,) = moved["documents"][0]["passages"]
    passage["annotations"].append({"infons": {"type": "MeSH"}, "locations": [], "text": "Pain"})
    (folder / "t.json").write_text(json.dumps(moved))
    assert entities(read(folder, "bioc", files={"train": "t.json"})) == KEPT
    assert "1 annotations left out that name no place" in caplog.text
    passage["offset"] = 90
    (folder / "t.json").write_text(json.dumps(moved))
    with pytest.raises(DataError, match="5 of 5 entities do not cover the text that they name"):
        read(folder, "bioc", files={"train": "t.json"})
    overlapping = json.loads(bioc_json(sentences=True))
    overlapping["documents"][0]["passages"][0]["sentences"][1]["offset"] = 105
    (folder / "t.json").write_text(json.dumps(overlapping))
    with pytest.raises(
        DataError, match="document d, passage 0: a sentence at character 5, the one before it ends at 21"
    ):
        read(folder, "bioc", files={"train": "t.json"})


PUBTATOR = (  # laid out as the corpora of the NCBI are; offsets counted by hand on "title abstract"
    "7|t|Aspirin and pain\n7|a|Pain fell.\n7\t0\t7\tAspirin\tChemical\tD1\n7\t12\t16\tpain\tDisease\tD2\n"
    "7\t17\t21\tPain\tDisease\tD2\n7\tCID\tD1\tD2\n\n8|t|Rest\n8|a|\n"
)


@pytest.mark.parametrize("data", [PUBTATOR.encode(), crlf(PUBTATOR), BOM + PUBTATOR.encode()], ids=["", "crlf", "bom"])
def test_pubtator_entities_are_on_their_words(data, folder):
    (folder / "t.txt").write_bytes(data)
    first, second = read(folder, "pubtator", files={"train": "t.txt"})
    assert entities([first]) == ["Chemical Aspirin", "Disease pain", "Disease Pain"]
    assert (first.id, second.id, second.parts) == ("7", "8", ("Rest",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12\t16", "13\t17", r"1 of 3 entities do not cover .*t\.txt:4: characters 13 to 17 are 'ain '"),
        ("\n\n8|t|", "\n8|t|", r"t\.txt:7: a second '\|t\|' line"),
        ("7\t12", "9\t12", r"t\.txt:4: of document '9', expected '7'"),
        ("\tpain\tDisease\tD2", "", r"t\.txt:4: expected 'PMID<tab>START"),
        ("7|t|Aspirin and pain\n7|a|Pain fell.\n", "", r"t\.txt:1: a document without a '7\|t\|'"),
    ],
)
def test_pubtator_that_is_not_as_it_should_be_is_named(old, new, message, folder):
    (folder / "t.txt").write_text(PUBTATOR.replace(old, new))
    with pytest.raises(DataError, match=message):
        read(folder, "pubtator", files={"train": "t.txt"})


@given(st.text("ab\n é\r\u2028", min_size=1, max_size=40), st.data())
def test_conversions_of_line_ends_move_no_label(text, data):
    text = text.replace("\r\n", "\n")
    places = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 8))
    drawn = [(start, min(start + length, len(text))) for start, length in data.draw(st.lists(places, max_size=5))]
    claims = [Claim([place], "X", text[slice(*place)], "here") for place in drawn if text[slice(*place)].strip()]
    wanted = examples_of_documents([Annotated("d", "", text, claims)], [], "", max_misplaced=0)
    found = examples_of_documents([Annotated("d", "", text.replace("\n", "\r\n"), claims)], [], "", max_misplaced=0)
    assert entities(found) == entities(wanted)


# --- CoNLL ----------------------------------------------------------------------------------------------------------

CONLL = "-DOCSTART- -X- O\n\nAcute NN B-X\npain NN I-X\n\n-DOCSTART- -X- O\n\nRest NN O\n"


@pytest.mark.parametrize(
    "data", [CONLL.encode(), BOM + CONLL.encode(), crlf(CONLL), CONLL.replace("\n", "\r").encode()],
    ids=["plain", "bom", "crlf", "cr"],
)  # fmt: skip
def test_conll_sentences_and_their_documents(data, folder):
    (folder / "t.tsv").write_bytes(data)
    first, second = read(folder, "conll", files={"train": "t.tsv"})
    assert (first.parts, first.target, second.parts) == (("Acute", "pain"), ("B-X", "I-X"), ("Rest",))
    assert (first.group, second.group) == ("t-1", "t-2")


@pytest.mark.parametrize("sign", "\u2028\u2029\x85\x0b\x0c\x1c\u00a0\u202f\u3000")
@pytest.mark.parametrize("separator", [None, "\t"])
def test_no_character_but_blanks_and_line_ends_splits_a_word(sign, separator, folder):
    (folder / "t.tsv").write_text(f"10{sign}000\tB-X\n{sign}\tO\nmg\tO\n", encoding="utf-8", newline="")
    (example,) = read(folder, "conll", files={"train": "t.tsv"}, separator=separator)
    assert (example.parts, example.target) == ((f"10{sign}000", sign, "mg"), ("B-X", "O", "O"))


@pytest.mark.parametrize(("line", "message"), [("O", "1 columns, too few"), ("\tO", "the word is empty")])
def test_a_line_of_conll_without_a_word_is_named(line, message, folder):
    (folder / "t.tsv").write_text(f"a\tO\n{line}\n")
    with pytest.raises(DataError, match=rf"t\.tsv:2: {message}"):
        read(folder, "conll", files={"train": "t.tsv"}, separator="\t")
