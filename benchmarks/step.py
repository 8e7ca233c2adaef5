"""Tokens a second of a whole training step: ours in Composer against Hugging Face's Trainer, round by round.

Same rows, same masks, same optimizer settings, both through their trainers, each in a process of its own; one waits
while the other works. The rows are packed from
documents of mixed length; the peer takes them as `run_mlm` does, with attention across documents, which is less work
to arrange and more to compute. Before any clock starts both must give the same loss on rows of one document each.

    python -m benchmarks.step                          Ettin 17M, rows of 1024, MLM 30%
    python -m benchmarks.step --size ettin-32m --objective clm --row-tokens 512
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from io import StringIO
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
from detour.build import build_trainer
from detour.config.load import from_mapping
from detour.data.tokenizer import load_tokenizer, vocab_of
from detour.model.architecture import SIZES, Architecture
from detour.model.encoder import Encoder
from detour.objectives import RowRandom
from detour.record import environment

console = Console(highlight=False)


@dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        ours: Tokens a second in each round, padding not counted.
        theirs: The peer's.
        loss_difference: Of the two losses on the same single-document rows.
    """

    size: str
    objective: str
    row_tokens: int
    rows: int
    threads: int
    loss_difference: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of ours over median of theirs."""
        return statistics.median(self.ours) / statistics.median(self.theirs)


class StepTimes(Callback):
    """Seconds from the end of one batch to the end of the next."""

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


def peer_model(arch: Architecture, objective: str) -> torch.nn.Module:
    """Hugging Face's model of the same shape, its best attention on a CPU, its own compilation off (it needs a GPU)."""
    shape: dict[str, Any] = {
        key: getattr(arch, key)
        for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    }
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    if objective == "clm":
        config = ModernBertDecoderConfig(**shape, **special, attn_implementation="sdpa", reference_compile=False)
        return ModernBertDecoderForCausalLM(config)
    return ModernBertForMaskedLM(
        ModernBertConfig(**shape, **special, attn_implementation="sdpa", reference_compile=False)
    )


def loss_difference(arch: Architecture, objective: str, batch: Batch) -> float:
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
        logits = peer(input_ids=single["input_ids"]).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), single["labels"].flatten(), ignore_index=IGNORE)
    return abs((mine.total / mine.supervised - theirs).item())


def our_side(pipe: Connection, run: Any, steps: int) -> None:
    """A process that trains one round for each message and answers tokens a second, the first two steps left out."""
    _settle()
    while pipe.recv():
        trainer = build_trainer(run)
        times = StepTimes()
        trainer.state.callbacks.append(times)
        trainer.fit(duration=f"{steps}ba")
        tokens = trainer.state.timestamp.token.value / steps
        pipe.send(tokens / statistics.median(np.diff(times.at)[1:]))


def their_side(pipe: Connection, arch: Architecture, objective: str, batches: list[Batch], rows: int) -> None:
    """The same through `Trainer`, on the same corrupted rows."""
    _settle()
    examples = [
        # the decoder class shifts by itself: it gets the inputs as labels
        {"input_ids": ids, "labels": ids if objective == "clm" else labels, "attention_mask": torch.ones_like(ids)}
        for batch in batches
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    tokens = float(np.mean([int(batch["doc_lengths"].sum()) for batch in batches]))
    while pipe.recv():
        times = PeerTimes()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=rows, max_steps=len(batches), learning_rate=1e-4,
                adam_beta2=0.98, adam_epsilon=1e-6, max_grad_norm=1.0, report_to=[], save_strategy="no",
                logging_strategy="no", use_cpu=True, disable_tqdm=True, optim="adamw_torch_fused",
            )  # fmt: skip
            Trainer(
                model=peer_model(arch, objective), args=arguments, train_dataset=examples, callbacks=[times]
            ).train()
        pipe.send(tokens / statistics.median(np.diff(times.at)[1:]))


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
    return ours


def _round(pipe: Connection) -> float:
    pipe.send(True)
    return pipe.recv()


def compare(size: str, objective: str, row_tokens: int, rows: int, rounds: int, steps: int, rate: float) -> Result:
    """The whole comparison at one setting."""
    options = {"rate": rate} if objective == "mlm" else {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tokenizer = prepare_rows(root, row_tokens=row_tokens, rows=rows * (steps + 1))
        arch = SIZES[size]
        run = from_mapping({
            "name": "step", "folder": str(root / "runs"),
            "model": {"size": size, "tokenizer": str(tokenizer)},
            "data": {"train": [{"path": str(root / "rows")}], "row_tokens": row_tokens, "global_batch_rows": rows,
                     "micro_batch_rows": rows, "workers": 0},
            "phases": [{"name": "only", "objective": objective, "tokens": 10**9, "options": options}],
            "schedule": {"peak_lr": 1e-4}, "optimizer": {"clip_norm": 1.0},
            "checkpoint": {"interval_tokens": 10**12}, "evaluation": {"interval_tokens": 10**12},
            "logging": {"progress_bar": False},
        })  # fmt: skip
        batches = _corrupted(run, objective, options, arch, steps)
        name = f"{objective}{round(100 * rate)}" if options else objective
        difference = loss_difference(arch, objective, batches[0])
        if difference > 1e-5:
            raise SystemExit(f"losses differ by {difference:.1e}: no comparison of speed means anything")
        result = Result(size, name, row_tokens, rows, torch.get_num_threads(), difference)
        # a process each, so that neither's process group or threads touch the other; they take turns, never at once
        context = torch.multiprocessing.get_context("spawn")
        our_pipe = _start(context, our_side, run, steps)
        their_pipe = _start(context, their_side, arch, objective, batches, rows)
        for turn in range(rounds + 1):  # the first warms both up and is not counted
            mine, theirs = _round(our_pipe), _round(their_pipe)
            console.print(
                f"  round {turn}: {mine:,.0f} and {theirs:,.0f} tokens/s" + ("  (warm-up)" if not turn else "")
            )
            if turn:
                result.ours.append(mine)
                result.theirs.append(theirs)
        our_pipe.send(False)
        their_pipe.send(False)
        return result


def _corrupted(run: Any, objective: str, options: dict, arch: Architecture, steps: int) -> list[Batch]:
    """The batches of the run as its first epoch would corrupt them."""
    trainer = build_trainer(run)
    vocab = vocab_of(load_tokenizer(run.model.tokenizer), size=arch.vocab_size)
    worker = objectives.build(objective, options)
    loader = iter(trainer.state.train_dataloader)  # type: ignore[arg-type]
    batches = []
    for step in range(steps):
        batch = next(loader)
        batches.append(worker(batch, vocab, RowRandom(seed=run.seed, step=step, sample_id_B=batch["sample_id"])))
    trainer.close()
    return batches


def main(
    size: Annotated[str, typer.Option(help=", ".join(SIZES))] = "ettin-17m",
    objective: Annotated[str, typer.Option(help="mlm or clm")] = "mlm",
    rate: Annotated[float, typer.Option(help="Share of tokens masked.")] = 0.3,
    row_tokens: int = 1024,
    rows: Annotated[int, typer.Option(help="Rows in a step.")] = 4,
    rounds: int = 5,
    steps: Annotated[int, typer.Option(help="Steps in a round.")] = 6,
    out: Annotated[Path | None, typer.Option(help="JSON lines to append the result to.")] = None,
) -> None:
    """Prints medians, spread and ratio; appends them to --out."""
    warnings.simplefilter("ignore")
    console.print(f"{size}, {objective}, {rows} rows of {row_tokens}, {torch.get_num_threads()} threads")
    with redirect_stderr(StringIO()):
        result = compare(size, objective, row_tokens, rows, rounds, steps, rate)
    table = Table("", "median tokens/s", "spread", title=f"ratio {result.ratio:.2f}")
    for name, values in (("detour", result.ours), ("Trainer", result.theirs)):
        table.add_row(name, f"{statistics.median(values):,.0f}", f"{min(values):,.0f} to {max(values):,.0f}")
    console.print(table)
    console.print(f"loss difference {result.loss_difference:.1e} on {platform.processor() or platform.machine()}")
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps({**asdict(result), "ratio": result.ratio, "environment": environment()}) + "\n")


if __name__ == "__main__":
    typer.run(main)
