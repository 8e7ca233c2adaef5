"""The page over several experiments: what it says, read from the HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, DataError
from detour.experiments.index import write_index

COMPARISON = {"arm": "detour", "baseline": "twin", "verdict": "better", "sentence": "detour is better: +1.20 points."}
RESULTS = {
    "format": 1,
    "experiment": "small",
    "question": "Does <b>it</b> help & how much?",
    "arms": ["detour", "twin"],
    "baseline": "twin",
    "seeds": [17, 18, 19],
    "missing": [],
    "titles": {"finetuning": "Fine-tuning", "held_out": "Held-out MLM loss"},
    "comparisons": {
        "finetuning": [COMPARISON],
        "held_out": [COMPARISON | {"verdict": "undecided", "sentence": "Undecided <script>alert(1)</script>."}],
    },
    "claims": [{"statement": "The detour helps", "status": "reproduced", "ours": "detour is better."}],
    "total": {"tokens": 1_500_000, "flops": 2.5e15, "device_seconds": 7200.0},
}


class Page(HTMLParser):
    """Links, the cells of the table, the items of lists, the tags, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self.text = ""
        self.open: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "a":
            self.links.append(str(dict(attrs)["href"]))
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.open = self.rows[-1]
        elif tag == "li":
            self.items.append("")
            self.open = self.items

    def handle_endtag(self, tag):
        if tag in ("td", "th", "li"):
            self.open = None

    def handle_data(self, data):
        self.text += data
        if self.open is not None:
            self.open[-1] += data


@pytest.fixture
def write(tmp_path):
    """A function that writes the page folder of an experiment with these results; keywords replace theirs."""

    def made(name: str, **changes) -> Path:
        page = tmp_path / name / "page"
        page.mkdir(parents=True)
        (page / "results.json").write_text(json.dumps(RESULTS | changes))
        return tmp_path / name

    return made


def test_the_index_says_what_the_experiments_found(write, tmp_path):
    first = write("one two")
    second = write("other", experiment="other", missing=["train: 2 of 6 jobs are not done"], comparisons={}, claims=[])
    out = tmp_path / "site" / "index.html"
    called = CliRunner().invoke(
        app, ["experiment", "index", str(first), str(second / "page"), "--out", str(out)], catch_exceptions=False
    )
    assert called.output.strip().replace("\n", "") == str(out)
    page = Page(html := out.read_text())
    assert page.rows[1:] == [
        ["small", "complete", "2", "3", "1.5M", "2.500e15", "2.0 h"],
        ["other", "not complete", "2", "3", "1.5M", "2.500e15", "2.0 h"],
    ]
    assert page.links == ["../one%20two/page/index.html", "../other/page/index.html"] * 2  # in the table, then below it
    assert page.items == [
        "detour against twin: better. detour is better: +1.20 points.",
        "detour against twin: undecided. Undecided <script>alert(1)</script>.",
        "The detour helps: reproduced. detour is better.",
        "train: 2 of 6 jobs are not done",
    ]
    assert "Does <b>it</b> help & how much?" in page.text
    assert "Arms: twin (baseline), detour. Training seeds: 17, 18, 19." in page.text
    assert "No measurement is complete yet." in page.text
    assert not {"script", "b", "link", "img"} & set(page.tags)
    assert "http" not in html
    assert '<div class="card scroll"' in html  # a wide table scrolls by itself
    assert "overflow-wrap: anywhere" in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"titles": {}}, "damaged"),
        ({"total": {"tokens": "many"}}, "damaged"),
        ({"seeds": None}, "damaged"),
    ],
)
def test_results_that_cannot_be_read_are_refused(write, tmp_path, changes, message):
    folder = write("one", **changes)
    with pytest.raises(DataError, match=rf"results\.json: .*{message}"):
        write_index([folder], tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


def test_a_folder_without_a_page_of_an_earlier_version_or_given_twice_is_refused(write, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such file; `detour experiment report FILE` writes it"):
        write_index([tmp_path / "empty"], tmp_path / "index.html")
    folder = write("one")
    file = folder / "page" / "results.json"
    with pytest.raises(ConfigError, match="given twice"):
        write_index([folder, folder / "page"], tmp_path / "index.html")
    file.write_text(json.dumps({key: value for key, value in RESULTS.items() if key != "question"}))
    with pytest.raises(DataError, match="of an earlier version; `detour experiment report FILE` writes it again"):
        write_index([folder], tmp_path / "index.html")
