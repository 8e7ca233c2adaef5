"""Rows of pairs: read back through the loader, each span is the text that was given."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from data_prep.synthetic import RELATIONS, pairs
from detour.cli.main import app
from detour.corpus.pack_pairs import pack_pairs
from detour.corpus.pairs import PairColumns
from detour.data.loader import build_loader
from detour.data.manifest import ShardManifest
from detour.data.stream_spec import StreamSpec
from detour.data.tokenizer import load_tokenizer
from detour.errors import DataError


@pytest.fixture
def written(tmp_path):
    def write(records, name="pairs.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


def batches_of(folder, **settings):
    return list(
        build_loader(
            streams=[StreamSpec(path=str(folder))],
            device_batch_size=2,
            shuffle=False,
            shuffle_seed=0,
            workers=0,
            drop_last=False,
            **settings,
        )
    )


def test_the_spans_of_a_row_are_the_two_texts_and_its_class_the_label(corpus, written, tmp_path):
    given = [pair._asdict() for pair in pairs(count=60, seed=2, language="en")]
    manifest, report = pack_pairs([written(given)], tokenizer=corpus.tokenizer, out=tmp_path / "rows", seq_len=64)
    assert manifest.classes == tuple(sorted(RELATIONS))
    assert (manifest.counts.documents, report.skipped) == (60, {})
    tokenizer, found = load_tokenizer(corpus.tokenizer), []
    for batch in batches_of(tmp_path / "rows"):
        for ids_T, lengths_D, classes_D, spans_D4 in zip(
            *(batch[key].tolist() for key in ("input_ids", "doc_lengths", "doc_classes", "doc_spans")), strict=True
        ):
            for length, label, (a, b, c, d) in zip(lengths_D, classes_D, spans_D4, strict=True):
                if length:
                    first, second = (tokenizer.decode(ids_T[start:end]).strip() for start, end in ((a, b), (c, d)))
                    found.append((first, second, manifest.classes[label]))
    assert sorted(found) == sorted((pair["first"], pair["second"], pair["label"]) for pair in given)


def test_what_cannot_be_used_is_counted_with_its_reason(corpus, written, tmp_path):
    given = [
        {"a": "fever", "b": "malaria", "c": 1},
        {"a": "fever", "b": "flu " * 100, "c": 2},
        {"a": "fever", "b": None, "c": 2},
        {"a": "fever", "b": "flu", "c": None},
        {"a": "cough", "b": "  ", "c": 1},
        {"a": "cough", "b": "flu", "c": 2},
    ]
    columns = PairColumns(first="a", second="b", label="c")
    manifest, report = pack_pairs(
        [written(given)], tokenizer=corpus.tokenizer, out=tmp_path / "rows", seq_len=32, columns=columns
    )
    assert (manifest.classes, manifest.counts.documents) == (("1", "2"), 2)
    assert report.skipped == {
        "longer than a row of 32 tokens": 1,
        "no text in 'b'": 1,
        "no class in 'c'": 1,
        "empty text": 1,
    }
    with pytest.raises(DataError, match=r"pairs.jsonl:\d.*: no text in 'b'"):
        pack_pairs(
            [written(given)], tokenizer=corpus.tokenizer, out=tmp_path / "s", seq_len=512, columns=columns, strict=True
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"first": "a", "second": "b", "label": "x"}], "expected at least two"),
        ([{"text": "a"}], "expected at least two"),
        ([{"first": "a", "second": "b", "label": f"text {i}"} for i in range(1001)], "more than 1000 classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(corpus, written, tmp_path, records, message):
    with pytest.raises(DataError, match=message):
        pack_pairs([written(records)], tokenizer=corpus.tokenizer, out=tmp_path / "rows", seq_len=64)


def test_folders_with_other_classes_are_not_read_together(corpus, written, tmp_path):
    for name, labels in (("one", "ab"), ("two", "ac")):
        given = [{"first": "fever", "second": "flu", "label": label} for label in labels]
        pack_pairs([written(given)], tokenizer=corpus.tokenizer, out=tmp_path / name, seq_len=64)
    with pytest.raises(DataError, match=r"two: rows with the classes \['a', 'c'\], expected \['a', 'b'\]"):
        build_loader(
            streams=[StreamSpec(path=str(tmp_path / name)) for name in ("one", "two")],
            device_batch_size=1,
            shuffle=False,
            shuffle_seed=0,
            workers=0,
        )


def texts_in(folder, tokenizer):
    """Every pair in a folder, as its two texts."""
    found = []
    for batch in batches_of(folder):
        for ids_T, lengths_D, spans_D4 in zip(
            *(batch[key].tolist() for key in ("input_ids", "doc_lengths", "doc_spans")), strict=True
        ):
            for length, (a, b, c, d) in zip(lengths_D, spans_D4, strict=True):
                if length:
                    found.append(tuple(tokenizer.decode(ids_T[i:j]).strip() for i, j in ((a, b), (c, d))))
    return found


def test_held_out_pairs_are_on_one_side_whatever_their_order_case_and_label(corpus, written, tmp_path):
    given = [pair._asdict() for pair in pairs(count=300, seed=2, language="en")]
    given += [{"first": p["second"], "second": f" {p['first'].upper()}", "label": "none"} for p in given]
    given += [{"first": "fever", "second": None, "label": "none"}]
    command = ["data", "pack-pairs", str(written(given)), "--tokenizer", str(corpus.tokenizer), "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "rows"), "--seq-len", "64", "--held-out", "0.3"])
    assert result.exit_code == 0, result.output
    assert result.output.count("no text in 'second'") == 1
    tokenizer = load_tokenizer(corpus.tokenizer)
    sides = {side: texts_in(tmp_path / "rows" / side, tokenizer) for side in ("train", "validation")}
    assert sum(map(len, sides.values())) == 600
    keys = {side: {frozenset(text.casefold() for text in pair) for pair in found} for side, found in sides.items()}
    assert not keys["train"] & keys["validation"]
    count = sum(map(len, keys.values()))
    # a binomial of that many different pairs at 0.3: five standard deviations
    assert abs(len(keys["validation"]) / count - 0.3) < 5 * (0.3 * 0.7 / count) ** 0.5
    folders = [ShardManifest.load(tmp_path / "rows" / side) for side in sides]
    assert {folder.classes for folder in folders} == {tuple(sorted(RELATIONS))}


@pytest.mark.parametrize("by", ["first", "source"])
def test_pairs_with_an_equal_key_stay_together(corpus, written, tmp_path, by):
    given = [
        {"first": f"fever {'a' * (i % 20)}", "second": f"flu {'b' * i}", "label": "xy"[i % 2], "source": f"s{i % 20}"}
        for i in range(60)
    ]
    command = ["data", "pack-pairs", str(written(given)), "--tokenizer", str(corpus.tokenizer), "--seq-len", "128"]
    command += ["--out", str(tmp_path / "rows"), "--held-out", "0.5", "--held-out-by", by]
    assert CliRunner().invoke(app, command).exit_code == 0
    tokenizer = load_tokenizer(corpus.tokenizer)
    train, validation = ({a for a, _ in texts_in(tmp_path / "rows" / s, tokenizer)} for s in ("train", "validation"))
    assert train
    assert validation
    assert not train & validation


def test_a_fraction_that_holds_out_nothing_or_all_and_a_key_alone_are_refused(corpus, written, tmp_path):
    given = [{"first": "fever", "second": "flu", "label": label} for label in "ab"]
    command = [
        "data",
        "pack-pairs",
        str(written(given)),
        "--tokenizer",
        str(corpus.tokenizer),
        "--out",
        str(tmp_path / "o"),
    ]
    for more, message in (
        (["--held-out", "1.5"], "--held-out is 1.5, expected a fraction between 0 and 1"),
        (["--held-out", "0.5"], "so there is nothing to write"),  # equal pairs, on one side
        (["--held-out-by", "first"], "needs --held-out"),
        (["--held-out", "0.5", "--held-out-by", "third"], "so there is nothing to write"),
    ):
        result = CliRunner().invoke(app, [*command, *more, "--overwrite"])
        assert result.exit_code
        assert message in " ".join(result.output.split()), result.output
