"""What a run's YAML may add to the trainer: callbacks, loggers and algorithms of Composer, by name.

One registry per section. `register_callback("name")` decorates a class or a function; the options in the YAML are its
keyword arguments, checked against its signature. Plain Python: nothing here imports Composer.

    @register_callback("count_batches")
    class CountBatches(composer.Callback):
        def __init__(self, every: int = 1) -> None: ...

    callbacks: {count_batches: {every: 10}}
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

from detour.errors import ConfigError
from detour.options import parse
from detour.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])
RUN = "run"  # a parameter of this name receives the RunConfig, and is no option


class Extensions:
    """A registry of factories, each with checked options.

    Args:
        section: The section of the YAML: "callbacks", "loggers" or "algorithms". Also names the entry-point group,
            ``detour_<section>``.
    """

    def __init__(self, section: str) -> None:
        self.section = section
        self.registry: Registry[Callable[..., Any]] = Registry(section, plugins=True)

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator that makes a class or function available to the section under ``name``."""
        return self.registry.register(name)  # type: ignore[return-value]

    def options(self, name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """The keyword arguments for the factory registered as ``name``.

        Raises:
            ConfigError: The name is unknown, or an option is unknown, missing or of the wrong type.
        """
        factory = self.registry.get(name)
        source, given = f"{self.section}.{name}", {} if options is None else options
        if not isinstance(given, Mapping):
            raise ConfigError(f"{source}: {given!r}, expected a mapping of its options")
        described, open_ended = _described(factory)
        known = {f.name for f in fields(described)}
        free = {key: value for key, value in given.items() if key not in known} if open_ended else {}
        checked = parse(described, {key: value for key, value in given.items() if key not in free}, source=source)
        return {key: getattr(checked, key) for key in given if key in known} | free

    def build(self, name: str, options: Mapping[str, Any] | None, run: Any) -> Any:
        """What the factory registered as ``name`` makes of its options.

        Raises:
            ConfigError: As `options`; or the factory refuses a value, or needs a package that is not installed.
        """
        factory, arguments = self.registry.get(name), self.options(name, options)
        if RUN in inspect.signature(factory).parameters:
            arguments[RUN] = run
        try:
            return factory(**arguments)
        except (ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"{self.section}.{name}: {error}") from error


def _described(factory: Callable[..., Any]) -> tuple[type, bool]:
    """A factory's parameters as a dataclass, and whether it takes any other keyword argument as well."""
    described, open_ended = [], False
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and name != RUN:
            default = parameter.default
            made = field() if default is parameter.empty else field(default_factory=lambda default=default: default)
            described.append((name, _hint(factory, parameter.annotation), made))
    return make_dataclass("Options", described, kw_only=True), open_ended


def _hint(factory: Callable[..., Any], annotation: Any) -> Any:
    """A parameter's type; Any where it has none, or one that exists for the type checker alone."""
    if annotation is inspect.Parameter.empty:
        return Any
    namespace = vars(sys.modules[factory.__module__])
    try:
        return get_type_hints(SimpleNamespace(__annotations__={"hint": annotation}), namespace)["hint"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any


callbacks = Extensions("callbacks")
loggers = Extensions("loggers")
algorithms = Extensions("algorithms")
SECTIONS = (callbacks, loggers, algorithms)
register_callback = callbacks.register
register_logger = loggers.register
register_algorithm = algorithms.register
