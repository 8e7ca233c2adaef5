"""YAML and overrides -> a checked `RunConfig`. Every problem is reported, and all of them at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from detour.config.check import check
from detour.config.lines import lines_of
from detour.config.plugins import import_plugins
from detour.config.schema import RunConfig
from detour.errors import ConfigError, first_line
from detour.options import listing, parse
from detour.redact import hide, redacted

C = TypeVar("C")


def load(
    path: str | Path, overrides: Sequence[str] = (), *, changes: Sequence[Mapping[str, Any]] = (), source: str = ""
) -> RunConfig:
    """Reads a run's YAML.

    The file may name another with ``extends: other.yaml`` (a path relative to itself), which may extend a third, and so
    on: mappings are merged over it, lists replace it. ``overrides`` are ``key=value`` with dots, and numbers for list items:
    ``phases.0.tokens=1000``. ``changes`` are merged over the file as a file that extends it would be.

    Args:
        path: The file.
        overrides: Applied last.
        changes: Values that come from elsewhere, such as the arm of an experiment; later ones win.
        source: What an error names in place of the path.

    Raises:
        ConfigError: Listing every unknown key, wrong type, missing value and contradiction, each with its full key and,
            where the file has it, its line; or files that extend one another in a circle.
    """
    raw, lines, folders = _layers(path, overrides, changes)
    path = source or path
    run = into(RunConfig, raw, source=str(path), lines=lines)
    try:
        import_plugins(run.plugins, folders)
    except ConfigError as error:
        raise ConfigError(listing(str(path), [str(error)], lines)) from error
    return _checked(run, str(path), lines)


def read_into(cls: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """A YAML file as any dataclass, with `load`'s ``extends``, overrides and checks of shape.

    Raises:
        ConfigError: Listing every unknown key, wrong type and missing value, each with its full key.
    """
    values, lines = read_values(path, overrides)
    return parse(cls, values, source=str(path), lines=lines)


def read_values(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """A YAML file as plain values, with `load`'s ``extends`` and overrides but without its checks; and the line of each key.

    Raises:
        ConfigError: The file cannot be read, or an override is malformed.
    """
    raw, lines, _ = _layers(path, overrides)
    return _resolved(raw, str(path)), lines


def from_overrides(cls: type[C], overrides: Sequence[str], *, source: str) -> C:
    """A dataclass from its defaults and ``key=value`` arguments alone, with the checks of `into`. Raises ConfigError."""
    raw = OmegaConf.create({})
    for override in overrides:
        _override(raw, override)
    return into(cls, raw, source=source)


def into(cls: type[C], raw: DictConfig | dict[str, Any], *, source: str, lines: Mapping[str, str] | None = None) -> C:
    """The same checks of shape on values that are already in memory. Raises ConfigError.

    Args:
        cls: The dataclass.
        raw: The values.
        source: What an error names.
        lines: Full key to its line in the source, where known.
    """
    return parse(cls, _resolved(raw, source), source=source, lines=lines)


def from_mapping(
    raw: DictConfig | dict[str, Any], *, source: str = "config", lines: Mapping[str, str] | None = None
) -> RunConfig:
    """The checks of `load` on values that are already in memory; arguments as those of `into`. Raises ConfigError."""
    return _checked(into(RunConfig, raw, source=source, lines=lines), source, lines)


def _checked(run: RunConfig, source: str, lines: Mapping[str, str] | None) -> RunConfig:
    if problems := check(run):
        raise ConfigError(listing(source, problems, lines))
    return run


def to_yaml(run: RunConfig) -> str:
    """The whole configuration, defaults included, as YAML that `load` takes back; without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(redacted(asdict(run))))


def from_environment(text: str) -> str:
    """A string of a recorded configuration, with what came from the environment filled in again. Raises ConfigError."""
    try:
        return OmegaConf.create({"text": text}).text
    except OmegaConfBaseException as error:
        raise ConfigError(f"{text}: {first_line(error)}") from error


def _environment_variable(name: str, *default: Any) -> Any:
    """omegaconf's ``oc.env``; a value that comes from the environment is hidden in all later output."""
    if name in os.environ:
        hide(os.environ[name], shown_as=f"${{oc.env:{name}}}")
    return oc.env(name, *default)


OmegaConf.register_resolver("oc.env", _environment_variable, replace=True)


def _layers(
    path: str | Path, overrides: Sequence[str], changes: Sequence[Mapping[str, Any]] = ()
) -> tuple[DictConfig, dict[str, str], list[Path]]:
    """The file merged over those it extends, with the overrides applied; the line of each key; and the files' folders."""
    raw, lines, folders = _extended(Path(path))
    if changes:
        try:
            raw = cast(DictConfig, OmegaConf.merge(raw, *(OmegaConf.create(dict(each)) for each in changes)))
        except (OmegaConfBaseException, TypeError) as error:
            raise ConfigError(f"{path}: changes: {first_line(error)}") from error
    for override in overrides:
        key = _override(raw, override)
        lines[re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key)] = "overridden"
    return raw, lines, folders


def _override(raw: DictConfig, override: str) -> str:
    """Applies ``key=value`` and returns the key. Raises ConfigError."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}': expected key=value")
    try:
        parsed = OmegaConf.from_dotlist([f"value={value}"])  # reads 1e-4 as a number, as files are read
        OmegaConf.update(raw, key, OmegaConf.to_container(parsed)["value"], force_add=True)  # type: ignore[call-overload]
    except (OmegaConfBaseException, yaml.YAMLError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(f"override '{override}': {first_line(error)}") from error
    return key


def _extended(path: Path) -> tuple[DictConfig, dict[str, str], list[Path]]:
    """The file merged over the one it extends, and so on; the line of each key; and the folder of every file read."""
    raw, lines = _read(path)
    chain = [path]
    while True:
        try:
            base_name = raw.pop("extends", None)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{chain[-1]}: extends: {first_line(error)}") from error
        if base_name is None:
            return raw, lines, [file.parent for file in chain]
        base_path = chain[-1].parent / os.path.expanduser(str(base_name))
        if base_path.resolve() in [file.resolve() for file in chain]:
            spelt = ", which extends ".join(map(str, [*chain, base_path]))
            raise ConfigError(f"{path}: extends itself: {spelt}")
        base, base_lines = _read(base_path)
        try:
            raw = cast(DictConfig, OmegaConf.merge(base, raw))
        except (OmegaConfBaseException, TypeError) as error:  # a list over a mapping is a TypeError
            raise ConfigError(f"{chain[-1]}: extends {base_path}: {first_line(error)}") from error
        lines = {**{key: f"{line} of {base_path}" for key, line in base_lines.items()}, **lines}
        chain.append(base_path)


def _resolved(raw: DictConfig | dict[str, Any], source: str) -> dict[str, Any]:
    """Plain values, with every interpolation replaced. Raises ConfigError."""
    try:
        values = OmegaConf.to_container(raw if isinstance(raw, DictConfig) else OmegaConf.create(raw), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {first_line(error)}") from error
    return _at_home(values)  # type: ignore[return-value]


def _at_home(value: Any) -> Any:
    """The same values with ``~/`` and ``~name/`` at the beginning of a text replaced by the home folder, as a shell does."""
    if isinstance(value, str) and re.match(r"~[\w.-]*/", value):
        return os.path.expanduser(value)
    if isinstance(value, dict):
        return {key: _at_home(item) for key, item in value.items()}
    return [_at_home(item) for item in value] if isinstance(value, list) else value


def _read(path: Path) -> tuple[DictConfig, dict[str, str]]:
    lines: dict[str, str] = {}
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        lines = lines_of(path)
        loaded = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"{str(path)[:300]}: {error.strerror}") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    except (AttributeError, LookupError, TypeError) as error:  # of yaml, for a tag that its value does not fit
        raise ConfigError(f"{path}: not valid YAML ({type(error).__name__}: {error})") from error
    except RecursionError:
        raise ConfigError(f"{path}: nested too deep") from None
    except AssertionError:  # of omegaconf, for a quoted text and nothing else
        loaded = None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    return loaded, lines
