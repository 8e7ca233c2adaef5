"""The needle probe on an encoder that was taught to find the needle: what it is for can be seen by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

from detour.evaluation.probes import needle
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.needle import haystack, needle_probe

TOKENS, TEXTS, PASSES, BATCH = 96, 3200, 5, 32


def word_tokenizer(language):
    """A token for each word of the templates, so that two layers are enough."""
    split = pre_tokenizers.Whitespace()
    sentences = [needle.QUESTIONS[language], " ".join(map(str, needle.OTHER_ROOMS)), "."]
    for lists in (needle.FACTS, needle.VALUES, needle.WHO, needle.DID, needle.WHEN):
        sentences += lists[language]
    words = sorted({word for sentence in sentences for word, _ in split.pre_tokenize_str(sentence)})
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = split
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=TOKENS, **names)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_encoder_that_was_taught_to_find_the_needle_is_told_from_one_that_was_not(language, tmp_path):
    """Three distractors: an encoder that knows the drugs of a text and not their rooms has 0.25; chance is 0.125."""
    tokenizer = word_tokenizer(language)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=TOKENS, global_attn_every_n_layers=1, reference_compile=False,
        pad_token_id=3, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, head = ModernBertModel(config), nn.Linear(64, 8)
    tokenizer.save_pretrained(tmp_path)
    encoder.save_pretrained(tmp_path)
    untaught = Frozen(tmp_path)
    (before,) = needle_probe(untaught, language, [TOKENS], train=240, test=96)

    rng = np.random.default_rng(1)
    drugs = rng.integers(8, size=TEXTS)
    texts = [
        haystack(untaught, language, TOKENS, needle.PLACES[i % 3], needle.VALUES[language][drug], rng, distractors=3)
        for i, drug in enumerate(drugs)
    ]
    inputs = tokenizer([needle.QUESTIONS[language]] * TEXTS, texts, padding=True, return_tensors="pt")
    targets = torch.tensor(drugs)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=PASSES * TEXTS // BATCH, pct_start=0.1)
    for _ in range(PASSES):
        for some in torch.from_numpy(rng.permutation(TEXTS)).split(BATCH):
            states = encoder(input_ids=inputs["input_ids"][some], attention_mask=inputs["attention_mask"][some])
            F.cross_entropy(head(states.last_hidden_state[:, 0]), targets[some]).backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    encoder.save_pretrained(tmp_path)
    (after,) = needle_probe(Frozen(tmp_path), language, [TOKENS], train=240, test=96, seed=2)
    assert max(before.accuracy.values()) < 0.45
    assert min(after.accuracy.values()) > 0.7
