"""One HTML page without a network, scripts or other files: its frame, its style, and SVG that follows light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from detour.plotting import GRID, INK, MUTED, OBJECTIVE_COLORS, PAPER

# on a dark ground the objectives' colors need more light; the order is that of OBJECTIVE_COLORS
_DARK_OBJECTIVES = ["#58b0f0", "#ff8a4c", "#35d0a0", "#eaa3cc", "#f5bd45", "#a6dcff", "#a9b1ba"]
_LIGHT = {"ink": INK, "muted": MUTED, "grid": GRID, "card": PAPER, "page": "#f4f6f8", "warn": "#9a3412"}
_DARK = {
    "ink": "#e6e9ed",
    "muted": "#a3adb8",
    "grid": "#343b44",
    "card": "#191d23",
    "page": "#101317",
    "warn": "#fdba74",
}


def _variables(named: dict[str, str], objectives: list[str]) -> str:
    every = {**named, **{f"objective-{index}": color for index, color in enumerate(objectives)}}
    return "".join(f"--{name}:{color};" for name, color in every.items())


_STYLE = f"""
:root {{ color-scheme: light; {_variables(_LIGHT, OBJECTIVE_COLORS)} }}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ color-scheme: dark; {_variables(_DARK, _DARK_OBJECTIVES)} }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Helvetica, Arial, sans-serif; }}
main {{ max-width: 1180px; margin: 0 auto; padding: 2rem 1.25rem 3rem; }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .6rem; }}
.status {{ display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .9rem; margin: 0; }}
.badge {{ border: 1px solid currentColor; border-radius: 1rem; padding: .05rem .7rem; font-weight: 600; }}
.done {{ color: var(--objective-2); }} .open {{ color: var(--warn); }}
.bar {{ display: flex; height: .55rem; border-radius: .3rem; overflow: hidden; background: var(--grid); margin: .8rem 0 0;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.bar span {{ display: block; height: 100%; border-right: 1px solid var(--page); }}
.card {{ background: var(--card); border: 1px solid var(--grid); border-radius: .6rem; padding: .9rem 1rem; margin: 0 0 1rem; }}
.scroll {{ overflow-x: auto; padding: 0; }}
figure {{ break-inside: avoid; }}
figure svg {{ display: block; width: 100%; height: auto; }}
figure svg text {{ font-family: inherit !important; }}
figcaption {{ color: var(--muted); font-size: .85rem; margin-top: .4rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .42rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }}
th {{ font-weight: 600; vertical-align: bottom; }}
thead th {{ color: var(--muted); white-space: normal; }}
thead th[colspan] {{ text-align: center; border-bottom: 0; padding-bottom: 0; }}
tbody tr:last-child > *, tfoot tr:last-child > * {{ border-bottom: 0; }}
tfoot {{ font-weight: 600; }} tfoot tr > * {{ border-top: 2px solid var(--grid); }}
.text {{ text-align: left; white-space: normal; overflow-wrap: anywhere; max-width: 15rem; }}
.text:not(:empty) {{ min-width: 8rem; }}
.dot {{ display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
td small {{ display: block; color: var(--muted); font-size: .92em; line-height: 1.1; }}
.none {{ color: var(--muted); }}
.pairs {{ width: auto; }} .pairs td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
.pairs th {{ text-align: left; color: var(--muted); }}
ul {{ margin: 0; padding-left: 1.2rem; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ margin: .8rem 0 0; overflow-x: auto; font: .82rem/1.45 ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; }}
@page {{ size: A4; margin: 12mm; }}
@media print {{
  body {{ background: none; font-size: 12px; }} main {{ max-width: none; padding: 0; }}
  h2 {{ break-after: avoid; }} .card {{ border: 0; padding: 0; }} .scroll {{ overflow: visible; }} table {{ font-size: 9.5px; }}
  th, td {{ padding: .25rem .35rem; }} pre {{ white-space: pre-wrap; }}
  details::details-content {{ content-visibility: visible; display: block; }}
}}
"""


def page(*, title: str, body: str) -> str:
    """The whole document. ``title`` is plain text, ``body`` is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Anything as HTML text, also fit for an attribute."""
    return escape(str(value), quote=True)


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, both plain text."""
    lines = "".join(f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in rows)
    return f'<table class="pairs"><tbody>{lines}</tbody></table>'


def bullets(lines: Sequence[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def inline_svg(svg: str, *, name: str, label: str) -> str:
    """A figure's SVG as an element of the page: its colors follow the page, its ids are its own.

    Args:
        svg: A file that `detour.report.figures` wrote.
        name: Prefix of its ids; another one for each figure of a page.
        label: What it shows, plain text, for those who cannot see it.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    start, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', start)
    assert box is not None
    rest = re.sub(r'\bid="', f'id="{name}-', rest)
    rest = rest.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    colors = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "card"}
    colors |= {color: f"objective-{index}" for index, color in enumerate(OBJECTIVE_COLORS)}
    for color, variable in colors.items():
        rest = rest.replace(f": {color}", f": var(--{variable})")
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{text(label)}">{rest}'
