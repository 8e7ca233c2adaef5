"""The commands of ``detour analyze`` that read scores: needle, decay, freeze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
Out = Annotated[
    Path,
    typer.Option(
        help="Folder for values (JSON, CSV) and figure (PNG, SVG). A result of other inputs is not overwritten."
    ),
]
Paper = Annotated[bool, typer.Option("--paper/--no-paper", help="Draw the paper's values behind.")]
Scores = Annotated[Path, typer.Argument(help="A folder that `detour eval run` wrote.", metavar="DIR")]


@app.command()
def needle(
    scores: Annotated[
        list[Path],
        typer.Argument(
            help="CSV files of `detour probe needle` or `detour probe presence`, written with --out.", metavar="FILE"
        ),
    ],
    out: Out,
    paper: Paper = True,
) -> None:
    """Needle accuracy by length and place, with 95% Wilson intervals."""
    from detour.analysis.curve_figures import draw_needle
    from detour.analysis.curves import CHANCE, needle_accuracies
    from detour.analysis.output import save

    found, inputs = needle_accuracies(scores)
    rows = [{**vars(point), "accuracy": point.accuracy} for point in found]
    probe = inputs["probe"]
    inputs |= {"scores": rows}  # they are read, not computed: other ones are other inputs
    for path in save(out, "needle", inputs=inputs, settings={"paper": paper}, values={"accuracies": rows}, rows=rows,
                     draw=lambda: draw_needle(found, chance=CHANCE[probe], with_paper=paper)):  # fmt: skip
        print(path)


@app.command()
def decay(
    scores: Scores,
    points: Annotated[
        list[str],
        typer.Argument(help="A model of the folder and its decay length as a fraction of the phase before, such as "
                            "clm/d10=0.1; models of one ARM form a curve.", metavar="ARM/MODEL=FRACTION"),
    ],
    out: Out,
    paper: Paper = True,
) -> None:  # fmt: skip
    """Mean score over tasks by decay length, with 95% intervals over fine-tuning seeds."""
    from detour.analysis.curve_figures import draw_decay
    from detour.analysis.curves import decay_points, mean_scores, parse_decay
    from detour.analysis.output import save

    parsed = parse_decay(points)
    summaries, inputs = mean_scores(scores, [model for _, model, _ in parsed])
    found = decay_points(parsed, summaries)
    rows = [
        {"arm": point.arm, "model": point.model, "decay_fraction": point.fraction, **vars(point.score)}
        for point in found
    ]
    inputs |= {"scores": rows}
    for path in save(out, "decay", inputs=inputs, settings={"paper": paper}, values={"points": rows}, rows=rows,
                     draw=lambda: draw_decay(found, with_paper=paper)):  # fmt: skip
        print(path)


@app.command()
def freeze(
    scores: Scores,
    twin: Annotated[str, typer.Argument(help="Name of the MLM twin in the folder.", metavar="TWIN")],
    detour: Annotated[str, typer.Argument(help="Name of the detour in the folder.", metavar="DETOUR")],
    frozen: Annotated[list[str], typer.Argument(help="Names of the models with frozen layers.", metavar="MODEL")],
    out: Out,
    paper: Paper = True,
) -> None:
    """The freeze table: mean scores, and the fraction of the detour's gain that each model keeps.

    The fraction is left out if the gain is not distinguishable from the noise between fine-tuning seeds (Welch's t, p < .05).
    """
    from detour.analysis.curve_figures import draw_freeze
    from detour.analysis.curves import freeze_rows, gain_p, mean_scores
    from detour.analysis.output import save
    from detour.evaluation.results.verdicts import ALPHA

    summaries, inputs = mean_scores(scores, [twin, detour, *frozen])
    p = gain_p(summaries[twin], summaries[detour])
    found = freeze_rows(twin, detour, frozen, summaries, is_gain_clear=p < ALPHA)
    if p >= ALPHA:
        print(
            f"gain kept is not shown: the gain of {detour} over {twin} is not distinguishable from noise (p = {p:.2g})"
        )
    rows = [{"model": row.model, **vars(row.score), "gain_kept": row.kept} for row in found]
    inputs |= {"twin": twin, "detour": detour, "scores": rows}
    for path in save(out, "freeze", inputs=inputs, settings={"paper": paper}, values={"rows": rows, "gain_p": p}, rows=rows,
                     draw=lambda: draw_freeze(found, with_paper=paper)):  # fmt: skip
        print(path)
