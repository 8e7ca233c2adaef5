import importlib.metadata
import sys
from dataclasses import dataclass
from typing import ClassVar

import catalogue
import pytest

from detour.errors import ConfigError
from detour.objectives import CLM, MLM, Objective, RowRandom, build, register, registry
from detour.testing import make_batch, make_vocab


@dataclass(frozen=True, kw_only=True)
class Probe(Objective):
    """An objective with an option of each type; does nothing."""

    attention: ClassVar = "causal"
    needed: int
    scale: float = 1.0
    flag: bool = False
    label: str = "a"
    limit: int | None = None

    def corrupt(self, batch, vocab, rng):
        return {**batch, "labels": batch["input_ids"]}

    def target_fraction(self, mean_document_tokens):
        return 1.0


@pytest.fixture
def forget(monkeypatch):
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))


@pytest.fixture
def probe(forget):
    return register("probe")(type("Probe", (Probe,), {}))


def test_build_gives_the_registered_class_with_its_options():
    assert build("mlm", {"rate": 0.15, "whole_word": True}) == MLM(rate=0.15, whole_word=True)
    assert build("mlm") == MLM()
    assert build("clm", {}) == CLM()


def test_options_of_every_type_are_taken(probe):
    built = build("probe", {"needed": 3, "scale": 0.5, "flag": True, "label": "b", "limit": 7})
    assert (built.needed, built.scale, built.flag, built.label, built.limit) == (3, 0.5, True, "b", 7)
    assert build("probe", {"needed": 3, "limit": None}).limit is None


def test_a_whole_number_serves_as_a_float(probe):
    scale = build("probe", {"needed": 1, "scale": 2}).scale
    assert scale == 2.0
    assert isinstance(scale, float)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlmm", {}, "objectives: no 'mlmm'; did you mean 'mlm'\\?; known: .*clm, .*mlm"),
        ("zzz", {}, "objectives: no 'zzz'; known: "),
        (
            "mlm",
            {"rat": 0.1},
            "objective 'mlm': rat: unknown key; did you mean 'rate'",
        ),
        ("clm", {"rate": 0.1}, "objective 'clm': rate: unknown key; known: none"),
        ("mlm", {"rate": "0.3"}, "rate: '0.3', expected float"),
        ("mlm", {"rate": True}, "rate: True, expected float"),
        ("mlm", {"rate": None}, "rate: None, expected float"),
        ("mlm", {"whole_word": 1}, "whole_word: 1, expected bool"),
        ("mlm", {"rate": 1.5}, "objective 'mlm': rate is 1.5, expected a number in \\(0, 1\\)"),
        ("mlm", {"rate": 1}, "objective 'mlm': rate is 1.0"),
        ("probe", {}, "objective 'probe': .*needed"),
        ("probe", {"needed": 1.0}, "needed: 1.0, expected int"),
        ("probe", {"needed": True}, "needed: True, expected int"),
        ("probe", {"attention": "causal", "needed": 1}, "attention: unknown key"),
    ],
)
def test_build_refuses(probe, name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, options)


def test_build_reports_every_wrong_option_at_once():
    with pytest.raises(ConfigError, match=r"(?s)rat: unknown key.*whole_word: 'yes'"):
        build("mlm", {"rat": 0.1, "whole_word": "yes"})


def test_build_leaves_the_options_it_is_given_untouched(probe):
    options = {"needed": 1, "scale": 2}
    build("probe", options)
    assert type(options["scale"]) is int


def test_a_taken_name_is_refused_and_nothing_changes(forget):
    before = CLM.name
    with pytest.raises(ConfigError, match="objectives: the name 'mlm' is already registered"):
        register("mlm")(CLM)
    assert build("mlm") == MLM()
    assert CLM.name == before == "clm"


def test_registering_the_same_class_again_is_harmless(forget):
    assert register("mlm")(MLM) is MLM
    assert MLM.name == "mlm"


def test_a_call_adds_the_attention_rule_and_the_registered_name(probe):
    batch = make_batch([[5]])
    out = build("probe", {"needed": 1})(batch, make_vocab(), RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))
    assert out["attention"] == "causal"
    assert out["objective"] == "probe"


def test_an_objective_declared_as_an_entry_point_is_found_and_named(monkeypatch):
    undecorated = type("Undecorated", (MLM,), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Undecorated", undecorated, raising=False)
    point = importlib.metadata.EntryPoint(name="declared", value=f"{__name__}:Undecorated", group="detour_objectives")
    monkeypatch.setattr(catalogue, "AVAILABLE_ENTRY_POINTS", importlib.metadata.EntryPoints([point]))
    assert "declared" in registry.names()
    built = build("declared", {"rate": 0.5})
    assert type(built) is undecorated
    assert built.rate == 0.5
    assert built.name == "declared"
    assert MLM.name == "mlm"
