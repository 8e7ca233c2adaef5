"""The tasks as their authors run them: small files in the formats of the corpora, splits by their rules, and real data."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import datasets
import numpy as np
import pytest
import sklearn.model_selection
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, DataError
from detour.evaluation.data.dataset import _with_top_labels, load_dataset
from detour.evaluation.data.examples import Example, Span
from detour.evaluation.data.splitting import cut
from detour.evaluation.data.task import SplitConfig, load_suite, load_task

REAL = Path(os.environ.get("DETOUR_CORPORA", "/nowhere")) / "tasks"
CHAPTERS = ["A00-B99  Certain infectious and parasitic diseases", "C00-D49  Neoplasms"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_fracco(folder: Path, documents: int = 20) -> None:
    """The table begins with a byte order mark; other annotations and mention texts with commas stand in it, too."""
    rows = ["doc_name,label,full_span,content,code"]
    for i in range(documents):
        write(folder / "ann_txt_files" / f"cas{i}.txt", f"Cas {i}. Carcinome du côlon.\n")
        rows.append(f"cas{i}.ann,morphologie,1 2,Carcinome,8010/3")
        rows.append(f'cas{i}.ann,expression_CIM,8 25,"Carcinome, côlon",8140/3')
        if i % 2:
            rows.append(f"cas{i}.ann,expression_CIM,0 3,Cas,8500/3")
    rows += ["cas0.ann,expression_CIM,0 3,Cas,", "cas99.ann,expression_CIM,0 3,Cas,8140/3"]
    write(folder / "ann_txt_files" / "sans.txt", "Sans code.\n")
    write(folder / "DetectOnco_Final.csv", "\ufeff" + "\n".join(rows) + "\n")


def write_frasimed(folder: Path, coding: str, documents: int = 20) -> None:
    for i in range(documents):
        notes = [
            f"#1\t{coding} T1\t{8140 + i % 3}/3",
            "#2\tAnnotatorNotes T1\tdouteux",
            f"#3\tSNOMED T2\t{1000 + i % 2}",
        ]
        ann = "T1\tMORFOLOGIA_NEOPLASIA 0 9\tCarcinome\nT2\tENFERMEDAD 13 18\tcôlon\n" + "\n".join(notes) + "\n"
        write(folder / f"cc_{i}.ann", ann)
        write(folder / f"cc_{i}.txt", "Carcinome du côlon.\n")
    write(folder / "cc_bare.ann", "T1\tENFERMEDAD 0 5\tTexte\n")
    write(folder / "cc_bare.txt", "Texte.\n")


def write_meddialog_tables(folder: Path) -> None:
    labels = ["id\tsplit\tlabels"]
    texts = ["id\tmachine_translation\tpost-edited"]
    for i, split in enumerate(["train"] * 6 + ["dev", "test", "test"]):
        labels.append(f"hm3_{i}_q\t{split}\t['C0{i % 3}', 'C09']")
        texts.append(f"hm3_{i}_q\tx\tQuestion {i} ?")
        if i != 2:
            texts.append(f"hm3_{i}_a\tx\tRéponse {i}.")
    labels.append("hm3_77_q\ttrain\t[]")
    texts.append("hm3_77_q\tx\tSans concept ?")
    write(folder / "multilabel_annotation/dataset_multilabel_meddialog_22labels.csv", "\n".join(labels) + "\n")
    write(folder / "post-editing/meddialog-fr-women_post-editing.csv", "\n".join(texts) + "\n")


def write_meddialog_parquet(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        rows = {
            "text": [f"Question: {split} {i} ?" for i in range(count)],
            "labels_raw": [["C00", "C01"][: 1 + i % 2] for i in range(count)],
        }
        datasets.Dataset.from_dict(rows).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def write_diamed(folder: Path) -> None:
    names = load_task("diamed_author").labels
    kinds = {
        "identifier": datasets.Value("string"),
        "clinical_case": datasets.Value("string"),
        "icd-10": datasets.ClassLabel(names=names),
    }
    rows = {
        "identifier": ["a", "b", "c", "d"],
        "clinical_case": ["Fièvre.", "Tumeur.", "", "Sans."],
        "icd-10": [0, 1, 0, None],
    }
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        own = {**rows, "identifier": [f"{split}-{id}" for id in rows["identifier"]]}
        made = datasets.Dataset.from_dict(own, features=datasets.Features(kinds))
        made.to_parquet(folder / f"{split}-00000-of-00001.parquet")


EMEA = "EMEA/H/C/551\n\nPrialt est une solution\npour perfusion de ziconotide.\n"
EMEA_ANN = "".join(
    f"T{i}\t{kind} {start} {end}\t{EMEA[start:end]}\n"
    for i, (kind, start, end) in enumerate(
        [("CHEM", 14, 20), ("CHEM", 29, 37), ("PROC", 43, 52), ("CHEM", 56, 66), ("PROC", 43, 66)], start=1
    )
)


def write_quaero(folder: Path) -> None:
    """A note line of UMLS concepts follows each entity in the corpus; one entity reaches over the end of a line."""
    assert EMEA[29:37] == "solution"
    notes = "#1\tAnnotatorNotes T1\tC1099620\n"
    crossing = "T9\tCHEM 29 52\tsolution pour perfusion\n"
    for split in ("train", "dev", "test"):
        write(folder / split / "318.txt", EMEA)
        write(folder / split / "318.ann", EMEA_ANN + notes + (crossing if split == "train" else ""))


@pytest.fixture
def root(tmp_path):
    write_fracco(tmp_path / "fr/FRACCO")
    write_frasimed(tmp_path / "fr/FRASIMED/CANTEMIST-FRASIMED", "ICD-O-3.1")
    write_frasimed(tmp_path / "fr/FRASIMED/DISTEMIST-FRASIMED", "AnatomicalNotes")
    write_meddialog_tables(tmp_path / "fr/meddialog_women")
    write_diamed(tmp_path / "DrBenchmark/DiaMED")
    write_quaero(tmp_path / "fr/QUAERO/EMEA")
    write_quaero(tmp_path / "fr/QUAERO/MEDLINE")
    return tmp_path


def test_eval_tasks_check_reads_all_of_them(root):
    for suite in ("french_author", "french_author_published"):
        done = CliRunner().invoke(app, ["eval", "tasks", "--suite", suite, "--check", "--data", str(root)])
        assert done.exit_code == 0, done.output
        assert "MISSING" not in done.output


def shuffled(names: list[str]) -> list[str]:
    """Sorted, then shuffled by Python's generator with seed 42."""
    random.Random(42).shuffle(names := sorted(names))
    return names


def test_fracco_is_split_by_largest_remainder_over_shuffled_names(root):
    task = load_task("fracco_30_author")
    data = load_dataset(task, root)
    assert data.labels == ["8140/3", "8500/3"]
    names = shuffled([f"cas{i}.ann" for i in range(20)])
    found = {split: {example.id for example in examples} for split, examples in data.splits.items()}
    assert found == {"train": set(names[:16]), "dev": set(names[16:18]), "test": set(names[18:])}
    example = next(example for example in data.splits["train"] if example.id in ("cas1.ann", "cas3.ann", "cas5.ann"))
    assert example.target == ("8140/3", "8500/3")
    assert example.parts[0].endswith("Carcinome du côlon.\n")


def test_only_documents_with_a_frequent_code_stay(root):
    """7 documents have the first of three codes, 7 the second, and 6 the third; 14 are then split 80/10/10, rounded down."""
    data = load_dataset(load_task("cantemist_fr_author", ["top_labels=2"]), root)
    assert data.labels == ["8140/3", "8141/3"]
    assert data.counts == {"train": 11, "dev": 1, "test": 2}


def test_the_most_frequent_labels_are_counted_over_all_splits_and_ties_go_by_name():
    made = {
        "train": [Example(id="1", parts=("x",), target=("c", "b")), Example(id="2", parts=("x",), target=("d",))],
        "test": [Example(id="3", parts=("x",), target=("a", "d")), Example(id="4", parts=("x",), target=("b", "d"))],
    }
    kept = _with_top_labels(made, 3, "t")  # d 3, b 2, then a and c 1 each
    assert [(e.id, e.target) for e in (*kept["train"], *kept["test"])] == [
        ("1", ("b",)),
        ("2", ("d",)),
        ("3", ("a", "d")),
        ("4", ("b", "d")),
    ]
    assert [e.id for e in _with_top_labels(made, 2, "t")["train"]] == ["1", "2"]
    assert [e.id for e in _with_top_labels(made, 1, "t")["train"]] == ["2"]


def test_frasimed_takes_oncology_codes_where_there_are_any(root):
    data = load_dataset(load_task("cantemist_fr_author"), root)
    assert data.labels == ["8140/3", "8141/3", "8142/3"]
    assert data.counts == {"train": 16, "dev": 2, "test": 2}
    names = shuffled([f"cc_{i}" for i in range(20)])
    assert {example.id for example in data.splits["test"]} == set(names[18:])
    assert load_dataset(load_task("distemist_fr_author"), root).labels == ["1000", "1001"]


@pytest.mark.parametrize(
    ("line", "match"),
    [("#1\tSNOMED T7\t12", "a code of entity T7"), ("#1\tSNOMED T1", "expected '#1<tab>SNOMED T1<tab>code'")],
)
def test_a_damaged_note_is_named(line, match, root):
    folder = root / "fr/FRASIMED/DISTEMIST-FRASIMED"
    write(folder / "cc_0.ann", f"T1\tX 0 9\tCarcinome\n{line}\n")
    with pytest.raises(DataError, match=match):
        load_dataset(load_task("distemist_fr_author"), root)


def test_meddialog_is_read_from_tables_and_from_parquet(root):
    task = load_task("meddialog_fr_author")
    data = load_dataset(task, root)
    assert data.counts == {"train": 6, "dev": 1, "test": 2}
    assert data.labels == ["C00", "C01", "C02", "C09"]
    texts = {example.id: example.parts[0] for example in data.splits["train"]}
    assert texts["hm3_1_q"] == "Question: Question 1 ?\n\nRéponse: Réponse 1."
    assert texts["hm3_2_q"] == "Question: Question 2 ?"
    write_meddialog_parquet(root / "fr/parquet")
    other = load_task("meddialog_fr_author", ["source.options.path=fr/parquet"])
    data = load_dataset(other, root)
    assert data.counts == {"train": 4, "dev": 2, "test": 2}
    assert data.labels == ["C00", "C01"]
    assert data.splits["dev"][1].target == ("C00", "C01")


def test_meddialog_refuses_what_is_no_list_of_names(root):
    path = root / "fr/meddialog_women/multilabel_annotation/dataset_multilabel_meddialog_22labels.csv"
    path.write_text("id\tsplit\tlabels\nhm3_1_q\ttrain\t__import__('os')\n")
    with pytest.raises(DataError, match=r"row 1: .*expected a text and a list of names"):
        load_dataset(load_task("meddialog_fr_author"), root)
    path.write_text("id\tsplit\nhm3_1_q\ttrain\n")
    with pytest.raises(DataError, match="no column 'labels', found id, split"):
        load_dataset(load_task("meddialog_fr_author"), root)


def test_diamed_leaves_out_cases_without_text_or_chapter(root):
    data = load_dataset(load_task("diamed_author"), root)
    assert data.counts == {"train": 2, "dev": 2, "test": 2}
    assert [example.target for example in data.splits["dev"]] == CHAPTERS
    assert len(data.labels) == 22


def test_each_line_of_emea_is_an_example_and_nested_entities_stay(root):
    data = load_dataset(load_task("quaero_emea_author"), root)
    assert data.labels == ["CHEM", "PROC"]
    assert [example.parts[0] for example in data.splits["train"]] == [line for line in EMEA.split("\n") if line]
    assert [example.target for example in data.splits["train"]] == [
        (),
        (Span(0, 6, "CHEM"), Span(15, 23, "CHEM")),
        (Span(5, 14, "PROC"), Span(5, 28, "PROC"), Span(18, 28, "CHEM")),
    ]
    assert {example.group for example in data.splits["train"]} == {"train/318"}


def test_the_published_medline_keeps_the_outermost_entities(root):
    all_of_them = load_dataset(load_task("quaero_medline_author"), root).splits["dev"][0]
    assert len(all_of_them.target) == 5
    (outermost,) = load_dataset(load_task("quaero_medline_author_published"), root).splits["dev"]
    assert outermost.target == (Span(14, 20, "CHEM"), Span(29, 37, "CHEM"), Span(43, 66, "PROC"))


ABSENT = {  # task -> what its reader looks for, of an absent folder and of an empty one
    "meddialog_fr_author": "fr/meddialog_women: no train*.parquet in it or in its data, and no multilabel_annotation/dataset",
    "fracco_30_author": "fr/FRACCO/DetectOnco_Final.csv: no such file",
    "fracco_100_author": "fr/FRACCO/DetectOnco_Final.csv: no such file",
    "cantemist_fr_author": "fr/FRASIMED/CANTEMIST-FRASIMED: no .txt file with an .ann file beside it",
    "distemist_fr_author": "fr/FRASIMED/DISTEMIST-FRASIMED: no .txt file with an .ann file beside it",
    "quaero_emea_author": "fr/QUAERO/EMEA/train: no such folder",
    "quaero_medline_author": "fr/QUAERO/MEDLINE/train: no such folder",
}


def test_data_that_is_absent_is_refused_by_the_name_of_its_files(tmp_path):
    """DiaMED is read from the hub; tests/test_hub.py says what happens without one."""
    tasks = {task.name: task for task in load_suite("french_author")}
    assert tasks.keys() == {*ABSENT, "diamed_author"}
    for name, message in ABSENT.items():
        root = tmp_path / name
        folder = root / tasks[name].source.options["path"]
        for expected in (f"{folder}: no such folder", f"{root}/{message}"):
            with pytest.raises(DataError) as error:
                load_dataset(tasks[name], root)
            said = str(error.value)
            assert said.startswith(f"task '{name}': {expected}")
            assert len(said.split("Of this task: ")[1].split(". ")) == 1  # one sentence on where to get it
            folder.mkdir(parents=True, exist_ok=True)


def as_examples(names):
    return {"train": [Example(id=name, parts=("x",), target="a") for name in names]}


@pytest.mark.parametrize("count", [10, 17, 33, 100])
def test_the_rules_of_libraries_are_those_libraries(count):
    names = [f"d{i}" for i in range(count)]

    def parts(rule, fractions):
        made = cut(as_examples(names), SplitConfig(fractions=fractions, seed=42, rule=rule))
        assert sorted(example.id for examples in made.values() for example in examples) == sorted(names)
        return [{example.id for example in made[split]} for split in ("train", "dev", "test")]

    whole = datasets.Dataset.from_dict({"name": names})
    one = whole.train_test_split(test_size=0.3, seed=42)
    two = one["test"].train_test_split(test_size=0.5, seed=42)
    assert parts("datasets", [0.7, 0.15, 0.15]) == [set(s["name"]) for s in (one["train"], two["train"], two["test"])]
    one = whole.train_test_split(test_size=0.2, seed=42)
    two = one["train"].train_test_split(test_size=0.125, seed=42)
    assert parts("datasets_test_first", [0.7, 0.1, 0.2]) == [
        set(s["name"]) for s in (two["train"], two["test"], one["test"])
    ]
    train, rest = sklearn.model_selection.train_test_split(names, test_size=0.3, random_state=42)
    dev, test = sklearn.model_selection.train_test_split(rest, test_size=0.5, random_state=42)
    assert parts("sklearn", [0.7, 0.15, 0.15]) == [set(train), set(dev), set(test)]


@pytest.mark.parametrize(
    ("count", "remainder", "floor"), [(1301, (1041, 130, 130), (1040, 130, 131)), (749, (599, 75, 75), (599, 74, 76))]
)
def test_counts_are_rounded_by_largest_remainder_or_down(count, remainder, floor):
    """Of 1,301: 1040.8, 130.1, 130.1; of 749: 599.2, 74.9, 74.9."""
    for rule, sizes in (("largest_remainder", remainder), ("floor", floor)):
        made = cut(as_examples([f"d{i}" for i in range(count)]), SplitConfig(fractions=[0.8, 0.1, 0.1], rule=rule))
        assert tuple(map(len, made.values())) == sizes


def test_groups_are_not_divided_by_any_rule():
    splits = {"train": [Example(id=str(i), parts=("x",), target="a", group=f"g{i // 5}") for i in range(50)]}
    for rule in ("permutation", "largest_remainder", "floor", "datasets", "sklearn"):
        made = cut(splits, SplitConfig(fractions=[0.6, 0.2, 0.2], rule=rule))
        groups = [{example.group for example in made[split]} for split in ("train", "dev", "test")]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 10


def test_keys_that_contradict_each_other_are_refused():
    for change, match in (
        ("top_labels=5", "top_labels: chooses among the labels"),
        ("training.eval_steps=10", r"training\.eval_steps: 10, expected at most"),
        ("split.rule=halves", r"split\.rule: 'halves', expected one of permutation"),
        ("training.negatives=first", r"training\.negatives: 'first', expected all"),
        ("selection_metric=micro", "selection_metric: 'micro'"),
        ("training.best_label=true", r"training\.best_label: for multilabel"),
        ("training.head=span", r"training\.head: 'span', expected for ner one of linear"),
    ):
        with pytest.raises(ConfigError, match=match):
            load_task("bc5cdr", [change])


def test_english_settings_are_those_of_the_public_code():
    """main.py: learning rate 2e-5, 3 epochs, batch 16, weight decay 0.01, no warmup; dataloader.py: the splits."""
    tasks = {task.name: task for task in load_suite("english_author")}
    for task in tasks.values():
        training = task.training
        assert (training.learning_rate, training.epochs, training.batch_size) == (2e-5, 3, 16)
        assert (training.weight_decay, training.warmup_fraction, training.head) == (0.01, 0.0, "linear")
        assert task.metric == ("span_lenient_micro_f1" if task.kind == "ner" else "weighted_f1")
    fractions = {name: (task.split.fractions, task.split.rule) for name, task in tasks.items()}
    assert fractions["phenotype_author"] == ([0.7, 0.1, 0.2], "datasets_test_first")
    assert fractions["deid_author"] == ([0.7, 0.15, 0.15], "sklearn")
    assert fractions["cos_author"] == fractions["social_history_author"] == ([0.7, 0.15, 0.15], "datasets")


def test_french_settings_are_those_of_the_public_code():
    for task in load_suite("french_author"):
        training = task.training
        if task.kind == "nested_ner":
            assert (training.head, training.steps, training.eval_steps, training.batch_size) == ("span", 4000, 500, 16)
            assert (training.learning_rate, training.head_learning_rate) == (5e-5, 1e-3)
            assert (training.warmup_fraction, training.max_grad_norm, task.max_length) == (0.1, 10.0, 1024)
            continue
        assert (training.learning_rate, training.epochs, training.batch_size) == (2e-5, 15, 4)
        assert (training.warmup_fraction, training.weight_decay) == (0.1, 0.01)
        several = task.kind == "multilabel"
        assert (training.class_weights, training.best_label) == (several, several)
        assert (task.metric, task.selection_metric) == ("macro_f1", "micro_f1" if several else "weighted_f1")


def needs(name: str) -> Path:
    if not (REAL / "fr" / name / "task.json").is_file():
        pytest.skip(f"needs tasks/fr/{name} in the folder named by DETOUR_CORPORA")
    return REAL / "fr" / name


def lines_of(folder: Path, split: str) -> list[dict]:
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


NER = """\
name: real
language: fr
kind: nested_ner
source: {kind: KIND, options: OPTIONS}
metric: exact_micro_f1
license: "as the corpus"
"""


@pytest.mark.corpora
@pytest.mark.parametrize("name", ["quaero_emea", "quaero_medline"])
def test_real_quaero_has_its_entities_and_comes_back_from_brat_by_lines(name, tmp_path):
    """Each annotated entity once; and the same from brat files with a sentence per line, written here."""
    folder = needs(name)
    declared = json.loads((folder / "task.json").read_text())
    (tmp_path / "task.yaml").write_text(NER.replace("KIND", "local").replace("OPTIONS", f"{{path: {folder}}}"))
    data = load_dataset(load_task(tmp_path / "task.yaml"), tmp_path)
    assert data.counts == declared["counts"]
    assert data.labels == declared["entity_types"]
    records = {split: lines_of(folder, split) for split in data.splits}
    for split, examples in data.splits.items():
        for example, record in zip(examples, records[split], strict=True):
            assert example.parts[0] == record["text"]
            wanted = set()
            for entity in record["entities"]:
                places = sorted(place for piece in entity["frags"] for place in piece)
                wanted.add((places[0], places[-1], entity["type"]))
            assert {tuple(span) for span in example.target} == wanted
        write_brat(tmp_path / "brat" / split, examples)
    (tmp_path / "brat.yaml").write_text(NER.replace("KIND", "brat").replace("OPTIONS", "{path: brat, lines: true}"))
    again = load_dataset(load_task(tmp_path / "brat.yaml"), tmp_path)
    for split, examples in data.splits.items():
        theirs = [(example.group.rpartition("/")[2], example.parts, example.target) for example in again.splits[split]]
        ours = [(example.group, (example.parts[0].replace("\n", " "),), example.target) for example in examples]
        assert sorted(theirs) == sorted(ours)


def write_brat(folder: Path, examples: list[Example]) -> None:
    folder.mkdir(parents=True)
    for group in {example.group for example in examples}:
        text, lines = "", []  # one title of Medline has a line break
        for example in (example for example in examples if example.group == group):
            for span in example.target:
                words = example.parts[0][span.start : span.end].replace("\n", " ")
                start, end = len(text) + span.start, len(text) + span.end
                lines.append(f"T{len(lines) + 1}\t{span.type} {start} {end}\t{words}\n")
            text += example.parts[0].replace("\n", " ") + "\n"
        write(folder / f"{group}.txt", text)
        write(folder / f"{group}.ann", "".join(lines))


@pytest.mark.corpora
def test_real_fracco_has_its_entities_as_characters(tmp_path):
    folder = needs("fracco")
    declared = json.loads((folder / "task.json").read_text())
    (tmp_path / "task.yaml").write_text(NER.replace("KIND", "local").replace("OPTIONS", f"{{path: {folder}}}"))
    data = load_dataset(load_task(tmp_path / "task.yaml"), tmp_path)
    assert data.counts == declared["counts"]
    assert data.labels == declared["entity_types"]
    spans = [(example, span) for examples in data.splits.values() for example in examples for span in example.target]
    assert len(spans) == declared["raw_annotations"] == 46468
    assert np.mean([example.parts[0][span.start : span.end].strip() != "" for example, span in spans]) == 1


@pytest.mark.corpora
@pytest.mark.parametrize(("name", "part"), [("quaero_emea", "EMEA"), ("quaero_medline", "MEDLINE")])
def test_real_quaero_is_trained_and_scored_as_a_task_of_the_suite(name, part, tmp_path, encoder):
    """From brat files, written from the sentences, to the scores of the span head; a few steps of a random encoder."""
    folder = needs(name)
    (tmp_path / "task.yaml").write_text(NER.replace("KIND", "local").replace("OPTIONS", f"{{path: {folder}}}"))
    data = load_dataset(load_task(tmp_path / "task.yaml"), tmp_path)
    for split, examples in data.splits.items():
        write_brat(tmp_path / "fr" / "QUAERO" / part / split, examples)
    small = [
        "limit.train=16",
        "limit.dev=8",
        "limit.test=8",
        "training.steps=2",
        "training.eval_steps=1",
        "max_length=64",
    ]
    done = CliRunner().invoke(
        app,
        ["eval", "run", f"tiny={encoder}", *(f"task.{change}" for change in small), "--task", f"{name}_author",
         "--data", str(tmp_path), "--seeds", "1", "--out", str(tmp_path / "scores")],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "scores" / "cells" / "tiny" / f"{name}_author" / "seed42.json").read_text())
    assert record["task"]["training"]["head"] == "span"
    assert record["data"]["counts"] == {"train": 16, "dev": 8, "test": 8}
    assert record["data"]["labels"] == json.loads((folder / "task.json").read_text())["entity_types"]
    assert len(record["outcome"]["curve"]) == 2
    assert {"exact_micro_f1", "exact_macro_f1", "partial_micro_f1"} <= record["outcome"]["test"].keys()
