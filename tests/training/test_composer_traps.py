"""Canaries for the faults of Composer 0.32 and streaming 0.13 that this library works around.

Where one fails after an upgrade, the fault may be mended upstream and our remedy no longer needed; or moved.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from pathlib import Path

import torch
from composer.core import Event
from composer.utils.parallelism import FSDP2Config
from streaming import StreamingDataset

import detour
from detour.build import build_trainer
from detour.config.check import phase_schedule, wsd
from detour.training.phase import gloo_sums_gradients


def test_trap_1_random_state_is_not_restored_in_mid_epoch():
    """Composer restores it in `fit` only at an epoch's first batch, or while it replays batches, which we never do."""
    from composer import Trainer

    loop = inspect.getsource(Trainer._train_loop)
    assert "batch_in_epoch == 0 and self._rng_state is not None" in loop  # our remedy: RestoreRng, see test_resume.py


def test_trap_2_a_missing_shard_ends_the_stock_iteration_without_an_error():
    """The stock loop stops when its background thread failed; `RowDataset` raises (tests/data/test_stream.py)."""
    source = inspect.getsource(StreamingDataset._each_sample_id)
    assert "self._event.is_set()" in source or "should_exit" in source
    assert "raise" not in source.split("def ", 1)[1].split('"""')[-1]


def test_trap_3_hashes_are_checked_at_download_only():
    """Local shards are never hashed by streaming; `verify_rows` does it (tests/data/test_mds.py)."""
    assert "validate_hash" not in inspect.getsource(StreamingDataset.get_item)
    assert "validate_hash" not in inspect.getsource(StreamingDataset.prepare_shard)


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
        expected = wsd(run).lr_at(tokens, phase_schedule(run))
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
