"""Tokens a second of a whole training step: ours in Composer against Hugging Face's Trainer, round by round.

Same documents, same masks, same optimizer settings, both through their trainers, each in a process of its own; one works
while the others wait. Before any clock starts both must give the same loss. The peers (`PEERS`) are the ways to hand
the same documents to Trainer: packed as `run_mlm` packs (attention crosses documents, logits of every position), the
same with logits of the masked positions only, compiled, and a document a row, padded.

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
    "packed": "as run_mlm and run_clm ship: rows packed, attention across documents, logits of every position",
    "sparse": "packed, sparse_prediction: logits of the masked positions only",
    "compiled": "sparse, under torch.compile",
    "padded": "a document a row, padded to the longest, sparse_prediction where there is one",
}


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        size: The model, a name in `sizes()`.
        objective: "mlm" or "clm".
        rate: Share of tokens masked, for MLM.
        seq_len: T.
        rows: B.
        peers: Names in `PEERS`.
        steps: Steps a round; the first two are left out, their median counts.
        rounds: Rounds after the one that warms up.
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
    """What one side did.

    Attributes:
        tokens_per_second: Of each round, padding not counted.
        peak_bytes: Largest resident set of a round beyond what its process held before the first: model, optimizer,
            activations, whatever its trainer makes; not the libraries. Nothing on systems other than Linux.
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
        loss_difference: Largest of the peers' losses from ours, on the same rows.
        matmul_fraction: Share of this machine's rate of matrix products in the same precision, measured in the same process,
            that our step's counted FLOPs reach.
        sides: "ours" and the peers.
    """

    setting: Setting
    threads: int
    loss_difference: float
    matmul_fraction: float = 0.0
    sides: dict[str, Side] = field(default_factory=dict)

    def ratio(self, peer: str) -> float:
        """Median of ours over median of the peer's."""
        return self.sides["ours"].median / self.sides[peer].median


class StepTimes(Callback):
    """When each batch ended."""

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
    """Hugging Face's model of the same shape, its best attention on a CPU, its own compilation off (it needs a GPU)."""
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
    """Both losses on rows that are one document each, with the same weights."""
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
    """A step's input to the peer, for each batch."""
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
    """A process that trains one round a message; answers tokens a second, peak memory, share of the product rate."""
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
    """The same through `Trainer`, on the same corrupted documents."""
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
            # an item is a whole step
            Trainer(
                model=model, args=arguments, train_dataset=dataset, data_collator=lambda items: items[0],
                callbacks=[times],
            ).train()  # fmt: skip
        pipe.send((tokens / statistics.median(np.diff(times.at)[1:]), memory.peak(), 0.0))


class Memory:
    """Largest resident set since `restart`, beyond the process's own at the start. 0 where there is no /proc."""

    def __init__(self) -> None:
        self.before = self._bytes("VmRSS")

    def restart(self) -> None:
        """Gives back what is left of the round before, and forgets its peak."""
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
    """Silent, and with nothing left of the process group that the parent's environment speaks of."""
    warnings.simplefilter("ignore")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(key, None)


def _start(context: Any, side: Callable[..., None], *arguments: Any) -> Connection:
    ours, theirs = context.Pipe()
    context.Process(target=side, args=(theirs, *arguments), daemon=True).start()
    theirs.close()  # so that a side that dies is an end of file here
    return ours


def compare(setting: Setting) -> Result:
    """The whole comparison at one setting."""
    options = {"rate": setting.rate} if setting.objective == "mlm" else {}
    with tempfile.TemporaryDirectory() as folder:
        root, arch = Path(folder), sizes()[setting.size]
        tokenizer = prepare_rows(root, seq_len=setting.seq_len, rows=setting.rows * (setting.steps + 1))
        run = run_on(root, tokenizer, setting, options)
        batches = corrupted(run, setting.objective, options, arch, setting.steps)
        difference = loss_difference(arch, setting.objective, batches[0])
        if difference > 1e-5:
            raise SystemExit(f"losses differ by {difference:.1e}: no comparison of speed means anything")
        result = Result(setting, torch.get_num_threads(), difference)
        flops = statistics.mean(_flops(arch, batch) for batch in batches)
        # a process each, so that neither's process group or threads touch the other; they take turns, never at once
        context = torch.multiprocessing.get_context("spawn")
        pipes = {"ours": _start(context, our_side, run, setting, flops)}
        if "compiled" in setting.peers:
            both = replace(run, model=replace(run.model, compile=True))
            pipes["ours, compiled"] = _start(context, our_side, both, setting, flops)
        pipes |= {peer: _start(context, their_side, setting, peer, batches) for peer in setting.peers}
        result.sides = {name: Side() for name in pipes}
        shares = []
        for turn in range(setting.rounds + 1):  # the first warms all up and is not counted
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
        f"loss difference {result.loss_difference:.1e}; {result.matmul_fraction:.0%} of the rate of matrix products; "
        f"{result.threads} threads"
    )


def main(
    size: Annotated[str, typer.Option(help=", ".join(sizes()))] = "ettin-17m",
    objective: Annotated[str, typer.Option(help="mlm or clm")] = "mlm",
    rate: Annotated[float, typer.Option(help="Share of tokens masked.")] = 0.3,
    seq_len: int = 1024,
    rows: Annotated[int, typer.Option(help="Rows in a step.")] = 4,
    rounds: int = 5,
    steps: Annotated[int, typer.Option(help="Steps in a round.", min=3)] = 4,
    peer: Annotated[list[str] | None, typer.Option(help=", ".join(PEERS))] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    out: Annotated[Path | None, typer.Option(help="JSON lines to append the result to.")] = None,
) -> None:
    """Prints medians, spread and ratio; appends them to --out."""
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
