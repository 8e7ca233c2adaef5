"""Canaries for the faults of Composer 0.32 and streaming 0.13 that this library works around.

Where one fails after an upgrade, the fault may be mended upstream and our remedy no longer needed; or moved.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest
import torch
from composer import ComposerModel, Trainer
from composer.core import Event
from composer.utils.parallelism import FSDP2Config
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

import detour
from detour.build import build_trainer
from detour.training.gradient_gate import gloo_sums_gradients


class Noise(ComposerModel):
    """Remembers what it drew in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.drawn: list[float] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.drawn.append(torch.rand(()).item())
        return self.weight * batch.mean()

    def loss(self, outputs: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return outputs.sum()


def test_trap_1_random_state_is_not_restored_in_mid_epoch(tmp_path):
    """Our remedy is `RestoreRng`, see test_resume.py."""

    def fit(**options) -> list[float]:
        torch.manual_seed(3)
        model = Noise()
        trainer = Trainer(
            model=model, train_dataloader=DataLoader(torch.ones(8, 1), batch_size=2), max_duration="1ep", seed=3,
            optimizers=torch.optim.SGD(model.parameters(), lr=0.1), progress_bar=False, device="cpu", **options,
        )  # fmt: skip
        trainer.fit()
        trainer.close()
        return model.drawn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = fit(save_folder=str(tmp_path), save_interval="2ba", save_num_checkpoints_to_keep=-1)
        resumed = fit(load_path=str(tmp_path / "ep0-ba2-rank0.pt"), spin_dataloaders=False)
    assert len(whole) == 4
    assert resumed[0] != whole[2]


@pytest.fixture
def stock_rows(tmp_path):
    """A folder of four shards, and a function that reads it as streaming does."""
    folder = tmp_path / "rows"
    with MDSWriter(out=str(folder), columns={"x": "int64"}, hashes=["sha256"], size_limit=200) as writer:
        for x in range(40):
            writer.write({"x": x})

    def read() -> list[int]:
        return [row["x"] for row in StreamingDataset(local=str(folder), batch_size=1, validate_hash="sha256")]

    assert read() == list(range(40))
    assert len(list(folder.glob("shard*"))) > 3
    return folder, read


def test_trap_2_a_missing_shard_ends_the_stock_iteration_without_an_error(stock_rows):
    """`RowDataset` raises instead (tests/data/test_stream.py)."""
    folder, read = stock_rows
    sorted(folder.glob("shard*"))[2].unlink()
    assert 0 < len(read()) < 40


def test_trap_3_a_flipped_byte_in_a_local_shard_is_read_as_if_it_were_data(stock_rows):
    """`verify_rows` hashes shards itself (tests/data/test_shards.py)."""
    folder, read = stock_rows
    shard = sorted(folder.glob("shard*"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    rows = read()
    assert len(rows) == 40
    assert rows != list(range(40))


def test_trap_4_the_key_fsdp2_is_silently_ignored(tiny_run):
    """Only the key "fsdp" shards; `build_trainer` asserts that it did (tests/training/test_distributed.py)."""
    trainer = build_trainer(tiny_run())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = trainer._parse_parallelism_config({"fsdp2": FSDP2Config()})
    trainer.close()
    assert getattr(parsed, "fsdp2", None) is None


def test_trap_5_the_gradient_fix_is_for_old_torch_on_gloo_alone(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch, "__version__", "2.7.0+cu126")
    assert gloo_sums_gradients(sharded=True)
    assert not gloo_sums_gradients(sharded=False)
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    assert not gloo_sums_gradients(sharded=True)
    monkeypatch.setattr(torch, "__version__", "2.7.0")
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
    assert not gloo_sums_gradients(sharded=True)


def test_trap_6_no_scheduler_of_composers_sets_the_rate(tiny_run):
    """Its schedulers step before the clock does; the switch sets the rate itself, exactly."""
    run = tiny_run()
    trainer = build_trainer(run)
    (switch,) = trainer.state.algorithms
    for tokens in (0, 250, 1999, 2000, 2500):
        trainer.state.timestamp = trainer.state.timestamp.copy(token=tokens)
        trainer.state.batch = {"sample_id": torch.tensor([0])}
        switch.apply(Event.BATCH_START, trainer.state, trainer.logger)
        expected = run.lr_at(tokens)
        assert [group["lr"] for group in trainer.state.optimizers[0].param_groups] == [expected] * 2
    trainer.close()
    assert all(type(s).__name__ == "LambdaLR" and s.last_epoch <= 0 for s in trainer.state.schedulers)


def test_nothing_of_ours_evaluates_text_or_unpickles():
    for path in Path(detour.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "dill", "cloudpickle"}, path
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", None) not in ("eval", "exec"), path
                assert ast.unparse(node.func) != "torch.load", path
