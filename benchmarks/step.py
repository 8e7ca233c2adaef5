"""Tokens per second of a complete training step: ours in Composer against Hugging Face's Trainer.

Both train on the same documents, masks and optimizer settings, each in its own process; the processes take turns, so that
they never compete for cores. Equal losses are checked first. The peers (`PEERS`) are the ways in which Trainer can be given
these documents: packed as by `run_mlm` (attention crosses documents, logits of every position), packed with logits of
masked positions only, compiled, and padded to one document per row.

    python -m benchmarks.step                          Ettin 17M, rows of 1024, MLM 30%
    python -m benchmarks.step --size ettin-32m --objective clm --seq-len 512
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from composer.core import Callback
from rich.console import Console
from rich.table import Table
from transformers import (
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.fixture import prepare_rows
from detour import objectives
from detour.batch import IGNORE, Batch
from detour.build import build_trainer, close
from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from detour.cost.flops import training_flops
from detour.cost.matmul import matmul_throughput
from detour.data.tokenizer import load_tokenizer, vocab_of
from detour.models.encoder import Encoder
from detour.models.families import sizes
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.objectives import RowRandom
from detour.provenance import environment

console = Console(highlight=False)

PEERS = {
    "packed": "as in run_mlm and run_clm: packed rows, attention across documents, logits of every position",
    "sparse": "packed, sparse_prediction: logits of the masked positions only",
    "compiled": "sparse, under torch.compile",
    "padded": "one document per row, padded to the longest, with sparse_prediction where available",
}


@dataclass(frozen=True)
class Setting:
    """One setting of the comparison.

    Attributes:
        size: The model, a name in `sizes()`.
        objective: "mlm" or "clm".
        rate: Fraction of tokens masked, for MLM.
        seq_len: T.
        rows: B.
        peers: Names in `PEERS`.
        steps: Steps per round. The first two are excluded; the median of the others is reported.
        rounds: Rounds after the warm-up round.
        precision: "fp32" or "bf16".
    """

    size: str = "ettin-17m"
    objective: str = "mlm"
    rate: float = 0.3
    seq_len: int = 1024
    rows: int = 4
    peers: tuple[str, ...] = ("packed",)
    steps: int = 4
    rounds: int = 5
    precision: str = "fp32"

    @property
    def title(self) -> str:
        what = f"{self.objective}{round(100 * self.rate)}" if self.objective == "mlm" else self.objective
        return f"{self.size}, {what}, {self.rows} x {self.seq_len}, {self.precision}"


@dataclass
class Side:
    """Measurements of one implementation.

    Attributes:
        tokens_per_second: Per round, without padding.
        peak_bytes: Peak resident set of a round, minus that of the process before the first round: model, optimizer state,
            activations and the trainer's buffers, without libraries. 0 on systems other than Linux.
    """

    tokens_per_second: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.tokens_per_second)


@dataclass
class Result:
    """One comparison.

    Attributes:
        loss_difference: Largest difference between a peer's loss and ours on the same rows.
        matmul_fraction: MFU of our step: counted FLOPs per second divided by the matmul throughput in the same precision,
            measured in the same process.
        sides: "ours" and the peers.
    """

    setting: Setting
    threads: int
    loss_difference: float
    matmul_fraction: float = 0.0
    sides: dict[str, Side] = field(default_factory=dict)

    def ratio(self, peer: str) -> float:
        """Our median tokens per second divided by the peer's."""
        return self.sides["ours"].median / self.sides[peer].median


class StepTimes(Callback):
    """Records the time at which each batch ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def batch_end(self, state: Any, logger: Any) -> None:
        self.at.append(time.perf_counter())


class PeerTimes(TrainerCallback):
    """The same for Hugging Face's Trainer."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.at.append(time.perf_counter())


def peer_model(arch: ModernBertArchitecture, objective: str, *, sparse: bool = False) -> torch.nn.Module:
    """Hugging Face's model of the same architecture, with SDPA, and without its own compilation, which needs a GPU."""
    shape: dict[str, Any] = {
        key: getattr(arch, key)
        for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    }
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    common = {**shape, **special, "attn_implementation": "sdpa", "reference_compile": False}
    if objective == "clm":
        return ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**common))
    return ModernBertForMaskedLM(ModernBertConfig(**common, sparse_prediction=sparse))


def loss_difference(arch: ModernBertArchitecture, objective: str, batch: Batch) -> float:
    """Absolute difference of the two mean losses with the same weights, on rows of one document each."""
    peer = peer_model(arch, objective)
    T = batch["input_ids"].shape[1]
    single: Batch = {**batch, "doc_lengths": torch.full((len(batch["input_ids"]), 1), T)}
    weights = {k.replace("lm_head.", "head."): v for k, v in peer.state_dict().items()}
    for layer in range(arch.num_hidden_layers):
        stem = f"model.layers.{layer}.attn."
        if f"{stem}q_proj.weight" in weights:
            weights[f"{stem}Wqkv.weight"] = torch.cat([weights.pop(f"{stem}{x}_proj.weight") for x in "qkv"])
    if objective == "clm":  # the decoder class: one key less to the left, and one rotary base for all layers
        theta = peer.config.global_rope_theta
        arch = replace(arch, causal_left_window=arch.side_window - 1, global_rope_theta=theta, local_rope_theta=theta)
    ours = Encoder(arch)
    ours.load_state_dict(weights)
    attention = "causal" if objective == "clm" else "bidirectional"
    with torch.no_grad():
        mine = ours(single["input_ids"], single["doc_lengths"], single["labels"], attention)
        logits = peer(input_ids=single["input_ids"], attention_mask=torch.ones_like(single["input_ids"])).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), single["labels"].flatten(), ignore_index=IGNORE)
    return abs((mine.total / mine.supervised - theirs).item())


def examples(batches: list[Batch], objective: str, peer: str) -> list[dict[str, torch.Tensor]]:
    """The peer's inputs, one per step."""
    steps = []
    for batch in batches:
        ids, labels = list(batch["input_ids"]), list(batch["labels"])
        if peer == "padded":
            lengths = [[n for n in row if n] for row in batch["doc_lengths"].tolist()]
            ids, labels = (
                [doc for row, of in zip(rows, lengths, strict=True) for doc in row[: sum(of)].split(of)]
                for rows in (ids, labels)
            )
        pad = torch.nn.utils.rnn.pad_sequence
        seen = pad([torch.ones_like(doc) for doc in ids], batch_first=True)
        # the decoder class shifts by itself: it gets the inputs as labels
        labels = [doc.clone() for doc in ids] if objective == "clm" else labels
        steps.append({
            "input_ids": pad(ids, batch_first=True),
            "labels": pad(labels, batch_first=True, padding_value=IGNORE),
            "attention_mask": seen,
        })  # fmt: skip
    return steps


def our_side(pipe: Connection, run: RunConfig, setting: Setting, flops: float) -> None:
    """Trains one round per message; answers with tokens per second, peak bytes and MFU."""
    _settle()
    memory, dtype = Memory(), torch.bfloat16 if setting.precision == "bf16" else torch.float32
    while pipe.recv():
        rate = matmul_throughput("cpu", dtype, n=2048, seconds=1.0)
        memory.restart()
        trainer = build_trainer(run)
        times = StepTimes()
        trainer.state.callbacks.append(times)
        trainer.fit(duration=f"{setting.steps}ba")
        tokens = trainer.state.timestamp.token.value / setting.steps
        seconds = statistics.median(np.diff(times.at)[1:])
        close(trainer)
        del trainer
        pipe.send((tokens / seconds, memory.peak(), flops / seconds / rate))


def their_side(pipe: Connection, setting: Setting, peer: str, batches: list[Batch]) -> None:
    """The same with Hugging Face's Trainer on the same corrupted documents; its MFU is not computed."""
    _settle()
    dataset = examples(batches, setting.objective, peer)
    tokens = float(np.mean([int(batch["doc_lengths"].sum()) for batch in batches]))
    memory = Memory()
    while pipe.recv():
        memory.restart()
        times = PeerTimes()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=1, max_steps=len(batches), learning_rate=1e-4,
                adam_beta2=0.98, adam_epsilon=1e-6, max_grad_norm=1.0, report_to=[], save_strategy="no",
                logging_strategy="no", use_cpu=True, disable_tqdm=True, optim="adamw_torch_fused",
                bf16=setting.precision == "bf16", torch_compile=peer == "compiled",
            )  # fmt: skip
            model = peer_model(sizes()[setting.size], setting.objective, sparse=peer != "packed")
            # one item is the batch of one step
            Trainer(
                model=model, args=arguments, train_dataset=dataset, data_collator=lambda items: items[0],
                callbacks=[times],
            ).train()  # fmt: skip
        pipe.send((tokens / statistics.median(np.diff(times.at)[1:]), memory.peak(), 0.0))


class Memory:
    """Peak resident set since `restart`, minus that at construction. 0 without /proc."""

    def __init__(self) -> None:
        self.before = self._bytes("VmRSS")

    def restart(self) -> None:
        """Returns free memory to the system and resets the peak."""
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        return self._bytes("VmHWM") - self.before

    def _bytes(self, name: str) -> int:
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _settle() -> None:
    """Silences this process and removes the parent's process group from its environment."""
    warnings.simplefilter("ignore")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(key, None)


def _start(context: Any, side: Callable[..., None], *arguments: Any) -> Connection:
    ours, theirs = context.Pipe()
    context.Process(target=side, args=(theirs, *arguments), daemon=True).start()
    theirs.close()  # so that recv raises EOFError if the process dies
    return ours


def compare(setting: Setting) -> Result:
    """Runs the comparison at one setting."""
    options = {"rate": setting.rate} if setting.objective == "mlm" else {}
    with tempfile.TemporaryDirectory() as folder:
        root, arch = Path(folder), sizes()[setting.size]
        tokenizer = prepare_rows(root, seq_len=setting.seq_len, rows=setting.rows * (setting.steps + 1))
        run = run_on(root, tokenizer, setting, options)
        batches = corrupted(run, setting.objective, options, arch, setting.steps)
        difference = loss_difference(arch, setting.objective, batches[0])
        if difference > 1e-5:
            raise SystemExit(f"losses differ by {difference:.1e}, so that speeds are not comparable")
        result = Result(setting, torch.get_num_threads(), difference)
        flops = statistics.mean(_flops(arch, batch) for batch in batches)
        # one process each, so that process groups and threads stay apart; they take turns
        context = torch.multiprocessing.get_context("spawn")
        pipes = {"ours": _start(context, our_side, run, setting, flops)}
        if "compiled" in setting.peers:
            both = replace(run, model=replace(run.model, compile=True))
            pipes["ours, compiled"] = _start(context, our_side, both, setting, flops)
        pipes |= {peer: _start(context, their_side, setting, peer, batches) for peer in setting.peers}
        result.sides = {name: Side() for name in pipes}
        shares = []
        for turn in range(setting.rounds + 1):  # the first is the warm-up
            for name, pipe in pipes.items():
                pipe.send(True)
                speed, peak, share = pipe.recv()
                result.sides[name].peak_bytes = peak
                if turn:
                    result.sides[name].tokens_per_second.append(speed)
                    shares += [share] if name == "ours" else []
        result.matmul_fraction = statistics.median(shares)
        for pipe in pipes.values():
            pipe.send(False)
        return result


def run_on(root: Path, tokenizer: Path, setting: Setting, options: dict[str, Any]) -> RunConfig:
    """A run of the setting over the rows of `prepare_rows`, that neither saves nor evaluates while it is timed."""
    return from_mapping({
        "name": "step", "folder": str(root / "runs"),
        "model": {"size": setting.size, "tokenizer": str(tokenizer)},
        "data": {"train": [{"path": str(root / "rows")}], "seq_len": setting.seq_len,
                 "global_batch_size": setting.rows, "micro_batch_size": setting.rows, "workers": 0},
        "phases": [{"name": "only", "objective": setting.objective, "tokens": 10**9, "options": options}],
        "schedule": {"peak_lr": 1e-4}, "optimizer": {"clip_norm": 1.0}, "system": {"precision": setting.precision},
        "checkpoint": {"interval_tokens": 10**12, "resume": False}, "evaluation": {"interval_tokens": 10**12},
        "logging": {"progress_bar": False},
    })  # fmt: skip


def corrupted(run: RunConfig, objective: str, options: dict, arch: ModernBertArchitecture, steps: int) -> list[Batch]:
    """The batches of the run as its first epoch would corrupt them."""
    trainer = build_trainer(run)
    vocab = vocab_of(load_tokenizer(str(run.model.tokenizer)), size=arch.vocab_size)
    worker = objectives.build(objective, options)
    loader = iter(trainer.state.train_dataloader)  # type: ignore[arg-type]
    batches = []
    for step in range(steps):
        batch = next(loader)
        batches.append(worker(batch, vocab, RowRandom(seed=run.seed, step=step, sample_id_B=batch["sample_id"])))
    close(trainer)
    return batches


def _flops(arch: ModernBertArchitecture, batch: Batch) -> float:
    supervised = int((batch["labels"] != IGNORE).sum())
    return training_flops(arch, batch["doc_lengths"].numpy(), attention=batch["attention"], supervised=supervised)


def show(result: Result) -> None:
    """Prints medians, spread, ratios and memory."""
    table = Table("", "median tokens/s", "spread", "ratio", "peak GB", title=result.setting.title)
    for name, side in result.sides.items():
        spread = f"{min(side.tokens_per_second):,.0f} to {max(side.tokens_per_second):,.0f}"
        ratio = "" if name == "ours" else f"{result.ratio(name):.2f}"
        table.add_row(name, f"{side.median:,.0f}", spread, ratio, f"{side.peak_bytes / 1e9:.2f}")
    console.print(table)
    console.print(
        f"loss difference {result.loss_difference:.1e}; MFU {result.matmul_fraction:.0%} of the measured matmul throughput; "
        f"{result.threads} threads"
    )


def main(
    size: Annotated[str, typer.Option(help=", ".join(sizes()))] = "ettin-17m",
    objective: Annotated[str, typer.Option(help="mlm or clm")] = "mlm",
    rate: Annotated[float, typer.Option(help="Fraction of tokens masked.")] = 0.3,
    seq_len: int = 1024,
    rows: Annotated[int, typer.Option(help="Rows per step.")] = 4,
    rounds: int = 5,
    steps: Annotated[int, typer.Option(help="Steps per round.", min=3)] = 4,
    peer: Annotated[list[str] | None, typer.Option(help=", ".join(PEERS))] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="JSON Lines file to which the result is appended.")] = None,
) -> None:
    """Print medians, ranges and ratios, and append them to --out."""
    warnings.simplefilter("ignore")
    setting = Setting(
        size=size, objective=objective, rate=rate, seq_len=seq_len, rows=rows, rounds=rounds, steps=steps,
        peers=tuple(peer or ["packed"]), precision=precision,
    )  # fmt: skip
    result = compare(setting)
    show(result)
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps({**asdict(result), "environment": environment()}) + "\n")


if __name__ == "__main__":
    typer.run(main)
