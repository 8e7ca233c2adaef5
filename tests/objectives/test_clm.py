import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers.loss.loss_utils import ForCausalLMLoss

from detour.batch import IGNORE, doc_ids_of
from detour.objectives import CLM, RowRandom
from detour.testing import make_batch, make_vocab

LENGTHS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4)


def corrupt(batch):
    return CLM()(batch, make_vocab(), RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))


@given(rows=LENGTHS, tail=st.integers(0, 5))
def test_a_token_predicts_the_next_one_of_its_document_and_the_last_nothing(rows, tail):
    batch = make_batch(rows, T=max(map(sum, rows)) + tail)
    labels_BT, ids_BT = corrupt(batch)["labels"], batch["input_ids"]
    for row, lengths in enumerate(rows):
        expected = []
        start = 0
        for length in lengths:
            expected += [*ids_BT[row, start + 1 : start + length].tolist(), IGNORE]
            start += length
        assert labels_BT[row].tolist() == expected + [IGNORE] * (ids_BT.shape[1] - start)


def test_the_loss_on_a_single_document_is_hugging_face_s_causal_loss():
    batch = make_batch([[33], [33]], vocab=make_vocab(50))
    logits_BTV = torch.randn(2, 33, 50, generator=torch.Generator().manual_seed(0))
    ours = F.cross_entropy(logits_BTV.flatten(0, 1), corrupt(batch)["labels"].flatten(), ignore_index=IGNORE)
    torch.testing.assert_close(ours, ForCausalLMLoss(logits_BTV, batch["input_ids"], vocab_size=50))


def test_inputs_stay_and_attention_is_causal():
    batch = make_batch([[5, 1, 7], [4]])
    out = corrupt(batch)
    assert torch.equal(out["input_ids"], batch["input_ids"])
    assert out["attention"] == "causal"
    assert out["objective"] == "clm"


def test_the_supervised_share_is_exact():
    batch = make_batch([[5, 1, 7], [4], [13, 13]])
    tokens, documents = int(batch["doc_lengths"].sum()), int((batch["doc_lengths"] > 0).sum())
    supervised = int((corrupt(batch)["labels"] != IGNORE).sum())
    assert supervised == tokens - documents == round(CLM().target_fraction(tokens / documents) * tokens)
    assert (doc_ids_of(batch) >= 0).sum() == tokens
