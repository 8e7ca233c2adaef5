"""The page of a retention measurement: domain gain against general loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from detour.analysis.output import refuse_others, save
from detour.evaluation.models import Model
from detour.evaluation.probes.held_out_sets import HeldOutSet
from detour.evaluation.results.token_means import TokenMean
from detour.files import write_text
from detour.plotting import INK, MARKERS, OBJECTIVE_COLORS, truncate
from detour.report.page import inline_svg, page_environment
from detour.retention.measure import ROLES, TOGETHER, Retention, Role, measure

NAME = "retention"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options that affect the values.

    Attributes:
        window: Tokens per text window.
        tokens: Documents of a set are read until this many tokens are reached.
    """

    window: int = 512
    tokens: int = 200_000


def write_retention(
    models: Sequence[Model], domain: Sequence[HeldOutSet], general: Sequence[HeldOutSet], out: Path, settings: Settings
) -> list[Path]:
    """Measures the models, and writes ``retention`` as .html, .json, .csv, .png, and .svg; returns their paths.

    Args:
        models: The start model, then those that were trained from it.
        domain: Held-out texts of the domain.
        general: Held-out texts of other kinds.
        out: The folder.
        settings: Options.

    Raises:
        ConfigError: See `measure`; or ``out`` has the result of other inputs.
        DataError: A text cannot be read, or the models' tokenizers differ.
    """
    sets: dict[Role, Sequence[HeldOutSet]] = {"domain": domain, "general": general}
    inputs = {
        "models": {model.name: model.sha256 for model in models},
        **{role: {each.name: each.describe() for each in sets[role]} for role in ROLES},
    }
    refuse_others(out, NAME, inputs=inputs, settings=vars(settings))
    found = measure(models, sets, window=settings.window, tokens=settings.tokens)
    rows = found.rows()
    paths = save(
        out, NAME, inputs=inputs, settings=vars(settings), values={"rows": rows}, rows=rows,
        draw=lambda: draw_retention(found),
    )  # fmt: skip
    svg = next(path for path in paths if path.suffix == ".svg").read_text(encoding="utf-8")
    page = out / f"{NAME}.html"
    write_text(page, render(found, models, settings, svg))
    return [page, *paths]


def draw_retention(found: Retention) -> Figure:
    """General loss (x) and domain gain (y) of every model since the start model, with 95% intervals."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.axhline(0, color=INK, lw=0.8)
    axes.axvline(0, color=INK, lw=0.8)
    axes.plot([0], [0], marker="+", ms=11, color=INK, ls="none", label=f"{truncate(found.models[0])} (start)")
    for number, name in enumerate(found.models[1:]):
        general, gain = found.of(name, "general").change, negated(found.of(name, "domain").change)
        axes.errorbar(
            [general.mean], [gain.mean],
            xerr=[[general.mean - general.low], [general.high - general.mean]],
            yerr=[[gain.mean - gain.low], [gain.high - gain.mean]],
            fmt=MARKERS[number % len(MARKERS)], color=OBJECTIVE_COLORS[number % len(OBJECTIVE_COLORS)], capsize=3,
            label=truncate(name),
        )  # fmt: skip
    axes.set_xlabel("loss on general text (nats per token; right: forgotten)")
    axes.set_ylabel("gain on the domain (nats per token; up: learned)")
    axes.set_title("Domain gain against general loss")
    axes.legend()
    return figure


def negated(mean: TokenMean) -> TokenMean:
    """A gain from a change of the loss."""
    return TokenMean(mean=-mean.mean, low=-mean.high, high=-mean.low, documents=mean.documents, tokens=mean.tokens)


def render(found: Retention, models: Sequence[Model], settings: Settings, svg: str) -> str:
    """The page as HTML; one file without scripts or references to others."""
    summary = [
        {
            "model": name,
            "gain": negated(found.of(name, "domain").change),
            "lost": found.of(name, "general").change,
        }
        for name in found.models[1:]
    ]
    return (
        page_environment("detour.retention")
        .get_template("retention.html.j2")
        .render(
            found=found,
            together=TOGETHER,
            models=models,
            settings=settings,
            summary=summary,
            figure=inline_svg(svg, name=NAME, label="Domain gain against general loss, one point for each model"),
            interval=interval,
            sizes={role: found.of(found.models[0], role).loss for role in ROLES},
        )
    )


def interval(mean: TokenMean) -> str:
    """Mean and 95% interval as text: ``+0.123 [+0.101, +0.145]``."""
    if mean.low != mean.low:
        return f"{mean.mean:+.3f}"
    return f"{mean.mean:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
