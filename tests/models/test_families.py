"""The contract of a model family, checked for every registered one against plain transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from detour.analysis.weights import place_of
from detour.batch import IGNORE, doc_ids_of
from detour.data.tokenizer import train_bpe
from detour.errors import ConfigError, ModelError
from detour.models.encoder import Encoder
from detour.models.families import all_families, family_of, sizes
from detour.models.hf import expected_shapes, read_architecture, read_weights, write_folder
from detour.models.layers import Layer
from detour.models.packed import Packing
from detour.models.reload import check_uses, reload_difference
from detour.objectives import CLM, MLM, RowRandom
from detour.testing import make_batch, make_vocab
from tests.models.family_cases import CASES
from tests.stack import TRANSFORMERS_5, parameters_of

CLOSE = {"rtol": 0, "atol": 1e-5}
PAIRS = [
    pytest.param(name, attention, id=f"{name}-{attention}") for name in CASES for attention in CASES[name].attentions
]
VOCAB = make_vocab(300)
T = 100


@pytest.fixture
def load(tmp_path):
    """The reference of a case and the encoder read from its folder."""

    def make(name, attention):
        reference = CASES[name].model(attention)
        reference.save_pretrained(tmp_path / "reference")
        arch = read_architecture(tmp_path / "reference")
        encoder = Encoder(arch).eval()
        encoder.load_weights(read_weights(tmp_path / "reference", arch))
        return reference, encoder

    return make


def batch_of(limit, rows=None):
    """Documents up to the limit in rows longer than it; a long tail, and zero-length entries."""
    rows = rows or [[1, 2, 7, 8, 9, 17], [limit, limit - 1], [limit - 2, 3, limit], [5]]
    return make_batch(rows, T=T, vocab=VOCAB)


def ids_without_padding(batch):
    """Hugging Face counts the positions of RoBERTa by which ids are padding: a document must not contain one."""
    real_BT = doc_ids_of(batch) >= 0
    batch["input_ids"][real_BT] = batch["input_ids"][real_BT].clamp(min=2)
    return batch


def per_document(reference, batch):
    """Logits [B, T, V] of the reference on each document alone; zero at padding."""
    logits_BTV = torch.zeros(*batch["input_ids"].shape, reference.config.vocab_size)
    doc_BT = doc_ids_of(batch)
    for row, ids_T in enumerate(batch["input_ids"]):
        for document in range(int(doc_BT[row].max()) + 1):
            own_T = doc_BT[row] == document
            logits_BTV[row, own_T] = reference(input_ids=ids_T[own_T][None]).logits[0]
    return logits_BTV


def test_every_registered_family_has_cases():
    assert {case.family for case in CASES.values()} == {family.name for family in all_families()}


@torch.no_grad()
@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_packed_documents_have_the_logits_of_each_alone(load, name, attention):
    reference, encoder = load(name, attention)
    batch = ids_without_padding(batch_of(CASES[name].limit))
    real_BT = doc_ids_of(batch) >= 0
    expected_BTV = per_document(reference, batch)
    assert expected_BTV[real_BT].std() > 0.3  # logits worth comparing
    found_BTV = encoder.logits(batch["input_ids"], batch["doc_lengths"], attention)
    torch.testing.assert_close(found_BTV[real_BT], expected_BTV[real_BT], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_a_single_document_of_any_length_up_to_the_limit_equals_transformers(load, name, attention):
    reference, encoder = load(name, attention)
    limit = CASES[name].limit
    assert encoder.arch.longest_document == limit
    for length in (1, 2, 16, 17, limit - 1, limit):
        batch = ids_without_padding(make_batch([[length]], vocab=VOCAB))
        found = encoder.logits(batch["input_ids"], batch["doc_lengths"], attention)
        torch.testing.assert_close(found, reference(input_ids=batch["input_ids"]).logits, **CLOSE)


@pytest.mark.parametrize(("name", "attention"), PAIRS)
def test_gradients_equal_transformers(load, name, attention):
    reference, encoder = load(name, attention)
    objective = CLM() if attention == "causal" else MLM(rate=0.3)
    batch = ids_without_padding(batch_of(CASES[name].limit))
    batch = objective(batch, VOCAB, RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"]))
    batch = ids_without_padding(batch)  # random replacements may be among them
    loss = encoder(batch["input_ids"], batch["doc_lengths"], batch["labels"], attention)
    (loss.total / loss.supervised).backward()

    expected = F.cross_entropy(
        per_document(reference, batch).flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORE
    )
    expected.backward()
    torch.testing.assert_close(loss.total / loss.supervised, expected, **CLOSE)
    form = family_of(encoder.arch).format
    given = {n: p.grad for n, p in parameters_of(reference).items() if p.grad is not None}
    theirs = form.to_encoder(given)
    ours = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    assert max(gradient.abs().max() for gradient in theirs.values()) > 0.01
    torch.testing.assert_close(ours, theirs, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_seen_of_other_documents_or_of_the_future(load, name):
    _, encoder = load(name, CASES[name].attentions[0])
    batch = batch_of(CASES[name].limit, [[20, 30, 15]])
    doc_T = doc_ids_of(batch)[0]

    def logits(ids, attention):
        return encoder.logits(ids, batch["doc_lengths"], attention)[0]

    for attention in ("bidirectional", "causal"):
        before = logits(batch["input_ids"], attention)
        changed = batch["input_ids"].clone()
        changed[0, doc_T == 1] = (changed[0, doc_T == 1] + 7) % 300
        after = logits(changed, attention)
        assert torch.equal(after[doc_T == 0], before[doc_T == 0])
        assert torch.equal(after[doc_T == 2], before[doc_T == 2])
    future = batch["input_ids"].clone()
    future[0, 10:20] = (future[0, 10:20] + 7) % 300
    for attention, same in (("causal", True), ("bidirectional", False)):
        moved = (logits(future, attention) - logits(batch["input_ids"], attention))[:10].abs().max()
        assert (moved < 1e-6) if same else (moved > 1e-3)


@pytest.mark.parametrize("name", CASES)
def test_all_weights_of_transformers_are_read_and_written_under_their_names(load, name):
    case = CASES[name]
    reference, encoder = load(name, case.attentions[0])
    stored = family_of(encoder.arch).format.to_folder(encoder.weights(), encoder.arch)
    theirs = {n: p for n, p in parameters_of(reference).items() if "pooler" not in n}
    if name != "modernbert-decoder":  # it is written as an encoder
        assert stored.keys() == theirs.keys()
        assert all(torch.equal(stored[n], p) for n, p in theirs.items())
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in theirs.values())
    back = family_of(encoder.arch).format.to_encoder(stored)
    assert back.keys() == encoder.weights().keys()
    assert all(torch.equal(back[n], tensor) for n, tensor in encoder.weights().items())


@pytest.mark.parametrize("size", sizes())
def test_parameters_are_counted_as_the_model_has_them(size):
    arch = sizes()[size]
    assert arch.parameters == sum(math.prod(shape) for shape in expected_shapes(arch).values())


@pytest.mark.parametrize("name", CASES)
def test_matrices_are_counted_as_the_model_has_them(load, name):
    _, encoder = load(name, CASES[name].attentions[0])
    in_layer = sum(p.numel() for p in encoder.model.layers[-1].parameters() if p.ndim == 2)
    assert encoder.arch.layer_weights == in_layer
    assert encoder.arch.head_weights == sum(p.numel() for p in encoder.head.parameters() if p.ndim == 2)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_compiled_regions_and_sharding_find_every_layer(load, name, attention):
    _, encoder = load(name, CASES[name].attentions[0])
    assert all(isinstance(layer, Layer) for layer in encoder.model.layers)
    assert len(encoder.arch.layer_rules(attention)) == len(encoder.model.layers)
    assert all(rule.attention.causal == (attention == "causal") for rule in encoder.arch.layer_rules(attention))
    with pytest.raises(ConfigError, match="attention is 'sideways'"):
        encoder.arch.layer_rules("sideways")


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_checkpointed_layers_and_a_bf16_pass_give_the_same_loss(load, name):
    _, encoder = load(name, CASES[name].attentions[0])
    batch = batch_of(CASES[name].limit)
    labels = batch["input_ids"].masked_fill(doc_ids_of(batch) < 0, IGNORE)

    def loss():
        out = encoder(batch["input_ids"], batch["doc_lengths"], labels, "bidirectional")
        return (out.total / out.supervised).item()

    exact = loss()
    with torch.enable_grad():
        encoder.gradient_checkpointing = True
        assert loss() == exact
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss() == pytest.approx(exact, rel=0.02)


def test_the_padding_of_a_row_is_divided_so_that_its_positions_exist():
    lengths = torch.tensor([[3, 0], [10, 0], [4, 6]])
    packing = Packing.of(lengths, 10, limit=4)
    assert packing.lengths_S.tolist() == [3, 0, 4, 3, 0, 10, 0, 0, 0, 0, 4, 6, 0, 0, 0]
    assert Packing.of(lengths, 10, limit=10).lengths_S.tolist() == Packing.of(lengths, 10).lengths_S.tolist()
    assert packing.cu_seqlens_S1[-1] == packing.N == 30


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.bidirectional])
def test_an_export_is_used_by_plain_transformers_with_the_same_logits(load, tmp_path, name):
    _, encoder = load(name, "bidirectional")
    texts = ["a patient with fever", "no fever, no cough"] * 20
    tokenizer = train_bpe(texts, vocab_size=290)
    needed = encoder.arch.required_pad_id
    if needed not in (None, tokenizer.pad_token_id):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(needed)
    out, weights = tmp_path / "export", encoder.weights()
    start = json.loads((tmp_path / "reference" / "config.json").read_text())
    write_folder(out, arch=encoder.arch, weights=weights, tokenizer=tokenizer, card="card", start=start)
    assert reload_difference(out, arch=encoder.arch, weights=weights) < 1e-5
    if name == "qwen2" and TRANSFORMERS_5:  # which builds Qwen2's own tokenizer, whatever tokenizer.json says
        with pytest.raises(ModelError, match=r"AutoTokenizer made a Qwen2Tokenizer that is not the exported one"):
            check_uses(out, arch=encoder.arch, weights=weights, tokenizer=tokenizer, tolerance=1e-5)
        return
    check_uses(out, arch=encoder.arch, weights=weights, tokenizer=tokenizer, tolerance=1e-5)
    assert read_architecture(out) == encoder.arch
    assert all(torch.equal(read_weights(out, encoder.arch)[n], tensor) for n, tensor in weights.items())
    theirs = load_file(tmp_path / "reference" / "model.safetensors")
    assert set(load_file(out / "model.safetensors")) == {n for n in theirs if "position_ids" not in n}

    uses = family_of(encoder.arch).format.uses_of(encoder.arch)
    model = getattr(transformers, uses.head_class).from_pretrained(out).eval()
    reloaded = AutoTokenizer.from_pretrained(out)
    inputs = reloaded("a patient", return_tensors="pt")
    lengths = torch.tensor([[inputs["input_ids"].shape[1]]])
    with torch.no_grad():
        expected = encoder.logits(inputs["input_ids"], lengths, uses.attention)
        torch.testing.assert_close(model(**inputs).logits, expected, **CLOSE)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.bidirectional])
def test_a_trunk_without_head_is_read_alone(tmp_path: Path, name):
    reference = CASES[name].model("bidirectional")
    AutoModel.from_config(reference.config).save_pretrained(tmp_path / "trunk")
    arch = read_architecture(tmp_path / "trunk")
    weights = read_weights(tmp_path / "trunk", arch)
    assert weights.keys() == {name for name in expected_shapes(arch) if name.startswith("model.")}


@pytest.mark.parametrize("name", CASES)
def test_every_weight_has_a_place_for_freezing_transplants_and_changes(load, name):
    _, encoder = load(name, CASES[name].attentions[0])
    places = {weight: place_of(weight) for weight in encoder.weights()}
    layers = {layer for layer, _ in places.values() if layer is not None}
    assert layers == set(range(encoder.arch.num_hidden_layers))
    assert {module for layer, module in places.values() if layer is None} >= {"embeddings"}
