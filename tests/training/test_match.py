"""Arms of equal cost."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from detour.config.load import load, to_yaml
from detour.cost.flops import training_flops
from detour.cost.plan import plan
from detour.errors import ConfigError
from detour.train import train
from detour.training.checkpoints.files import listing
from detour.training.match import match_budget
from detour.training.run_folder import RunFolder

TWIN = [
    {"name": "stable", "objective": "mlm", "tokens": 2000, "options": {"rate": 0.3}},
    {"name": "decay", "objective": "mlm", "tokens": 1000, "options": {"rate": 0.15}},
]


def ledger(run) -> list[dict]:
    return listing(RunFolder.of(run).checkpoints)[-1].state()["callbacks"]["Ledger"]["entries"]


def test_without_another_run_nothing_changes(tiny_run):
    run = tiny_run()
    assert match_budget(run) is run


@pytest.mark.parametrize("document_tokens", [None, 20.0])
def test_a_plan_is_matched_by_flops_and_by_tokens(tiny_run, tmp_path, document_tokens):
    detour = tiny_run("detour")
    (tmp_path / "detour.yaml").write_text(to_yaml(detour))
    match = {"run": str(tmp_path / "detour.yaml"), "document_tokens": document_tokens}
    for by in ("flops", "tokens"):
        twin = match_budget(tiny_run("twin", phases=TWIN, match={**match, "by": by}))
        mine, theirs = (
            sum(getattr(line, by) for line in plan(run, document_tokens=document_tokens)) for run in (twin, detour)
        )
        assert mine == pytest.approx(theirs, rel=2e-3)  # a token more or less
        assert twin.phases[1].tokens == 1000


def test_a_finished_run_is_matched_by_what_its_ledger_counted(tiny_run):
    detour = tiny_run("detour")
    train(detour)
    spent = ledger(detour)
    match = {"run": str(RunFolder.of(detour).path), "by": "flops"}
    asked = tiny_run("twin", phases=TWIN, match=match)
    twin = match_budget(asked)
    assert twin.phases[0].tokens != 2000
    train(asked)  # fits by itself
    ratio = sum(e["flops"] for e in ledger(twin)) / sum(e["flops"] for e in spent)
    assert ratio == pytest.approx(1, abs=0.12)  # it ends with a whole batch: a step is 8% of this run
    same = match_budget(tiny_run("same", phases=[asdict(p) for p in detour.phases], match={**match, "phase": "detour"}))
    counted = {e["phase"]: e["tokens"] for e in spent}
    expected = counted["detour"] + (counted["before"] - 1000) * spent[0]["flops"] / spent[0]["tokens"] * (
        spent[1]["tokens"] / spent[1]["flops"]
    )
    assert same.phases[1].tokens == pytest.approx(expected, rel=0.15)
    seconds = match_budget(tiny_run("seconds", phases=TWIN, match={**match, "by": "device_seconds"}))
    speed = {e["phase"]: e["device_seconds"] / e["flops"] for e in spent}
    slow_detour = speed["detour"] > (spent[0]["device_seconds"] + spent[2]["device_seconds"]) / (
        spent[0]["flops"] + spent[2]["flops"]
    )
    assert (seconds.phases[0].tokens > twin.phases[0].tokens) == slow_detour


def test_the_price_of_a_token_is_the_formula_for_its_documents(tiny_run, tmp_path):
    detour = tiny_run("detour")
    (tmp_path / "detour.yaml").write_text(to_yaml(detour))
    alone = {"phases": TWIN[:1], "schedule": {"peak_lr": 1e-3, "decay_phase": None}}
    twin = match_budget(tiny_run("twin", **alone, match={"run": str(tmp_path / "detour.yaml")}))
    total = sum(line.flops for line in plan(detour))
    token = training_flops(twin.architecture, [64], attention="bidirectional", supervised=0.3 * 64) / 64
    assert twin.phases[0].tokens == pytest.approx(total / token, rel=1e-3)


def test_what_cannot_be_matched_is_refused(tiny_run, tmp_path):
    detour = tiny_run("detour")
    path = tmp_path / "detour.yaml"
    path.write_text(to_yaml(detour))
    with pytest.raises(ConfigError, match="neither a YAML nor the folder"):
        match_budget(tiny_run(match={"run": str(tmp_path / "nowhere")}))
    with pytest.raises(ConfigError, match="is a plan"):
        match_budget(tiny_run(match={"run": str(path), "by": "device_seconds"}))
    with pytest.raises(ConfigError, match=r"match.by: 'flop'"):
        tiny_run(match={"run": str(path), "by": "flop"})
    with pytest.raises(ConfigError, match=r"match.phase: 'decai'"):
        tiny_run(match={"run": str(path), "phase": "decai"})
    with pytest.raises(ConfigError, match="another architecture"):
        match_budget(tiny_run(match={"run": str(path)}, model={**asdict(detour.model), "size": "ettin-17m"}))
    with pytest.raises(ConfigError, match="already cost"):
        match_budget(tiny_run(match={"run": str(path)}, phases=[*TWIN[:1], {**TWIN[1], "tokens": 9000}]))
    matched = tmp_path / "matched.yaml"
    matched.write_text(to_yaml(tiny_run(match={"run": str(path)})))
    assert load(matched).match.run == str(path)
    with pytest.raises(ConfigError, match="itself matches"):
        match_budget(tiny_run(match={"run": str(matched)}))


CLM_ALONE = {
    "phases": [{"name": "detour", "objective": "clm", "tokens": 3000}],
    "schedule": {"peak_lr": 1e-3, "decay_phase": None},
}


def test_a_plan_prices_what_the_other_run_does_not_have(tiny_run, tmp_path):
    clm = tiny_run("clm", **CLM_ALONE)
    (tmp_path / "clm.yaml").write_text(to_yaml(clm))
    twin = match_budget(tiny_run("twin", phases=TWIN, match={"run": str(tmp_path / "clm.yaml"), "by": "flops"}))
    mine, theirs = (sum(line.flops for line in plan(run)) for run in (twin, clm))
    assert mine == pytest.approx(theirs, rel=2e-3)


def test_a_finished_run_prices_only_the_attention_that_it_trained(tiny_run):
    clm = tiny_run("clm", **CLM_ALONE)
    train(clm)
    with pytest.raises(ConfigError, match="no phase with bidirectional attention"):
        match_budget(tiny_run(match={"run": str(RunFolder.of(clm).path)}))
