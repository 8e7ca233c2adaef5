"""PubMed's updates: of each record what the newest file says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from streaming.base.format import reader_from_json
from typer.testing import CliRunner

from detour.cli.main import app
from detour.corpus.config import load
from detour.corpus.prepare import prepare
from detour.corpus.revisions import _fates
from detour.data.tokenizer import load_tokenizer, train_bpe


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["old new kept deleted title abstract"] * 3, vocab_size=300).save_pretrained(folder)
    return folder


def article(pmid: int, text: str, *, version: int = 1, french: str = "") -> str:
    abstract = f"<Abstract><AbstractText>{text}</AbstractText></Abstract>" if text else ""
    other = f'<OtherAbstract Language="fre"><AbstractText>{french}</AbstractText></OtherAbstract>' if french else ""
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID><Article>{abstract}</Article>{other}'
        "</MedlineCitation></PubmedArticle>"
    )


def deletion(*pmids: int) -> str:
    return "<DeleteCitation>" + "".join(f'<PMID Version="1">{pmid}</PMID>' for pmid in pmids) + "</DeleteCitation>"


def write(path: Path, *records: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>".encode()))


def texts_of(folder: Path, tokenizer: Path) -> list[str]:
    """The text of each document, straight from the shards."""
    loaded, found = load_tokenizer(tokenizer), []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        for row in reader_from_json(str(folder), "", shard):
            pieces = np.split(row["input_ids"], np.cumsum(row["doc_lengths"]))[:-1]
            found += [loaded.decode(piece, skip_special_tokens=True) for piece in pieces]
    return found


BOOK = "<PubmedBookArticle><BookDocument><PMID>77</PMID></BookDocument></PubmedBookArticle>"


@pytest.fixture
def pubmed(tmp_path: Path) -> Path:
    """A baseline and two updates; that of the updates which is later lies in the folder that sorts first."""
    write(
        tmp_path / "z_baseline" / "pubmed25n0001.xml.gz",
        article(1, "one old", french="un ancien"), article(2, "two"), article(3, "three old"), article(4, "four old"),
        article(5, "five, first version"), article(6, "six"), article(8, "eight old"), BOOK,
    )  # fmt: skip
    write(
        tmp_path / "m_updates" / "pubmed25n0999.xml.gz",
        article(1, "one newer"), article(3, "three newer"), article(5, "five, second version", version=2), deletion(4, 8),
    )  # fmt: skip
    write(
        tmp_path / "a_updates" / "pubmed25n1000.xml.gz",
        article(1, "one newest"), article(5, "five, first version again"), article(6, ""), article(7, "seven"),
        article(8, "eight is back"), article(9, "nine once"), article(9, "nine twice"), deletion(3, 123),
    )  # fmt: skip
    return tmp_path


KEPT = ["one newest", "two", "five, second version", "seven", "eight is back", "nine twice"]


def config_of(folder: Path, tokenizer: Path, sources: dict[str, list[str]], **changes) -> Path:
    values = {
        "out": str(folder / "out"), "tokenizer": str(tokenizer), "seq_len": 64,
        "sources": [
            {"name": name, "kind": "pubmed", "paths": [str(folder / path) for path in paths]}
            for name, paths in sources.items()
        ], **changes,
    }  # fmt: skip
    (folder / "c.yaml").write_text(yaml.safe_dump(values))
    return folder / "c.yaml"


LAYOUTS = {
    "one source": {"all": ["z_baseline", "m_updates", "a_updates"]},
    "in another order": {"all": ["a_updates", "z_baseline", "m_updates"]},
    "two sources": {"updates": ["a_updates", "m_updates"], "baseline": ["z_baseline"]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shard_megabytes", [1, 16])
def test_of_each_record_the_newest_stays_and_deleted_ones_go(pubmed, tokenizer, layout, shard_megabytes):
    config = config_of(pubmed, tokenizer, LAYOUTS[layout], shard_megabytes=shard_megabytes, strict=True)
    done = CliRunner().invoke(app, ["data", "prepare", str(config)])
    assert done.exit_code == 0, done.output
    record = json.loads((pubmed / "out" / "prepared.json").read_text())
    found = [text for name in LAYOUTS[layout] for text in texts_of(pubmed / "out" / "train" / name, tokenizer)]
    assert sorted(found) == sorted(KEPT)
    told = {}
    for source in record["sources"].values():
        for reason, n in source["skipped"].items():
            told[reason] = told.get(reason, 0) + n
    # revised: 1, its French and 1 again, 5 in its first version twice, 6, 8, 9; deleted: 3 twice, 4
    assert told == {
        "a book record, no article": 1, "no abstract": 1, "revised by a later record": 8, "deleted by a later update": 3
    }  # fmt: skip
    assert sum(source["documents_read"] for source in record["sources"].values()) == len(KEPT)
    assert "revised by a later record" in done.output


def test_files_without_numbers_are_taken_in_the_order_of_the_paths(pubmed, tokenizer):
    write(pubmed / "extra.xml.gz", article(2, "two of my own"))
    prepare(load(config_of(pubmed, tokenizer, {"all": ["extra.xml.gz", "z_baseline"]})))
    texts = texts_of(pubmed / "out" / "train" / "all", tokenizer)
    assert "two" in texts
    assert "two of my own" not in texts


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.booleans()), max_size=30))
def test_fates_are_those_of_a_replay(events):
    standing, last = {}, {}
    for at, (key, version, deleted) in enumerate(events):
        last[key, version] = deleted
        if deleted:
            standing.pop((key, version), None)
        else:
            standing[key, version] = at
    kept = {standing[key, max(v for k, v in standing if k == key)] for key, _ in standing}
    fates = _fates(
        *(np.array([event[i] for event in events], np.int64) for i in (0, 1)), np.array([e[2] for e in events], bool)
    )
    assert {at for at, fate in enumerate(fates) if fate == 0} == kept
    assert all(fate == 2 for fate, event in zip(fates, events, strict=True) if last[event[:2]])


@pytest.mark.parametrize("pmid", ["", "12a", "1" * 30, "\u0663"])
def test_a_record_whose_number_is_none_is_counted(pubmed, tokenizer, pmid):
    write(pubmed / "z_baseline" / "pubmed25n0001.xml.gz", article(pmid, "text"), article(2, "two"))
    record, _ = prepare(load(config_of(pubmed, tokenizer, {"all": ["z_baseline"]})))
    assert record["sources"]["all"]["skipped"] == {"no PMID": 1}
