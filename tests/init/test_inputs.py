"""`detour init` on what people have: each input ends in a folder that loads, or in one sentence."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from detour.config.load import load
from detour.corpus import config as preparation
from detour.corpus.prepare import prepare
from detour.init import look as look_module


@pytest.fixture
def init(detour, start_model, tmp_path, capsys):
    """Runs `detour init` and returns the loaded folder, or the one line of its error."""

    def run(*text: Path, model: str | None = str(start_model), options: tuple = ()) -> SimpleNamespace:
        out = tmp_path / "project"
        given = ("--model", model) if model else ()
        code = detour(
            "init",
            *text,
            "--out",
            out,
            "--yes",
            "--gpus",
            0,
            "--hours",
            1,
            "--tokens-per-second",
            1000,
            *given,
            *options,
        )
        said = capsys.readouterr()
        if code:
            (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
            assert "Traceback" not in said.err
            assert not out.exists()
            return SimpleNamespace(error=error)
        recipe = preparation.load(out / "recipe.yaml")
        detour_run, twin = load(out / "detour.yaml"), load(out / "twin.yaml")
        assert detour("plan", out / "twin.yaml") == 0
        assert [phase.tokens for phase in detour_run.phases] == [phase.tokens for phase in twin.phases]
        assert subprocess.run(["bash", "-n", out / "run.sh"]).returncode == 0
        return SimpleNamespace(out=out, said=said.out, recipe=recipe, run=detour_run, error=None)

    return run


def read(found: SimpleNamespace, tmp_path: Path) -> int:
    """Prepares the text with the written recipe; returns the documents that it read."""
    record, _ = prepare(preparation.load(found.out / "recipe.yaml", [f"out={tmp_path / 'rows'}", "processes=1"]))
    return sum(source["documents_read"] for source in record["sources"].values())


def test_a_large_jsonl_is_read_in_part_and_counted_by_its_size(init, cases, jsonl, monkeypatch):
    monkeypatch.setattr(look_module, "LOOK_BYTES", 1 << 18)
    monkeypatch.setattr(look_module, "LOOK_FILE_BYTES", 1 << 18)
    texts = [f"{i} {text}" for i in range(10) for text in cases]
    found = init(jsonl(texts))
    written = sum(len(json.dumps({"text": text})) + 1 for text in texts)
    assert written > 4 << 18
    source = look_module.look([str(found.recipe.sources[0].paths[0])]).sources[0]
    assert len(source.documents) < 2000
    assert source.count == pytest.approx(2000, rel=0.05)
    assert "(estimated with the tokenizer of" in (found.out / "recipe.yaml").read_text()


def test_a_folder_of_texts_is_read_as_one_document_per_file(init, cases, tmp_path):
    folder = tmp_path / "notes"
    (folder / "deeper").mkdir(parents=True)
    for i, text in enumerate(cases[:60]):
        (folder / ("deeper" if i % 2 else ".") / f"{i}.txt").write_text(text)
    (folder / "readme.pdf").write_bytes(b"%PDF")
    found = init(folder)
    assert found.recipe.sources[0].kind == "text"
    assert "60 documents" in found.said
    assert "readme.pdf" in found.said
    assert read(found, tmp_path) == 60


def test_a_csv_with_odd_columns_and_semicolons_finds_its_text(init, cases, tmp_path):
    path = tmp_path / "export.csv"
    rows = [f'{i};"{text.replace(chr(34), "")}";2024-01-0{i % 9 + 1}' for i, text in enumerate(cases[:80])]
    path.write_text("\n".join(["lfd. Nr.;BEFUND;Datum", *rows]) + "\n")
    found = init(path)
    source = found.recipe.sources[0]
    assert (source.kind, source.columns.text, source.options) == ("csv", "BEFUND", {"delimiter": ";"})
    assert "Others: lfd. Nr., Datum" in (found.out / "recipe.yaml").read_text()
    assert not any(text[:40] in found.said for text in cases[:80]), "no record in a log"
    assert read(found, tmp_path) == 80


def test_names_that_yaml_markdown_and_shells_would_read_are_kept(init, cases, tmp_path, start_model):
    folder = tmp_path / 'it\'s "notes" #1: é | $(x)'
    folder.mkdir()
    column = 'free "text": #1\n- x: {y}'
    pq.write_table(pa.table({"a": ["#"] * 60, column: cases[:60], "b\nc: d": ["?"] * 60}), folder / "a.parquet")
    model = tmp_path / "start\nname: other"
    shutil.copytree(start_model, model)
    found = init(folder, model=str(model))
    source = found.recipe.sources[0]
    assert (source.paths, source.columns.text) == ([str(folder)], column)
    assert (found.run.name, found.run.model.init) == ("detour", str(model))
    assert read(found, tmp_path) == 60


def test_formats_may_be_mixed(init, cases, jsonl, tmp_path):
    """Of 5 texts one is expected to be held out, and perhaps none is."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for i, text in enumerate(cases[:5]):
        (notes / f"{i}.txt").write_text(text)
    found = init(notes, jsonl(cases[5:]))
    assert [source.kind for source in found.recipe.sources] == ["text", "jsonl"]
    assert [stream.path for stream in found.run.data.train] == ["data/train/text", "data/train/jsonl"]
    assert [stream.path for stream in found.run.data.validation] == ["data/validation/jsonl"]
    assert read(found, tmp_path) == 200


def test_a_table_of_numbers_is_one_sentence_with_its_columns(init, tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n" + "1,2\n" * 60)
    found = init(path)
    assert f"{path}: no column looks like text; name one with --text-column; found a, b" in found.error


def test_a_parquet_file_finds_its_text(init, cases, tmp_path):
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.table({"key": list(range(70)), "body": cases[:70]}), path)
    found = init(path)
    assert (found.recipe.sources[0].kind, found.recipe.sources[0].columns.text) == ("parquet", "body")
    assert read(found, tmp_path) == 70


def test_pubmed_is_told_from_other_xml(init, cases, tmp_path):
    articles = [
        f"<PubmedArticle><MedlineCitation><PMID>{i + 1}</PMID><Article><ArticleTitle>Case {i}</ArticleTitle>"
        f"<Abstract><AbstractText>{text.replace('<', ' ').replace('&', ' ')}</AbstractText></Abstract></Article>"
        "</MedlineCitation></PubmedArticle>"
        for i, text in enumerate(cases[:60])
    ]
    folder = tmp_path / "baseline"
    folder.mkdir()
    (folder / "pubmed25n0001.xml").write_text(f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>")
    (folder / "pubmed25n0001.xml.md5").write_text("ab")
    found = init(folder)
    assert found.recipe.sources[0].kind == "pubmed"
    assert read(found, tmp_path) == 60


def test_a_small_corpus_gets_a_plain_warning(init, cases, jsonl):
    """About 20,000 tokens for the 150 million parameters of ModernBERT-base, the start model for English."""
    english = [
        f"The patient {i} was admitted to the hospital with chest pain and a cough. {'He was well. ' * i}"
        for i in range(200)
    ]
    found = init(jsonl(english), model=None)
    assert found.run.model.init == "answerdotai/ModernBERT-base"
    assert "A detour is probably not worth paying for" in found.said
    for name in ("README.md", "detour.yaml"):
        assert "not worth paying for" in " ".join((found.out / name).read_text().replace("# ", "").split())


def test_three_languages_start_from_a_multilingual_model(init, jsonl):
    sentences = {
        "en": "The patient was admitted to the hospital because of severe chest pain and a persistent cough.",
        "fr": "Le patient a été admis à l'hôpital en raison d'une douleur thoracique et d'une toux persistante.",
        "de": "Der Patient wurde wegen starker Schmerzen in der Brust und anhaltendem Husten ins Krankenhaus eingeliefert.",
    }
    texts = [f"{sentence} {i} {sentence}" for i in range(40) for sentence in sentences.values()]
    found = init(jsonl(texts), model=None)
    assert found.run.model.init == "jhu-clsp/mmBERT-base"
    assert found.run.architecture.vocab_size == 256_000
    for code in sentences:
        assert f"{code} 3" in found.said  # per cent
    assert "Several languages are kept" in (found.out / "recipe.yaml").read_text()


SENTENCES = {
    "en": "The patient was admitted to the hospital because of severe chest pain and a persistent cough, visit {}.",
    "fr": "Le patient a été admis à l'hôpital en raison d'une douleur thoracique et d'une toux persistante, visite {}.",
}


def test_files_of_two_languages_are_two_sources(init, jsonl, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for code, sentence in SENTENCES.items():
        jsonl([sentence.format(i) for i in range(60)], f"texts/{code}.jsonl")
    found = init(folder)
    assert {source.name: source.paths for source in found.recipe.sources} == {
        f"jsonl-{code}": [str(folder / f"{code}.jsonl")] for code in SENTENCES
    }
    assert [stream.path for stream in found.run.data.validation] == [
        f"data/validation/jsonl-{code}" for code in SENTENCES
    ]
    assert "jsonl-fr: 1 file, " in found.said
    assert read(found, tmp_path) == 120


def test_languages_that_cannot_be_told_apart_by_file_are_warned_of(init, jsonl, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    jsonl([sentence.format(i) for i in range(60) for sentence in SENTENCES.values()], "texts/both.jsonl")
    jsonl([SENTENCES["fr"].format(i) for i in range(60, 90)], "texts/fr.jsonl")
    found = init(folder)
    assert [source.name for source in found.recipe.sources] == ["jsonl"]
    for text in (found.said, (found.out / "README.md").read_text()):
        assert "(some files hold several languages): there will be no held-out loss by language" in text


def test_the_model_may_decide_the_row_length(init, cases, jsonl, start_model, tmp_path):
    """Of 200 texts, 180 are of three words and 20 of several hundred; the model reads 64 tokens."""
    model = tmp_path / "short"
    shutil.copytree(start_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    short, long = [f"Case {i} closed." for i in range(180)], [f"{i} {cases[i]}" * 3 for i in range(20)]
    found = init(jsonl(short + long), model=str(model))
    assert found.run.data.seq_len == 64
    recipe, readme = (
        " ".join((found.out / name).read_text().replace("# ", "").split()) for name in ("recipe.yaml", "README.md")
    )
    for text in (recipe, readme):
        assert "The start model decides: it reads at most 64 tokens" in text
        assert "10.0% of the documents are longer and are split" in text
        assert "least power of two" not in text
    assert "10% of the documents are longer than a row of 64 tokens and are split" in found.said


def test_a_hub_model_that_is_not_here_is_named_with_what_to_do(init, cases, jsonl, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: None)
    found = init(jsonl(cases), model="answerdotai/ModernBERT-base")
    for text in (found.said, (found.out / "README.md").read_text()):
        assert "answerdotai/ModernBERT-base is not in this machine's Hugging Face cache" in text
        assert "HF_HUB_OFFLINE=1" in text
    shutil.rmtree(found.out)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: f"/cache/{file}")
    assert "cache" not in init(jsonl(cases), model="answerdotai/ModernBERT-base").said


def test_the_readme_leads_to_labeled_tasks_with_a_task_that_loads(init, cases, jsonl, tmp_path):
    from detour.evaluation.data.task import load_task

    text = (init(jsonl(cases)).out / "README.md").read_text()
    assert "detour eval run detour=encoders/detour twin=encoders/twin --task TASK.yaml" in text
    (tmp_path / "triage.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_task(str(tmp_path / "triage.yaml")).metric == "macro_f1"


def test_an_empty_folder_is_one_sentence(init, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "nothing: no text found" in init(tmp_path / "nothing").error


def test_what_does_not_exist_is_one_sentence(init, tmp_path):
    assert init(tmp_path / "nowhere").error == f"error: {tmp_path / 'nowhere'}: no such file or folder"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("image.bin", "no text found"),
        ("image.txt", "not valid UTF-8"),
        ("image.jsonl", "not valid"),
        ("image.parquet", "a damaged file"),
    ],
)
def test_binary_files_are_one_sentence(name, sentence, init, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / name).write_bytes(b"\x89PNG\r\n" + bytes(range(256)) * 40)
    assert sentence in init(tmp_path / "pictures").error


def test_a_hundred_gigabytes_are_looked_at_in_seconds(init, cases, tmp_path, monkeypatch):
    path = tmp_path / "large.jsonl"
    lines = [json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(130) for text in cases]
    path.write_text("".join(lines))
    mean = path.stat().st_size / len(lines)
    assert path.stat().st_size > 1 << 23
    os.truncate(path, 100 * 10**9)
    monkeypatch.setattr(look_module, "LOOK_BYTES", 1 << 22)
    found = init(path)
    (source,) = [line for line in found.said.splitlines() if line.startswith("jsonl:")]
    count = int(source.split("about ")[1].split(" documents")[0].replace(",", ""))
    assert count == pytest.approx(100e9 / mean, rel=0.05)


@pytest.mark.parametrize("name", ["zeros.jsonl", "zeros.txt", "zeros.csv"])
def test_a_hundred_gigabytes_of_zeros_are_one_sentence(name, init, tmp_path):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 100 * 10**9)
    assert "no document can be used" in init(tmp_path / name).error


def test_a_file_that_unpacks_to_very_much_is_not_read_to_its_end(cases, jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr(look_module, "LOOK_CHARACTERS", 100_000)
    path = tmp_path / "packed.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(cases).read_bytes()))
    seen = look_module.look([str(path)])
    assert sum(len(document.text) for document in seen.sample) < 110_000
    assert not seen.complete


def test_an_unknown_model_is_one_sentence(init, cases, jsonl, monkeypatch):
    import huggingface_hub

    def unreachable(*arguments):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    assert "the hub gave no config.json: no network" in init(jsonl(cases), model="some/encoder").error
    assert "not a name on the hub" in init(jsonl(cases), model="./nowhere").error
    assert "not a name on the hub" in init(jsonl(cases), model="n").error


def test_few_documents_are_one_sentence(init, cases, jsonl):
    assert "20 documents, expected at least 50" in init(jsonl(cases[:20])).error


def test_a_folder_that_is_not_empty_is_left_alone(init, cases, jsonl, tmp_path, detour, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("keep")
    assert detour("init", jsonl(cases), "--out", tmp_path / "full", "--yes") == 1
    assert "is not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "full" / "precious").read_text() == "keep"


def test_the_sizes_of_the_twin_come_from_the_detour(init, cases, jsonl):
    found = init(jsonl(cases))
    assert yaml.safe_load((found.out / "twin.yaml").read_text()).keys() == {"extends", "name", "phases"}
