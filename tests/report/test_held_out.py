"""What a report says of held-out losses: under which options, on which folders, how sure, and where they break."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from detour import plotting
from detour.plotting import INK
from detour.report import figures
from detour.report.run_history import read_run
from detour.report.write import write_report

STEP = 100
PHASES = [("before", "mlm", 1000, {}), ("detour", "clm", 1000, {}), ("decay", "mlm", 500, {"rate": 0.15})]
FOLDERS = {"medquad": 0.5, "wiki fr": -0.25}  # how far each is from the loss on all


def loss_at(token: int, objective: str) -> float:
    return {"mlm": 6.0, "clm": 7.0}[objective] - token / 1000


def evaluation(token: int, *, folders: bool = True, sd: float | None = None) -> list[dict]:
    lines = []
    for name in ("mlm", "clm"):
        line = {"batch": token // STEP, "token": token, f"loss/eval/{name}": loss_at(token, name)}
        for folder, more in FOLDERS.items() if folders else ():
            line[f"loss/eval_folder/{name}/{folder}"] = loss_at(token, name) + more
        if sd is not None and name == "mlm":
            line["loss/eval_sd/mlm"] = sd
        lines.append(line)
    return lines


def batch(number: int, overrun: int = 0) -> dict:
    index = min(2, (number - 1) * STEP // 1000)
    token = number * STEP + overrun
    return {"batch": number, "token": token, "phase/index": index, "lr": 1e-3, "loss/train/total": 5.0}


def make(folder: Path, lines: list[dict], *, recorded: bool = True, mlm: dict | None = None) -> Path:
    folder.mkdir(parents=True)
    phases = [{"name": n, "objective": o, "tokens": t, "options": options} for n, o, t, options in PHASES]
    objectives = {"mlm": {"rate": 0.15} if mlm is None else mlm, "clm": None}
    config = {"name": "run", "phases": phases, "evaluation": {"objectives": objectives}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if recorded:
        folders = [
            {"name": name, "rows": 6 - i, "of": 40, "sha256": "ab", "drawn": "cd"} for i, name in enumerate(FOLDERS)
        ]
        options = {"mlm": {"mask_fraction": 0.8, **objectives["mlm"]}, "clm": {}}
        default = {"rate": 0.3, "mask_fraction": 0.8}
        trained = {"before": default, "detour": {}, "decay": {**default, "rate": 0.15}}
        held_out = {"folders": folders, "seed": 17, "mask_draws": 3, "objectives": options}
        (folder / "evaluation.json").write_text(json.dumps({"training": trained, "held_out": held_out}))
    return folder


def whole(**options) -> list[dict]:
    lines = evaluation(0, **options)
    for number in range(1, 26):
        lines += [batch(number), *(evaluation(number * STEP, **options) if number in (5, 10, 20, 25) else [])]
    return lines


def page_of(folder: Path) -> str:
    """The page without its figures, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detour.report.write.save_figures", lambda *_: {})
        return write_report(folder).read_text()


def drawn(folder: Path, build) -> Figure:
    figure = Figure(layout="constrained")
    with matplotlib.rc_context(plotting.STYLE):
        build(figure, read_run(folder))
    return figure


def rows_of(page: str) -> dict[str, list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    cells = [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]
    return {row[0]: row for row in cells if row}


def test_training_and_held_out_losses_are_told_apart_by_their_rates(tmp_path):
    """The first phase leaves its rate at the default, 0.3, which evaluation.json records."""
    folder = make(tmp_path / "run", whole())
    (legend,) = drawn(folder, figures._loss).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:4] == [
        "training, mlm (rate 0.3, then rate 0.15)",
        "held-out, mlm (rate 0.15)",
        "training, clm",
        "held-out, clm",
    ]
    page = write_report(folder).read_text()
    assert rows_of(page)["before"][1] == "mlm (rate 0.3)"
    assert rows_of(page)["decay"][1] == "mlm (rate 0.15)"
    assert "Held-out mlm (rate 0.15)</th>" in page
    assert (
        "Training mlm (rate 0.3, then rate 0.15) and held-out mlm (rate 0.15) are different tasks; their losses are "
        "not comparable." in page
    )
    assert "Training clm" not in page


def test_a_default_that_was_not_recorded_is_called_so(tmp_path):
    page = page_of(make(tmp_path / "run", whole(), recorded=False))
    assert rows_of(page)["before"][1] == "mlm (default rate)"


def test_options_that_nothing_sets_are_not_told(tmp_path):
    folder = make(tmp_path / "run", whole(), mlm={"rate": 0.3})
    assert "mask_fraction" not in page_of(folder)


def widths(page: str, opacity: str) -> list[float]:
    return [float(width) for width in re.findall(rf"width:([0-9.]+)%;[^\"]*opacity:{re.escape(opacity)}\"", page)]


def test_a_complete_run_s_bar_is_full_though_a_phase_ran_into_the_next(tmp_path):
    """Batches of 100 tokens; the detour's last one ends at 2030, so that the decay has 470 of its 500 tokens."""
    lines = [batch(number, overrun=30 if number >= 20 else 0) for number in range(1, 25)]
    lines += [{**batch(25), "token": 2500}]
    page = page_of(make(tmp_path / "run", lines))
    assert "complete</span>" in page
    assert "2,500 tokens of 2,500 planned" in page
    assert widths(page, "1.0") == [40, 40, 20]
    assert widths(page, "0.25") == []


def test_an_open_run_s_bar_is_pale_from_where_it_stands(tmp_path):
    page = page_of(make(tmp_path / "run", [batch(number) for number in range(1, 16)]))
    assert widths(page, "1.0") == [40, 20]
    assert widths(page, "0.25") == [20, 20]


def test_each_folder_has_its_losses_in_a_table_and_a_figure(tmp_path):
    folder = make(tmp_path / "run", whole())
    page = write_report(folder).read_text()
    rows = rows_of(page)
    assert rows["Held-out clm"][2:] == ["start", "end of before", "end of detour", "end of decay"]
    assert rows["medquad"][2:] == ["7.5000", "6.5000", "5.5000", "5.0000"]  # of clm, which comes last
    assert rows["all together"][2:] == ["7.0000", "6.0000", "5.0000", "4.5000"]
    assert (
        "Held-out rows: 6 of 40 of medquad, 5 of 40 of wiki fr; rows and masks are drawn from evaluation.seed 17"
        in page
    )
    assert (folder / "report" / "held_out_by_folder.png").exists()
    figure = drawn(folder, figures._by_folder)
    for axes, objective in zip(figure.axes, ("mlm", "clm"), strict=True):
        curves = [list(zip(*line.get_data(), strict=True)) for line in axes.get_lines() if len(line.get_xdata()) == 5]
        expected = [
            [(t, loss_at(t, objective) + more) for t in (0, 500, 1000, 2000, 2500)] for more in (*FOLDERS.values(), 0)
        ]
        np.testing.assert_allclose(curves, expected)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all together", *FOLDERS]


def test_one_folder_needs_neither(tmp_path):
    folder = make(tmp_path / "run", whole(folders=False))
    assert "by folder" not in write_report(folder).read_text()
    assert not (folder / "report" / "held_out_by_folder.png").exists()


def test_the_spread_over_mask_draws_is_in_table_and_figure(tmp_path):
    folder = make(tmp_path / "run", whole(sd=0.0625))
    page = page_of(folder)
    assert rows_of(page)["detour"][4:8] == ["5.0000 ± 0.0625", "4.0000 ± 0.0625", "6.0000", "5.0000"]
    assert "± is the standard deviation over 3 mask draws" in page
    bars = [c for c in drawn(folder, figures._loss).axes[0].containers if c.has_yerr]
    (segments,) = [bar.lines[2][0].get_segments() for bar in bars]
    np.testing.assert_allclose(segments[1], [[500, 5.5 - 0.0625], [500, 5.5 + 0.0625]])


def test_a_measure_that_changed_is_marked_and_no_line_crosses_it(tmp_path):
    lines = whole()
    at = next(i for i, line in enumerate(lines) if line["batch"] == 11)
    lines.insert(at, {"batch": 10, "token": 1000, "measurement": ["evaluation.seed: was 17, now 4"]})
    folder = make(tmp_path / "run", lines)
    page = page_of(folder)
    rows = rows_of(page)
    assert rows["before"][4:6] == ["6.0000", "5.0000"]
    assert rows["detour"][4:6] == ["5.0000", "4.0000†"]
    assert "† From token 1,000 on, the evaluation settings differ; held-out losses are not comparable" in page
    assert "evaluation.seed: was 17, now 4" in page
    axes = drawn(folder, figures._loss).axes[0]
    joined = {
        tuple(line.get_xdata())
        for line in axes.get_lines()
        if len(line.get_xdata()) == 2 and line.get_marker() == "None"
    }
    assert {(0, 500), (500, 1000), (2000, 2500)} <= joined
    assert (1000, 2000) not in joined
    curves = [line.get_ydata() for line in drawn(folder, figures._by_folder).axes[0].get_lines()]
    gaps = [np.isnan(curve).tolist() for curve in curves if len(curve) > 2]
    assert gaps == [[False, False, False, True, False, False]] * 3, "after token 1000"
    assert any(line.get_color() == INK and list(line.get_xdata()) == [1000, 1000] for line in axes.get_lines())


def test_a_batch_that_comes_twice_drops_what_was_recorded_of_its_first_time(tmp_path):
    lines = [*whole()[:18], {"batch": 12, "token": 1200, "measurement": ["x"]}, *evaluation(1300), batch(11), batch(12)]
    metrics = read_run(make(tmp_path / "run", lines)).metrics
    assert metrics.changes == {}
    assert list(metrics.by_folder["mlm"]["medquad"]) == [0, 500, 1000]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"held_out": 3, "training": []}',
        '{"held_out": {"folders": 1}}',
        '{"held_out": {"folders": [{}, 1]}}',
    ],
)
def test_a_damaged_record_stops_no_report(tmp_path, text):
    folder = make(tmp_path / "run", whole(), recorded=False)
    (folder / "evaluation.json").write_text(text)
    assert "mlm (default rate)" in page_of(folder)


def test_the_options_of_turns_are_told_beside_those_of_phases(tmp_path):
    folder = make(tmp_path / "run", [batch(1), *evaluation(STEP)])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    turns = [{"objective": "mlm", "options": {"rate": 0.4}}, {"objective": "clm"}]
    config["phases"][0] |= {"objective": "alternate", "options": {"turns": turns}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = read_run(folder)
    assert run.phases[0].uses[1:] == [("mlm", "rate 0.4"), ("clm", "")]
    assert run.training_label("mlm") == "mlm (rate 0.4, then rate 0.15)"
