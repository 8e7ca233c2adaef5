"""What the encoder promises of itself: isolation, one object for both rules, and the loss of its own logits."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from detour.batch import IGNORE, Batch, doc_ids_of, micro_batches
from detour.errors import ConfigError
from detour.models.attention import BACKENDS
from detour.models.packed import Packing
from detour.objectives import CLM, MLM, RowRandom
from detour.testing import make_batch, make_vocab

T = 60
ROWS = [[21, 1, 9, 29], [60], [17, 16, 20], [33, 8]]
VOCAB = make_vocab(83)
RULES = pytest.mark.parametrize("attention", ["bidirectional", "causal"])


def batch_of(rows=ROWS) -> Batch:
    return make_batch(rows, T=T, vocab=VOCAB)


def logits(model, batch, attention):
    return model.logits(batch["input_ids"], batch["doc_lengths"], attention)


def supervised(batch, attention) -> Batch:
    objective = CLM() if attention == "causal" else MLM(rate=0.3)
    return objective(batch, VOCAB, RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))


def loss_of(model, batch):
    return model(batch["input_ids"], batch["doc_lengths"], batch["labels"], batch["attention"])


def with_tokens_changed(batch, where_BT) -> Batch:
    """The same batch with another ordinary token wherever told."""
    changed_BT = torch.where(where_BT, 5 + (batch["input_ids"] + 11) % 78, batch["input_ids"])
    assert (changed_BT != batch["input_ids"]).any()
    return {**batch, "input_ids": changed_BT}


# ---- isolation


@torch.no_grad()
@RULES
def test_a_changed_neighbor_document_moves_no_logit(encoder, backend, attention):
    model, batch = encoder(backend=backend), batch_of()
    before, doc_BT = logits(model, batch, attention), doc_ids_of(batch)
    for document in range(4):
        own_BT = doc_BT == document
        after = logits(model, with_tokens_changed(batch, ~own_BT), attention)
        assert torch.equal(after[own_BT], before[own_BT])
        assert not torch.equal(after[~own_BT], before[~own_BT])


@torch.no_grad()
def test_a_changed_future_token_moves_no_past_logit_under_causal_attention(encoder, backend):
    model, batch = encoder(backend=backend), batch_of()
    before, position_T = logits(model, batch, "causal"), torch.arange(T)
    for cut in (1, 8, 16, 17, 40, 59):
        after = logits(model, with_tokens_changed(batch, (position_T >= cut).expand(4, T)), "causal")
        assert torch.equal(after[:, :cut], before[:, :cut])
        assert (after[:, cut] != before[:, cut]).any(1).all()


@torch.no_grad()
def test_a_changed_future_token_does_move_past_logits_under_bidirectional_attention(encoder, backend):
    model, batch = encoder(backend=backend), batch_of([[T]])
    last = torch.arange(T)[None] == T - 1
    moved_BT = logits(model, with_tokens_changed(batch, last), "bidirectional") != logits(model, batch, "bidirectional")
    assert moved_BT.any(2).all()


def embedding_gradient(model, batch, attention, where_BT):
    """Gradient [B, T, C] of a random sum of the logits at some positions with respect to each token's embedding."""
    seen = {}

    def keep(module, args, out_NC):
        seen["x"] = out_NC.detach().requires_grad_()
        return seen["x"]

    hook = model.model.embeddings.register_forward_hook(keep)
    out_BTV = logits(model, batch, attention)
    hook.remove()
    mix_BTV = torch.randn(out_BTV.shape, generator=torch.Generator().manual_seed(0))
    (out_BTV * mix_BTV)[where_BT].sum().backward()
    return seen["x"].grad.unflatten(0, where_BT.shape)


@RULES
def test_a_document_s_loss_has_no_gradient_at_other_documents_tokens(encoder, backend, attention):
    model, batch = encoder(backend=backend), batch_of()
    doc_BT = doc_ids_of(batch)
    for document in range(4):
        own_BT = doc_BT == document
        grad_BTC = embedding_gradient(model, batch, attention, own_BT)
        assert (grad_BTC[~own_BT] == 0).all()
        assert (grad_BTC[own_BT] != 0).any(1).all()


def test_a_past_logit_has_no_gradient_at_future_tokens_under_causal_attention(encoder, backend):
    model, batch = encoder(backend=backend), batch_of()
    past_BT = (torch.arange(T) < 27).expand(4, T)
    grad_BTC = embedding_gradient(model, batch, "causal", past_BT)
    assert (grad_BTC[~past_BT] == 0).all()
    assert (grad_BTC[past_BT] != 0).any(1).all()


@torch.no_grad()
@RULES
def test_padding_and_zero_length_entries_move_no_logit(encoder, backend, attention):
    model, batch = encoder(backend=backend), batch_of([[21, 1, 9], [17, 16]])
    before, real_BT = logits(model, batch, attention), doc_ids_of(batch) >= 0
    other_tail = with_tokens_changed(batch, ~real_BT)
    zeros = {**batch, "doc_lengths": torch.tensor([[21, 1, 9, 0, 0, 0], [17, 16, 0, 0, 0, 0]])}
    for changed in (other_tail, zeros):
        assert torch.equal(logits(model, changed, attention)[real_BT], before[real_BT])
    short = {**batch, "input_ids": batch["input_ids"][:, :33]}
    torch.testing.assert_close(logits(model, short, attention)[real_BT[:, :33]], before[real_BT], rtol=0, atol=1e-5)


@torch.no_grad()
def test_positions_start_anew_in_each_document_and_each_kind_of_layer_has_its_theta(encoder, monkeypatch):
    from detour.models import encoder as module

    asked = []

    def spy(position_N, rotary, dtype):
        asked.append((position_N.tolist(), rotary.theta))
        return original(position_N, rotary, dtype)

    original = module.rotary_table
    monkeypatch.setattr(module, "rotary_table", spy)
    logits(encoder(), batch_of(), "causal")
    lengths = [21, 1, 9, 29, 60, 17, 16, 20, 7, 33, 8, 19]  # row by row, tails included
    assert asked == [([at for n in lengths for at in range(n)], theta) for theta in (5000.0, 300.0)]


@torch.no_grad()
def test_a_local_layer_sees_the_window_and_nothing_beyond(encoder, backend):
    """One global layer would hide it: here every layer but the first is local, and the first is silenced."""
    model = encoder(backend=backend, num_hidden_layers=2, global_attn_every_n_layers=2, causal_left_window=5)
    model.model.layers[0].attn.Wo.weight.zero_()
    batch, middle = batch_of([[T]]), 30
    for attention, left, right in (("bidirectional", 8, 8), ("causal", 5, 0)):
        before = logits(model, batch, attention)[0]
        after = logits(model, with_tokens_changed(batch, torch.arange(T)[None] == middle), attention)[0]
        moved = (before != after).any(1).nonzero().flatten().tolist()
        assert moved == list(range(middle - right, middle + left + 1))  # those that have the middle in their window


# ---- one model, two rules


@torch.no_grad()
def test_the_rule_switches_at_run_time_and_back_without_a_trace(encoder, backend):
    model, batch = encoder(backend=backend), batch_of()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, causal = logits(model, batch, "bidirectional"), logits(model, batch, "causal")
    again = logits(model, batch, "bidirectional")
    assert torch.equal(first, again)
    assert not torch.equal(first, causal)
    assert torch.equal(
        causal, logits(encoder(backend=backend), batch, "causal")
    )  # as if it had never been bidirectional
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_rule_is_refused(encoder):
    with pytest.raises(ConfigError, match="attention is 'sideways', expected 'bidirectional', 'causal', 'reach'"):
        logits(encoder(), batch_of(), "sideways")


# ---- the loss


@RULES
def test_the_loss_is_the_cross_entropy_of_the_logits(encoder, attention):
    model, batch = encoder(), supervised(batch_of(), attention)
    loss = loss_of(model, batch)
    labels_N = batch["labels"].flatten()
    dense = F.cross_entropy(
        logits(model, batch, attention).flatten(0, 1), labels_N, ignore_index=IGNORE, reduction="sum"
    )
    torch.testing.assert_close(loss.total, dense, rtol=1e-6, atol=1e-5)
    assert int(loss.supervised) == int((labels_N != IGNORE).sum()) > 30
    assert loss.total.dtype == torch.float32
    assert loss.total.ndim == loss.supervised.ndim == 0


class _Questions(TorchDispatchMode):
    """Collects the operations that, on a GPU, wait until it has done all it was given."""

    WAITING = (
        "aten::_local_scalar_dense",
        "aten::nonzero",
        "aten::masked_select",
        "aten::_unique2",
        "aten::is_nonzero",
    )

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split(".")[0]
        if name in self.WAITING or (name == "aten::repeat_interleave" and "output_size" not in (kwargs or {})):
            self.asked.append(name)
        return operation(*args, **(kwargs or {}))


@RULES
def test_a_step_asks_nothing_of_the_device_where_the_places_are_known(encoder, monkeypatch, attention):
    monkeypatch.setitem(BACKENDS, "values", lambda packing, rule, dtype: lambda q, k, v, dropout: v)  # as kernels do
    model, batch = encoder(backend="values"), supervised(batch_of(), attention)
    (known,) = micro_batches(batch, len(ROWS))
    arguments = [batch[key] for key in ("input_ids", "doc_lengths", "labels", "attention")]
    results = []
    for places in ((), (known["supervised_at"],), (known["supervised_at"], Packing.of_micro_batch(known))):
        with _Questions() as questions:
            out = model(*arguments, *places)
            (out.total / out.supervised).backward()
        results.append((questions.asked, out.total.item(), out.supervised.item()))
    (without, *expected), (asked, *found), (asked_packed, *found_packed) = results
    assert without == ["aten::nonzero"]
    assert asked == asked_packed == []
    assert found == found_packed == expected


def test_every_id_counts_as_a_label_the_first_and_the_last_too(encoder):
    model, batch = encoder(), batch_of([[T]])
    labels_BT = torch.full((1, T), IGNORE)
    labels_BT[0, :3] = torch.tensor([0, 1, 82])
    loss = model(batch["input_ids"], batch["doc_lengths"], labels_BT, "causal")
    dense = F.cross_entropy(logits(model, batch, "causal")[0], labels_BT[0], reduction="sum")
    torch.testing.assert_close(loss.total, dense, rtol=1e-6, atol=1e-5)
    assert int(loss.supervised) == 3


@RULES
def test_a_batch_without_supervised_positions_has_loss_zero_and_finite_gradients(encoder, attention):
    model, batch = encoder(), batch_of()
    labels_BT = torch.full_like(batch["input_ids"], IGNORE)
    loss = model(batch["input_ids"], batch["doc_lengths"], labels_BT, attention)
    loss.total.backward()
    assert loss.total == 0
    assert loss.supervised == 0
    assert all(p.grad is not None and (p.grad == 0).all() for p in model.parameters())


@RULES
def test_gradient_checkpointing_changes_no_bit(encoder, attention):
    batch, results = supervised(batch_of(), attention), []
    for gradient_checkpointing in (False, True):
        model = encoder(gradient_checkpointing=gradient_checkpointing).train()
        loss = loss_of(model, batch)
        loss.total.backward()
        results.append([loss.total, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradient_checkpointing_runs_each_layer_again(encoder):
    model, batch, calls = encoder(gradient_checkpointing=True), supervised(batch_of(), "causal"), []
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    loss_of(model, batch).total.backward()
    assert calls[:4] == [0, 1, 2, 3]
    assert sorted(calls[4:]) == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["embedding_dropout", "attention_dropout", "mlp_dropout"])
def test_dropout_acts_in_training_only(encoder, where):
    model, batch = encoder(**{where: 0.2}), supervised(batch_of(), "causal")
    sound = loss_of(encoder(), batch).total
    assert torch.equal(loss_of(model, batch).total, sound)
    torch.manual_seed(0)
    losses = [loss_of(model.train(), batch).total for _ in range(2)]
    assert len({sound.item(), *(loss.item() for loss in losses)}) == 3
    losses[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_attention_dropout_also_acts_after_the_output_projection(encoder):
    model, batch = encoder(attention_dropout=0.2), supervised(batch_of(), "causal")
    for layer in model.model.layers:
        layer.attn.dropout = 0.0  # the kernel's share, off
    assert not torch.equal(loss_of(model.train(), batch).total, loss_of(model.eval(), batch).total)


def test_attention_dropout_reaches_the_kernel(encoder, monkeypatch):
    asked = []
    original = F.scaled_dot_product_attention

    def spy(*args, dropout_p, **kwargs):
        asked.append(dropout_p)
        return original(*args, dropout_p=dropout_p, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    model, batch = encoder(attention_dropout=0.25), supervised(batch_of(), "causal")
    loss_of(model.train(), batch)
    assert set(asked) == {0.25}
    asked.clear()
    loss_of(model.eval(), batch)
    assert set(asked) == {0.0}


@RULES
def test_the_loss_in_bf16_autocast_is_near_that_in_fp32(encoder, attention):
    model, batch = encoder(), supervised(batch_of(), attention)
    exact = loss_of(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = loss_of(model, batch)
    assert rough.total.dtype == torch.float32
    assert not torch.equal(rough.total, exact.total)
    torch.testing.assert_close(rough.total / rough.supervised, exact.total / exact.supervised, rtol=1e-2, atol=0)
    rough.total.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_every_parameter_reaches_the_logits(encoder):
    """Guards the parity tests: each tensor, moved a little, moves the result."""
    biases = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
    model, batch = encoder(**biases), batch_of()
    before = logits(model, batch, "causal")
    for name, parameter in model.named_parameters():
        kept = parameter.clone()
        parameter.mul_(1.1)
        assert not torch.equal(logits(model, batch, "causal"), before), name
        parameter.copy_(kept)
