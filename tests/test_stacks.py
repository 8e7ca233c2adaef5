"""The two sets of versions that docs/install.md offers: whole, open about the lifted pins, and what this environment has."""

from __future__ import annotations

import re
import sys
from importlib import metadata, util
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.stack import TRANSFORMERS_5

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "constraints-newest.txt").read_text().splitlines()
NEWEST = {
    canonicalize_name(req.name): req
    for req in (Requirement(line.split("#")[0]) for line in LINES if line[:1].isalpha())
}
LIFTED = {canonicalize_name(line.split("==")[0]): line for line in LINES if line[:1].isalpha() and "# " in line}


def project(folder: Path) -> dict:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def pins_of(distribution: str) -> list[Requirement]:
    ours = distribution == "causal-detour"
    found = [
        Requirement(text) for text in (project(ROOT)["dependencies"] if ours else metadata.requires(distribution) or [])
    ]
    return [pin for pin in found if pin.marker is None or pin.marker.evaluate({"extra": ""})]


def newest(name: str) -> Version:
    (only,) = NEWEST[canonicalize_name(name)].specifier
    return Version(only.version)


@pytest.mark.parametrize("distribution", ["mosaicml", "mosaicml-streaming", "causal-detour"])
def test_the_newest_stack_has_every_requirement_and_names_each_pin_that_it_lifts(distribution):
    pins = pins_of(distribution)
    assert len(pins) > 10
    for pin in pins:
        name = canonicalize_name(pin.name)
        if name == "torchvision":  # the stub
            continue
        if newest(name) not in pin.specifier:
            said = LIFTED[name].split("#")[1]
            assert distribution != "causal-detour", pin
            assert f"{distribution}: " in said, (pin, said)
            limit = re.search(r"<[\d.]+", str(pin.specifier))
            assert limit is not None
            assert re.sub(r"\.0$", "", limit[0]) in said, (pin, said)


@pytest.mark.skipif(not TRANSFORMERS_5, reason="the pinned stack")
def test_this_environment_is_the_newest_stack():
    differing = {
        name: metadata.version(name) for name in NEWEST if Version(metadata.version(name)).public != str(newest(name))
    }
    assert differing == {}


def test_the_stub_of_torchvision_is_replaced_by_the_real_one_and_says_what_it_is(monkeypatch):
    folder = ROOT / "scripts" / "torchvision_stub"
    assert project(folder)["name"] == "torchvision"
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    spec = util.find_spec("torchvision.transforms.functional")
    assert spec is not None
    assert str(folder) in str(spec.origin)
    from torchvision.transforms.functional import to_tensor

    with pytest.raises(ImportError, match="this is detour's stub; install torchvision itself"):
        to_tensor(None)
