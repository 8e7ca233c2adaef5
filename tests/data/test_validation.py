"""Which rows are held out: in proportion, each at most once, the same for all runs; shared out to the last one."""

from __future__ import annotations

import hashlib
import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detour.data.loader import StreamSpec, build_loader
from detour.data.validation import assign_batches, draw, draw_from, names_of, quotas
from detour.data.validation_loader import ValidationLoader
from detour.errors import DataError

counts_lists = st.lists(st.integers(1, 5000), min_size=1, max_size=8)
SHA = [hashlib.sha256(bytes([i])).hexdigest() for i in range(9)]


@pytest.mark.parametrize(
    ("counts", "rows", "expected"),
    [
        ([300, 100], 8, [6, 2]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([50, 30, 20], 11, [6, 3, 2]),  # 5.5, 3.3, 2.2: the rest goes to the largest remainder
        ([10, 10], 5, [3, 2]),  # a tie goes to the first
        ([10_000, 5, 3], 10, [8, 1, 1]),  # 9.99, 0.005, 0.003: nobody is left out
        ([40, 2], 64, [40, 2]),  # more than there are
    ],
)
def test_rows_come_from_the_folders_in_proportion(counts, rows, expected):
    assert quotas(counts, rows) == expected


@given(counts_lists, st.integers(8, 5000))
def test_quotas_sum_to_the_rows_and_are_off_by_less_than_one_but_for_the_least(counts, rows):
    given_ = quotas(counts, rows)
    total = sum(counts)
    assert sum(given_) == min(rows, total)
    assert all(1 <= quota <= count for quota, count in zip(given_, counts, strict=True))
    exact = [min(rows, total) * count / total for count in counts]
    if min(exact) >= 1:  # the quota rule of largest remainders
        assert all(math.floor(e) <= quota <= math.ceil(e) for quota, e in zip(given_, exact, strict=True))


def test_fewer_rows_than_folders_are_refused():
    with pytest.raises(DataError, match=r"evaluation.rows: 2, expected at least one for each of the 3 folders"):
        quotas([10, 10, 10], 2)


@given(st.integers(1, 3000), st.data(), st.integers(0, 2**32 - 1))
def test_rows_are_drawn_without_replacement(count, data, seed):
    quota = data.draw(st.integers(1, count))
    drawn = draw_from(count, quota, seed=seed, sha256=SHA[0])
    assert len(set(drawn.tolist())) == quota
    assert drawn.tolist() == sorted(drawn.tolist())
    assert drawn[0] >= 0
    assert drawn[-1] < count


def test_each_row_is_as_likely_as_any_other():
    """4000 draws of 5 of 20 rows: each row 1000 times, with a standard deviation of 27."""
    times = np.zeros(20)
    for seed in range(4000):
        times[draw_from(20, 5, seed=seed, sha256=SHA[0])] += 1
    assert abs(times - 1000).max() < 5 * math.sqrt(4000 * 0.25 * 0.75)


def test_a_folder_s_rows_do_not_depend_on_its_place_or_on_where_it_lies():
    paths = ["a/held", "b/held"]
    first = draw(paths, SHA[:2], [300, 100], rows=8, seed=5)
    second = draw(["elsewhere/b/held", "elsewhere/a/held"], SHA[1::-1], [100, 300], rows=8, seed=5)
    assert [folder.name for folder in first] == ["a", "b"]
    assert [folder.describe() for folder in first] == [folder.describe() for folder in second[::-1]]
    other = draw(paths, SHA[:2], [300, 100], rows=8, seed=6)
    assert first[0].drawn.tolist() != other[0].drawn.tolist()


def test_folders_may_be_named():
    named = draw(["a/held", "b/held"], SHA[:2], [300, 100], rows=8, seed=5, names=[None, "general"])
    assert [folder.name for folder in named] == ["a", "general"]
    unnamed = draw(["a/held", "b/held"], SHA[:2], [300, 100], rows=8, seed=5)
    assert [folder.drawn.tolist() for folder in named] == [folder.drawn.tolist() for folder in unnamed]
    with pytest.raises(DataError, match="two folders are called 'a'"):
        draw(["a/held", "b/held"], SHA[:2], [300, 100], rows=8, seed=5, names=[None, "a"])


def test_folders_of_the_same_rows_are_refused():
    with pytest.raises(DataError, match=r"a and c contain the same rows"):
        draw(["a", "b", "c"], [SHA[0], SHA[1], SHA[0]], [5, 5, 5], rows=9, seed=0)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["out/validation"], ["validation"]),
        (["out/medquad/validation", "out/wiki/validation"], ["medquad", "wiki"]),
        (["/a/en/x/held", "/a/fr/y/held"], ["en/x", "fr/y"]),
        (["x", "x/y"], ["x", "x/y"]),
        (["rows/fr/", "./rows/en"], ["fr", "en"]),
        ([], []),
    ],
)
def test_a_folder_is_called_by_what_tells_it_apart(paths, names):
    assert names_of(paths) == names


@given(st.lists(st.text("ab/", min_size=1, max_size=6), min_size=2, max_size=6))
def test_folders_that_differ_have_names_that_differ(paths):
    distinct = {tuple(part for part in path.split("/") if part) for path in paths}
    assert len(set(names_of(["/root/" + path for path in paths]))) == len(distinct)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(1, 40), st.integers(1, 9))
def test_every_row_is_dealt_once_and_every_process_has_as_many_batches(sizes, batch_rows, processes):
    hands = assign_batches(sizes, batch_rows=batch_rows, processes=processes)
    assert len({len(hand) for hand in hands}) == 1
    assert len(hands) == processes
    dealt = [(f, row) for piece in chain(*hands) if piece for f in [piece[0]] for row in range(sizes[f])[piece[1]]]
    assert sorted(dealt) == [(folder, row) for folder, size in enumerate(sizes) for row in range(size)]
    assert all(1 <= piece[1].stop - piece[1].start <= batch_rows for piece in chain(*hands) if piece)
    assert sum(piece is None for piece in chain(*hands)) < processes


def loader_over(*folders, rows: int, seed: int = 5, **options) -> ValidationLoader:
    dataset = build_loader(
        streams=[StreamSpec(path=str(folder)) for folder in folders], device_batch_size=1, shuffle=False, shuffle_seed=0,
        canonical_nodes=1, workers=0,
    ).dataset  # fmt: skip
    counts = dataset.samples_per_stream.tolist()
    drawn = draw([str(f) for f in folders], SHA[: len(folders)], counts, rows=rows, seed=seed)
    return ValidationLoader(dataset, drawn, **{"batch_rows": 4, "processes": 1, "rank": 0, **options})


def seen(batches) -> list[tuple[int, int, int]]:
    """Draw, folder and first token of each row."""
    return [(b["draw"], b["stream"], int(ids[0])) for b in batches if not b["idle"] for ids in b["input_ids"]]


def test_batches_hold_the_drawn_rows_of_their_folder(write_rows):
    """The fixture's row i begins with the id 10 + i."""
    loader = loader_over(write_rows("a", rows=30), write_rows("b", rows=10), rows=12)
    expected = [(0, i, 10 + row) for i, folder in enumerate(loader.folders) for row in folder.drawn.tolist()]
    assert [len(folder.drawn) for folder in loader.folders] == [9, 3]
    assert seen(loader) == expected
    assert seen(loader) == expected, "the same rows each time"
    assert len(loader) == len(list(loader)) == 4  # 4 + 4 + 1, 3


@pytest.mark.parametrize(("batch_rows", "processes"), [(1, 1), (5, 1), (100, 1), (4, 2), (5, 3), (2, 16)])
def test_the_rows_are_the_same_whatever_the_batches_and_processes(write_rows, batch_rows, processes):
    alone = loader_over(write_rows("a", rows=30), write_rows("b", rows=10), rows=12)
    parts = [
        ValidationLoader(alone.dataset, alone.folders, batch_rows=batch_rows, processes=processes, rank=rank)
        for rank in range(processes)
    ]
    assert sorted(chain(*(seen(part) for part in parts))) == sorted(seen(alone))
    assert len({len(part) for part in parts}) == 1


def test_further_draws_bring_the_same_rows_again(write_rows):
    loader = loader_over(write_rows("a", rows=30), rows=7, draws=3)
    assert len(loader) == 6
    rows = seen(loader)
    assert [draw for draw, _, _ in rows] == [0] * 7 + [1] * 7 + [2] * 7
    assert rows[:7] == [(0, stream, first) for _, stream, first in rows[7:14]]


def test_a_row_s_key_depends_on_its_folder_alone(write_rows):
    a, b = write_rows("a", rows=30), write_rows("b", rows=10)
    both = {int(i) for batch in loader_over(a, b, rows=40) for i in batch["sample_id"]}
    alone = {int(i) for batch in loader_over(a, rows=30) for i in batch["sample_id"]}
    assert len(both) == 40
    assert alone < both
