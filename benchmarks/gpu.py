"""One GPU: a whole step against the rate of matrix products, by backend and objective, and Hugging Face's beside it.

Each figure is the median of interleaved rounds after a warm-up. Equal loss first: ours against Hugging Face's with the
same weights in bf16, to 1e-2. The share of the product rate counts the FLOPs that the method needs (`detour.flops`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.step import now, peer_model, product_rate
from detour.batch import IGNORE
from detour.errors import ConfigError
from detour.flops import training_flops
from detour.model.architecture import SIZES, Architecture
from detour.model.backends import BACKENDS, why_not
from detour.model.encoder import Encoder
from detour.tune import packed_lengths

ROUNDS, STEPS = 5, 5
OBJECTIVES = {"mlm30": ("bidirectional", 0.3), "mlm15": ("bidirectional", 0.15), "clm": ("causal", 1.0)}


def run(
    device: str = "cuda", size: str = "modernbert-base", lengths: tuple[int, ...] = (1024, 8192), tokens: int = 65_536
) -> Iterator[dict[str, Any]]:
    """Yields a record a measurement. ``device`` "cpu" and a small size try the code without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the GPU suite needs a GPU, and torch sees none here")
    arch, rate = SIZES[size], product_rate(device, torch.bfloat16, n=8192 if device == "cuda" else 512)
    yield {"what": "rate of matrix products, bf16", "tflops": rate / 1e12}
    for T in lengths:
        rows, documents = _rows(T, max(1, tokens // T))
        yield _equal_loss(arch, rows, device)
        seconds: dict[str, dict[str, list[float]]] = {}
        for backend in BACKENDS:
            if why_not(backend, device=device, dtype=torch.bfloat16) or (device == "cpu" and backend == "flex"):
                continue
            for compiled in (False, True):
                name = f"{backend}{' compiled' if compiled else ''}"
                try:
                    step = _our_step(arch, rows, documents, device, backend=backend, compiled=compiled)
                    seconds[name] = {objective: _times(step, objective, device) for objective in OBJECTIVES}
                except Exception as error:  # a backend that fails is a result too, and named
                    yield {"what": f"{T}, {name}", "failed": f"{type(error).__name__}: {error}"[:300]}
        for name, by_objective in seconds.items():
            for objective, times in by_objective.items():
                median = statistics.median(times)
                flops = _flops(arch, documents, objective)
                yield {
                    "what": f"{T}, {name}, {objective}", "tokens_per_second": rows.numel() / median,
                    "spread": [rows.numel() / max(times), rows.numel() / min(times)],
                    "share_of_product_rate": flops / median / rate,
                    "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
                }  # fmt: skip
            ratio = statistics.median(by_objective["clm"]) / statistics.median(by_objective["mlm30"])
            yield {
                "what": f"{T}, {name}, time of clm over mlm30", "ratio": ratio,
                "flop_ratio": _flops(arch, documents, "clm") / _flops(arch, documents, "mlm30"),
            }  # fmt: skip
        for sparse in (False, True):
            step = _their_step(arch, rows, device, sparse=sparse)
            times = _times(step, "mlm30", device)
            yield {
                "what": f"{T}, Hugging Face packed{', sparse' if sparse else ''}, mlm30",
                "tokens_per_second": rows.numel() / statistics.median(times),
            }


def _rows(T: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [n, T], and the documents' lengths [n, D], 500 tokens on average."""
    return torch.from_numpy(np.random.default_rng(0).integers(10, 2000, (n, T))), packed_lengths(n, T, 500)


def _labels(ids: torch.Tensor, share: float) -> torch.Tensor:
    drawn = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)).to(ids.device)
    return torch.where(drawn < share, ids, IGNORE)


def _our_step(
    arch: Architecture, ids: torch.Tensor, lengths: torch.Tensor, device: str, *, backend: str, compiled: bool
) -> Callable[[str], None]:
    encoder = Encoder(arch, backend=backend).to(device)
    if compiled:
        encoder.compile_regions()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5, fused=True)
    ids, lengths = ids.to(device), lengths.to(device)
    labels = {name: _labels(ids, share) for name, (_, share) in OBJECTIVES.items()}

    def step(objective: str) -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            out = encoder(ids, lengths, labels[objective], OBJECTIVES[objective][0])
        (out.total / out.supervised).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _their_step(arch: Architecture, ids: torch.Tensor, device: str, *, sparse: bool) -> Callable[[str], None]:
    model = peer_model(arch, "mlm", sparse=sparse).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = ids.to(device)
    labels = _labels(ids, 0.3)

    def step(objective: str) -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _times(step: Callable[[str], None], objective: str, device: str) -> list[float]:
    for _ in range(2):
        step(objective)
    times = []
    for _ in range(ROUNDS):
        start = now(device)
        for _ in range(STEPS):
            step(objective)
        times.append((now(device) - start) / STEPS)
    return times


def _flops(arch: Architecture, lengths: torch.Tensor, objective: str) -> float:
    attention, share = OBJECTIVES[objective]
    return training_flops(arch, lengths.flatten().numpy(), attention=attention, supervised=share * float(lengths.sum()))


def _equal_loss(arch: Architecture, ids: torch.Tensor, device: str) -> dict[str, Any]:
    """Ours against Hugging Face's, the same weights, whole rows as single documents, in bf16."""
    peer = peer_model(arch, "mlm").to(device).eval()
    ours = Encoder(arch).to(device).eval()
    ours.load_state_dict(peer.state_dict())
    some = ids[:2].to(device)
    labels = _labels(some, 0.3)
    whole = torch.full((len(some), 1), some.shape[1], device=device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        mine = ours(some, whole, labels, "bidirectional")
        theirs = peer(input_ids=some, attention_mask=torch.ones_like(some), labels=labels).loss
    difference = abs((mine.total / mine.supervised - theirs).item())
    if difference > 1e-2:
        raise SystemExit(f"losses differ by {difference:.1e}: no comparison of speed means anything")
    return {"what": f"{ids.shape[1]}, loss against Hugging Face, bf16", "difference": difference}
