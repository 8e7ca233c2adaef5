"""The GPU suite's code, on a CPU: each part gives its records, and what cannot run here is named."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks import gpu
from detour.models.modernbert.architecture import FAMILY, ModernBertArchitecture


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_part_gives_its_records(monkeypatch):
    small = ModernBertArchitecture(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2
    )
    monkeypatch.setitem(FAMILY.sizes, "small", small)
    monkeypatch.setattr(gpu, "STEPS", 1)
    # graphs are captured and differentiated; the code generated for them is the matter of tests/models/test_compile.py
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    records = list(gpu.run("cpu", "small", lengths=(64,), tokens=256, rounds=1))
    failed = {record["what"] for record in records if "failed" in record}
    # flash-attn and Liger need a GPU; torch's bf16 products of so small a compiled model are no part of this
    assert failed <= {"64, ladder: Hugging Face, unpadded", "64, ladder:   (Liger's instead)"}, failed
    what = [record["what"] for record in records]
    assert records[1]["difference"] < 1e-2
    assert [name for name in what if name.startswith("64, sdpa")] == [
        *(f"64, sdpa, {objective}" for objective in gpu.OBJECTIVES),
        "64, sdpa, time of clm over mlm30",
        *(f"64, sdpa, compiled, {objective}" for objective in gpu.OBJECTIVES),
        "64, sdpa, compiled, time of clm over mlm30",
    ]
    assert len([name for name in what if "ladder" in name]) == 9
    assert "64, micro-batch of 4 rows, clm" in what
    assert "64, FSDP2 at world size 1, over plain" in what
    assert any(name.startswith("wait for a batch, small") for name in what)
    assert all(record["tokens_per_second"] > 0 for record in records if "tokens_per_second" in record)


def test_the_losses_of_the_ladder_are_one_loss():
    torch.manual_seed(0)
    arch = ModernBertArchitecture(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    encoder, x = gpu.Encoder(arch), torch.randn(24, 16)
    labels = torch.where(torch.arange(24) % 3 == 0, torch.arange(24), gpu.IGNORE)
    whole, masked, fused = (loss(encoder, x, labels) for loss in (gpu._whole_logits, gpu._masked_logits, gpu._fused))
    torch.testing.assert_close(masked, whole)
    torch.testing.assert_close(fused, whole)
