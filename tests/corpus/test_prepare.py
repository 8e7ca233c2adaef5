from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from streaming.base.format import reader_from_json
from typer.testing import CliRunner

from detour.cli.main import app
from detour.corpus.config import load
from detour.corpus.prepare import prepare
from detour.data.tokenizer import load_tokenizer, train_bpe
from detour.data.verify import verify_rows
from detour.errors import ConfigError, DataError

WORDS = [f"w{i}" for i in range(40)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([" ".join(WORDS)] * 3, vocab_size=400).save_pretrained(folder)
    return folder


def text(number: int, words: int = 30) -> str:
    rng = random.Random(number)
    return " ".join([f"doc{number}", *rng.choices(WORDS, k=words)])


@pytest.fixture
def write_config(tokenizer, tmp_path):
    """A function that writes a config over two sources, of 40 and 30 documents; keywords replace its keys."""
    for name, numbers in {"a": range(40), "b": range(100, 130)}.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for part in (0, 1):
            lines = [
                {"id": f"{name}{i}", "text": text(i), "kind": "case" if i % 10 == 0 else "other"}
                for i in numbers
                if i % 2 == part
            ]
            (tmp_path / "in" / name / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write(**changes) -> Path:
        values = {
            "out": str(tmp_path / "out"),
            "tokenizer": str(tokenizer),
            "seq_len": 128,
            "sources": [{"name": name, "kind": "jsonl", "paths": [str(tmp_path / "in" / name)]} for name in "ab"],
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def rows_of(folder: Path) -> list[list[tuple[int, ...]]]:
    """The pieces of each row, straight from the shards."""
    index = json.loads((folder / "index.json").read_text())
    shards = [reader_from_json(str(folder), "", shard) for shard in index["shards"]]
    rows = []
    for shard in shards:
        for row in shard:
            ends = np.cumsum(row["doc_lengths"])
            rows.append(
                [tuple(row["input_ids"][e - n : e].tolist()) for n, e in zip(row["doc_lengths"], ends, strict=True)]
            )
    return rows


def texts_of(folder: Path, tokenizer: Path) -> list[str]:
    loaded = load_tokenizer(tokenizer)
    return [loaded.decode(piece, skip_special_tokens=True) for row in rows_of(folder) for piece in row]


def digest_of(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "streams.yaml"
    }  # fmt: skip


def test_every_document_comes_out_once_and_the_counts_say_so(write_config, tokenizer, tmp_path):
    record, worked = prepare(load(write_config()))
    assert worked
    for name, numbers in {"a": range(40), "b": range(100, 130)}.items():
        folder = tmp_path / "out" / "train" / name
        assert Counter(texts_of(folder, tokenizer)) == Counter(text(i) for i in numbers)
        counts = verify_rows(folder, hashes=True, seq_len=128).counts
        assert (counts.documents, record["sources"][name]["documents_read"]) == (len(numbers), len(numbers))
    assert not (tmp_path / "out" / "validation").exists()
    assert not (tmp_path / "out" / ".work").exists()
    assert record["tokenizer"]["separation"] == "[CLS] document [SEP]"


def test_special_tokens_in_a_text_are_counted_on_their_side_and_encoded_as_text(write_config, tokenizer, tmp_path):
    path = tmp_path / "in" / "a" / "0.jsonl"
    lines = [{"id": f"s{i}", "text": f"w1 [MASK] w2 [SEP] w{i}"} for i in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record, _ = prepare(load(write_config(validation_fraction=0.5)))
    folders = record["sources"]["a"]["folders"]
    loaded, found = load_tokenizer(tokenizer), 0
    special = {loaded.mask_token_id, loaded.cls_token_id, loaded.sep_token_id}
    for side, folder in folders.items():
        pieces = [piece for row in rows_of(tmp_path / "out" / side / "a") for piece in row]
        spelled = [piece for piece in pieces if "[MASK]" in loaded.decode(piece)]
        assert folder["literal_special_tokens"] == 2 * len(spelled), side
        assert not [piece for piece in spelled if special & {*piece[1:-1]}]
        found += len(spelled)
    assert found == 6
    assert {folder["literal_special_tokens"] for folder in record["sources"]["b"]["folders"].values()} == {0}


def test_the_second_run_does_nothing(write_config, tmp_path):
    record, _ = prepare(load(write_config()))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    again, worked = prepare(load(write_config(processes=2)))
    assert (again, worked) == (record, False)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


STEPS = [
    {"kind": "length", "options": {"min_characters": 20}},
    {"kind": "exact_dedup"},
    {"kind": "near_dedup"},
    {"kind": "upsample", "sources": ["a"], "options": {"column": "kind", "times": {"case": 3}}},
]


@pytest.mark.slow
def test_the_result_does_not_depend_on_processes_or_parts(write_config, forked_python, tmp_path):
    digests = []
    for i, processes in enumerate((1, 3)):
        settings = load(
            write_config(out=str(tmp_path / f"out{i}"), steps=STEPS, validation_fraction=0.2, processes=processes)
        )
        prepare(settings)
        digests.append(digest_of(tmp_path / f"out{i}"))
    assert digests[0] == digests[1]
    assert any(name.startswith("validation/a/shard") for name in digests[0])
    prepare(load(write_config(out=str(tmp_path / "other"), steps=STEPS, validation_fraction=0.2, seed=1)))
    assert digest_of(tmp_path / "other") != digests[0]


def test_many_small_files_are_read_together_and_counted_one_by_one(write_config, tokenizer, tmp_path, monkeypatch):
    """Every fifth file is in the validation split, and a line of one is damaged; the peer reads each file alone."""
    import detour.corpus.prepare as module

    (tmp_path / "many").mkdir()
    for i in range(40):
        records = [{"text": text(n), "license": f"L{i % 2}"} for n in range(10 * i, 10 * i + 1 + i % 3)]
        content = "".join(json.dumps(record) + "\n" for record in records) + ("{\n" if i == 38 else "")
        (tmp_path / "many" / f"{'v' if i % 5 == 0 else ''}{i:02}.jsonl").write_text(content)
    paths, held_out = str(tmp_path / "many" / "[0-9]*.jsonl"), str(tmp_path / "many" / "v*.jsonl")
    source = {"name": "s", "kind": "jsonl", "paths": [paths], "validation_paths": [held_out]}
    group_files, replace, written = module.group_files, Path.replace, {}
    for alone in (False, True):
        names = written[alone] = set[Path]()
        with monkeypatch.context() as patched:
            if alone:
                patched.setattr(
                    module, "group_files", lambda files, **given: group_files(files, **{**given, "alone": True})
                )
            patched.setattr(Path, "replace", lambda old, new, names=names: names.add(Path(new)) or replace(old, new))
            record, _ = prepare(
                load(write_config(out=str(tmp_path / f"out{alone}"), sources=[source], steps=STEPS[1:3]))
            )
    assert digest_of(tmp_path / "outFalse") == digest_of(tmp_path / "outTrue")
    assert len(written[False]) < 60 < 300 < len(written[True])
    files = {file["name"]: file["documents"] for file in record["sources"]["s"]["files"]}
    assert files == {f"{'v' if i % 5 == 0 else ''}{i:02}.jsonl": 1 + i % 3 for i in range(40)}
    told = json.loads((tmp_path / "outFalse" / "validation" / "s" / "manifest.json").read_text())["sources"]
    assert {file["path"]: file["license"] for file in told} == {
        f"v{i:02}.jsonl": f"L{i % 2}" for i in range(0, 40, 5)
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("executor", "steps"),
    [
        (["executor.parallel=1", "processes=2"], STEPS[3:]),
        (["executor.parallel=2"], STEPS[1:]),
        (["executor.cluster=slurm", "executor.parallel=2"], STEPS[3:]),
    ],
    ids=["one", "two", "slurm"],
)
def test_the_result_does_not_depend_on_what_runs_the_stages(
    write_config, slurm, forked_python, tmp_path, monkeypatch, executor, steps
):
    """As jobs on this machine, one with worker processes and two at a time; as arrays of a stand-in for SLURM."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    prepare(load(write_config(out=str(tmp_path / "here"), steps=steps, validation_fraction=0.2)))
    config = write_config(steps=steps, validation_fraction=0.2)
    result = CliRunner().invoke(app, ["data", "prepare", str(config), *executor])
    assert result.exit_code == 0, result.output
    expected = digest_of(tmp_path / "here")
    assert any(name.startswith("validation/a/shard") for name in expected)
    assert digest_of(tmp_path / "out") == expected
    assert not (tmp_path / "out" / ".work").exists()
    scripts = [path.read_text() for path in sorted(slurm.glob("job-*"))]
    assert len(scripts) == (3 if "executor.cluster=slurm" in executor else 0)  # reading, one pass, packing
    assert all("#SBATCH --array=0-1%2\n" in script for script in scripts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_that_fails_is_named_and_the_same_command_goes_on(write_config, forked_python, tmp_path, monkeypatch):
    """One of two groups of files is damaged for ``strict``; the other was read and is not read again."""
    prepare(load(write_config(out=str(tmp_path / "whole"))))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = tmp_path / "in" / "a" / "1.jsonl"
    good = path.read_text()
    path.write_text(good[:-2] + "x\n")  # no bracket at the end; as long as before
    call = ["data", "prepare", str(write_config()), "--strict", "executor.parallel=2"]
    failed = CliRunner().invoke(app, call)
    assert failed.exit_code == 1
    output = "".join(failed.output.split())
    assert "read-0:exitcode1;itslog:" in output
    assert "1.jsonl:20:notvalidJSON" in output, failed.output
    records = (tmp_path / "out" / ".work" / "0").glob("s*-g*.json")
    kept = {record: record.stat().st_mtime_ns for record in records}
    names = {record.name for record in kept}
    assert names == {"s001-g000000.json"}
    path.write_text(good)
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert digest_of(tmp_path / "out") == digest_of(tmp_path / "whole")


def test_an_executor_needs_the_command(write_config):
    with pytest.raises(ConfigError, match="executor: a preparation runs as jobs only from the command line"):
        prepare(load(write_config(executor={"parallel": 2})))
    with pytest.raises(ConfigError, match="parallel is 0, expected at least 1"):
        load(write_config(executor={"parallel": 0}))


def test_duplicates_go_wherever_they_stand_and_are_listed(write_config, tokenizer, tmp_path):
    extra = [
        {"id": "copy", "text": text(3).upper()},
        {"id": "near", "text": text(4, 400)},
        {"id": "near2", "text": text(4, 400) + " end"},
    ]
    (tmp_path / "in" / "b" / "2.jsonl").write_text("\n".join(json.dumps(line) for line in extra))
    record, _ = prepare(load(write_config(steps=STEPS[:3])))
    exact, near = record["steps"][1:]
    assert exact["by_source"]["b"]["dropped"] == {"repeats another document": 1}
    assert near["by_source"]["b"]["dropped"] == {"repeats another document": 1}
    assert near["by_source"]["b"]["documents_in"] == 32
    lists = [
        json.loads((tmp_path / "out" / "removed" / f"{name}.jsonl").read_text())
        for name in ("01_exact_dedup", "02_near_dedup")
    ]
    assert lists == [
        {"source": "b", "id": "copy", "repeats": {"source": "a", "id": "a3"}},
        {"source": "b", "id": "near2", "repeats": {"source": "b", "id": "near"}},
    ]
    assert record["sources"]["b"]["folders"]["train"]["documents"] == 31


def test_copies_are_packed_among_other_documents_and_stay_on_one_side(write_config, tmp_path):
    record, _ = prepare(load(write_config(steps=STEPS, validation_fraction=0.3)))
    rows = rows_of(tmp_path / "out" / "train" / "a")
    pieces = Counter(piece for row in rows for piece in row)
    assert set(pieces.values()) == {1, 3}
    shared = sum(n > 1 for row in rows for n in Counter(row).values())
    assert shared == 0
    held_out = {piece for row in rows_of(tmp_path / "out" / "validation" / "a") for piece in row}
    assert held_out
    assert not held_out & set(pieces)
    folders = record["sources"]["a"]["folders"]
    assert folders["validation"]["documents"] == len(held_out)
    assert (
        folders["train"]["documents"] == sum(pieces.values()) == len(pieces) + 2 * sum(n == 3 for n in pieces.values())
    )


def test_a_long_document_is_on_one_side_with_all_its_rows(write_config, tmp_path):
    lines = [{"id": f"long{i}", "text": text(1000 + i, 400)} for i in range(20)]
    (tmp_path / "in" / "a" / "3.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    record, _ = prepare(load(write_config(validation_fraction=0.5)))
    folders = record["sources"]["a"]["folders"]
    assert folders["train"]["documents"] + folders["validation"]["documents"] == 60
    assert folders["train"]["documents_split"] + folders["validation"]["documents_split"] == 20
    assert 15 < folders["validation"]["documents"] < 45


def test_named_validation_files_are_held_out_as_they_are(write_config, tmp_path):
    files = {"paths": [str(tmp_path / "in/a/0.jsonl")], "validation_paths": [str(tmp_path / "in/a/1.jsonl")]}
    record, _ = prepare(load(write_config(sources=[{"name": "a", "kind": "jsonl", **files}], validation_fraction=0.5)))
    assert {side: f["documents"] for side, f in record["sources"]["a"]["folders"].items()} == {
        "train": 20,
        "validation": 20,
    }


def test_the_streams_of_a_mixture_are_written_for_a_run(write_config, tmp_path):
    sources = [
        {"name": n, "kind": "jsonl", "paths": [str(tmp_path / "in" / n)], "proportion": p}
        for n, p in (("a", 70), ("b", 30))
    ]
    out = tmp_path / "a, b: {c}"  # signs that YAML knows
    prepare(load(write_config(sources=sources, out=str(out))))
    data = yaml.safe_load((out / "streams.yaml").read_text())["data"]
    assert data == {
        "train": [{"path": f"{out}/train/{n}", "proportion": p} for n, p in (("a", 0.7), ("b", 0.3))],
        "validation": [],
        "seq_len": 128,
    }


def test_another_preparation_never_mixes_with_what_is_there(write_config, tmp_path):
    prepare(load(write_config()))
    with pytest.raises(DataError, match=r"finished preparation that differs in seq_len"):
        prepare(load(write_config(seq_len=64)))
    path = tmp_path / "in" / "a" / "0.jsonl"
    path.write_text(path.read_text().replace("doc0", "doc9"))  # as long as before
    os.utime(path, (time.time() + 10,) * 2)
    with pytest.raises(DataError, match=r"differs in a/0.jsonl"):
        prepare(load(write_config()))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        prepare(load(write_config(out=str(tmp_path / "home"))))


def test_an_interrupted_preparation_goes_on_and_redoes_nothing(write_config, tmp_path, monkeypatch):
    import detour.corpus.stages as module

    prepare(load(write_config(out=str(tmp_path / "whole"), steps=STEPS)))
    done: list[tuple] = []
    real = module.process_shard

    def failing(job, k, part):
        if len(done) == 1:
            raise KeyboardInterrupt
        real(job, k, part)
        done.append((k, part))

    monkeypatch.setattr(module, "process_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(load(write_config(steps=STEPS)))
    with pytest.raises(DataError, match=r"unfinished preparation that differs in seed"):
        prepare(load(write_config(steps=STEPS, seed=3)))
    monkeypatch.setattr(module, "process_shard", lambda job, k, part: (real(job, k, part), done.append((k, part))))
    prepare(load(write_config(steps=STEPS)))
    assert len(done) == len(set(done)) == 4  # two parts, two passes
    assert digest_of(tmp_path / "out") == digest_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_moments_the_result_is_the_same(write_config, forked_python, tmp_path):
    """Five times at most, at a moment of the first half of what the unbroken preparation takes."""

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [forked_python, "-m", "detour", "data", "prepare", str(config), f"out={out}"]
        child = subprocess.Popen(
            command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not out.exists() and child.poll() is None:
            time.sleep(0.01)
        return child

    config, rng, kills = write_config(steps=STEPS, validation_fraction=0.2, processes=2), random.Random(0), 0
    child, began = start(tmp_path / "whole"), time.monotonic()
    assert child.wait(200) == 0
    seconds = time.monotonic() - began
    for _ in range(30):
        child = start(tmp_path / "out")
        try:
            child.wait(rng.uniform(0.01, 0.5) * seconds if kills < 5 else 200)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            kills += 1
        if child.wait() == 0:
            break
    assert kills >= 3
    assert child.returncode == 0
    assert digest_of(tmp_path / "out") == digest_of(tmp_path / "whole")


def broken_inputs(folder: Path) -> None:
    folder.mkdir()
    good = json.dumps({"text": text(1)}).encode() + b"\n"
    (folder / "broken.jsonl").write_bytes(good + b'{"text": "cut\n' + good)
    (folder / "latin.jsonl").write_bytes(b'{"text": "\xe9t\xe9"}\n' + good)
    (folder / "empty.jsonl").touch()
    (folder / "column.jsonl").write_bytes(b'{"body": "x"}\n' + good)
    with (folder / "long.jsonl").open("wb") as file:
        file.write(good + b'{"text": "')
        for _ in range(200):
            file.write(b"a" * (1 << 20))
        file.write(b'"}\n' + good)
    import gzip

    (folder / "cut.jsonl.gz").write_bytes(
        gzip.compress(b"".join(json.dumps({"text": text(i, 300)}).encode() + b"\n" for i in range(500)))[:-300]
    )


def test_bad_input_is_reported_by_file_and_line_and_nothing_else_is_lost(write_config, tmp_path):
    broken_inputs(tmp_path / "bad")
    config = write_config(sources=[{"name": "bad", "kind": "jsonl", "paths": [str(tmp_path / "bad")]}])
    result = CliRunner().invoke(app, ["data", "prepare", str(config)])
    assert result.exit_code == 0, result.output
    for place in ("broken.jsonl:2", "latin.jsonl:1", "empty.jsonl", "column.jsonl:1", "long.jsonl:2", "cut.jsonl.gz"):
        assert place in result.output
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    read = {file["name"]: file for file in record["sources"]["bad"]["files"]}
    assert [read[f"{name}.jsonl"]["documents"] for name in ("broken", "latin", "empty", "column", "long")] == [
        2,
        1,
        0,
        1,
        2,
    ]
    assert 0 < read["cut.jsonl.gz"]["documents"] < 500
    assert f"after line {read['cut.jsonl.gz']['documents']}" in read["cut.jsonl.gz"]["damage"]
    strict = CliRunner().invoke(app, ["data", "prepare", str(config), f"out={tmp_path / 'strict'}", "--strict"])
    assert strict.exit_code == 1
    assert "broken.jsonl:2: not valid JSON" in strict.output
    finished = CliRunner().invoke(app, ["data", "prepare", str(config), "--strict"])
    assert finished.exit_code == 1
    assert "bad: read without --strict before, and not all of it could be used; " in finished.output


def test_strict_refuses_what_an_interrupted_run_that_was_not_has_read(write_config, tmp_path, monkeypatch):
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\nno json\n')
    config = write_config(sources=[{"name": "bad", "kind": "jsonl", "paths": [str(tmp_path / "bad.jsonl")]}])
    with monkeypatch.context() as patched:
        patched.setattr(
            "detour.corpus.prepare.document_shards_of", lambda job: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            prepare(load(config))
    with pytest.raises(DataError, match=r"bad\.jsonl:2: not valid JSON"):
        prepare(load(config, ["strict=true"]))


def test_a_file_that_changes_before_the_end_is_an_error(write_config, tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": text(1)}))
    config = write_config(sources=[{"name": "a", "kind": "jsonl", "paths": [str(path)]}])
    with monkeypatch.context() as patched:
        patched.setattr(
            "detour.corpus.prepare.document_shards_of", lambda job: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            prepare(load(config))
    path.write_text(path.read_text().replace("doc1", "doc2"))
    with pytest.raises(DataError, match=r"a\.jsonl: has changed since it was read"):
        prepare(load(config))


def test_a_document_too_long_to_hold_is_left_out_whatever_the_kind(write_config, tmp_path, monkeypatch):
    monkeypatch.setattr("detour.corpus.passes.MAX_RECORD_BYTES", 1000)
    table = pa.table({"id": ["a", "b"], "text": [text(1), "w1 " * 500]})
    pq.write_table(table, tmp_path / "a.parquet")
    config = write_config(sources=[{"name": "t", "kind": "parquet", "paths": [str(tmp_path / "a.parquet")]}])
    source = prepare(load(config))[0]["sources"]["t"]
    assert source["documents_read"] == 1
    assert source["first_skipped"] == {"longer than 32 MiB": ["a.parquet: b"]}


@pytest.mark.parametrize("columns", [{"id": "nr"}, {"metadata": ["nr"]}, {"more_text": ["nr"]}, {"license": "nr"}])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_named_and_not_there_is_told(write_config, tmp_path, kind, columns):
    path = tmp_path / f"a.{kind}"
    path.write_text("id,text\n1,x\n") if kind == "csv" else pq.write_table(pa.table({"id": ["1"], "text": ["x"]}), path)
    config = write_config(sources=[{"name": "t", "kind": kind, "paths": [str(path)], "columns": columns}])
    with pytest.raises(DataError, match=f"a\\.{kind}.*no 'nr' column, found id, text"):
        prepare(load(config, ["strict=true"]))


def test_an_upsampling_that_fits_nothing_and_a_source_without_rows_are_told(write_config, tmp_path):
    (tmp_path / "b.jsonl").write_text("")
    sources = [
        {"name": n, "kind": "jsonl", "paths": [str(tmp_path / path)]} for n, path in (("a", "in/a"), ("b", "b.jsonl"))
    ]
    steps = [{"kind": "upsample", "options": {"column": "kynd", "times": {"case": 3}}}]
    result = CliRunner().invoke(app, ["data", "prepare", str(write_config(sources=sources, steps=steps))])
    assert result.exit_code == 0, result.output
    assert "upsample: no document's 'kynd' matches; nothing is repeated" in result.output
    assert "b: no training documents; left out of the mixture" in result.output
    mixed = [{**source, "proportion": 0.5} for source in sources]
    with pytest.raises(DataError, match=r"source 'b' has proportion 0\.5, and no document of it is left"):
        prepare(load(write_config(sources=mixed, out=str(tmp_path / "mixed"))))


def test_every_problem_of_a_config_is_told_at_once(write_config):
    config = write_config(
        seq_len=4,
        sources=[
            {"name": "a/b", "kind": "jsonll", "paths": []},
            {"name": "c", "kind": "csv", "paths": ["x"], "proportion": 1},
        ],
        steps=[{"kind": "length", "sources": ["d"], "options": {"min_chars": 3}}],
    )
    with pytest.raises(ConfigError) as caught:
        load(config)
    for expected in (
        "seq_len: 4", "sources[0].name: 'a/b'", "sources[0].paths: empty", "did you mean 'jsonl'",
        "proportion is given for some",
        "steps[0].sources: no source 'd'", "did you mean 'min_characters'",
    ):  # fmt: skip
        assert expected in str(caught.value)
    with pytest.raises(ConfigError, match=r"seq_len: 1000000000, expected 8 to 1,048,576"):
        load(write_config(seq_len=10**9))
    with pytest.raises(ConfigError, match=r"sources\[0\].pathz: unknown key; did you mean 'paths'"):
        load(write_config(sources=[{"name": "a", "kind": "csv", "pathz": []}]))


@pytest.mark.parametrize("further", [[], [{"kind": "exact_dedup"}, {"kind": "near_dedup"}]], ids=["alone", "dedup"])
def test_nothing_left_to_train_on_is_an_error(write_config, tmp_path, further):
    with pytest.raises(DataError, match=r"no document is left(.|\n)*a: length dropped 40, under 10000 characters"):
        prepare(load(write_config(steps=[{"kind": "length", "options": {"min_characters": 10_000}}, *further])))
