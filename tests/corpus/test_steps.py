from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from detour.corpus import steps
from detour.corpus.shingles import shingles, word_hashes
from detour.corpus.steps import StepReport
from detour.corpus.steps.base import Signatures, matches
from detour.corpus.steps.near_dedup import _bands
from detour.corpus.text import Document
from detour.errors import ConfigError, DataError


def doc(text: str, id: str = "a", **fields) -> Document:
    return Document(text=text, id=id, license=None, path=Path("x"), **fields)


def apply(kind: str, *documents: Document, folder: Path = Path(), **options) -> tuple[list[Document], StepReport]:
    report = StepReport(folder=folder)
    return list(steps.build(kind, options).apply(documents, report)), report


def texts(result) -> list[str]:
    return [document.text for document in result[0]]


def test_normalization_folds_only_what_its_form_folds():
    assert texts(apply("normalize", doc("e\u0301 ﬁ x²"))) == ["é ﬁ x²"]
    result = apply("normalize", doc("ﬁ x²"), doc("plain"), form="NFKC")
    assert texts(result) == ["fi x2", "plain"]
    assert result[1].changed == 1


def test_repair_undoes_wrong_decoding_and_drops_control_characters():
    result = apply("repair", doc("patientÃ¨le l\u2019été"), doc("a\x00b\r\nc\u200b"), doc("\x07"), doc("d’été “ok”"))
    assert texts(result) == ["patientèle l\u2019été", "ab\nc", "d’été “ok”"]
    assert result[1].changed == 3
    assert result[1].dropped == {"only control characters": 1}
    assert texts(apply("repair", doc("patientÃ¨le\x00"), encoding=False)) == ["patientÃ¨le"]


def test_repair_keeps_words_apart_that_odd_line_ends_part():
    ends = ["a\x0bb", "a\x85b", "a\rb", "a\r\nb"]
    assert texts(apply("repair", *map(doc, ends), encoding=False)) == ["a\nb"] * 4


def test_the_language_filter_keeps_what_is_asked_for_and_says_what_it_dropped():
    french, english = "Le patient présente une douleur thoracique.", "The patient was admitted with chest pain."
    german = "Der Patient wurde mit Schmerzen in der Brust aufgenommen."
    documents, report = apply("language", doc(french), doc(english), doc(german), languages=["fr", "en"])
    assert [d.language for d in documents] == ["fr", "en"]
    assert report.dropped == {"de": 1}
    believed = apply("language", doc(german, language="fr"), languages=["fr"], trust_column=True)
    assert len(believed[0]) == 1
    with pytest.raises(ConfigError, match="french: unknown"):
        steps.build("language", {"languages": ["french"]})


def test_the_length_filter_counts_characters_and_words():
    documents = [doc("a" * n) for n in (4, 5, 9, 10)]
    result = apply("length", *documents, min_characters=5, max_characters=9)
    assert [len(text) for text in texts(result)] == [5, 9]
    assert result[1].dropped == {"under 5 characters": 1, "over 9 characters": 1}
    assert texts(apply("length", doc("one two"), doc("one"), min_words=2)) == ["one two"]


def test_the_length_filter_counts_the_characters_of_scripts_without_spaces_as_words():
    documents = doc("患者因发热入院。"), doc("อาการดี"), doc("a-b c"), doc("أُدخل المريض"), doc("MRI 检查")
    kept = [
        [d.text for d in documents if d.text in texts(apply("length", *documents, min_words=n))] for n in (3, 4, 7, 8)
    ]
    assert [len(each) for each in kept] == [3, 2, 2, 0]
    assert kept[2] == ["患者因发热入院。", "อาการดี"]  # seven characters each, without the full stop


@pytest.mark.parametrize(("value", "condition", "fits"), [
    (3, ">= 3", True), (2.9, ">=3", False), ("3", ">2", True), (None, ">= 0", False), ("case", "case", True),
    ("case", "other", False), (4, "4", True), (["a", "b"], "b", True), ("many", ">= 3", False),
    (4.0, "4", True), ("4.0", "4", True), ("a", "!= b", True), ("a", "!= a", False), ("a", "== a", True),
    (None, "!= a", False), (["a", "b"], "!= a", False), (3, "!= 4", True),
])  # fmt: skip
def test_a_condition_is_a_comparison_or_a_value(value, condition, fits):
    assert matches(value, condition) is fits


def test_the_score_filter_keeps_what_fits():
    documents = [doc(str(i), metadata={"score": i}) for i in range(5)] + [doc("none")]
    result = apply("score", *documents, column="score", keep=">= 3")
    assert texts(result) == ["3", "4"]
    assert result[1].dropped == {"'score' does not match": 3, "no 'score'": 1}
    assert texts(apply("score", *documents, column="score", keep=["0", "4"], if_missing="keep")) == ["0", "4", "none"]


def test_upsampling_takes_the_first_rule_that_fits_and_the_most_of_several_steps():
    kinds = ["clinical_case", "other", None]
    documents = [doc("x", metadata={"type": kind} if kind else None, repeats=2) for kind in kinds]
    result, report = apply("upsample", *documents, column="type", times={"clinical_case": 100, "other": 10})
    assert [d.repeats for d in result] == [100, 10, 2]
    assert report.changed == 2
    with pytest.raises(ConfigError, match="copies of at least 1"):
        steps.build("upsample", {"column": "type", "times": {"a": 0}})


def test_shingles_tell_runs_of_words_apart_and_ignore_layout():
    a, b = (shingles(word_hashes(text), 3) for text in ("The heart, pumps\nblood.", "the HEART pumps blood"))
    assert a.tolist() == b.tolist()
    assert len(a) == 2
    assert not set(a.tolist()) & set(shingles(word_hashes("heart the pumps blood the"), 3).tolist())
    assert len(shingles(word_hashes("two words"), 3)) == 0


def decide(kind: str, texts: list[str], folder: Path, alive=None, **options) -> list[int]:
    """Decisions over signatures that lie in several files."""
    step = steps.build(kind, options)
    files, counts = [], []
    for start in range(0, len(texts), 3):
        signed = np.stack([step.sign(doc(text)) for text in texts[start : start + 3]])
        files.append(folder / f"{start}.npy")
        np.save(files[-1], signed)
        counts.append(len(signed))
    alive = np.ones(len(texts), bool) if alive is None else np.array(alive)
    return step.decide(Signatures(files, counts), alive).tolist()


def test_exact_duplicates_name_the_first_that_is_alive(tmp_path):
    assert decide("exact_dedup", ["a b", "c", "A  b", "a b", "c "], tmp_path) == [-1, -1, 0, 0, 1]
    assert decide("exact_dedup", ["a b", "A b", "a b"], tmp_path, loose=False) == [-1, -1, 0]
    alive = [False, True, True, True, True]
    assert decide("exact_dedup", ["a b", "c", "A  b", "a b", "c "], tmp_path, alive) == [-1, -1, -1, 2, 1]


def sentence(rng: random.Random, n: int) -> list[str]:
    return [f"w{rng.randrange(5000)}" for _ in range(n)]


def test_near_duplicates_are_found_and_others_left_alone(tmp_path):
    rng = random.Random(0)
    originals = [sentence(rng, 300) for _ in range(20)]
    close = [[*words[:150], "changed", *words[151:]] for words in originals[:10]]  # Jaccard about 0.97
    half = [[*words[:150], *sentence(rng, 150)] for words in originals[10:]]  # about 0.33
    texts = [" ".join(words) for words in [*originals, *close, *half]]
    assert decide("near_dedup", texts, tmp_path) == [-1] * 20 + list(range(10)) + [-1] * 10


def test_families_of_near_duplicates_go_but_for_a_few_at_the_threshold(tmp_path):
    rng = random.Random(0)
    texts = []
    for words in (sentence(rng, 200) for _ in range(15)):
        for _ in range(20):
            rate = rng.choice([0.005, 0.01, 0.02, 0.03, 0.05])
            texts.append(" ".join(f"w{rng.randrange(5000)}" if rng.random() < rate else word for word in words))
    rng.shuffle(texts)
    sets = [set(zip(*(text.split()[i:] for i in range(5)), strict=False)) for text in texts]
    pairs = [
        (a, b) for b in range(len(sets)) for a in range(b) if len(sets[a] & sets[b]) >= 0.8 * len(sets[a] | sets[b])
    ]
    _, group = connected_components(coo_array((np.ones(len(pairs)), np.transpose(pairs)), shape=(300, 300)))
    removed = sum(leader >= 0 for leader in decide("near_dedup", texts, tmp_path))
    exact = 300 - len(set(group.tolist()))
    assert exact > 100
    assert 0.95 * exact <= removed <= 1.05 * exact


def test_short_texts_and_none_at_all_pass_through_near_dedup(tmp_path):
    assert decide("near_dedup", ["one", "two", "one", "!", "one two three four five six"], tmp_path) == [
        -1,
        -1,
        0,
        -1,
        -1,
    ]


@pytest.fixture
def evaluation(tmp_path) -> Path:
    rng = random.Random(1)
    items = [{"id": f"q{i}", "tokens": sentence(rng, 30)} for i in range(3)] + [
        {"id": "short", "text": "three little words"}
    ]
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "test.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return folder / "test.jsonl"


def test_a_document_that_holds_an_evaluation_item_goes_and_is_listed(evaluation, tmp_path):
    items = [json.loads(line) for line in evaluation.read_text().splitlines()]
    whole, first_half = " ".join(items[1]["tokens"]), " ".join(items[2]["tokens"][:20])
    options = {"paths": [str(evaluation)], "overlap": 0.5}
    told = steps.build("decontaminate", options).prepare(tmp_path)
    assert told == {"evaluation_files": 1, "items": 3, "items_too_short": 1}
    documents = [
        doc(f"before {whole.upper()}, after", "bad"),
        doc(first_half, "8 of 18 runs"),
        doc("clean " * 40, "clean"),
    ]
    kept, report = apply("decontaminate", *documents, folder=tmp_path, **options)
    assert [d.id for d in kept] == ["8 of 18 runs", "clean"]
    assert report.removals == [{"id": "bad", "item": "task/test.jsonl: q1", "overlap": 1.0, "items": 1}]
    assert not apply("decontaminate", documents[1], folder=tmp_path, paths=[str(evaluation)], overlap=0.4)[0]
    assert len(apply("decontaminate", documents[0], folder=tmp_path, paths=[str(evaluation)], min_items=2)[0]) == 1


@pytest.mark.parametrize(("words_held", "kept"), [(20, 1), (21, 0), (22, 0)])
def test_the_share_of_an_item_that_is_too_much_counts_as_too_much(evaluation, tmp_path, words_held, kept):
    """Of 30 words there are 18 runs of 13; 21 words hold nine of them, which is the half that is given as overlap."""
    words = json.loads(evaluation.read_text().splitlines()[0])["tokens"]
    options = {"paths": [str(evaluation)], "overlap": 0.5}
    steps.build("decontaminate", options).prepare(tmp_path)
    document = doc(" ".join(words[:words_held]), "d")
    assert len(apply("decontaminate", document, folder=tmp_path, **options)[0]) == kept


def test_the_same_words_in_two_columns_or_tasks_are_one_item(tmp_path):
    words = sentence(random.Random(3), 30)
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"tokens": words, "text": " ".join(words)}))
    options = {"paths": [str(tmp_path / "*.jsonl")], "min_items": 2}
    assert steps.build("decontaminate", options).prepare(tmp_path)["items"] == 1
    assert len(apply("decontaminate", doc(" ".join(words)), folder=tmp_path, **options)[0]) == 1


def test_another_evaluation_set_in_the_same_folder_is_looked_at(tmp_path):
    first, second = (" ".join(sentence(random.Random(seed), 30)) for seed in (4, 5))
    options = {"paths": [str(tmp_path / "a.jsonl")]}
    for contained, other in ((first, second), (second, first)):
        (tmp_path / "a.jsonl").write_text(json.dumps({"text": contained}))
        steps.build("decontaminate", options).prepare(tmp_path)
        kept, _ = apply("decontaminate", doc(contained), doc(other), folder=tmp_path, **options)
        assert texts((kept, None)) == [other]


def test_an_evaluation_set_that_is_absent_or_broken_is_an_error(evaluation, tmp_path):
    with pytest.raises(DataError, match="no evaluation set found"):
        steps.build("decontaminate", {"paths": [str(tmp_path / "*.none")]}).inputs()
    evaluation.write_text("{broken")
    with pytest.raises(DataError, match=r"test\.jsonl:1: not valid JSON"):
        steps.build("decontaminate", {"paths": [str(evaluation)]}).prepare(tmp_path)


@pytest.mark.parametrize(("words", "overlap", "runs"), [(26, 0.5, 7), (32, 0.55, 11), (42, 0.1, 3)])
def test_an_overlap_that_is_just_reached_counts(tmp_path, words, overlap, runs):
    item = [f"v{i}" for i in range(words)]  # words - 12 runs of 13, of which the share is overlap exactly
    assert runs == round(overlap * (words - 12))
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": " ".join(item)}))
    options = {"paths": [str(tmp_path / "test.jsonl")], "overlap": overlap}
    steps.build("decontaminate", options).prepare(tmp_path)
    documents = [doc(" ".join(item[: runs + 12]), "reached"), doc(" ".join(item[: runs + 11]), "one run less")]
    kept, report = apply("decontaminate", *documents, folder=tmp_path, **options)
    assert [d.id for d in kept] == ["one run less"]
    assert [removal["id"] for removal in report.removals] == ["reached"]


def test_a_similarity_that_is_just_the_threshold_counts(tmp_path):
    """Signatures of 16 values, of which 8 or 7 are those of the first, all in one band."""
    step = steps.build("near_dedup", {"threshold": 0.5, "permutations": 16})
    bands, _ = _bands(0.5, 16)
    values = np.arange(16, dtype=np.uint32)
    rows = [
        np.concatenate([np.zeros(bands, np.uint64), np.where(values < same, values, values + other).view(np.uint64)])
        for same, other in ((16, np.uint32(0)), (8, np.uint32(100)), (7, np.uint32(200)))
    ]
    np.save(tmp_path / "0.npy", np.stack(rows))
    repeats = step.decide(Signatures([tmp_path / "0.npy"], [3]), np.ones(3, bool))
    assert repeats.tolist() == [-1, 0, -1]


CHINESE = "患者因反复胸痛三天入院,心电图提示急性下壁心肌梗死,予以阿司匹林治疗后症状缓解。"
JAPANESE = "患者は三日前から胸痛を繰り返し、心電図で急性下壁心筋梗塞と診断された。"
ARABIC = (
    "أُدخل المريض إلى المستشفى بسبب ألم متكرر في الصدر منذ ثلاثة أيام وأظهر تخطيط القلب احتشاء حادا في العضلة القلبية"
)


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, ARABIC])
def test_scripts_without_spaces_and_from_right_to_left_are_decontaminated_and_compared(tmp_path, text):
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False), encoding="utf-8")
    options = {"paths": [str(tmp_path / "test.jsonl")]}
    assert steps.build("decontaminate", options).prepare(tmp_path)["items_too_short"] == 0
    documents = [doc(f"前 {text} 后", "bad"), doc(text[:9] * 8, "good")]
    assert [d.id for d in apply("decontaminate", *documents, folder=tmp_path, **options)[0]] == ["good"]
    long = text * 4
    assert decide("near_dedup", [long, long[:-1] + "。", text[: len(text) // 3] * 3], tmp_path) == [-1, 0, -1]


@pytest.mark.parametrize(("text", "language"), [(CHINESE, "zh"), (JAPANESE, "ja"), (ARABIC, "ar")])
def test_the_language_filter_knows_other_scripts(text, language):
    assert texts(apply("language", doc(text), languages=[language])) == [text]


def test_a_set_that_is_not_read_whole_is_an_error(tmp_path):
    def prepared(name: str, content: bytes, given: str = "") -> None:
        (tmp_path / name).write_bytes(content)
        steps.build("decontaminate", {"paths": [str(tmp_path / (given or name))]}).prepare(tmp_path)

    for name, content, given, match in (
        ("a.jsonl", b'{"premise": "x", "id": 1}', "", "no text in text, tokens.*found premise, id"),
        ("b.txt", "été".encode("cp1252"), "", r"b\.txt: not valid UTF-8"),
        ("c.txt", "été".encode("utf-16"), "", r"c\.txt: not UTF-8 but UTF-16"),
        ("d.csv", b"text\nx\n", "d.*", r"d\.csv: not an evaluation set"),
        ("e.json", b'[{"text": "a"}, 7]', "", "not an object"),
    ):
        with pytest.raises(DataError, match=match):
            prepared(name, content, given)
