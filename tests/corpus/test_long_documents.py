"""Texts in slices, in scripts with and without spaces."""

from __future__ import annotations

import random

import numpy as np
import pytest

from detour.data.tokenizer import encoder_of, train_bpe

SENTENCES = {
    "Chinese": ["患者因反复胸痛三天入院,", "心电图提示急性下壁心肌梗死。", "予以阿司匹林治疗后症状缓解;"],
    "Japanese": ["患者は三日前から胸痛を繰り返し、", "心電図で急性下壁心筋梗塞と診断された。"],
    "Arabic": ["أُدخل المريض إلى المستشفى، ", "وأظهر تخطيط القلب احتشاءً حادًّا. "],
    "French": ["Le patient, âgé de 40 ans, l'a dit\u00a0; ", "l’échographie («\u00a0normale\u00a0») n'a rien montré. "],
    "without a space": ["don't,", "l'eau;", "x=1/2,", "a_b.c"],
}


@pytest.mark.parametrize("script", SENTENCES)
@pytest.mark.parametrize("longest", [31, 100, 1000])
def test_a_long_text_in_slices_has_the_ids_of_the_whole(script, longest):
    tokenizer = train_bpe(SENTENCES[script] * 5, vocab_size=500)
    text = "".join(random.Random(0).choices(SENTENCES[script], k=300))
    (whole,) = encoder_of(tokenizer, dtype="uint16", slice_characters=1 << 30)([text])
    (sliced,) = encoder_of(tokenizer, dtype="uint16", slice_characters=longest)([text])
    assert np.array_equal(whole, sliced)
