"""Bad input at random: values that are bent, bytes that are spoilt, and what is asked of whoever reads them."""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))]
EACH = 50  # inputs of a seed

EVIL = [
    None, True, 0, -1, 2**31, -(2**63), 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "0", "../x", "/etc/passwd",
    "a/../../x", "..", ".", "\x00", "é\ud7ff", "x" * 5000, "${oc.env:HOME}", "${nothing}", "!!python/name:os.system", [], {},
    [[]], {"a": {}}, [None], [-1], "nan", "1e9", "manifest.json", "index.json", "hf_" + "a" * 30,
]  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a structure, its own included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def bent(value: Any, rng: random.Random) -> Any:
    """A copy in which one to three values are replaced, removed, doubled, or exchanged with others."""
    value = {"top": copy.deepcopy(value)}
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([path for path in places(value) if path])
        at = value
        for key in path[:-1]:
            at = at[key]
        match rng.randrange(5):
            case 0 | 1:
                at[path[-1]] = copy.deepcopy(rng.choice(EVIL))
            case 2 if len(path) > 1:
                del at[path[-1]]
            case 3 if isinstance(at, list):
                at.append(copy.deepcopy(at[path[-1]]))
            case _:
                other = value
                for key in rng.choice([path for path in places(value) if path]):
                    other = other[key]
                at[path[-1]] = copy.deepcopy(other)
    return value["top"]


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some flipped, cut out, doubled, or put elsewhere."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0 if out:
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            case 1:
                del out[a:b]
            case 2:
                out[a:a] = out[a : min(b, a + 200)]
            case _:
                out[a:a] = rng.choice(
                    [b"\x00", b"{", b"}", b"[", b'"', b",", b":", b"\n", b"- ", b"&a ", b"*a", b"\xff", b"!!x "]
                )
    return bytes(out)


def elsewhere(tmp_path: Path, apart: Path) -> dict[str, str]:
    """Every file under the folder and its hash, but those of one folder and streaming's locks."""
    files = [path for path in tmp_path.rglob("*") if path.is_file() and apart not in (path, *path.parents)]
    files = [path for path in files if not path.name.endswith("_filelock")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def attack(
    write: Callable[[random.Random], None],
    use: Callable[[], Any],
    error: type[Exception],
    seed: int,
    *,
    least_refused: float = 1 / 3,
) -> tuple[int, int]:
    """Writes bad input and uses it, again and again; how often it was refused, and how often accepted.

    Any other exception fails, and an error without a message, and fewer refused than the fraction ``least_refused``:
    then the inputs are hardly bad, or the error is not raised.
    """
    refused = accepted = 0
    for number in range(EACH):
        rng = random.Random(1000 * seed + number)
        write(rng)
        try:
            use()
        except error as clear:
            if len(str(clear)) < 10:
                raise AssertionError(f"input {1000 * seed + number}: says nothing: {clear!r}") from clear
            refused += 1
        except BaseException as caught:
            raise AssertionError(f"input {1000 * seed + number}: {type(caught).__name__}: {caught}") from caught
        else:
            accepted += 1
    assert refused > EACH * least_refused
    return refused, accepted
