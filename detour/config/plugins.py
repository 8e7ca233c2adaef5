"""The modules that a run's YAML asks for: they register objectives, callbacks, loggers and algorithms by being imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from detour.errors import ConfigError
from detour.redact import redacted


def import_plugins(modules: Sequence[str], folders: Iterable[Path] = ()) -> None:
    """Imports modules by their dotted names.

    The current folder and ``folders`` are appended to ``sys.path``, as ``composer main.py`` and ``python main.py`` would
    find modules; installed packages are found first. Importing a module twice does nothing.

    Args:
        modules: Such as ``my_lab.spans``.
        folders: Where modules may lie besides, such as the YAML's own folder.

    Raises:
        ConfigError: A module is not found, or fails while it is imported.
    """
    if not modules:
        return
    looked = dict.fromkeys(str(folder.resolve()) for folder in (*folders, Path.cwd()))
    sys.path.extend(folder for folder in looked if folder not in sys.path)
    for index, name in enumerate(modules):
        try:
            import_module(name)
        except Exception as error:  # a plugin runs code of its own, which may fail in any way
            raise ConfigError(f"plugins[{index}]: {_cause(name, error, list(looked))}") from error


def _cause(name: str, error: Exception, looked: list[str]) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"no module '{name}' in {', '.join(looked)} or among the installed packages"
    first = next(iter(redacted(str(error)).splitlines()), "")
    return f"'{name}' cannot be imported: {type(error).__name__}: {first}"
