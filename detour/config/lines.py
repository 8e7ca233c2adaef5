"""The line of each key in a YAML file, for error messages; and limits on the file's size and depth."""

from __future__ import annotations

from pathlib import Path

import yaml

MOST_VALUES = 100_000  # aliases of aliases make gigabytes of a few lines
DEEPEST = 64


def lines_of(path: Path) -> dict[str, str]:
    """Full key, such as ``phases[0].name``, to its place: "line 3".

    Raises:
        yaml.YAMLError: The file is no YAML, is nested deeper than DEEPEST, or has more than MOST_VALUES values once its
            aliases are written out.
        OSError, UnicodeDecodeError: It cannot be read.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except RecursionError:
        raise yaml.YAMLError(f"nested deeper than {DEEPEST}") from None
    lines: dict[str, str] = {}
    left, count = [(root, "", 0)], 0
    while left:
        node, key, depth = left.pop()
        count += 1
        if count > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, aliases written out")
        if depth > DEEPEST:
            raise yaml.YAMLError(f"nested deeper than {DEEPEST}")
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                full = f"{key}.{name.value}" if key else str(name.value)
                lines[full] = f"line {name.start_mark.line + 1}"
                left.append((value, full, depth + 1))
        elif isinstance(node, yaml.SequenceNode):
            left += [(value, f"{key}[{index}]", depth + 1) for index, value in enumerate(node.value)]
    return lines
