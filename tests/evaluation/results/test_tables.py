"""Tables, parsed as their readers parse them: the values in them, what is bold, and names that would be markup."""

from __future__ import annotations

import csv
import html
import io
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexMacroNode, LatexWalker

from detour.evaluation.results import tables
from detour.evaluation.results.statistics import Comparison, Difference, Summary
from detour.evaluation.results.tables import Row
from detour.markup import markdown

HOSTILE = [
    r"\input{/etc/passwd}", "$x$", "a & b", "50%", "#1", "{", "}", "~", "^", "a_b", "_a_", "*a*", "**", "`c`", "a|b", "\\",
    "<script>alert(1)</script>", "&lt;", "![i](j)", "[a](b)", "[1]", "=1+1", "+1", "-1", "@sum", "\t=1", "a\nb", "a\r\nb",
    "1. a", "# a", '"', "été",
]  # fmt: skip
SIGNS = st.text(st.sampled_from('\\{}$&#^_~%<>|[]*+=@.:;/\n"ab1 '), min_size=1, max_size=8)


def as_shown(name: str) -> str:
    return " ".join(name.split())


def markdown_rows(text: str) -> list[list[tuple[str, bool]]]:
    """Each cell's text and whether it is bold; any other markup fails."""
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", rendered, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    assert rendered.startswith("<table>")
    assert rendered.rstrip().endswith("</table>")
    assert set(re.findall(r"<[^>]*>", "".join(map("".join, cells)))) <= {"<strong>", "</strong>"}
    return [[(as_shown(html.unescape(re.sub(r"<[^>]*>", "", c))), "<strong>" in c) for c in row] for row in cells]


def latex_rows(text: str) -> list[list[tuple[str, bool]]]:
    """The same of a LaTeX table, by a parser of LaTeX."""
    lines = text.splitlines()
    assert lines[0].startswith("\\begin{tabular}")
    assert [lines[1], lines[3], *lines[-2:]] == ["\\toprule", "\\midrule", "\\bottomrule", "\\end{tabular}"]
    rows = []
    for line in [lines[2], *lines[4:-2]]:
        assert line.endswith(" \\\\")
        cells = line.removesuffix(" \\\\").split(" & ")
        for cell in cells:
            nodes, *_ = LatexWalker(cell, tolerant_parsing=False).get_latex_nodes()
            assert {n.macroname for n in nodes if n.isNodeType(LatexMacroNode)} <= {*"%&#_${}", *NAMES}
        rows.append([(as_shown(TO_TEXT.latex_to_text(cell)).replace("ˆ", "^"), "\\textbf" in cell) for cell in cells])
    return rows


NAMES = {"textbf", "textbackslash", "textasciitilde", "textasciicircum"}
TO_TEXT = LatexNodes2Text(keep_comments=True)


def summary(mean: float, sd: float = 0.01, n: int = 4) -> Summary:
    return Summary(n=n, mean=mean, sd=sd, low=mean - 0.02, high=mean + 0.03)


def row(name: str, model: str = "m") -> Row:
    return Row(task=name, language="en", metric="macro_f1", summaries={model: summary(0.5)})


def test_a_cell_is_the_mean_the_deviation_and_the_interval_in_points_and_the_clear_best_is_bold():
    """Not the highest mean: that says nothing where the spread is larger than the difference."""
    one = {"twin": summary(0.8123), "detour": summary(0.8), "absent": summary(0.8, n=2)}
    rows = [
        Row(task="a", language="en", metric="span_micro_f1", summaries=one, best="detour"),
        Row(task="b", language="fr", metric="accuracy", summaries={"twin": summary(0.9), "detour": summary(0.1)}),
    ]
    models = ["twin", "detour", "absent"]
    wanted = [
        [(name, False) for name in ("task", "metric", "seeds", *models)],
        [
            ("a", False), ("micro F1, exact spans", False), ("2 to 4", False), ("81.2 ± 1.0 [79.2, 84.2]", False),
            ("80.0 ± 1.0 [78.0, 83.0]", True), ("80.0 ± 1.0 [78.0, 83.0]", False),
        ],
        [
            ("b", False), ("accuracy", False), ("4", False), ("90.0 ± 1.0 [88.0, 93.0]", False),
            ("10.0 ± 1.0 [8.0, 13.0]", False), ("–", False),
        ],
    ]  # fmt: skip
    assert markdown_rows(tables.scores_markdown(rows, models))[0] == wanted[0]
    assert [line for line in markdown_rows(tables.scores_markdown(rows, models)) if line] == wanted
    assert latex_rows(tables.scores_latex(rows, models)) == wanted
    read = list(csv.DictReader(io.StringIO(tables.scores_csv(rows))))
    assert [(r["task"], r["language"], r["metric"], r["model"], r["seeds"]) for r in read] == [
        ("a", "en", "span_micro_f1", "twin", "4"),
        ("a", "en", "span_micro_f1", "detour", "4"),
        ("a", "en", "span_micro_f1", "absent", "2"),
        ("b", "fr", "accuracy", "twin", "4"),
        ("b", "fr", "accuracy", "detour", "4"),
    ]
    assert [float(r["mean"]) for r in read] == [0.8123, 0.8, 0.8, 0.9, 0.1]
    assert [float(read[0][key]) for key in ("sd", "low", "high")] == pytest.approx([0.01, 0.7923, 0.8423])


def test_differences_are_in_points_with_their_signs():
    known = Difference(
        task="a", summary=summary(0.0123), p=0.0321, p_holm=0.0642, minimum_detectable_effect=0.0456, seeds_needed=17
    )
    alone = Summary(n=1, mean=-0.02, sd=math.nan, low=math.nan, high=math.nan)
    unknown = Difference(
        task="b", summary=alone, p=math.nan, p_holm=math.nan, minimum_detectable_effect=math.nan, seeds_needed=None
    )
    tiny = Difference(
        task="c", summary=summary(0.1), p=1e-5, p_holm=9.99e-4, minimum_detectable_effect=0.001, seeds_needed=2
    )
    comparison = Comparison(
        model="detour", baseline="twin", tasks=[known, unknown, tiny], mean=0.0, low=0.0, high=0.0, p=1.0, wins=2, losses=1,
        significant_wins=1, significant_losses=0,
    )  # fmt: skip
    metrics = {"a": "accuracy", "b": "exact_match", "c": "pearson"}
    wanted = [
        [
            "task",
            "metric",
            "seeds",
            "difference",
            "95% interval",
            "p",
            "p (Holm)",
            "minimum detectable effect",
            "seeds needed",
        ],
        ["a", "accuracy", "4", "+1.2", "[-0.8, +4.2]", "0.032", "0.064", "4.6", "17"],
        ["b", "exact match", "1", "-2.0", "–", "–", "–", "–", "–"],
        ["c", "pearson", "4", "+10.0", "[+8.0, +13.0]", "<0.001", "<0.001", "0.1", "2"],
    ]
    for rows in (
        markdown_rows(tables.differences_markdown(comparison, metrics)),
        latex_rows(tables.differences_latex(comparison, metrics)),
    ):
        assert [[cell for cell, _ in line] for line in rows] == wanted
        assert not any(bold for line in rows for _, bold in line)
    first, second, _ = csv.DictReader(io.StringIO(tables.differences_csv([comparison], metrics)))
    assert (first["model"], first["baseline"], first["task"], first["metric"]) == ("detour", "twin", "a", "accuracy")
    values = [
        float(first[key])
        for key in ("seeds", "difference", "sd", "low", "high", "p", "p_holm", "minimum_detectable_effect")
    ]
    assert values == pytest.approx([4, 0.0123, 0.01, -0.0077, 0.0423, 0.0321, 0.0642, 0.0456])
    assert first["seeds_needed"] == "17"
    assert [
        second[key] for key in ("sd", "low", "high", "p", "p_holm", "minimum_detectable_effect", "seeds_needed")
    ] == [""] * 7


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is_in_markdown_and_latex(name):
    rows = [row(name, name)]
    shown = as_shown(name)
    for header, line in (
        markdown_rows(tables.scores_markdown(rows, [name])),
        latex_rows(tables.scores_latex(rows, [name])),
    ):
        assert header[-1] == (shown, False)
        assert line[0] == (shown, False)


@given(SIGNS)
@settings(deadline=None)
def test_no_name_is_markup(name):
    rows = [row(name, name)]
    for parsed in (
        markdown_rows(tables.scores_markdown(rows, [name])),
        latex_rows(tables.scores_latex(rows, [name])),
    ):
        assert [len(line) for line in parsed] == [4, 4]
        assert parsed[0][-1][0] == parsed[1][0][0] == as_shown(name)


@given(SIGNS)
@settings(deadline=None)
def test_a_name_in_a_heading_or_a_list_is_text(name):
    for before, tag in (("## ", "h2"), ("- ", "li")):
        rendered = MarkdownIt("commonmark").render(f"{before}{markdown(name)}\n")
        assert set(re.findall(r"<([^/>]*)>", rendered)) <= {"ul", tag}
        assert as_shown(html.unescape(re.sub(r"<[^>]*>", "", rendered))) == as_shown(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_spreadsheet_runs_no_name(name):
    """OWASP's list of first characters: = + - @ tab carriage-return."""
    line = next(csv.DictReader(io.StringIO(tables.scores_csv([row(name, name)]), newline="")))
    for cell in (line["task"], line["model"]):
        assert cell[0] not in "=+-@\t\r"
        assert cell.lstrip()[0] not in "=+-@"
        assert cell.removeprefix("'") == name
    assert float(line["mean"]) == 0.5


@pytest.mark.parametrize(("p", "shown"), [(0.0009, "<0.001"), (0.001, "0.001"), (0.0014, "0.001"), (0.05, "0.050")])
def test_a_p_value_is_shown_to_three_decimals_from_a_thousandth_on(p, shown):
    assert tables.probability(p) == shown


@pytest.mark.parametrize("numbers", [1, 3])
def test_a_latex_table_declares_the_columns_that_it_has(numbers):
    header = ["task", "metric", *(f"m{i}" for i in range(numbers))]
    text = tables.latex_table(header, [["t", "f1", *["1.0"] * numbers]])
    assert f"\\begin{{tabular}}{{ll{'r' * numbers}}}\n" in text


def test_two_seeds_have_an_interval():
    pair = Summary(n=2, mean=0.01, sd=0.001, low=-0.02, high=0.04)
    task = Difference(task="a", summary=pair, p=0.5, p_holm=0.5, minimum_detectable_effect=0.1, seeds_needed=9)
    comparison = Comparison(
        model="detour", baseline="twin", tasks=[task], mean=0.0, low=0.0, high=0.0, p=1.0, wins=1, losses=0,
        significant_wins=0, significant_losses=0,
    )  # fmt: skip
    assert "| 2 | +1.0 | [-2.0, +4.0] |" in tables.differences_markdown(comparison, {"a": "accuracy"}).replace("\\", "")


def test_degenerate_cells_are_marked_in_every_table():
    both = {"x": summary(0.5), "y": summary(0.5)}
    rows = [Row(task="a", language="en", metric="accuracy", summaries=both, degenerate={"y": 2})]
    _, cells = markdown_rows(tables.scores_markdown(rows, ["x", "y"]))
    assert [text.endswith("†") for text, _ in cells] == [False, False, False, False, True]
    assert tables.scores_latex(rows, ["x", "y"]).count("$^\\dagger$") == 1
    found = csv.DictReader(io.StringIO(tables.scores_csv(rows)))
    assert [(row["model"], row["degenerate"]) for row in found] == [("x", "0"), ("y", "2")]
