"""Writes docs/config.md from the dataclasses of the configuration: ``python scripts/config_reference.py [--check]``.

The descriptions are the ``Attributes:`` of the docstrings, so a key is documented where it is defined and nowhere else.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from detour import objectives
from detour.config.schema import RunConfig
from detour.models.families import all_families, sizes

OUT = Path(__file__).parent.parent / "docs" / "config.md"
HEAD = """\
# Configuration

<!-- Written by scripts/config_reference.py from the docstrings; edit those, then run it again. -->

A run is one YAML file. A key that is not listed here is refused, with the nearest known key. All problems of a file
are reported at once.

- `extends: other.yaml` (a path relative to the file) takes another file as the base, which may extend a third, and so
  on. Mappings are merged; lists replace the base's list. `phases` and `data.train` are lists.
- On the command line, `key=value` after the file changes a value: `seed=18`, `schedule.peak_lr=1e-4`,
  `phases.0.tokens=1000`. Values are YAML.
- All lengths of training are in tokens, padding not counted. The length of the run is the sum of its phases.
- `10_000_000_000` and `2e-4` are numbers.

"required" means that the key has no default.
"""
TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def attributes(cls: type) -> dict[str, str]:
    """Name to description, from the ``Attributes:`` sections of a class and its bases (Google style)."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _own_attributes(base).items()}


def _own_attributes(cls: type) -> dict[str, str]:
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    key = ""
    for line in section.splitlines():
        text = line.strip()
        if not line.startswith("    "):
            break
        if line.startswith("        "):
            found[key] += f" {text}"
        else:
            key, _, rest = text.partition(": ")
            found[key] = rest
    return {name: re.sub(r"\bNone\b", "null", text).replace("|", "\\|") for name, text in found.items()}


def type_name(hint: Any) -> str:
    """A type as a user of YAML would say it."""
    args = get_args(hint)
    if type(None) in args:
        return " or ".join([*(type_name(arg) for arg in args if arg is not type(None)), "null"])
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in args)
    if get_origin(hint) is tuple and Ellipsis not in args:
        return f"pair of {type_name(args[0])}s"
    if get_origin(hint) in (list, tuple):
        kind, *rest = type_name(args[0]).split(" ", 1) if get_origin(args[0]) is tuple else [type_name(args[0])]
        plural = kind.replace("one of ", "", 1) if kind.startswith("one of ") else f"{kind}s"
        return " ".join([f"list of {plural}", *rest])
    if get_origin(hint) is dict or is_dataclass(hint):
        return "mapping"
    return TYPE_NAMES.get(hint, str(hint))


def default_of(field: Field[Any], required: str) -> str:
    """A field's default as YAML, or ``required`` where it has none."""
    value = field.default if field.default is not NO_DEFAULT else None
    if field.default_factory is not NO_DEFAULT:
        value = field.default_factory()
    elif field.default is NO_DEFAULT:
        return required
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    if isinstance(value, dict):
        return f"`{value}`".replace("'", "")
    if isinstance(value, (tuple, list)):
        return f"`{[*value]}`"
    return f"`{value}`" if value != "" else '`""`'


def table(cls: type, *, skip: tuple[str, ...] = (), required: str = "required") -> list[str]:
    """A Markdown table of a dataclass's fields."""
    hints, described = get_type_hints(cls), attributes(cls)
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(cls):
        if field.name not in skip:
            cells = (type_name(hints[field.name]), default_of(field, required), described.get(field.name, ""))
            lines.append(f"| `{field.name}` | {' | '.join(cells)} |")
    return lines


def first_line(cls: type) -> str:
    """First paragraph of a docstring on one line."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def section(cls: type, key: str) -> list[str]:
    """Heading, text and table of a part of the configuration, followed by the parts inside it."""
    inner = {f.name: part for f in fields(cls) if (part := _inside(get_type_hints(cls)[f.name])) is not None}
    nested = {name: part for name, part in inner.items() if is_dataclass(get_type_hints(cls)[name])}
    lines = [
        f"## `{key}`",
        "",
        *([first_line(cls), ""] if first_line(cls) else []),
        *table(cls, skip=tuple(nested)),
        "",
    ]
    for name, part in inner.items():
        where = f"{key}.{name}" if name in nested else f"{key}.{name}[i]"
        lines += [f"### `{where}`", "", *([first_line(part), ""] if first_line(part) else []), *table(part), ""]
    return lines


def _inside(hint: Any) -> type | None:
    """The dataclass that a hint holds, itself or as a list's items."""
    candidate = get_args(hint)[0] if get_origin(hint) is list else hint
    return candidate if is_dataclass(candidate) else None  # type: ignore[return-value]


def objective_sections() -> list[str]:
    """The options of each objective that this library registers."""
    lines = ["## Objectives", "", "Names for `phases[i].objective`, and the `options` of each.", ""]
    lines += ["A number may be a schedule over the phase's tokens, such as `{from: 0.3, to: 0.15}`: see"]
    lines += [
        "[method.md](method.md#values-that-change-within-a-phase). To add an objective: [extend.md](extend.md).",
        "",
    ]
    for name in objectives.registry.names():
        cls = objectives.registry.get(name)
        if not cls.__module__.startswith("detour."):
            continue  # a plug-in of whoever runs this
        attention = (
            f" Attention: {cls.attention}." if isinstance(cls.attention, str) else ""
        )  # otherwise an option says it
        lines += [f"### `{name}`", "", first_line(cls) + attention, ""]
        lines += [*table(cls), ""] if fields(cls) else ["No options.", ""]
        for field in fields(cls):
            if part := _inside(get_type_hints(cls)[field.name]):
                lines += [
                    f"Each of `{field.name}`: {first_line(part)[0].lower()}{first_line(part)[1:]}",
                    "",
                    *table(part),
                    "",
                ]
    return lines


def size_section() -> list[str]:
    """The named sizes, and the fields of an architecture."""
    lines = ["## Sizes", "", "Names for `model.size`.", ""]
    lines += ["| size | family | layers | hidden | feed-forward | heads | vocabulary | longest document |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, a in sizes().items():
        shape = (a.num_hidden_layers, a.hidden_size, a.intermediate_size, a.num_attention_heads, a.vocab_size)
        lines.append(f"| `{name}` | {a.family} | {' | '.join(map(str, (*shape, a.longest_document)))} |")
    lines += ["", "## `model.architecture`", ""]
    lines += [
        "Fields that differ from the size's, by its family; those without a meaning are as in Hugging Face's config.",
        "What each family covers: [families.md](families.md).",
        "",
    ]
    for family in all_families():
        lines += [f"### Family `{family.name}`", "", first_line(family.architecture), ""]
        lines += [*table(family.architecture, required="the size's"), ""]
    return lines


def render() -> str:
    """The whole page."""
    parts = {f.name: hint for f in fields(RunConfig) if (hint := _inside(get_type_hints(RunConfig)[f.name]))}
    lines = [HEAD, "## Top level", "", *table(RunConfig, skip=tuple(parts)), ""]
    for name, part in parts.items():
        lines += section(part, f"{name}[i]" if get_origin(get_type_hints(RunConfig)[name]) is list else name)
    return "\n".join([*lines, *objective_sections(), *size_section()]).rstrip() + "\n"


def main(argv: list[str]) -> int:
    """Writes the page; with ``--check`` only says whether it is up to date, by the exit code."""
    page = render()
    if "--check" in argv:
        fresh = OUT.is_file() and OUT.read_text(encoding="utf-8") == page
        print(f"{OUT.name}: {'up to date' if fresh else 'out of date; run scripts/config_reference.py'}")
        return 0 if fresh else 1
    OUT.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
