"""Benchmarks of parts: packer, loader, resume, loss, trainer overhead, checkpoints, start-up."""

from __future__ import annotations

import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer.core import Callback

from benchmarks.fixture import prepare_rows
from benchmarks.step import Setting, run_on
from detour.batch import pieces_of
from detour.build import build_trainer, close
from detour.config.schema import RunConfig
from detour.cost.matmul import synchronized_time
from detour.data.loader import StreamSpec, build_loader
from detour.data.packing import pack_rows, split_document
from detour.models.loss import linear_cross_entropy
from detour.training.checkpoints import files
from detour.training.checkpoints.state import capture, snapshot
from detour.training.optim import build_optimizer

ROUNDS = 5


@dataclass
class Line:
    """One measurement.

    Attributes:
        what: What is measured, and at which size.
        unit: Unit of the values.
        ours: One value per round.
        peer: What it is compared with; empty without a comparison.
        theirs: The peer's values in the same rounds.
        goal: The target.
    """

    what: str
    unit: str
    ours: list[float]
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Our median divided by the peer's."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None


def _pieces(documents: int, seq_len: int) -> list[bytes]:
    """Documents of log-normal length (median 300 tokens, sigma 1), one byte a token, split at the row length."""
    lengths = np.maximum(8, np.random.default_rng(0).lognormal(np.log(300), 1.0, documents)).astype(int)
    return [bytes(1) * n for length in lengths.tolist() for n in split_document(length, seq_len)]


def attention_blocks(seq_len: int, *, rows: int, batches: int = 20) -> Iterator[Line]:
    """Thread blocks of a head that FlashAttention's forward pass launches, 128 queries each, and the share that has work.

    The kernel launches ceil(longest / 128) blocks for each document that it is told of. Peer: the documents with the empty
    ones that fill up a batch, and the row length as the longest.
    """
    packed = pack_rows(_pieces(batches * rows * seq_len // 300, seq_len), seq_len=seq_len, seed=0)
    ours, theirs, used = [], [], []
    for _ in range(batches):
        lengths = [torch.tensor([len(piece) for piece in row]) for row in itertools.islice(packed, rows)]
        lengths_BD = torch.nn.utils.rnn.pad_sequence(lengths, batch_first=True)
        told = pieces_of(lengths_BD, seq_len)
        counted = told[told > 0]
        ours.append(float(len(counted) * -(-int(counted.max()) // 128)))
        theirs.append(float(len(told) * -(-seq_len // 128)))
        used.append(100 * int(counted.add(127).div(128, rounding_mode="floor").sum()) / ours[-1])
    where = f"attention blocks, {rows} rows of {seq_len}"
    yield Line(where, "blocks a head", ours, peer="empty documents, row length", theirs=theirs)
    yield Line(f"{where}, with work", "%", used)


def packer(seq_len: int) -> Iterator[Line]:
    """Packing efficiency, and tokens per second on one core, for documents of log-normal length (median 300, sigma 1)."""
    pieces = _pieces(100_000, seq_len)
    total, speeds, rows = sum(map(len, pieces)), [], 0
    for _ in range(ROUNDS):
        start = time.process_time()
        rows = sum(1 for _ in pack_rows(pieces, seq_len=seq_len, seed=0))
        speeds.append(total / (time.process_time() - start))
    yield Line(f"packer, rows of {seq_len}", "tokens/s a core", speeds, goal=">= 20 steps'")
    filled = 100 * total / rows / seq_len
    yield Line(f"packer, rows of {seq_len}, filled", "%", [filled], goal=">= 99.5")


def loader_and_resume(rows: int = 20_000, seq_len: int = 1024) -> Iterator[Line]:
    """Tokens per second of the loader in this process, and the time to the first batch after a resume."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_rows(Path(folder), seq_len=seq_len, rows=rows)

        def loader() -> Any:
            return build_loader(
                streams=[StreamSpec(path=f"{folder}/rows")], device_batch_size=8, shuffle=True, shuffle_seed=1,
                canonical_nodes=1, workers=0, verify_hashes=False,
            )  # fmt: skip

        speeds = []
        for _ in range(ROUNDS):
            batches = iter(loader())
            next(batches)
            start, tokens = time.process_time(), 0
            for batch in itertools.islice(batches, 500):
                tokens += int(batch["doc_lengths"].sum())
            speeds.append(tokens / (time.process_time() - start))
        yield Line(f"loader, rows of {seq_len}", "tokens/s a core", speeds, goal=">= 20 steps'")

        waits: dict[int, list[float]] = {10: [], 90: []}
        for _ in range(ROUNDS):
            for percent, seconds in waits.items():
                resumed = loader()
                state = resumed.dataset.state_dict(rows * percent // 100 // 8 * 8, from_beginning=True)
                start = time.perf_counter()
                resumed.dataset.load_state_dict(state)
                next(iter(resumed))
                seconds.append(time.perf_counter() - start)
        yield Line(
            f"first batch after a resume at 90% of {rows:,} rows",
            "s",
            waits[90],
            "at 10%",
            waits[10],
            goal="1 +- noise",
        )


def loss_alone(M: int = 2048, C: int = 768, V: int = 50_368) -> Iterator[Line]:
    """Time and memory of the fused projection and cross-entropy, forward and backward, against torch with all logits."""
    sides = {"ours": _our_loss, "torch, whole logits": _dense_loss}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    context = torch.multiprocessing.get_context("spawn")
    for _ in range(3):
        for name, side in sides.items():
            with context.Pool(1) as pool:
                found[name].append(pool.apply(_timed_loss, (side, M, C, V)))
    ours, theirs = found.values()
    what, peer = f"loss of {M} positions, {C} wide, {V:,} words", "torch, whole logits"
    yield Line(what, "ms", [t for t, _ in ours], peer, [t for t, _ in theirs], goal="<= 1")
    yield Line(f"{what}, memory", "MB", [m for _, m in ours], peer, [m for _, m in theirs], goal="<= 0.5")


def _our_loss(h: torch.Tensor, w: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return linear_cross_entropy(h, w, None, target)


def _dense_loss(h: torch.Tensor, w: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(h @ w.T, target, reduction="sum")


def _timed_loss(side: Callable[..., torch.Tensor], M: int, C: int, V: int) -> tuple[float, float]:
    """Milliseconds, and megabytes above those of the process before, gradients included."""
    h, w = torch.randn(M, C, requires_grad=True), (0.02 * torch.randn(V, C)).requires_grad_()
    target = torch.randint(V, (M,))
    torch.randn(512, 512) @ torch.randn(512, 512)  # loads the libraries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(4):
        h.grad = w.grad = None
        start = time.perf_counter()
        side(h, w, target).backward()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:]), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3


def trainer_and_checkpoints(
    size: str, rows: int, seq_len: int, steps: int = 5, rounds: int = 3, precision: str = "fp32"
) -> Iterator[Line]:
    """Seconds per step in the trainer against a bare loop over the same batches, the time spent waiting for batches, and the
    seconds and bytes of a checkpoint.
    """
    setting = Setting(size=size, rows=rows, seq_len=seq_len, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = prepare_rows(Path(folder), seq_len=seq_len, rows=rows * (steps + 1))
        run = run_on(Path(folder), tokenizer, setting, {"rate": 0.3})
        run = replace(run, data=replace(run.data, workers=2))
        ours, bare, waits, copies, saves, loads, size_in_bytes = [], [], [], [], [], [], 0
        for _ in range(rounds):
            trainer = build_trainer(run)
            watch = _Watch()
            trainer.state.callbacks.append(watch)
            trainer.fit(duration=f"{steps}ba")
            ours.append(statistics.median(np.diff(watch.ends)[1:]))
            waits.append(100 * statistics.median(watch.waits[2:]) / ours[-1])
            bare.append(_bare_loop(run, trainer.state.model.encoder, watch.batches))
            tensors, state = capture(trainer.state, [])  # type: ignore[misc]
            start = time.perf_counter()
            snapshot(tensors, state, on_cpu=trainer.state.device.name == "cpu")
            copies.append(time.perf_counter() - start)
            start = time.perf_counter()
            saved = files.write(Path(folder) / "saved", tokens=1, tensors=tensors, state=state)
            saves.append(time.perf_counter() - start)
            size_in_bytes = sum(path.stat().st_size for path in saved.path.iterdir())
            start = time.perf_counter()
            assert saved.validate() is None
            for name in ("model", "optimizer"):
                saved.tensors(name)
            loads.append(time.perf_counter() - start)
            close(trainer)
    yield Line(f"step in the trainer, {setting.title}", "s", ours, "bare loop", bare, goal="<= 1.03")
    yield Line(f"wait for a batch, {setting.title}", "% of a step", waits)
    yield Line(f"checkpoint, {size}: training waits", "s", saves)
    yield Line(f"checkpoint in the background, {size}: training waits", "s", copies, "in the foreground", saves)
    yield Line(f"checkpoint, {size}: hashed and read", "s", loads)
    parameters = sum(p.numel() for p in {id(p): p for p in trainer.state.model.parameters()}.values())
    yield Line(f"checkpoint, {size}: bytes a parameter", "B", [size_in_bytes / parameters], goal="12 and little more")


class _Watch(Callback):
    """Records the corrupted batches, the time at which each ended, and the time spent waiting for it."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.ends: list[float] = []
        self.waits: list[float] = []
        self._since = 0.0

    def before_dataloader(self, state: Any, logger: Any) -> None:
        self._since = time.perf_counter()

    def after_dataloader(self, state: Any, logger: Any) -> None:
        self.waits.append(time.perf_counter() - self._since)

    def before_forward(self, state: Any, logger: Any) -> None:
        self.batches.append(state.batch)

    def batch_end(self, state: Any, logger: Any) -> None:
        self.ends.append(synchronized_time("cuda" if torch.cuda.is_available() else "cpu"))


def _bare_loop(run: RunConfig, encoder: Any, batches: list[Any]) -> float:
    """Median seconds per step over the batches: forward, backward, clipping and optimizer only."""
    optimizer = build_optimizer(encoder, run.optimizer, peak_lr=run.schedule.peak_lr)
    times = []
    device, bf16 = batches[0]["input_ids"].device.type, run.system.precision == "bf16"
    for batch in batches:
        arguments = (batch[key] for key in ("input_ids", "doc_lengths", "labels", "attention", "supervised_at"))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            out = encoder(*arguments)
        (out.total / out.supervised).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(synchronized_time(device))
    return statistics.median(np.diff(times)[1:])


def start_up() -> Iterator[Line]:
    """Seconds to import the library and to start its command line, each in a new interpreter."""
    for what, command, peer, other in (
        (
            "import detour.models.encoder",
            ["-c", "import detour.models.encoder"],
            "import torch",
            ["-c", "import torch"],
        ),
        ("detour --help", ["-m", "detour", "--help"], "", []),
        ("detour plan", ["-m", "detour", "plan", "yamls/base_clm_detour.yaml"], "", []),
    ):
        ours = [_seconds(command) for _ in range(3)]
        yield Line(what, "s", ours, peer, [_seconds(other) for _ in range(3)] if other else [])


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start


def data_preparation() -> Iterator[Line]:
    """MB of text per CPU second, from text to packed rows, against `datasets.map` with the same tokenizer."""
    from benchmarks import data_prep

    speeds: dict[str, list[float]] = {name: [] for name in data_prep.SIDES}
    with tempfile.TemporaryDirectory() as folder:
        corpus, tokenizer = data_prep.synthetic(Path(folder))
        megabytes = data_prep.text_bytes(corpus) / 1e6
        for _ in range(3):
            for name, of in speeds.items():
                of.append(megabytes / data_prep.in_a_process(name, corpus, tokenizer, 1024)["cpu_seconds"])
    ours, theirs = speeds.values()
    yield Line("text to packed rows", "MB/s a core", ours, "datasets.map", theirs, goal=">= 1")
