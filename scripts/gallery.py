"""Trains the runs whose pictures are in docs/reading_reports.md: ``python scripts/gallery.py``, after ``make demo``; ten minutes.

Each is the demo's model with one thing changed. Their reports and the demo's go to docs/gallery/, the figures to
docs/images/gallery/.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import zstandard

from data_prep.synthetic import generate
from detour.config.load import load
from detour.corpus.pack import pack_corpus
from detour.report.write import write_report
from detour.train import train

DEMO, WORK = Path("work/demo"), Path("work/gallery")
DOCS = Path(__file__).parent.parent / "docs"
OUT, PAGES = DOCS / "images" / "gallery", DOCS / "gallery"
MLM, CLM, DECAY = "mlm", "clm", {"name": "decay", "objective": "mlm", "tokens": 200_000, "options": {"rate": 0.15}}
FIGURES = {  # run -> figures shown on the page
    "healthy": ("loss", "gradient_norm"),
    "five_phases": ("loss", "scheduled"),
    "rate_too_high": ("loss", "gradient_norm"),
    "rate_too_low": ("loss",),
    "repeated_text": ("loss",),
    "no_decay": ("loss",),
}


def phases(*, rate: Any = 0.3, mlm: int = 600_000, clm: int = 400_000) -> list[dict[str, Any]]:
    return [
        {"name": "warm", "objective": MLM, "tokens": mlm, "options": {"rate": rate}},
        {"name": "detour", "objective": CLM, "tokens": clm},
        DECAY,
    ]


def runs() -> dict[str, dict[str, Any]]:
    """Overrides of yamls/smoke.yaml."""
    long = {
        "train": [{"path": str(WORK / "rows" / "long")}],
        "seq_len": 512,
        "global_batch_size": 8,
        "micro_batch_size": 8,
    }
    five = [
        {"name": "stable", "objective": MLM, "tokens": 400_000, "options": {"rate": {"from": 0.4, "to": 0.2}}},
        {"name": "mntp", "objective": "mntp", "tokens": 200_000},
        {"name": "detour", "objective": CLM, "tokens": 300_000},
        {"name": "extension", "objective": CLM, "tokens": 200_000, "data": long},
        {**DECAY, "options": {"rate": {"from": 0.2, "to": 0.1, "shape": "cosine"}}},
    ]
    return {
        "healthy": {"phases": phases()},
        "five_phases": {"phases": five},
        "rate_too_high": {"phases": phases(), "schedule.peak_lr": 0.1, "schedule.final_lr": 0.01},
        "rate_too_low": {"phases": phases(), "schedule.peak_lr": 2e-5, "schedule.final_lr": 2e-6},
        "repeated_text": {"phases": phases(), "data.train": [{"path": str(WORK / "rows" / "few")}]},
        "no_decay": {"phases": phases(), "schedule.decay_phase": None},
    }


def pack(name: str, *, documents: int, seq_len: int) -> None:
    """Synthetic cases of another seed than the demo's."""
    text = WORK / "text" / f"{name}.jsonl.zst"
    text.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in generate(documents=documents, seed=23))
    text.write_bytes(zstandard.compress(lines.encode()))
    pack_corpus([text], tokenizer=DEMO / "tokenizer", out=WORK / "rows" / name, seq_len=seq_len)


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    pack("few", documents=60, seq_len=256)
    pack("long", documents=8_000, seq_len=512)
    OUT.mkdir(parents=True, exist_ok=True)
    PAGES.mkdir(exist_ok=True)
    shutil.copyfile(write_report(DEMO / "runs" / "smoke"), PAGES / "smoke.html")
    common = {"folder": str(WORK / "runs"), "evaluation.interval_tokens": 50_000}
    for name, changes in runs().items():
        values = {"name": name, **common, **changes}
        run = load("yamls/smoke.yaml", [f"{key}={json.dumps(value)}" for key, value in values.items()])
        train(run)
        page = write_report(Path(run.folder) / name)
        for figure in FIGURES[name]:
            shutil.copyfile(page.parent / f"{figure}.svg", OUT / f"{name}_{figure}.svg")
        print(shutil.copyfile(page, PAGES / f"{name}.html"))


if __name__ == "__main__":
    main()
