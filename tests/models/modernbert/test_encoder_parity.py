"""The encoder against Hugging Face: logits, losses, gradients and names. The reference sees one document at a time."""

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
)

from detour.batch import IGNORE, doc_ids_of
from detour.models.encoder import Encoder
from detour.objectives import CLM, MLM, RowRandom
from detour.testing import make_batch, make_vocab

CLOSE = {"rtol": 0, "atol": 1e-5}
BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
SHAPES = {
    "window 8, 2 heads": {},
    "window 20, 4 heads, biases": {"hidden_size": 48, "num_attention_heads": 4, "local_attention": 40, **BIASES},
    "window 1, 1 head, no bias": {"num_attention_heads": 1, "local_attention": 2, "decoder_bias": False},
    "window 32, every 2nd global": {"local_attention": 64, "global_attn_every_n_layers": 2, "num_hidden_layers": 3},
    "window beyond the row, all local but the first": {"local_attention": 400, "global_attn_every_n_layers": 9},
}
T = 100
# around the windows 1, 8, 20, 32 and the blocks of 16, 20, 32; one full row; zero-length entries; a long tail
ROWS = [[1, 2, 7, 8, 9, 10, 15, 16, 17], [T], [19, 20, 21, 40], [31, 32, 33], [65, 35], [5, 3]]


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def batch_of(rows=ROWS):
    """Documents without the pad id: Hugging Face gives the embedding of that id no gradient."""
    return make_batch(rows, T=T, vocab=make_vocab(83))


def config_of(arch, cls):
    names = set(vars(arch)) - {"causal_left_window", "global_rope_scaling"}
    config = cls(**{name: getattr(arch, name) for name in names}, pad_token_id=0, reference_compile=False)
    config._attn_implementation = "sdpa"
    return config


def decoder_names(tensors):
    """The encoder's tensors under the names of Hugging Face's decoder class."""
    renamed = {}
    for name, tensor in tensors.items():
        if "Wqkv" in name:
            renamed |= {name.replace("Wqkv", f"{part}_proj"): x for part, x in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            renamed["lm_" + name if name.startswith("head.") else name] = tensor
    return renamed


def masked_lm(encoder):
    reference = ModernBertForMaskedLM(config_of(encoder.arch, ModernBertConfig))
    reference.load_state_dict(encoder.state_dict(), strict=True)
    return reference.eval()


def causal_lm(encoder):
    reference = ModernBertDecoderForCausalLM(config_of(encoder.arch, ModernBertDecoderConfig))
    reference.load_state_dict(decoder_names(encoder.state_dict()), strict=True)
    return reference.eval()


def causal_shape(shape):
    """The decoder class sees one key less, and in this release rotates local layers by the global theta."""
    return {**shape, "causal_left_window": shape.get("local_attention", 16) // 2 - 1, "local_rope_theta": 5000.0}


def per_document(reference, batch, **kwargs):
    """Logits [B, T, V] of the reference run on each document alone; zero at padding."""
    logits_BTV = torch.zeros(*batch["input_ids"].shape, reference.config.vocab_size)
    doc_BT = doc_ids_of(batch)
    for row, ids_T in enumerate(batch["input_ids"]):
        for document in range(int(doc_BT[row].max()) + 1):
            own_T = doc_BT[row] == document
            logits_BTV[row, own_T] = reference(input_ids=ids_T[own_T][None], **kwargs).logits[0]
    return logits_BTV


def assert_close_where_real(ours_BTV, theirs_BTV, batch):
    real_BT = doc_ids_of(batch) >= 0
    assert theirs_BTV[real_BT].std() > 0.3  # logits worth comparing
    torch.testing.assert_close(ours_BTV[real_BT], theirs_BTV[real_BT], **CLOSE)


@torch.no_grad()
def test_packed_rows_equal_hugging_face_s_encoder_on_each_document_alone(encoder, shape, backend):
    model, batch = encoder(backend=backend, **shape), batch_of()
    ours = model.logits(batch["input_ids"], batch["doc_lengths"], "bidirectional")
    assert_close_where_real(ours, per_document(masked_lm(model), batch), batch)


@torch.no_grad()
def test_packed_rows_equal_hugging_face_s_decoder_on_each_document_alone(encoder, shape, backend):
    model, batch = encoder(backend=backend, **causal_shape(shape)), batch_of()
    ours = model.logits(batch["input_ids"], batch["doc_lengths"], "causal")
    assert_close_where_real(ours, per_document(causal_lm(model), batch, use_cache=False), batch)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 97])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_a_single_document_that_fills_its_row_equals_hugging_face(encoder, attention, length):
    model, batch = encoder(**causal_shape({})), make_batch([[length]], vocab=make_vocab(83))
    reference = masked_lm(model) if attention == "bidirectional" else causal_lm(model)
    ours = model.logits(batch["input_ids"], batch["doc_lengths"], attention)
    torch.testing.assert_close(ours, reference(input_ids=batch["input_ids"]).logits, **CLOSE)


@torch.no_grad()
def test_one_document_a_row_equals_hugging_face_s_padded_batch(encoder, shape):
    model, batch = encoder(**shape), batch_of([[T], [37], [1], [16], [64]])
    mask_BT = (doc_ids_of(batch) >= 0).long()
    theirs = masked_lm(model)(input_ids=batch["input_ids"], attention_mask=mask_BT).logits
    assert_close_where_real(model.logits(batch["input_ids"], batch["doc_lengths"], "bidirectional"), theirs, batch)


@torch.no_grad()
def test_the_causal_window_differs_from_the_decoder_class_by_default(encoder):
    """Left to itself the window is local_attention // 2 keys beside the token, one more than the decoder class has."""
    model, batch = encoder(local_rope_theta=5000.0), batch_of()
    ours = model.logits(batch["input_ids"], batch["doc_lengths"], "causal")
    theirs = per_document(causal_lm(model), batch, use_cache=False)
    apart_BT = (ours - theirs).abs().amax(2)
    assert apart_BT[1, :8].max() < 1e-5 < 0.01 < apart_BT[1, 8]  # the ninth token is the first to see nine keys


@pytest.mark.parametrize("objective", [MLM(rate=0.3), CLM()], ids=["mlm", "clm"])
@pytest.mark.parametrize("shape", ["window 20, 4 heads, biases", "window 1, 1 head, no bias"], indirect=True)
def test_parameter_gradients_equal_hugging_face_s(encoder, shape, backend, objective):
    model, batch = encoder(backend=backend, **causal_shape(shape)), batch_of()
    batch = objective(batch, make_vocab(83), RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))
    loss = model(batch["input_ids"], batch["doc_lengths"], batch["labels"], objective.attention)
    (loss.total / loss.supervised).backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}

    causal = objective.attention == "causal"
    reference = causal_lm(model) if causal else masked_lm(model)
    logits_BTV = per_document(reference, batch, **({"use_cache": False} if causal else {}))
    expected = F.cross_entropy(logits_BTV.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORE)
    expected.backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}

    torch.testing.assert_close(loss.total / loss.supervised, expected, **CLOSE)
    assert max(gradient.abs().max() for gradient in theirs.values()) > 0.01
    torch.testing.assert_close(decoder_names(ours) if causal else ours, theirs, **CLOSE)


@pytest.mark.parametrize("biases", [{}, BIASES, {"decoder_bias": False}], ids=["default", "all", "none"])
def test_state_dict_names_and_shapes_are_hugging_face_s(arch, biases):
    ours = Encoder(arch(**biases))
    theirs = ModernBertForMaskedLM(config_of(ours.arch, ModernBertConfig))
    decoder = ModernBertDecoderForCausalLM(config_of(ours.arch, ModernBertDecoderConfig))

    def shapes(tensors):
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    assert shapes(ours.state_dict()) == shapes(theirs.state_dict())
    assert shapes(decoder_names(ours.state_dict())) == shapes(decoder.state_dict())
    assert ours.decoder.weight is ours.model.embeddings.tok_embeddings.weight


def test_fresh_weights_are_spread_as_hugging_face_s(arch):
    """Standard deviation of every tensor within what sampling leaves open; norms are one and biases zero in both."""
    torch.manual_seed(0)
    wide = arch(hidden_size=128, intermediate_size=256, vocab_size=1000, **BIASES)
    ours, theirs = Encoder(wide), ModernBertForMaskedLM(config_of(wide, ModernBertConfig))
    spread = {name: tensor.std() for name, tensor in theirs.state_dict().items()}
    torch.testing.assert_close(
        {name: tensor.std() for name, tensor in ours.state_dict().items()}, spread, rtol=0.05, atol=0
    )
    means = {name: tensor.mean() for name, tensor in theirs.state_dict().items()}
    torch.testing.assert_close({n: t.mean() for n, t in ours.state_dict().items()}, means, rtol=0, atol=1e-3)
    bounds = {name: tensor.abs().max() for name, tensor in theirs.state_dict().items()}
    torch.testing.assert_close({n: t.abs().max() for n, t in ours.state_dict().items()}, bounds, rtol=0.02, atol=0)


def bases_in(config) -> tuple[float, float]:
    """Of global and local layers, as either version of transformers holds them."""
    if records := getattr(config, "rope_parameters", None):
        return records["full_attention"]["rope_theta"], records["sliding_attention"]["rope_theta"]
    return config.global_rope_theta, config.local_rope_theta


def test_after_a_change_of_the_rotary_bases_no_table_is_stale(encoder):
    """The model that was extended is Hugging Face's with the new bases; and it finds its way back."""
    model, batch = encoder(global_rope_theta=10_000.0, local_rope_theta=300.0).eval(), batch_of([[T]])

    def logits():
        return model.logits(batch["input_ids"], batch["doc_lengths"], "bidirectional")

    with torch.no_grad():
        before = logits()
        for bases, expected in {(160_000.0, None): (160_000.0, 300.0), (160_000.0, 50.0): (160_000.0, 50.0)}.items():
            model.use_rope(*bases)
            assert (model.arch.global_rope_theta, model.arch.local_rope_theta) == expected
            reference = masked_lm(model)
            assert bases_in(reference.config) == expected
            torch.testing.assert_close(logits(), reference(input_ids=batch["input_ids"]).logits, **CLOSE)
            assert (logits() - before).abs().max() > 1e-4
        model.use_rope()
        assert torch.equal(logits(), before)
