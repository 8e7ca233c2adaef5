"""Compiled regions: the same numbers, and nothing compiled anew at the flip."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from detour.batch import IGNORE
from detour.models.encoder import Encoder
from detour.models.modernbert.architecture import ModernBertArchitecture

ONE_PROCESS: dict = {"compile_threads": 1}  # each further one imports torch
if hasattr(torch._inductor.config, "cpp_cache_precompile_headers"):
    ONE_PROCESS["cpp_cache_precompile_headers"] = False  # remembered in TMPDIR, which is another one in each test
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # inductor's own, which change with every release
]


@pytest.mark.parametrize(
    ("bf16", "tolerance", "compiler", "layers"), [(False, 1e-4, "inductor", 1), (True, 5e-2, "aot_eager", 2)]
)
@torch._inductor.config.patch(ONE_PROCESS)
def test_compiled_regions_give_the_same_loss_and_survive_the_flip_without_recompiling(
    bf16, tolerance, compiler, layers, monkeypatch
):
    """In fp32 with the code that is generated; in bf16 with the captured graphs, since a second code takes as long."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    torch._dynamo.reset()
    arch = ModernBertArchitecture(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        global_attn_every_n_layers=2,
        num_attention_heads=2,
        local_attention=8,
    )
    torch.manual_seed(0)
    eager = Encoder(arch)
    compiled = Encoder(arch)
    compiled.load_state_dict(eager.state_dict())
    compiled.compile_regions()
    ids_BT = torch.randint(0, 300, (2, 48))
    lengths_BD = torch.tensor([[20, 28], [40, 3]])

    def step(model: Encoder, attention: str, share: float) -> torch.Tensor:
        labels_BT = ids_BT.masked_fill(
            torch.rand(ids_BT.shape, generator=torch.Generator().manual_seed(1)) > share, IGNORE
        )
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = model(ids_BT, lengths_BD, labels_BT, attention).total
        loss.backward()
        return torch.cat([loss.detach()[None], *(p.grad.flatten() for p in model.parameters())])

    for attention, share in (("bidirectional", 0.3), ("bidirectional", 0.4)):
        torch.testing.assert_close(
            step(compiled, attention, share), step(eager, attention, share), atol=tolerance, rtol=tolerance
        )
    before = counters["stats"]["unique_graphs"]
    for attention, share in (("causal", 0.9), ("bidirectional", 0.15), ("causal", 0.8)):
        torch.testing.assert_close(
            step(compiled, attention, share), step(eager, attention, share), atol=tolerance, rtol=tolerance
        )
    assert before > 0
    assert counters["stats"]["unique_graphs"] == before
    assert not counters["graph_break"]
