"""The ledger: the paper's figures agree with each other, and a status follows its rules."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from detour.errors import ConfigError, DataError
from detour.evaluation.results.claims import (
    Ours,
    Status,
    ledger,
    ledger_csv,
    ledger_markdown,
    protocol_distance,
    status_of,
)
from detour.evaluation.results.levels import compare_arms
from detour.evaluation.results.published import Protocol, load_claims
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.verdicts import POINTS, Verdict

METHOD = {  # the table of results that the paper's abstract and text give: claim -> (MLM twin, detour)
    "french_base": ("french", "base", 58.9, 61.6),
    "french_large": ("french", "large", 63.0, 64.2),
    "english_base_10b": ("english", "base_10b", 77.3, 77.8),
    "english_base_50b": ("english", "base_50b", 77.7, 78.0),
    "english_large_50b": ("english", "large_50b", 77.9, 78.7),
}
ROUNDING = 0.1 + 1e-9  # scores of tasks and their mean are each rounded to 0.1


def claims():
    return {claim.id: claim for claim in load_claims().claims}


@pytest.mark.parametrize("name", METHOD)
def test_means_of_the_score_tables_are_those_that_the_paper_names(name):
    language, size, twin, detour = METHOD[name]
    table = load_claims().scores[language]
    for arm, expected in ((f"mlm_twin_{size}", twin), (f"clm_detour_{size}", detour)):
        scores = table.arms[arm]
        assert len(scores) == len(table.tasks) == {"french": 8, "english": 11}[language]
        assert sum(scores) / len(scores) == pytest.approx(expected, abs=ROUNDING)
    assert (claims()[name].paper.baseline, claims()[name].paper.arm) == (twin, detour)


def test_the_paper_has_its_published_gains():
    """+1.2 and +2.7 points in French, +0.3 to +0.8 in English; transplants recover at most 35% of the gap."""
    found = claims()
    assert [round(found[f"french_{size}"].paper.gap, 1) for size in ("large", "base")] == [1.2, 2.7]
    english = [round(found[f"english_{size}"].paper.gap, 1) for size in ("base_10b", "base_50b", "large_50b")]
    assert english == [0.5, 0.3, 0.8]
    twin, detour = found["probe_detour"].paper.baseline, found["probe_detour"].paper.arm
    recovered = [
        (claim.paper.arm - twin) / (detour - twin) for key, claim in found.items() if key.startswith("transplant_")
    ]
    assert len(recovered) == 5
    assert max(recovered) == pytest.approx(0.35, abs=0.005)
    assert all(claim.paper.baseline == detour for key, claim in found.items() if key.startswith("transplant_"))


def test_every_figure_of_the_paper_is_a_claim():
    kinds = {"french": 2, "english": 3, "decay": 6, "freeze": 4, "transplant": 5, "cka": 5, "needle": 1, "asymmetry": 2}
    ids = list(claims())
    for kind, count in kinds.items():
        assert sum(key.split("_")[0] == kind for key in ids) == count
    assert {"camembertv2", "cybersecurity", "finance", "probe_detour"} < set(ids)


def ours(verdict=Verdict.BETTER, mean=0.01, basis="training seeds") -> Ours:
    return Ours(
        verdict=verdict, mean=mean, low=mean - 0.005, high=mean + 0.005, basis=basis, scale=POINTS, sentence="A sentence.",
        protocol=Protocol(model="small", tokens=10_000_000, training_seeds=3, tasks=["hoc"]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expects", "verdict", "mean", "basis", "status"),
    [
        ("higher", Verdict.BETTER, 0.01, "training seeds", Status.REPRODUCED),
        ("higher", Verdict.WORSE, -0.01, "training seeds", Status.CONTRADICTED),
        ("higher", Verdict.EQUIVALENT, 0.001, "training seeds", Status.CONTRADICTED),
        ("higher", Verdict.UNDECIDED, 0.01, "training seeds", Status.UNDECIDED),
        ("higher", Verdict.BETTER, 0.01, "fine-tuning seeds only", Status.UNDECIDED),
        ("higher", Verdict.WORSE, -0.01, "fine-tuning seeds only", Status.UNDECIDED),
        ("lower", Verdict.WORSE, -0.01, "training seeds", Status.REPRODUCED),
        ("lower", Verdict.BETTER, 0.01, "training seeds", Status.CONTRADICTED),
        ("equal", Verdict.EQUIVALENT, 0.001, "training seeds", Status.REPRODUCED),
        ("equal", Verdict.BETTER, 0.01, "training seeds", Status.CONTRADICTED),
        ("equal", Verdict.UNDECIDED, 0.0, "training seeds", Status.UNDECIDED),
        (
            "higher",
            Verdict.WORSE,
            0.01,
            "training seeds",
            Status.REPRODUCED,
        ),  # of a loss or divergence: higher is worse
    ],
)
def test_the_rules(expects, verdict, mean, basis, status):
    claim = replace(claims()["french_base"], expects=expects)
    assert status_of(claim, ours(verdict, mean, basis)) is status


def test_a_claim_without_a_result_is_not_tried_and_one_with_it_names_the_distance():
    rows = {row.claim.id: row for row in ledger({"french_base": ours()})}
    assert list(rows) == list(claims())
    assert {row.status for key, row in rows.items() if key != "french_base"} == {Status.NOT_TRIED}
    row = rows["french_base"]
    assert row.status is Status.REPRODUCED
    assert row.distance["model"] == ("small", "ModernCamemBERT base")
    assert row.distance["tokens"] == ("10M", "11B")
    assert row.distance["training_seeds"] == ("3", "1")
    assert row.distance["finetuning_seeds"] == ("not given", "9")
    assert row.distance["tasks"][0] == "hoc"


def test_protocols_are_compared_field_by_field():
    one = Protocol(model="ModernBERT", data="d", tokens=5, tasks=["b", "A"], metric="F1")
    assert protocol_distance(one, replace(one, tasks=["a", "b"], model="modernbert")) == {}
    assert protocol_distance(one, replace(one, metric=None, tasks=["a"])) == {
        "tasks": ("b, A", "a"),
        "metric": ("F1", "not given"),
    }


def test_an_unknown_claim_is_refused():
    with pytest.raises(ConfigError, match=r"claim 'french_bass': no claim has this id.*french_base"):
        ledger({"french_bass": ours()})


def test_the_tables_are_read_back():
    rows = ledger({"french_base": ours(), "needle": ours(Verdict.UNDECIDED)})
    read = {row["id"]: row for row in csv.DictReader(io.StringIO(ledger_csv(rows)))}
    assert len(read) == len(claims())
    row = read["french_base"]
    assert (row["status"], row["verdict"], row["basis"], row["unit"]) == (
        "reproduced", "better", "training seeds", "points",
    )  # fmt: skip
    assert [float(row[key]) for key in ("paper_arm", "paper_baseline", "paper_difference", "difference", "low")] == (
        pytest.approx([61.6, 58.9, 2.7, 1.0, 0.5])
    )
    assert (row["ours_model"], row["paper_model"]) == ("small", "ModernCamemBERT base")
    assert (row["ours_tokens"], row["paper_tokens"], row["ours_data"]) == ("10M", "11B", "not given")
    other = read["finance"]
    assert (other["status"], other["verdict"], other["ours_model"], other["paper_data"]) == (
        "not tried", "", "", "finance",
    )  # fmt: skip
    assert (other["paper_arm"], other["paper_difference"], other["paper_p"]) == ("", "0.4", "0.21")
    text = ledger_markdown(rows)
    lines = text.splitlines()
    assert len(lines) == 2 + len(claims())
    assert {line.count(" | ") for line in lines} == {4}
    assert "61.6 against 58.9 (+2.7)" in lines[2]
    assert "+1.00 points \\[+0.50, +1.50\\], better, training seeds" in lines[2]
    assert "fine-tuning seeds: not given / 9" in lines[2]
    assert "+0.40, p = 0.210" in text


def test_a_result_is_taken_from_a_comparison():
    scores = [
        Score(arm=arm, training_seed=s, task=task, score=0.5 + (0.02 + 0.001 * (s - 2)) * (arm == "detour"))
        for arm in ("detour", "twin")
        for s in (1, 2, 3)
        for task in ("a", "b")
    ]
    comparison = compare_arms(scores, "detour", "twin", margin=0.5)
    facts = {"model": "small", "data": "d", "tokens": 5, "metric": "accuracy"}
    found = Ours.of(comparison, **facts)
    assert (found.verdict, found.basis, found.protocol.tasks) == (Verdict.BETTER, "training seeds", ["a", "b"])
    assert (found.protocol.training_seeds, found.protocol.finetuning_seeds) == (3, 1)
    assert found.mean == pytest.approx(0.02)
    assert Ours.of(comparison, **facts, task="a").protocol.tasks == ["a"]
    with pytest.raises(DataError, match="task 'c': not compared"):
        Ours.of(comparison, **facts, task="c")


GOOD = """
protocols: {p: {model: m}}
scores: {french: {tasks: [a, b], arms: {x: [1.0, 2.0]}}}
claims:
  - {id: one, statement: S., expects: higher, protocol: p, paper: {arm: 2.0, baseline: 1.0}, source: s}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("expects: higher", "expects: lower", "'one': expects lower, but the difference is \\+1.00"),
        ("expects: higher", "expects: more", "'more'"),
        ("protocol: p", "protocol: q", "'one': no protocol 'q'"),
        ("[1.0, 2.0]", "[1.0]", "scores.french.x: 1 scores, expected 2"),
        ("{arm: 2.0, baseline: 1.0}", "{arm: 2.0}", "expected arm and baseline, or difference alone"),
        ("{arm: 2.0, baseline: 1.0}", "{p: 0.1}", "expected arm and baseline, or difference alone"),
        ("{arm: 2.0, baseline: 1.0}", "{arm: 2.0, baseline: 1.0, difference: 1.0}", "difference alone"),
        ("source: s", "sauce: s", "sauce"),
        ("claims:\n", "claims:\n  - {id: one, statement: T., expects: higher, protocol: p, paper: {difference: 1}, source: t}\n",
         "'one': the id is given twice"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    assert [claim.id for claim in load_claims(path).claims] == ["one"]
    assert GOOD.count(old) == 1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_claims(path)
