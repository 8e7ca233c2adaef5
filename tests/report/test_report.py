"""A run's report: its numbers are the run's, its page stands alone, and no state of a run folder stops it."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from detour import plotting
from detour.errors import DataError
from detour.plotting import OBJECTIVE_COLORS
from detour.report import figures
from detour.report.metrics_log import read_metrics, smooth, thin
from detour.report.run_history import read_run
from detour.report.write import write_report

PHASES = [("before", "mlm", 2000), ("detour", "clm", 2000), ("decay", "mlm", 1000)]
NAMES = ["loss", "learning_rate", "throughput", "gradient_norm"]
STEP, PER_TOKEN, RATE, PROCESSES = 210, 1e6, 5000.0, 2  # tokens a batch, FLOPs a token, tokens a second, devices


def line(batch: int, phases=PHASES, **values) -> dict:
    """Batch ``batch`` of a run whose batches hold STEP tokens."""
    bounds = np.cumsum([0, *(tokens for _, _, tokens in phases)])
    index = min(int(np.searchsorted(bounds, (batch - 1) * STEP, side="right")) - 1, len(phases) - 1)
    loss = 5 - 0.05 * batch
    return {
        "batch": batch, "token": batch * STEP, "phase/index": index, "lr": 1e-4 * batch, "grad_norm": 1.5,
        "loss/train/total": loss, f"loss/train/{phases[index][1]}": loss, "tokens/supervised": 60 * batch,
        "flops/total": PER_TOKEN * STEP * batch, "throughput/tokens_per_second": RATE,
        "throughput/flops_per_second_per_device": PER_TOKEN * RATE / PROCESSES,
        "throughput/mfu": 0.4, "steps/total": batch, **values,
    }  # fmt: skip


def evaluation(batch: int, names=("mlm", "clm")) -> list[dict]:
    return [
        {"batch": batch, "token": batch * STEP, f"loss/eval/{n}": 7.25 + i - 0.1 * batch} for i, n in enumerate(names)
    ]


def whole_run() -> list[dict]:
    """All 24 batches; the phases end after batches 10, 20 and 24."""
    lines = evaluation(0)
    for batch in range(1, 25):
        lines += [line(batch), *(evaluation(batch) if batch in (10, 15, 20, 24) else [])]
    return lines


def make(folder: Path, lines: list[dict], *, phases=PHASES, name="smoke", end="\n", **config) -> Path:
    folder.mkdir(parents=True)
    listed = [{"name": n, "objective": o, "tokens": t} for n, o, t in phases]
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": name, "phases": listed, **config}, allow_unicode=True))
    (folder / "environment.json").write_text(json.dumps({"torch": "9.8.7", "machine": "a <machine>"}))
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + end)
    return folder


def add_checkpoint(folder: Path, batch: int, entries: list[dict]) -> None:
    path = folder / "checkpoints" / f"tokens-{batch * STEP:015d}"
    path.mkdir(parents=True)
    state = {"timestamp": {"batch": batch, "token": batch * STEP}, "callbacks": {"Ledger": {"entries": entries}}}
    (path / "state.json").write_text(json.dumps(state))


def entry(phase: str, objective: str, **counts) -> dict:
    nothing = {
        "tokens": 0,
        "supervised": 0,
        "flops": 0.0,
        "device_seconds": 0.0,
        "matmul_flops": 0.0,
        "steps": 0,
        "skipped": 0,
    }
    return {"phase": phase, "objective": objective, **nothing, **counts}


def rows_of(page: str) -> list[list[str]]:
    """The tables' cells, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished run, with its report."""
    folder = make(tmp_path_factory.mktemp("runs") / "smoke", whole_run(), optimizer={"clip_norm": 1.0})
    counts = {"supervised": 1234, "flops": 4.5678e15, "device_seconds": 321.5, "matmul_flops": 9.1356e15}
    entries = [
        entry("before", "mlm", tokens=2100, steps=10, **counts),
        entry("detour", "clm", tokens=2100, steps=10, **counts),
        entry("decay", "mlm", tokens=840, steps=4, **counts),
    ]
    add_checkpoint(folder, 24, entries)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "report" / "index.html").read_text()


def test_every_figure_is_there_as_png_and_svg(finished: Path, page: str):
    for name in NAMES:
        assert (finished / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (finished / "report" / f"{name}.svg").read_text()
    assert page.count("<svg ") == len(NAMES)


def test_the_page_stands_alone(page: str):
    class References(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "iframe", "img", "object", "embed", "base")
            self.found += [
                value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "data")
            ]

    parser = References()
    parser.found = []
    parser.feed(page)
    assert parser.found  # the figures use their own marks
    assert all(reference.startswith("#") for reference in parser.found)
    assert "http" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_and_every_reference_is_answered(page: str):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


def test_colors_follow_light_and_dark(page: str):
    body = page[page.index("<body>") :]
    assert "var(--objective-0)" in body
    assert not re.search(r"(fill|stroke): #", body.replace("#000000", ""))


def test_phase_table_is_the_ledgers(page: str):
    rows = {row[0]: row for row in rows_of(page) if len(row) == 10}
    assert rows["before"] == ["before", "mlm", "2,000", "2,100", "1,234", "10", "4.568e15", "321.5", "50%", "5,000"]
    assert rows["decay"] == ["decay", "mlm", "1,000", "840", "1,234", "4", "4.568e15", "321.5", "50%", "5,000"]
    assert rows["All"][2:8] == ["5,000", "5,040", "3,702", "24", "1.370e16", "964.5"]


def test_each_phase_has_its_rates_and_held_out_losses_at_both_ends(page: str):
    rows = {row[0]: row for row in rows_of(page) if len(row) == 8}
    assert rows["before"] == ["before", "mlm", "1e-4", "1e-3", "7.2500", "6.2500", "8.2500", "7.2500"]
    assert rows["detour"] == ["detour", "clm", "1.1e-3", "2e-3", "6.2500", "5.2500", "7.2500", "6.2500"]


def test_status_configuration_and_environment_are_shown(finished: Path, page: str):
    assert "complete</span><span>5,040 tokens of 5,000 planned" in page
    assert "<summary>config.yaml</summary><pre>" + (finished / "config.yaml").read_text() in page
    assert '<th scope="row">torch</th><td>9.8.7</td>' in page
    assert "a &lt;machine&gt;" in page


def test_the_same_run_gives_the_same_files(finished: Path, tmp_path: Path):
    again = write_report(finished, tmp_path / "elsewhere")
    assert again == tmp_path / "elsewhere" / "index.html"
    for path in again.parent.iterdir():
        assert path.read_bytes() == (finished / "report" / path.name).read_bytes()


def test_each_objective_has_its_own_series_and_the_flip_shows(finished: Path):
    run = read_run(finished)
    figure = Figure(layout="constrained")
    with matplotlib.rc_context(plotting.STYLE):
        figures._loss(figure, run)
    lines = figure.axes[0].get_lines()
    thick = {(line.get_color(), float(line.get_xdata()[0])) for line in lines if line.get_linewidth() == 2}
    mlm, clm = OBJECTIVE_COLORS[:2]
    assert thick == {(mlm, 0.0), (clm, 2100.0), (mlm, 4200.0)}
    marked = {}
    for line in lines:
        if line.get_marker() in ("o", "s"):
            filled = line.get_markerfacecolor() == line.get_color()
            marked[line.get_color(), filled] = [int(x) for x in line.get_xdata()]
    assert marked == {
        (mlm, True): [0, 2100, 5040],
        (mlm, False): [3150, 4200],
        (clm, True): [3150, 4200],
        (clm, False): [0, 2100, 5040],
    }


def test_batches_after_the_newest_checkpoint_are_counted_from_the_lines(tmp_path: Path):
    left_out = 13
    lines = [line(batch, **{"steps/total": batch - (batch >= left_out)}) for batch in range(1, 16)]
    folder = make(tmp_path / "run", lines)
    counts = {"tokens": 2100, "supervised": 600, "flops": 2100 * PER_TOKEN, "device_seconds": 0.84, "steps": 10}
    add_checkpoint(folder, 10, [entry("before", "mlm", **counts), entry("detour", "clm"), entry("decay", "mlm")])
    whole = read_run(folder)
    add_checkpoint(folder, 99, [])  # of another past: the lines do not reach it
    assert read_run(folder).phases == whole.phases
    before, detour, decay = whole.phases
    assert (before.tokens, before.supervised, before.steps) == (2100, 600, 10)
    assert (detour.start, detour.tokens, detour.supervised, detour.steps) == (2100, 1050, 300, 4)
    assert detour.flops == pytest.approx(1050 * PER_TOKEN)
    assert detour.device_seconds == pytest.approx(PROCESSES * 1050 / RATE)
    assert detour.mfu == pytest.approx(0.4)
    assert math.isnan(before.mfu), "recorded by a version that did not measure it"
    assert (decay.tokens, decay.lr) == (0, None)
    assert any("newest checkpoint" in note for note in whole.notes)


def test_a_half_written_last_line_is_tolerated_and_told(tmp_path: Path):
    folder = make(tmp_path / "run", whole_run()[:16], end='\n{"batch": 14, "token": 29')
    page = write_report(folder).read_text()
    assert "truncated" in page
    assert f"at token {12 * STEP:,} of 5,000" in page


def test_a_batch_recorded_twice_counts_once(tmp_path: Path):
    lines = [*(line(batch) for batch in range(1, 9)), *evaluation(8), line(6), line(7, **{"loss/train/total": 1.0})]
    metrics = read_metrics(make(tmp_path / "run", lines) / "metrics.jsonl")
    assert metrics.column("batch").tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert metrics.column("loss/train/total")[-1] == 1.0
    assert metrics.evaluations == {}
    assert any("twice" in note for note in metrics.notes)


@pytest.mark.parametrize("lines", [[], evaluation(0), [line(1)], [*evaluation(0), line(1)]])
def test_a_run_that_has_hardly_begun_has_a_report(tmp_path: Path, lines: list[dict]):
    assert "not complete" in write_report(make(tmp_path / "run", lines)).read_text()


def test_values_that_are_not_numbers_leave_gaps_and_a_note(tmp_path: Path):
    bad = {"loss/train/total": math.nan, "grad_norm": math.inf, "throughput/tokens_per_second": math.nan}
    lines = [line(batch, **(bad if batch in (3, 4) else {})) for batch in range(1, 8)]
    lines += [{"batch": 7, "token": 7 * STEP, "loss/eval/mlm": math.nan, "loss/eval/clm": 2.0}]
    page = write_report(make(tmp_path / "run", lines)).read_text()
    assert f"2 training losses are not finite, the first at token {2 * STEP}" in page
    assert "1 held-out losses (mlm) are not finite" in page
    nowhere = [line(batch, **bad) for batch in range(1, 4)]
    assert "3 gradient norms" in write_report(make(tmp_path / "nowhere", nowhere)).read_text()


def test_foreign_objectives_and_hostile_names_are_shown_as_they_are(tmp_path: Path):
    phases = [("$a_{b$ --> <i>", "_ul2<b>", 400), ("漢字" * 20, "span mlm", 400), ("short & \x85", "mlm", 20)]
    lines = [*(line(batch, phases) for batch in range(1, 6)), *evaluation(5, ["_ul2<b>", "clm"])]
    name = "<script>alert('x')</script>"
    page = write_report(make(tmp_path / "run", lines, phases=phases, name=name)).read_text()
    assert "<title>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;</title>" in page
    assert not re.search(r"<(script|b|i)>", page)
    assert "Held-out _ul2&lt;b&gt;" in page
    assert "$a_{b$ --&gt; &lt;i&gt;" in page


def test_a_single_phase_without_evaluations(tmp_path: Path):
    phases = [("only", "mlm", 1000)]
    page = write_report(
        make(tmp_path / "run", [line(batch, phases) for batch in range(1, 6)], phases=phases)
    ).read_text()
    assert "No held-out loss was recorded." in page
    assert "1,050 tokens of 1,000 planned" in page


def test_what_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent: no such folder"):
        write_report(tmp_path / "absent")
    folder = make(tmp_path / "run", whole_run())
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match=r"no metrics\.jsonl"):
        write_report(folder)
    (folder / "metrics.jsonl").touch()
    for text in ("phases: []", "phases: [{name: a}]", "a string", "a: [", "phases: 3"):
        (folder / "config.yaml").write_text(text)
        with pytest.raises(DataError, match=r"config\.yaml: not the configuration of a run"):
            write_report(folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"no config\.yaml"):
        write_report(folder)
    assert not (folder / "report").exists()


def test_a_smoothed_constant_is_that_constant():
    values_N = np.array([2.0, 2.0, np.nan, 2.0, np.inf, 2.0])
    line_N = smooth(values_N, 3)
    assert np.isnan(line_N[[2, 4]]).all()
    np.testing.assert_allclose(line_N[[0, 1, 3, 5]], 2.0)


def test_a_thinned_line_keeps_its_ends_and_extremes():
    values_N = np.sin(np.arange(5000) / 3)
    values_N[1234], values_N[4321], values_N[100:300] = 50, -50, np.nan
    some = thin(values_N, 200)
    assert len(some) <= 200
    assert {0, 1234, 4321, 4999} <= set(some.tolist())
    assert np.isnan(values_N[some]).any()
    assert thin(values_N[:200], 200).tolist() == list(range(200))


def test_a_thinned_line_keeps_its_last_point_where_that_is_no_extreme():
    values_N = np.arange(5000.0)
    values_N[-1] = 4998.5
    assert thin(values_N, 200)[-1] == 4999
    values_N[-1] = 2500.0
    values_N[-2] = 4997.5  # neither of the last two is an extreme of its interval
    assert thin(values_N, 200)[-1] == 4999


@pytest.mark.parametrize(("first", "before"), [(1, 0.0), (2, 2 * STEP)])
def test_a_curve_begins_at_token_0_only_if_the_first_batch_is_recorded(tmp_path: Path, first: int, before: float):
    metrics = read_metrics(make(tmp_path / "run", [line(first), line(first + 1)]) / "metrics.jsonl")
    assert metrics.column("before").tolist() == [before, first * STEP]


def test_no_tokens_are_seen_before_the_first_line(tmp_path: Path):
    assert read_metrics(make(tmp_path / "run", []) / "metrics.jsonl").tokens_seen == 0


@pytest.mark.parametrize(("damaged", "named"), [(5, "1, 2, 3, 4, 5)"), (6, "1, 2, 3, 4, 5, ...)")])
def test_five_unreadable_lines_are_named_and_all_are_counted(tmp_path: Path, damaged: int, named: str):
    path = make(tmp_path / "run", [line(1)]) / "metrics.jsonl"
    path.write_text("{\n" * damaged + path.read_text())
    assert read_metrics(path).notes == [
        f"Unreadable lines of metrics.jsonl that were skipped: {damaged} (line {named}."
    ]
