"""What FSDP2 puts on the wire in a step, counted at the collectives, in a process group of eight that sends nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from composer.core import Precision
from composer.distributed.fsdp2 import prepare_fully_shard
from composer.distributed.fsdp2_utils import generate_composer_model_policy
from composer.utils.parallelism import FSDP2Config
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from detour.models.encoder import Encoder
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.training.callbacks.gradient_sync import sync_at
from detour.training.composer_model import DetourModel

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2 Config/APIs are experimental:UserWarning")
WORLD, STEPS, MICRO_BATCHES = 8, 2, 6


class Wire(TorchDispatchMode):
    """Counts the elements of the gathered tensors and of those to be reduced."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = self.reduced = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split(".")[0]
        if name == "c10d::_allgather_base_":
            self.gathered += args[0].numel()
        elif name == "c10d::_reduce_scatter_base_":
            self.reduced += args[1].numel()
        return operation(*args, **(kwargs or {}))


def per_step(python: str, *, reshard: bool) -> tuple[float, float]:
    """`train` in a process of its own, since the process group of this one may be in use."""
    done = subprocess.run([python, __file__, str(int(reshard))], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    gathered, reduced = json.loads(done.stdout.splitlines()[-1])
    return gathered, reduced


def train(*, reshard: bool) -> tuple[float, float]:
    """Trains tiny steps; returns how often each parameter was gathered and reduced in one."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=WORLD)
    arch = ModernBertArchitecture(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
    )
    encoder = Encoder(arch)
    model = DetourModel(encoder)
    config = FSDP2Config(
        device_mesh=init_device_mesh("cpu", (WORLD,)), reshard_after_forward=reshard, mixed_precision="FULL"
    )
    prepare_fully_shard(model, config, Precision.FP32, generate_composer_model_policy(model))
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.0)
    ids_BT = torch.arange(16).reshape(1, 16)
    with Wire() as wire:
        for _ in range(STEPS):
            for i in range(MICRO_BATCHES):
                if not reshard:
                    sync_at(encoder, last=i == MICRO_BATCHES - 1)
                encoder(ids_BT, torch.tensor([[16]]), ids_BT, "bidirectional").total.backward()
            optimizer.step()
            optimizer.zero_grad()
    return wire.gathered / arch.parameters / STEPS, wire.reduced / arch.parameters / STEPS


def test_weights_are_gathered_and_gradients_reduced_once_a_step(forked_python):
    # up to 1% more where shards are padded to equal lengths
    assert per_step(forked_python, reshard=False) == pytest.approx((1, 1), rel=0.01)


def test_full_sharding_gathers_and_reduces_for_every_micro_batch(forked_python):
    """Layers are gathered for the forward and for the backward pass; the root's weights stay between the two."""
    gathered, reduced = per_step(forked_python, reshard=True)
    assert 1.5 * MICRO_BATCHES < gathered < 2.02 * MICRO_BATCHES
    assert reduced == pytest.approx(MICRO_BATCHES, rel=0.01)


if __name__ == "__main__":
    print(json.dumps(train(reshard=sys.argv[1] == "1")))
