import importlib.metadata
import sys
from itertools import count

import catalogue
import pytest

from detour.errors import ConfigError
from detour.registry import Registry, suggestion

SERIAL = count()


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))
    return Registry(f"things{next(SERIAL)}")


def declare(monkeypatch, registry, value):
    """Announces `thing = value` as an installed package would."""
    point = importlib.metadata.EntryPoint(name="thing", value=value, group=f"detour_{registry.kind}")
    monkeypatch.setattr(catalogue, "AVAILABLE_ENTRY_POINTS", importlib.metadata.EntryPoints([point]))


def test_a_registered_value_is_found_by_its_name(registry):
    value = object()
    assert registry.register("b")(value) is value
    registry.register("a")(len)
    assert registry.get("b") is value
    assert registry.names() == ["a", "b"]


def test_an_unknown_name_is_refused_with_the_nearest_and_all_known_names(registry):
    registry.register("linear")(1)
    registry.register("cosine")(2)
    with pytest.raises(
        ConfigError, match=f"{registry.kind}: no 'cosin'; did you mean 'cosine'\\?; known: cosine, linear"
    ):
        registry.get("cosin")


def test_a_name_is_taken_once_but_the_same_value_may_come_again(registry):
    registry.register("a")(len)
    registry.register("a")(len)
    with pytest.raises(ConfigError, match="the name 'a' is already registered"):
        registry.register("a")(max)
    assert registry.get("a") is len


def test_registries_of_different_kinds_do_not_share_names(registry):
    other = Registry(f"things{next(SERIAL)}")
    registry.register("a")(1)
    other.register("a")(2)
    assert (registry.get("a"), other.get("a")) == (1, 2)


def test_an_entry_point_is_found_without_being_imported_first(registry, monkeypatch):
    declare(monkeypatch, registry, "colorsys:rgb_to_hsv")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert registry.names() == ["thing"]
    assert registry.get("thing") is sys.modules["colorsys"].rgb_to_hsv


def test_registering_does_not_import_the_packages_that_declare_entry_points(registry, monkeypatch):
    """A plug-in's module imports this library: loading it while the library registers its own values is a cycle."""
    declare(monkeypatch, registry, "no_such_package:thing")
    assert registry.register("own")(len) is len


def test_a_package_may_both_decorate_and_declare_an_entry_point(registry, monkeypatch, tmp_path):
    code = "from detour.registry import UNDER_TEST\n@UNDER_TEST.register('thing')\ndef thing(): ...\n"
    (tmp_path / "a_plug_in.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("detour.registry.UNDER_TEST", registry, raising=False)
    declare(monkeypatch, registry, "a_plug_in:thing")
    found = registry.get("thing")
    assert found is sys.modules.pop("a_plug_in").thing


@pytest.mark.parametrize(
    ("name", "expected"), [("raet", "; did you mean 'rate'?"), ("xyz", ""), ("rate", "; did you mean 'rate'?")]
)
def test_a_suggestion_is_the_nearest_name_or_nothing(name, expected):
    assert suggestion(name, ["span", "rate"]) == expected
