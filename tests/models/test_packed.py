import torch
from hypothesis import given
from hypothesis import strategies as st

from detour.batch import micro_batches
from detour.models.packed import Packing
from detour.testing import make_batch

LENGTHS = st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=3), min_size=1, max_size=5)


@given(rows=LENGTHS, tail=st.integers(0, 4))
def test_every_form_describes_the_same_documents(rows, tail):
    T = max(map(sum, rows)) + tail + 1
    packing = Packing.of(torch.tensor(rows), T)
    segments = [length for row in rows for length in (*row, T - sum(row))]  # the free tail is a document of its own
    documents = [(s, at) for s, length in enumerate(segments) for at in range(length)]

    assert packing.lengths_S.tolist() == segments
    assert packing.N == len(rows) * T == len(documents)
    assert packing.doc_N.tolist() == [s for s, _ in documents]
    assert packing.position_N.tolist() == [at for _, at in documents]
    assert packing.cu_seqlens_S1.tolist() == [sum(segments[:s]) for s in range(len(segments) + 1)]
    assert packing.host_lengths == [length for length in segments if length]
    assert packing.max_length >= max(segments)


@given(rows=LENGTHS, tail=st.integers(0, 4), limit=st.none() | st.integers(7, 12))
def test_a_micro_batch_counts_its_documents_without_empty_ones_and_the_longest(rows, tail, limit):
    rows = [[length for length in row if length] or [1] for row in rows]
    T = max(map(sum, rows)) + tail + 1
    batch = make_batch(rows, T=T)
    (piece,) = micro_batches({**batch, "labels": batch["input_ids"]}, len(rows), limit=limit)
    found = Packing.of_micro_batch(piece)
    assert found is not None
    expected = Packing.of(batch["doc_lengths"], T, limit=limit)
    assert found.lengths_S.tolist() == found.host_lengths == expected.host_lengths
    assert found.max_length == max(expected.host_lengths) <= T
    assert found.N == expected.N == found.cu_seqlens_S1[-1]
    assert torch.equal(found.position_N, expected.position_N)
    changes = [x.diff() != 0 for x in (found.doc_N, expected.doc_N)]
    assert torch.equal(*changes)
    assert Packing.of_micro_batch(batch) is None


def test_kernels_get_the_integer_types_they_ask_for():
    packing = Packing.of(torch.tensor([[2, 3]]), 6)
    assert packing.cu_seqlens_S1.dtype == torch.int32
    assert packing.doc_N.dtype == packing.position_N.dtype == torch.int64
    assert isinstance(packing.max_length, int)
    assert packing.max_length == 6
