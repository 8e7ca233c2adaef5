import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detour.batch import IGNORE, Batch, check_batch, count_tokens, doc_ids_of, micro_batches
from detour.errors import DataError
from detour.testing import make_batch

ROWS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5)


def bare(lengths_BD, T) -> Batch:
    lengths_BD = torch.tensor(lengths_BD)
    B = len(lengths_BD)
    return Batch(input_ids=torch.ones(B, T, dtype=torch.int64), doc_lengths=lengths_BD, sample_id=torch.arange(B))


@given(rows=ROWS, tail=st.integers(0, 4), zeros=st.integers(0, 3))
def test_doc_ids_count_the_documents_of_each_row_and_padding_is_minus_one(rows, tail, zeros):
    T = max(map(sum, rows)) + tail
    D = max(map(len, rows)) + zeros
    expected = []
    for lengths in rows:
        ids = [document for document, length in enumerate(lengths) for _ in range(length)]
        expected.append(ids + [-1] * (T - len(ids)))
    ids_BT = doc_ids_of(bare([lengths + [0] * (D - len(lengths)) for lengths in rows], T))
    assert ids_BT.dtype == torch.int64
    assert ids_BT.tolist() == expected


def test_tokens_are_counted_without_padding_and_loss_by_the_labels():
    batch = make_batch([[3, 4], [2]], T=10)
    assert count_tokens(batch) == {"total": 9, "loss_generating": 9}
    labels_BT = torch.full((2, 10), IGNORE)
    labels_BT[0, 1:3] = 0
    labels_BT[1, 0] = 7
    assert count_tokens({**batch, "labels": labels_BT}) == {"total": 9, "loss_generating": 3}
    assert count_tokens({**batch, "labels": torch.full((2, 10), IGNORE)})["loss_generating"] == 0


@given(
    lengths=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=7),
    rows=st.integers(1, 8),
)
def test_micro_batches_are_the_batch_and_know_their_counts(lengths, rows):
    batch = make_batch(lengths, T=16)
    labels = torch.where(batch["input_ids"] % 3 == 0, batch["input_ids"], IGNORE)
    batch = {**batch, "labels": labels, "attention": "causal", "objective": "clm"}
    pieces = micro_batches(batch, rows)
    assert [len(piece["input_ids"]) for piece in pieces[:-1]] == [rows] * (len(pieces) - 1)
    for key in ("input_ids", "doc_lengths", "sample_id", "labels"):
        assert torch.equal(torch.cat([piece[key] for piece in pieces]), batch[key])
    for piece in pieces:
        assert piece["attention"] == "causal"
        asked = {key: value for key, value in piece.items() if key in ("input_ids", "doc_lengths", "labels")}
        assert count_tokens(piece) == count_tokens(asked)
        flat = piece["labels"].flatten()
        assert piece["supervised_at"].tolist() == [n for n, label in enumerate(flat.tolist()) if label != IGNORE]


def test_a_sound_batch_passes():
    check_batch(make_batch([[3, 4], [2], [10]], T=10))
    check_batch({**make_batch([[3]]), "labels": torch.full((1, 3), IGNORE)})


@pytest.mark.parametrize("name", ["input_ids", "doc_lengths", "sample_id", "labels"])
def test_a_column_of_another_type_is_named(name):
    batch = {**make_batch([[3]]), "labels": torch.full((1, 3), IGNORE)}
    with pytest.raises(DataError, match=f"batch\\['{name}'\\] has dtype torch.int32, expected int64"):
        check_batch({**batch, name: batch[name].int()})


@pytest.mark.parametrize(
    "changed",
    [
        {"input_ids": torch.ones(3, dtype=torch.int64)},
        {"input_ids": torch.ones(2, 3, dtype=torch.int64)},
        {"doc_lengths": torch.tensor([3])},
        {"doc_lengths": torch.tensor([[3], [3]])},
        {"sample_id": torch.arange(2)},
    ],
    ids=lambda changed: f"{[(name, tuple(value.shape)) for name, value in changed.items()]}",
)
def test_shapes_that_do_not_fit_are_refused(changed):
    with pytest.raises(DataError, match="expected \\[B, T\\], \\[B, D\\], \\[B\\]"):
        check_batch({**make_batch([[3]]), **changed})


@pytest.mark.parametrize(
    ("lengths_BD", "message"),
    [
        ([[3, -1]], "lengths must be >= 0"),
        ([[3, 4]], "their sum at most T"),
        ([[0, 3]], "the first > 0"),
        ([[3], [0]], "the first > 0"),
        ([[1, 0, 1]], "zeros are allowed only after"),
    ],
)
def test_document_lengths_that_do_not_fit_are_refused(lengths_BD, message):
    with pytest.raises(DataError, match=message):
        check_batch(bare(lengths_BD, T=6))
