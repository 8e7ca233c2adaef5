"""Draws the picture of the README, the loss figure of a run's report: ``python scripts/readme_figure.py RUN_FOLDER``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from detour.report.figures import save_figures
from detour.report.run_history import read_run

OUT = Path(__file__).parent.parent / "docs" / "images" / "report.svg"


def main(run_folder: Path) -> None:
    """Writes docs/images/report.svg from the metrics.jsonl and config.yaml of a run, finished or not."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        save_figures(read_run(run_folder), Path(scratch))
        shutil.copyfile(Path(scratch) / "loss.svg", OUT)
    print(OUT)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/readme_figure.py RUN_FOLDER")
    main(Path(sys.argv[1]))
