"""Both sides of a comparison get the same work, and the page says what was measured."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from benchmarks.__main__ import gpu_page, page
from benchmarks.parts import Line
from benchmarks.step import Result, Setting, Side, examples, loss_difference
from detour.batch import IGNORE
from detour.models.modernbert.architecture import ModernBertArchitecture


@pytest.fixture
def batch():
    ids = torch.arange(1, 33).reshape(2, 16)
    labels = torch.where(ids % 3 == 0, ids, IGNORE)
    labels[1, 12:] = IGNORE
    lengths = torch.tensor([[10, 6, 0], [4, 3, 5]])
    return {"input_ids": ids, "labels": labels, "doc_lengths": lengths, "sample_id": torch.arange(2)}


def test_padded_documents_hold_the_packed_tokens_and_targets(batch):
    (step,) = examples([batch], "mlm", "padded")
    real = step["attention_mask"].bool()
    assert real.sum(1).tolist() == [10, 6, 4, 3, 5]
    assert step["input_ids"][real].tolist() == [*range(1, 17), *range(17, 29)]
    assert (step["labels"] != IGNORE).sum() == (batch["labels"] != IGNORE).sum()
    assert (step["labels"][~real] == IGNORE).all()


def test_packed_rows_go_as_they_are_and_a_causal_peer_gets_its_inputs_as_labels(batch):
    (step,) = examples([batch], "clm", "packed")
    assert torch.equal(step["input_ids"], batch["input_ids"])
    assert torch.equal(step["labels"], batch["input_ids"])


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_both_sides_have_the_same_loss(batch, objective):
    arch = ModernBertArchitecture(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2
    )
    labels = batch["labels"]
    if objective == "clm":
        labels = torch.cat([batch["input_ids"][:, 1:], torch.full((2, 1), IGNORE)], 1)
    assert loss_difference(arch, objective, {**batch, "labels": labels}) < 1e-5


def test_the_page_has_a_line_for_each_side_and_each_part():
    result = Result(Setting(peers=("packed",)), threads=2, loss_difference=1e-7, matmul_fraction=0.5)
    result.sides = {"ours": Side([200.0, 220.0, 210.0], 10**9), "packed": Side([100.0, 105.0, 110.0], 2 * 10**9)}
    line = Line("loader", "tokens/s a core", [10.0, 30.0, 20.0], "stock", [5.0], goal=">= 1")
    machine = {
        "cpu": "x",
        "threads": 2,
        "commit": "0" * 40,
        "python": "3",
        "torch": "2",
        "mosaicml": "0",
        "transformers": "4",
    }
    text = page([
        {"kind": "step", "name": result.setting.title, "record": asdict(result), "machine": machine},
        {"kind": "part", "name": "loader", "record": asdict(line), "machine": machine},
    ])  # fmt: skip
    assert "| ettin-17m, mlm30, 4 x 1024, fp32 | ours | 210 | 200 to 220 |  | 1.00 | 50% |" in text
    assert "|  | packed | 105 | 100 to 110 | 2.00 | 2.00 |  |" in text
    assert "| loader | 20 tokens/s a core | 10 to 30 | 5 (stock) | 4.00 | >= 1 |" in text


def test_the_page_of_the_gpu_has_a_line_for_each_record_whatever_it_holds():
    machine = {"machine": "a GPU", "commit": None, "python": "3", "torch": "2", "mosaicml": "0", "transformers": "4"}
    records = [
        {"what": "1024, flash, clm", "seconds": 0.1, "tokens_per_second": 1e6, "spread": [9e5, 2e6],
         "mfu": 0.42, "peak_gigabytes": 12.34},
        {"what": "1024, largest micro-batch", "rows": 64},
        {"what": "1024, ladder: x", "failed": "ImportError: no x"},
    ]  # fmt: skip
    text = gpu_page([{"kind": "gpu", "name": r["what"], "record": r, "machine": machine} for r in records])
    assert "- a GPU, commit unknown" in text
    assert "| 1024, flash, clm | 1,000,000 | 900,000 to 2,000,000 | 42% | 12.3 |  |" in text
    assert "| 1024, largest micro-batch |  |  |  |  | rows 64 |" in text
    assert "| 1024, ladder: x |  |  |  |  | failed ImportError: no x |" in text
