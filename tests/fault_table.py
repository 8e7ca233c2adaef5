"""The table of faults at the end of a session, from the tests marked `faults`, in whichever process they ran."""

from __future__ import annotations

import os
from typing import Any

import pytest

ROWS = range(1, 28)  # of docs/reliability.md
LONG = os.environ.get("DETOUR_FAULTS") in ("long", "part")  # tests marked `long` run, too
COMPLETE = os.environ.get("DETOUR_FAULTS") == "long"  # and every row must have one
PROPERTY = "fault"  # of a report; reports travel from pytest-xdist's workers to the process that prints the table
Table = dict[tuple[int, str], list[bool]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notes the rows that each test injects, wherever it lies; leaves the long forms to `make test-faults` and `test-smoke`."""
    for item in items:
        item.user_properties += [(PROPERTY, list(mark.args)) for mark in item.iter_markers("faults")]
    if not LONG:
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of faults: what was injected, how many times, and how many times it was survived."""
    table, skipped = _outcomes(terminalreporter.config)
    if not (table or skipped):
        return
    terminalreporter.section("faults")
    terminalreporter.line(f"{'row':>3} | {'tests':>5} | {'survived':8} | injected")
    for row, what in sorted(table.keys() | skipped):
        cases = table.get((row, what), [])
        check = "yes" if cases and all(cases) else "NO" if cases else "skipped"
        terminalreporter.line(f"{row:>3} | {len(cases):>5} | {check:8} | {what}")
    if absent := _absent(table):
        terminalreporter.line(f"rows without a test that ran: {', '.join(map(str, absent))}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The long form fails where a row's tests were skipped or are no more."""
    is_worker = hasattr(session.config, "workerinput")  # of pytest-xdist; it sees some of the tests only
    if COMPLETE and not is_worker and session.exitstatus == 0 and _absent(_outcomes(session.config)[0]):
        session.exitstatus = 1


def _absent(table: Table) -> list[int]:
    return sorted(set(ROWS) - {row for row, _ in table}) if COMPLETE else []


def _outcomes(config: pytest.Config) -> tuple[Table, set[tuple[int, str]]]:
    """Whether each fault's tests passed, and the faults of tests that were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    table: Table = {}
    skipped: set[tuple[int, str]] = set()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == PROPERTY and outcome == "skipped":
                    skipped.add(tuple(value))
                elif name == PROPERTY:
                    table.setdefault(tuple(value), []).append(outcome == "passed")
    return table, skipped
