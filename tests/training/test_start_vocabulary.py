"""A start model with another tokenizer, another head or another size: what it computes before training, and what is exported."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from detour.build import build_encoder
from detour.config.schema import RunConfig
from detour.corpus.pack import pack_corpus
from detour.corpus.text import read_documents
from detour.corpus.vocabulary import extend_tokenizer
from detour.data.tokenizer import load_tokenizer, train_bpe
from detour.errors import CheckpointError, ConfigError, DataError, ModelError
from detour.export.run import export_run
from detour.models import hf
from detour.models.encoder import EMBEDDING, PROJECTION
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder
from detour.training.start import read_start
from detour.training.start_check import check_start

NEW = 24
WORDS = ["pembrolizumab", "cholangiocarcinoma", "thrombocytopenia"]
SIZES = {"modernbert": "tiny", "roberta": "tiny-roberta", "llama": "tiny-llama"}
SHAPE: dict[str, Any] = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def domain(corpus, tmp_path_factory) -> Path:
    """Text of the domain, its rows, and the corpus's tokenizer extended by its words."""
    folder = tmp_path_factory.mktemp("domain")
    text = " ".join(f"given {word} for {word}." for word in WORDS)
    (folder / "text.jsonl").write_text((json.dumps({"text": text}) + "\n") * 120)
    held_out = folder / "held_out.jsonl"
    held_out.write_text(json.dumps({"text": text}) + "\n")
    extend_tokenizer(
        str(corpus.tokenizer),
        [folder / "text.jsonl"],
        add=NEW,
        out=folder / "tokenizer",
        held_out=[held_out],
        multiple=8,
    )
    pack_corpus([folder / "text.jsonl"], tokenizer=str(folder / "tokenizer"), out=folder / "rows", seq_len=64)
    return folder


@pytest.fixture
def start(tmp_path, corpus) -> Callable[[str], Path]:
    """A function that gives a folder of a family, whose weights and biases are none of them zero."""

    def make(family: str) -> Path:
        torch.manual_seed(0)
        model = {
            "modernbert": lambda: ModernBertForMaskedLM(
                ModernBertConfig(**SHAPE, num_attention_heads=2, local_attention=16, reference_compile=False)
            ),
            "roberta": lambda: RobertaForMaskedLM(
                RobertaConfig(**SHAPE, num_attention_heads=2, max_position_embeddings=257, type_vocab_size=1)
            ),
            "llama": lambda: LlamaForCausalLM(
                LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
            ),
        }[family]()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        model.save_pretrained(tmp_path / family)
        load_tokenizer(corpus.tokenizer).save_pretrained(tmp_path / family)
        return tmp_path / family

    return make


@pytest.fixture
def run_from(tiny_run) -> Callable[..., RunConfig]:
    """A function that gives a run from a folder, with further values of the model section and of the architecture."""

    def make(init: Path, *, name: str = "run", rows: Path | None = None, architecture: dict | None = None, **model):
        from dataclasses import asdict

        arch = hf.read_architecture(init)
        values = asdict(arch) | (architecture or {})
        family = json.loads((init / "config.json").read_text())["model_type"]
        sections = {"data": {"train": [{"path": str(rows)}], "validation": []}} if rows else {}
        return tiny_run(
            name,
            model={"init": str(init), "tokenizer": None, "size": SIZES[family], "architecture": values, **model},
            **sections,
        )

    return make


@pytest.mark.parametrize("family", SIZES)
def test_old_tokens_have_their_logits_before_training_and_new_ones_the_mean_of_their_pieces(
    start, run_from, domain, corpus, family
):
    init = start(family)
    old = build_encoder(run_from(init)).eval()
    extended = {"tokenizer": str(domain / "tokenizer"), "new_tokens": "mean", "architecture": {"vocab_size": 632}}
    new = build_encoder(run_from(init, **extended)).eval()
    before, after = load_tokenizer(corpus.tokenizer), load_tokenizer(domain / "tokenizer")
    text = "A man of 60 had a fever and a cough."
    ids = torch.tensor([before(text)["input_ids"]])
    assert ids.tolist() == [after(text)["input_ids"]]
    lengths = torch.tensor([[ids.shape[1]]])
    with torch.no_grad():
        for attention in ("bidirectional", "causal"):
            hidden = old.hidden(ids, lengths, attention)
            assert torch.equal(hidden, new.hidden(ids, lengths, attention))
            bias = None if old.decoder.bias is None else new.decoder.bias[:600]
            same = torch.nn.functional.linear(new.head(hidden), new.decoder.weight[:600], bias)
            assert torch.equal(same, old.decoder(old.head(hidden)))  # one product of the same shape: bit for bit
            # a product with more columns may be summed in another order
            torch.testing.assert_close(
                new.logits(ids, lengths, attention)[..., :600], old.logits(ids, lengths, attention), rtol=0, atol=1e-5
            )
    tables = [
        EMBEDDING,
        *([] if old.arch.tied else [PROJECTION]),
        *(["decoder.bias"] if old.arch.has_decoder_bias else []),
    ]
    for id in range(600, 600 + NEW):
        pieces: Any = before(after.decode([id]), add_special_tokens=False)["input_ids"]
        for name in tables:
            torch.testing.assert_close(new.weights()[name][id], old.weights()[name][pieces].mean(0))


def test_a_run_with_new_words_trains_resumes_and_is_exported_with_its_tokenizer(start, run_from, domain, tmp_path):
    extended = {"tokenizer": str(domain / "tokenizer"), "new_tokens": "mean", "architecture": {"vocab_size": 632}}
    run = run_from(start("modernbert"), rows=domain / "rows", **extended)
    check_start(run)  # as detour plan does
    train(run)
    folder = RunFolder.of(run)
    saved = checkpoints.listing(folder.checkpoints)
    assert saved[-1].tensors("model")[EMBEDDING].shape == (632, 32)
    record = saved[0].state()["run"]["start"]["vocabulary"]
    assert record == {"copied": 600, "averaged": NEW, "without_pieces": 0}
    last = saved[-1].tensors("model")
    for checkpoint in saved[1:]:
        checkpoint.path.rename(tmp_path / checkpoint.path.name)
    with pytest.raises(CheckpointError, match=r"model\.new_tokens: was 'mean', now None"):
        train(run_from(start("modernbert"), rows=domain / "rows", **extended | {"new_tokens": None}))
    train(run)
    again = checkpoints.listing(folder.checkpoints)[-1].tensors("model")
    assert all(torch.equal(tensor, last[name]) for name, tensor in again.items())
    assert export_run(folder.path, tmp_path / "out") < 1e-5
    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(tmp_path / "out"),
        AutoTokenizer.from_pretrained(tmp_path / "out"),
    )
    assert model.config.vocab_size == 632
    word = tokenizer(f"given {WORDS[0]}", add_special_tokens=False)["input_ids"]
    assert max(word) >= 600
    assert model.get_input_embeddings().weight.shape == (632, 32)
    assert (
        "600 tokens kept the embedding of the initial model, 24 started as the mean"
        in (tmp_path / "out/README.md").read_text()
    )


def test_another_tokenizer_shares_the_tokens_that_both_have(start, run_from, tmp_path):
    other = train_bpe(["The patient had thrombocytopenia and a fever."] * 9, vocab_size=320)
    other.save_pretrained(tmp_path / "other")
    init = start("modernbert")
    old = build_encoder(run_from(init)).weights()[EMBEDDING]
    swapped = {"tokenizer": str(tmp_path / "other"), "new_tokens": "mean", "architecture": {"vocab_size": 320}}
    new = build_encoder(run_from(init, **swapped)).weights()[EMBEDDING]
    before, after = load_tokenizer(init).get_vocab(), other.get_vocab()
    shared = before.keys() & after.keys()
    assert 261 <= len(shared) < len(after)  # special tokens and bytes at least
    assert all(torch.equal(new[after[token]], old[before[token]]) for token in shared)


def test_without_the_key_new_tokens_are_refused_and_the_key_is_named(start, run_from, domain):
    run = run_from(start("modernbert"), tokenizer=str(domain / "tokenizer"), architecture={"vocab_size": 632})
    with pytest.raises(ModelError, match="vocab_size is 600, configured 632"):
        read_start(run)
    run = run_from(start("modernbert"), tokenizer=str(domain / "tokenizer"), new_tokens="mean")
    with pytest.raises(DataError, match="has the id 623, expected at most 600 ids"):
        read_start(run)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"init": None, "new_tokens": "mean"}, "model.new_tokens: mean, but model.init names no model"),
        ({"new_tokens": "mean"}, "model.new_tokens: 'mean', but model.tokenizer names no other tokenizer"),
        ({"tokenizer": "x", "new_tokens": "mean", "allow_tokenizer_mismatch": True}, "choose one"),
        ({"init": None, "tokenizer": "x", "tile": True}, "model.tile: True, but model.init names no model"),
        ({"reset": ["tail"]}, "model.reset"),
    ],
)
def test_contradictions_are_refused_before_anything_is_read(tiny_run, model, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run(model={"init": "x", "tokenizer": None, **model})


@pytest.mark.parametrize("family", ["modernbert", "llama"])
def test_parts_are_drawn_anew_and_nothing_else(start, run_from, family, tmp_path):
    init = start(family)
    whole = build_encoder(run_from(init)).weights()
    torch.manual_seed(5)
    drawn = build_encoder(run_from(init, reset=["head", "embeddings"])).weights()
    changed = {name for name in whole if not torch.equal(whole[name], drawn[name])}
    expected = {name for name in whole if hf.of_head(name) or name.startswith("model.embeddings.")}
    assert changed == expected
    assert drawn[EMBEDDING].std().item() == pytest.approx(0.02 * (0.88 if family == "modernbert" else 1), rel=0.05)
    read = read_start(run_from(init, reset=["head"]))
    assert read is not None
    assert (read.record()["head"], read.record()["reset"]) == ("drawn", ["head"])


def test_a_model_whose_head_is_its_embedding_has_no_head_to_reset(run_from, corpus, tmp_path):
    config = LlamaConfig(**SHAPE, num_attention_heads=2, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    with pytest.raises(ModelError, match=r"model\.reset: .* has no head beside its embedding"):
        read_start(run_from(tmp_path / "tied", reset=["head"]))


def test_a_larger_model_starts_from_a_smaller_one_and_is_exported(start, run_from, corpus, tmp_path):
    larger = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    run = run_from(start("modernbert"), tokenizer=str(corpus.tokenizer), tile=True, architecture=larger)
    check_start(run)
    made, small = build_encoder(run).weights(), build_encoder(run_from(tmp_path / "modernbert")).weights()
    wide = [(i - 16) % 32 for i in range(64)]
    assert torch.equal(made[EMBEDDING], small[EMBEDDING][:, wide])
    train(run)
    assert export_run(RunFolder.of(run).path, tmp_path / "out") < 1e-5
    assert "(2 layers, hidden 32), whose weights were tiled from the center" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(ModelError, match="hidden_size is 32 there and 16 here, expected at least as many"):
        read_start(
            run_from(tmp_path / "modernbert", tile=True, architecture={"hidden_size": 16, "num_attention_heads": 1})
        )


def test_a_decoder_with_new_words_is_exported_untied(start, run_from, domain, tmp_path):
    extended = {"tokenizer": str(domain / "tokenizer"), "new_tokens": "mean", "architecture": {"vocab_size": 632}}
    run = run_from(start("llama"), rows=domain / "rows", **extended)
    train(run)
    assert export_run(RunFolder.of(run).path, tmp_path / "out") < 1e-5
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight.shape == (632, 32)


@pytest.mark.corpora
@pytest.mark.skipif("DETOUR_CORPORA" not in os.environ, reason="DETOUR_CORPORA is not set")
def test_a_thousand_real_words_leave_the_logits_of_old_tokens_as_they_are(run_from, tmp_path):
    corpora = Path(os.environ["DETOUR_CORPORA"])
    base, text = corpora / "tokenizers" / "modernbert", corpora / "pretrain" / "en_bio" / "en_e3c_cases.train.jsonl.zst"
    extend_tokenizer(str(base), [text], add=1000, out=tmp_path / "new")
    before, after = load_tokenizer(base), load_tokenizer(tmp_path / "new")
    shape: dict[str, Any] = SHAPE | {"vocab_size": 50_368, "pad_token_id": 50_283}
    torch.manual_seed(0)
    ModernBertForMaskedLM(ModernBertConfig(**shape, num_attention_heads=2, reference_compile=False)).save_pretrained(
        tmp_path / "start"
    )
    before.save_pretrained(tmp_path / "start")
    old = build_encoder(run_from(tmp_path / "start")).eval()
    extended = {"tokenizer": str(tmp_path / "new"), "new_tokens": "mean", "architecture": {"vocab_size": 51_392}}
    new = build_encoder(run_from(tmp_path / "start", **extended)).eval()
    words = [word for document in read_documents([text]) for word in document.text.split()][:3000]
    kept = [word for word in words if max(after(f" {word}", add_special_tokens=False)["input_ids"]) < 50_368]  # type: ignore[operator]
    assert 1000 < len(kept) < len(words)
    ids = torch.tensor([after(" ".join(kept))["input_ids"]])
    assert ids.tolist() == [before(" ".join(kept))["input_ids"]]
    lengths = torch.tensor([[ids.shape[1]]])
    with torch.no_grad():
        assert torch.equal(old.hidden(ids, lengths, "bidirectional"), new.hidden(ids, lengths, "bidirectional"))
        assert torch.equal(old.decoder.weight, new.decoder.weight[:50_368])
        assert torch.equal(old.decoder.bias, new.decoder.bias[:50_368])
        wide = new.logits(ids[:, :512], torch.tensor([[512]]), "bidirectional")[..., :50_368]
        torch.testing.assert_close(
            wide, old.logits(ids[:, :512], torch.tensor([[512]]), "bidirectional"), rtol=0, atol=1e-6
        )
