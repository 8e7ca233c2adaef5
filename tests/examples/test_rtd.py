"""Replaced-token detection as docs/extend.md shows it: its length, its contract, its loss against transformers, a run."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import catalogue
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import ModernBertConfig, ModernBertForMaskedLM

from detour.config.load import to_yaml
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.objectives import RowRandom
from detour.testing import check_objective, make_batch, make_vocab
from detour.train import train
from detour.training.checkpoints.files import listing
from detour.training.run_folder import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
(CODE,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if '"rtd"' in code)
VOCAB = make_vocab()
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "local_attention": 8}


@pytest.fixture
def rtd(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))
    (tmp_path / "rtd.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("rtd").ReplacedTokenDetection
    del sys.modules["rtd"]


def test_the_example_has_at_most_60_lines_and_keeps_the_contract(rtd):
    assert len(CODE.splitlines()) <= 60
    check_objective(rtd())
    check_objective(rtd(rate=0.4, layers=1, weight=10.0), vocab=make_vocab(200, words=False), seeds=(5,))


def test_its_loss_is_that_of_transformers_for_each_document_alone(rtd):
    def theirs(layers: int, seed: int) -> ModernBertForMaskedLM:
        torch.manual_seed(seed)
        config = ModernBertConfig(
            vocab_size=VOCAB.size, num_hidden_layers=layers, global_attn_every_n_layers=3, pad_token_id=0,
            attn_implementation="eager", **SIZES,
        )  # fmt: skip
        return ModernBertForMaskedLM(config).eval()

    def copy(encoder, model) -> None:
        own = dict(encoder.named_parameters())
        for name, parameter in model.named_parameters():
            own[name].data.copy_(parameter)

    objective, model, small = rtd(rate=0.3), theirs(4, 0), theirs(2, 1)
    encoder = Encoder(architecture("tiny", {"vocab_size": VOCAB.size, "num_hidden_layers": 4, **SIZES})).eval()
    copy(encoder, model)
    encoder.objectives["rtd"] = module = objective.build_module(encoder)
    small.model.embeddings.tok_embeddings.weight.data.copy_(model.model.embeddings.tok_embeddings.weight)
    copy(module["generator"], small)
    batch = make_batch([(14, 9), (20, 3, 1)], T=24, vocab=VOCAB, seed=3)
    batch = objective(batch, VOCAB, RowRandom(seed=1, step=2, sample_id_B=batch["sample_id"]))
    masked, detected, tokens = 0.0, 0.0, 0
    for row, lengths in enumerate(batch["doc_lengths"].tolist()):
        at = 0
        for length in filter(None, lengths):
            span = slice(at, at + length)
            clean, ids, labels = (batch[key][row, span] for key in ("clean_ids", "input_ids", "labels"))
            logits = small(input_ids=ids[None]).logits[0]
            masked += cross_entropy(logits, labels, reduction="sum").item()  # ignores -100
            filled = clean.clone()
            for i in (labels >= 0).nonzero().flatten().tolist():
                cumulative = logits[i].softmax(0).cumsum(0)
                filled[i] = int((cumulative <= batch["uniform"][row, at + i] * cumulative[-1]).sum())
            x = model.model(input_ids=filled[None]).last_hidden_state[0]
            logit = x @ module["detector"].weight[0] + module["detector"].bias
            detected += binary_cross_entropy_with_logits(logit, (filled != clean).float(), reduction="sum").item()
            at, tokens = at + length, tokens + length
    total, divisor = encoder.loss_of(batch)
    assert divisor.item() == tokens == 47
    assert total.item() == pytest.approx(masked / 0.3 + 50 * detected, rel=1e-6)


def test_its_flops_are_six_for_each_weight_of_its_module_and_position(rtd):
    encoder = Encoder(architecture("tiny", {"vocab_size": VOCAB.size, "num_hidden_layers": 4, **SIZES}))
    objective, tokens, supervised = rtd(layers=2), 100.0, 15.0
    counted = 0.0
    for name, weight in objective.build_module(encoder).named_parameters(remove_duplicate=False):
        if weight.ndim == 2 and "embeddings" not in name:  # looked up
            at_masks = name.startswith(("generator.head", "generator.decoder"))
            counted += 6 * weight.numel() * (supervised if at_masks else tokens)
    assert objective.module_flops(encoder.arch, tokens=tokens, supervised=supervised) == counted


def test_a_run_trains_its_generator_and_saves_what_is_not_the_encoders(rtd, tiny_run):
    phases = [
        {"name": "rtd", "objective": "rtd", "tokens": 1000},
        {"name": "decay", "objective": "mlm", "tokens": 1000},
    ]
    whole = tiny_run("whole", phases=phases, checkpoint={"interval_tokens": 500, "keep": 100})
    train(whole)
    saved = listing(RunFolder.of(whole).checkpoints)
    own = saved[-1].tensors("objectives")
    assert "rtd.generator.model.layers.0.mlp.Wi.weight" in own
    assert {"rtd.detector.weight", "rtd.generator.decoder.bias"} <= own.keys()
    assert not {"rtd.generator.decoder.weight", "rtd.generator.model.embeddings.tok_embeddings.weight"} & own.keys()
    again = replace(whole, name="again")
    folder = RunFolder.of(again).checkpoints
    folder.mkdir(parents=True)
    (folder / saved[0].path.name).symlink_to(saved[0].path)
    train(again)
    for part in ("model", "objectives"):
        found, expected = listing(folder)[-1].tensors(part), saved[-1].tensors(part)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_its_yaml_names_it(rtd, tiny_run):
    phases = [{"name": "rtd", "objective": "rtd", "tokens": 1000, "options": {"weight": {"from": 0.0, "to": 50.0}}}]
    assert "objective: rtd" in to_yaml(tiny_run(phases=phases, schedule={"decay_phase": None}))
