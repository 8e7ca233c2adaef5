"""`detour report RUN`: the figures and the HTML page of a run, finished or not, from the files in its folder."""

from __future__ import annotations

from pathlib import Path

from detour.errors import DataError
from detour.files import naming, write_text
from detour.report.figures import save_figures
from detour.report.page import render
from detour.report.run_history import read_run


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Writes ``index.html``, and every figure as PNG and SVG.

    The run folder is only read, so the run may still be training. The page needs no other file, network or script.

    Args:
        run_folder: Folder of a run (`detour.training.run_folder.RunFolder`).
        out: Output folder; by default ``report`` inside the run folder. Existing files are replaced.

    Returns:
        Path of the page.

    Raises:
        DataError: ``run_folder`` is missing or holds no run, or ``out`` cannot be written.
    """
    run = read_run(run_folder)
    folder = out or run_folder / "report"
    with naming(folder, DataError):
        folder.mkdir(parents=True, exist_ok=True)
        figures = save_figures(run, folder)
        write_text(folder / "index.html", render(run, figures))
    return folder / "index.html"
