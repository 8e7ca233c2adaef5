from __future__ import annotations

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def write(tmp_path: Path):
    """Writes a YAML of the given values or text and returns its path."""

    def write(content: dict | str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write
