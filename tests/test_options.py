"""A mapping becomes the dataclass it describes, or every fault in it is named."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour.errors import ConfigError
from detour.options import check, flatten, parse


@dataclass(frozen=True, kw_only=True)
class Inner:
    layers: str = ""
    depth: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: ClassVar[str] = "not a field"
    name: str
    rate: float = 0.5
    ceiling: float | None = None
    form: Literal["linear", "cosine"] = "linear"
    spans: tuple[int, ...] = (1,)
    pair: tuple[float, float] = (0.9, 0.98)
    tags: list[str] = field(default_factory=list)
    free: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    inner: Inner
    items: list[Inner] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ValueError(f"rate is {self.rate}, expected at most 1")


@dataclass(frozen=True, kw_only=True)
class MayBeNull:
    inner: Inner | None = None


GOOD: dict[str, Any] = {"name": "run", "inner": {"depth": 3}}


def test_values_reach_their_fields_and_nested_dataclasses_are_built():
    values = {**GOOD, "ceiling": 2, "spans": [3, 4], "pair": [0, 1], "items": [{"depth": 1}], "free": {"a": [1]}}
    built = parse(Outer, values)
    assert built == Outer(
        name="run", inner=Inner(depth=3), ceiling=2.0, spans=(3, 4), pair=(0.0, 1.0), items=[Inner(depth=1)],
        free={"a": [1]},
    )  # fmt: skip
    assert (type(built.ceiling), type(built.pair), type(built.pair[0])) == (float, tuple, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, "name: 5, expected str"),
        ({"name": "???"}, "name: missing, and it has no default"),
        ({"rate": "0.5"}, "rate: '0.5', expected float"),
        ({"rate": True}, "rate: True, expected float"),
        ({"ceiling": "abc"}, "ceiling: 'abc', expected float or null"),
        ({"form": "cosin"}, "form: 'cosin'; did you mean 'cosine'?; expected one of linear, cosine"),
        ({"spans": "no"}, "spans: 'no', expected a list of int"),
        ({"spans": [1, "x"]}, "spans: [1, 'x'], expected a list of int"),
        ({"pair": [0.9]}, "pair: [0.9], expected a list of 2: float, float"),
        ({"tags": ["a", 1]}, "tags[1]: 1, expected str"),
        ({"name": True}, "name: True, expected str; put it in quotes"),
        ({"free": []}, "free: [], expected a mapping"),
        ({"whole": "yes"}, "whole: 'yes', expected bool"),
        ({"whole": 1}, "whole: 1, expected bool"),
        ({"inner": None}, "inner: None, expected a mapping"),
        ({"inner": {}}, "inner.depth: missing, and it has no default"),
        ({"inner": {"depth": 1.0}}, "inner.depth: 1.0, expected int"),
        ({"items": [{"depth": 1}, {"dept": 2, "depth": 1}]}, "items[1].dept: unknown key; did you mean 'depth'?"),
        ({"kind": "x"}, "kind: unknown key; known: "),
        ({"row_tokens": 8}, "row_tokens: unknown key; known: "),
        ({"rate": 2.0}, "rate is 2.0, expected at most 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(changes, message):
    with pytest.raises(ConfigError) as caught:
        parse(Outer, {**GOOD, **changes}, source="file.yaml")
    assert str(caught.value).startswith(f"file.yaml: {message}")


def test_every_fault_is_named_at_once_with_its_line():
    values = {"nam": 1, "rate": None, "items": [{"depth": "x"}]}
    lines = {"nam": "line 1", "items[0].depth": "line 4"}
    with pytest.raises(ConfigError) as caught:
        parse(Outer, values, source="file.yaml", lines=lines)
    text = str(caught.value)
    assert text.startswith("file.yaml: 5 problems\n")
    assert "\n  - nam: unknown key; did you mean 'name'? (line 1)" in text
    assert "\n  - items[0].depth: 'x', expected int (line 4)" in text
    assert "\n  - inner.depth: missing, and it has no default" in text


def test_a_key_of_an_earlier_draft_is_refused_by_its_new_name():
    @dataclass
    class Data:
        seq_len: int

    with pytest.raises(ConfigError, match=r"data\.row_tokens: unknown key; it is now called 'seq_len'"):
        parse(Data, {"row_tokens": 8, "seq_len": 8}, prefix="data")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3)
)


@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "other"]), anything, max_size=6))
def test_whatever_is_given_it_is_built_or_refused(values):
    try:
        built = parse(Outer, values)
    except ConfigError:
        return
    assert check(Outer, asdict(built)) == []  # what was built passes its own checks
    assert {**asdict(built), **values}.keys() == asdict(built).keys()


@given(st.builds(Inner, layers=st.text(), depth=st.integers()))
def test_a_dataclass_survives_the_round_trip(value):
    assert parse(Inner, asdict(value)) == value


def test_a_dataclass_that_may_be_null_is_built_or_null():
    assert parse(MayBeNull, {}).inner is None
    assert parse(MayBeNull, {"inner": None}).inner is None
    assert parse(MayBeNull, {"inner": {"depth": 3}}).inner == Inner(depth=3)
    assert check(MayBeNull, {"inner": {"depth": 3, "layer": ""}}) == [
        "inner.layer: unknown key; did you mean 'layers'?"
    ]
    assert check(MayBeNull, {"inner": 3}) == ["inner: 3, expected a mapping or null"]


def test_nested_values_become_dotted_keys():
    value = {"a": {"b": 1, "c": []}, "d": [{"e": {"f": None}}, 2], "g": (1, 2), "h": {}, 3: "i"}
    assert flatten(value) == {"a.b": 1, "a.c": [], "d[0].e.f": None, "d[1]": 2, "g": [1, 2], "h": {}, "3": "i"}
