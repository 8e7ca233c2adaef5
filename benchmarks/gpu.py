"""One GPU: MFU of a training step, the gain of each optimization, and the overhead of the trainer and of checkpoints.

Medians over rounds after a warm-up. Losses are compared first: ours and Hugging Face's with the same weights in bf16, to 1e-2.
MFU counts the FLOPs of `detour.cost.flops` against the measured matmul throughput. A measurement that cannot run on this
machine is recorded with the reason, and the others continue.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import parts
from benchmarks.step import Setting, peer_model, run_on
from detour.batch import IGNORE
from detour.cost.flops import training_flops
from detour.cost.matmul import matmul_throughput, synchronized_time
from detour.errors import ConfigError
from detour.models.attention import BACKENDS, select, why_not
from detour.models.encoder import Encoder
from detour.models.families import sizes
from detour.models.loss import linear_cross_entropy
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.training.tune import packed_lengths, trials

ROUNDS, STEPS = 5, 5
OBJECTIVES = {"mlm30": ("bidirectional", 0.3), "mlm15": ("bidirectional", 0.15), "clm": ("causal", 1.0)}
Record = dict[str, Any]
Loss = Callable[[Encoder, Tensor, Tensor], Tensor]


def run(
    device: str = "cuda",
    size: str = "modernbert-base",
    lengths: tuple[int, ...] = (1024, 8192),
    tokens: int = 65_536,
    rounds: int = ROUNDS,
) -> Iterator[Record]:
    """Yields one record per measurement. With ``device`` "cpu" and a small size the code runs without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("the GPU suite needs a GPU, and torch sees none here")
    bench = Bench(device, size, tokens, rounds)
    yield {"what": "matmul throughput, bf16", "tflops": bench.rate / 1e12}
    for T in lengths:
        yield bench.equal_loss(T)
        yield from bench.backends(T)
        yield from bench.ladder(T)
        yield from bench.largest_micro_batch(T)
    yield from bench.sharding(lengths[0])
    # data stall, trainer over a bare loop, checkpoint stall and sizes
    for line in parts.trainer_and_checkpoints(size, max(1, tokens // lengths[0]), lengths[0], precision="bf16"):
        theirs = statistics.median(line.theirs) if line.theirs else None
        yield {
            "what": line.what,
            "unit": line.unit,
            "median": statistics.median(line.ours),
            line.peer or "peer": theirs,
        }


class Bench:
    """The device, the architecture, and the number of tokens and rounds per measurement."""

    def __init__(self, device: str, size: str, tokens: int, rounds: int) -> None:
        self.device, self.size, self.arch, self.tokens, self.rounds = device, size, sizes()[size], tokens, rounds
        self.rate = matmul_throughput(device, torch.bfloat16, seconds=1.0)
        self.best = select("auto", device=device, dtype=torch.bfloat16)

    def equal_loss(self, T: int) -> Record:
        """The difference between our loss and Hugging Face's with the same weights, one document per row, in bf16."""
        peer = peer_model(self.arch, "mlm").to(self.device).eval()
        ours = Encoder(self.arch).to(self.device).eval()
        ours.load_state_dict(peer.state_dict())
        ids = self._rows(T)[0][:2]
        labels, whole = _labels(ids, 0.3), torch.full((len(ids), 1), T, device=self.device)
        with torch.no_grad(), torch.autocast(self.device, dtype=torch.bfloat16):
            mine = ours(ids, whole, labels, "bidirectional")
            theirs = peer(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        difference = abs((mine.total / mine.supervised - theirs).item())
        if difference > 1e-2:
            raise SystemExit(f"losses differ by {difference:.1e}, so that speeds are not comparable")
        return {"what": f"{T}, loss against Hugging Face, bf16", "difference": difference}

    def backends(self, T: int) -> Iterator[Record]:
        """Each attention backend, with and without compilation, under each objective; and the time of CLM relative to MLM."""
        ids, lengths = self._rows(T)
        for backend in BACKENDS:
            if why_not(backend, device=self.device, dtype=torch.bfloat16) or (self.device, backend) == ("cpu", "flex"):
                continue
            for compiled in (False, True):
                name, seconds = f"{T}, {backend}{', compiled' if compiled else ''}", {}
                with _named(name) as failure:
                    step = self._our_step(ids, lengths, backend=backend, compiled=compiled)
                    for objective in OBJECTIVES:
                        record = self._timed(f"{name}, {objective}", lambda o=objective, s=step: s(o), lengths)
                        flops = _flops(self.arch, lengths, objective)
                        seconds[objective] = record["seconds"]
                        yield {**record, "mfu": flops / record["seconds"] / self.rate}
                    yield {
                        "what": f"{name}, time of clm over mlm30",
                        "ratio": seconds["clm"] / seconds["mlm30"],
                        "flop_ratio": _flops(self.arch, lengths, "clm") / _flops(self.arch, lengths, "mlm30"),
                    }
                yield from failure

    def ladder(self, T: int) -> Iterator[Record]:
        """MLM at 30%, from Hugging Face's padded documents to our step, one change at a time. Changes accumulate."""
        ids, lengths = self._rows(T)
        plain, fused = {"fused": False}, {"fused": True}
        rungs: dict[str, Callable[[], Callable[[], None]]] = {
            "Hugging Face, padded": lambda: self._their_step(*self._padded(ids, lengths), attention="sdpa"),
            "Hugging Face, unpadded": lambda: self._their_step(
                *self._padded(ids, lengths), attention="flash_attention_2"
            ),
            "Hugging Face, packed, logits of masked positions": lambda: self._their_step(
                ids, torch.ones_like(ids), attention="sdpa", sparse=True
            ),
            "packed": lambda: self._rung(ids, lengths, _whole_logits, plain),
            "+ logits of masked positions": lambda: self._rung(ids, lengths, _masked_logits, plain),
            "+ fused cross-entropy": lambda: self._rung(ids, lengths, _fused, plain),
            "  (Liger's instead)": lambda: self._rung(ids, lengths, _liger, plain),
            "+ compiled": lambda: self._rung(ids, lengths, _fused, plain, compiled=True),
            "+ fused optimizer": lambda: self._rung(ids, lengths, _fused, fused, compiled=True),
        }
        for name, make in rungs.items():
            what = f"{T}, ladder: {name}"
            with _named(what) as failure:
                yield self._timed(what, make(), lengths)
            yield from failure

    def largest_micro_batch(self, T: int) -> Iterator[Record]:
        """Doubles the rows per micro-batch until memory is exhausted; on a CPU up to the suite's number of tokens."""
        rows = 1 << 16 if self.device == "cuda" else max(1, self.tokens // T)
        setting = Setting(self.size, objective="clm", seq_len=T, rows=rows, precision="bf16")
        largest = 0
        for trial in trials(run_on(Path(), Path(), setting, {}), memory_bytes=None, document_tokens=500):
            largest = trial.rows
            yield {
                "what": f"{T}, micro-batch of {trial.rows} rows, clm", "tokens_per_second": trial.tokens_per_second,
                "peak_gigabytes": trial.peak_bytes / 1e9,
            }  # fmt: skip
        yield {"what": f"{T}, largest micro-batch", "rows": largest}

    def sharding(self, T: int) -> Iterator[Record]:
        """The time of a step under FSDP2 in one process, relative to the step without it."""
        from torch.distributed.fsdp import fully_shard

        ids, lengths = self._rows(T)
        with _named("FSDP2 at world size 1") as failure, _world_of_one(self.device):
            seconds = {}
            for sharded in (False, True):
                encoder = Encoder(self.arch, backend=self.best).to(self.device)
                if sharded:
                    for layer in encoder.model.layers:
                        fully_shard(layer)
                    fully_shard(encoder)
                step = self._step_of(encoder, ids, lengths)
                what = f"{T}, FSDP2 at world size 1: {'sharded' if sharded else 'plain'}"
                record = self._timed(what, lambda s=step: s("mlm30"), lengths)
                seconds[sharded] = record["seconds"]
                yield record
            yield {"what": f"{T}, FSDP2 at world size 1, over plain", "ratio": seconds[True] / seconds[False]}
        yield from failure

    # --- steps ------------------------------------------------------------------------------------------------------

    def _rows(self, T: int) -> tuple[Tensor, Tensor]:
        """Token ids [n, T] and document lengths [n, D], 500 tokens on average."""
        n = max(1, self.tokens // T)
        ids = np.random.default_rng(0).integers(10, min(2000, self.arch.vocab_size), (n, T))
        return torch.from_numpy(ids).to(self.device), packed_lengths(n, T, 500).to(self.device)

    def _padded(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The same documents, one per row, and their attention mask."""
        documents = [
            document
            for row, of in zip(ids, lengths.tolist(), strict=True)
            for document in row[: sum(of)].split([n for n in of if n])
        ]
        pad = torch.nn.utils.rnn.pad_sequence
        return pad(documents, batch_first=True), pad([torch.ones_like(d) for d in documents], batch_first=True)

    def _our_step(self, ids: Tensor, lengths: Tensor, *, backend: str, compiled: bool) -> Callable[[str], None]:
        encoder = Encoder(self.arch, backend=backend).to(self.device)
        if compiled:
            encoder.compile_regions()
        return self._step_of(encoder, ids, lengths)

    def _step_of(self, encoder: Encoder, ids: Tensor, lengths: Tensor) -> Callable[[str], None]:
        finish = _optimizer(encoder, {"fused": True})
        labels = {name: _labels(ids, share) for name, (_, share) in OBJECTIVES.items()}
        places = {name: (of.flatten() != IGNORE).nonzero().squeeze(1) for name, of in labels.items()}

        def step(objective: str) -> None:
            with torch.autocast(self.device, dtype=torch.bfloat16):
                out = encoder(ids, lengths, labels[objective], OBJECTIVES[objective][0], places[objective])
            (out.total / out.supervised).backward()
            finish()

        return step

    def _rung(
        self, ids: Tensor, lengths: Tensor, loss: Loss, optimizer: dict[str, bool], *, compiled: bool = False
    ) -> Callable[[], None]:
        encoder = Encoder(self.arch, backend=self.best).to(self.device)
        if compiled:
            encoder.compile_regions()
        finish, labels_N = _optimizer(encoder, optimizer), _labels(ids, 0.3).flatten()

        def step() -> None:
            with torch.autocast(self.device, dtype=torch.bfloat16):
                loss(encoder, encoder.hidden(ids, lengths, "bidirectional"), labels_N).backward()
            finish()

        return step

    def _their_step(self, ids: Tensor, mask: Tensor, *, attention: str, sparse: bool = False) -> Callable[[], None]:
        model = peer_model(self.arch, "mlm", sparse=sparse)
        model.set_attn_implementation(attention)  # type: ignore[operator]
        model.to(self.device)
        finish, labels = _optimizer(model, {"fused": False}), _labels(ids, 0.3).masked_fill(mask == 0, IGNORE)

        def step() -> None:
            with torch.autocast(self.device, dtype=torch.bfloat16):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            finish()

        return step

    def _timed(self, what: str, step: Callable[[], None], lengths: Tensor) -> Record:
        """Median seconds per step, tokens per second without padding and, on a GPU, peak memory."""
        for _ in range(2):
            step()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(self.rounds):
            start = synchronized_time(self.device)
            for _ in range(STEPS):
                step()
            times.append((synchronized_time(self.device) - start) / STEPS)
        tokens = int(lengths.sum())
        return {
            "what": what, "seconds": statistics.median(times), "tokens_per_second": tokens / statistics.median(times),
            "spread": [tokens / max(times), tokens / min(times)],
            "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if self.device == "cuda" else None,
        }  # fmt: skip


# --- the losses of the ladder ---------------------------------------------------------------------------------------


def _whole_logits(encoder: Encoder, x_NC: Tensor, labels_N: Tensor) -> Tensor:
    return F.cross_entropy(encoder.decoder(encoder.head(x_NC)).float(), labels_N, ignore_index=IGNORE)


def _masked_logits(encoder: Encoder, x_NC: Tensor, labels_N: Tensor) -> Tensor:
    at_M = (labels_N != IGNORE).nonzero().squeeze(1)
    return F.cross_entropy(encoder.decoder(encoder.head(x_NC[at_M])).float(), labels_N[at_M])


def _fused(encoder: Encoder, x_NC: Tensor, labels_N: Tensor) -> Tensor:
    at_M = (labels_N != IGNORE).nonzero().squeeze(1)
    h_MC, decoder = encoder.head(x_NC[at_M]), encoder.decoder
    return linear_cross_entropy(h_MC, decoder.weight, decoder.bias, labels_N[at_M]) / len(at_M)


def _liger(encoder: Encoder, x_NC: Tensor, labels_N: Tensor) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # type: ignore[import-not-found]

    at_M = (labels_N != IGNORE).nonzero().squeeze(1)
    h_MC, decoder = encoder.head(x_NC[at_M]), encoder.decoder
    return LigerFusedLinearCrossEntropyLoss()(decoder.weight, h_MC, labels_N[at_M], decoder.bias)


# --- small things ---------------------------------------------------------------------------------------------------


def _labels(ids: Tensor, share: float) -> Tensor:
    drawn = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)).to(ids.device)
    return torch.where(drawn < share, ids, IGNORE)


def _optimizer(model: torch.nn.Module, options: dict[str, bool]) -> Callable[[], None]:
    """Clipping and the optimizer's step, which follow the backward pass."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, **options)

    def finish() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return finish


def _flops(arch: ModernBertArchitecture, lengths: Tensor, objective: str) -> float:
    attention, share = OBJECTIVES[objective]
    documents = lengths.flatten().cpu().numpy()
    return training_flops(arch, documents, attention=attention, supervised=share * float(lengths.sum()))


@contextmanager
def _named(what: str) -> Iterator[list[Record]]:
    """Records the error of a measurement that cannot run on this machine as its result."""
    failure: list[Record] = []
    try:
        yield failure
    except Exception as error:
        failure.append({"what": what, "failed": f"{type(error).__name__}: {error}"[:300]})
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _world_of_one(device: str) -> Iterator[None]:
    store = torch.distributed.HashStore()
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
