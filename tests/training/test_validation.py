"""Held-out loss: over all folders, on exactly the rows asked for, the same measure for every run."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from streaming.base.format.mds import MDSReader

from detour.build import build_trainer, close
from detour.config.schema import RunConfig
from detour.data.manifest import ShardManifest, SourceFile, TokenizerInfo
from detour.data.shards import RowWriter
from detour.errors import CheckpointError, ConfigError, DataError
from detour.models.loss import linear_cross_entropy
from detour.train import train
from detour.training.callbacks.eval_loss import EvalLoss
from detour.training.checkpoints import files as checkpoints
from detour.training.composer_model import TokenLoss
from detour.training.run_folder import RunFolder, validation_rows

REPOSITORY = Path(__file__).parents[2]
FOLDERS = {"english": 30, "french": 12}


def rows_of(folder: Path) -> list[tuple[np.ndarray, list[int]]]:
    """Ids and document lengths of every row, by streaming's own reader."""
    index = json.loads((folder / "index.json").read_text())
    readers = [MDSReader.from_json(str(folder), None, shard) for shard in index["shards"]]
    return [(r[i]["input_ids"], r[i]["doc_lengths"].tolist()) for r in readers for i in range(r.samples)]


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory) -> dict[str, Path]:
    """Two validation folders, of the corpus's tokenizer: random ids from two parts of the vocabulary, in two documents."""
    root = tmp_path_factory.mktemp("held-out")
    info = TokenizerInfo(**json.loads((corpus.train / "manifest.json").read_text())["tokenizer"])
    rng = np.random.default_rng(0)
    for at, (name, rows) in enumerate(FOLDERS.items()):
        with RowWriter(root / name / "validation", seq_len=64, tokenizer=info, seed=0) as writer:
            for row in range(rows):
                ids = rng.integers(100 + 200 * at, 300 + 200 * at, 60).astype(np.uint16)
                writer.write([ids[: 10 + row], ids[10 + row :]])
            source = SourceFile(path="a", sha256="cd" * 32, bytes=9, documents=rows, license=None)
            writer.finish(sources=[source], documents=2 * rows, empty_skipped=0, documents_split=0)
    return {name: root / name / "validation" for name in FOLDERS}


@pytest.fixture
def run_of(tiny_run, folders):
    """A function that gives a run of few steps evaluated on both folders."""

    def make(name: str, rows: int = 14, micro_batch_size: int = 2, **changes) -> RunConfig:
        evaluation = {"rows": rows, **changes.pop("evaluation", {})}
        data = {
            "validation": [{"path": str(path)} for path in folders.values()],
            "micro_batch_size": micro_batch_size,
            **changes.pop("data", {}),
        }
        phases = [{"name": "only", "objective": "mlm", "tokens": 500}]
        return tiny_run(
            name, evaluation=evaluation, data=data, **{"phases": phases, "schedule": {"decay_phase": None}, **changes}
        )

    return make


def lines_of(run: RunConfig) -> list[dict]:
    return [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]


def measured(run: RunConfig, token: int = 0) -> dict[str, float]:
    """The held-out losses at a token count."""
    return {
        k: v for line in lines_of(run) if line["token"] == token for k, v in line.items() if k.startswith("loss/eval")
    }


def at_start(run: RunConfig) -> dict[str, float]:
    """The held-out losses before the first batch, without training."""
    trainer = build_trainer(run)
    trainer.eval()
    close(trainer)
    return measured(run)


def test_the_loss_is_that_of_the_drawn_rows_by_folder_and_together(run_of, folders):
    """CLM, so that the labels are the next tokens: computed anew from streaming's reader, our logits and torch's loss."""
    run = run_of("run", evaluation={"objectives": {"clm": {}}})
    trainer = build_trainer(run)
    trainer.eval()
    encoder, drawn = trainer.state.model.encoder, json.loads(json.dumps(
        [f.drawn.tolist() for f in trainer.state.evaluators[0].dataloader.dataloader.folders]
    ))  # fmt: skip
    sums = {}
    for (name, path), rows in zip(folders.items(), drawn, strict=True):
        every, loss, count = rows_of(path), 0.0, 0
        for ids, lengths in (every[row] for row in rows):
            batch = torch.from_numpy(ids.astype(np.int64))[None], torch.tensor([lengths])
            with torch.no_grad():
                logits_TV = encoder.eval().logits(*batch, "causal")[0]
            for start, end in zip(np.cumsum([0, *lengths]), np.cumsum(lengths), strict=False):
                loss += F.cross_entropy(
                    logits_TV[start : end - 1], batch[0][0, start + 1 : end], reduction="sum"
                ).item()
                count += end - start - 1
        sums[name] = loss, count
    close(trainer)
    assert [len(rows) for rows in drawn] == [10, 4], "14 of 30 + 12 rows"
    expected = {f"loss/eval_folder/clm/{name}": loss / count for name, (loss, count) in sums.items()}
    expected["loss/eval/clm"] = sum(loss for loss, _ in sums.values()) / sum(count for _, count in sums.values())
    assert measured(run) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rows", [14, 2, 42, 100])
def test_exactly_the_rows_asked_for_whatever_the_batches(run_of, rows, monkeypatch, caplog):
    counted = {}
    real = TokenLoss.update

    def update(self, outputs, draw=0, folder=0):
        counted[name] = counted.get(name, 0) + int(outputs.supervised)
        real(self, outputs, draw, folder)

    monkeypatch.setattr(TokenLoss, "update", update)
    found = {}
    for micro in (1, 5, 32):
        name = f"micro-{micro}"
        found[name] = at_start(run_of(name, rows, micro, evaluation={"objectives": {"clm": {}, "mlm": {}}}))
    assert len(set(counted.values())) == 1
    first = found["micro-1"]
    assert all(losses == pytest.approx(first, rel=1e-5) for losses in found.values())
    assert ("data.validation has only 42 rows; all are used" in caplog.text) == (rows > 42)


def test_the_seed_of_the_run_has_no_part_in_the_measure_and_its_own_has(run_of, tmp_path):
    """Two runs from the same start weights, as two arms of a comparison are."""
    from detour.export.run import export_run

    train(first := run_of("first"))
    export_run(RunFolder.of(first).path, tmp_path / "start")
    model = {"init": str(tmp_path / "start"), "tokenizer": None}
    one, other = (at_start(run_of(f"seed-{seed}", seed=seed, model=model)) for seed in (17, 18))
    assert one == other
    masked_otherwise = at_start(run_of("masks", model=model, evaluation={"seed": 18}))
    assert masked_otherwise["loss/eval/mlm"] != one["loss/eval/mlm"]


def test_several_mask_draws_give_their_mean_and_spread(run_of):
    """Draws of the seed, one at a time, against all at once: mean by tokens, and the sample's standard deviation."""
    objectives = {"mlm": {"rate": 0.15}, "clm": {}}
    run = run_of("draws", evaluation={"mask_draws": 3, "objectives": objectives})
    totals = {}
    real = TokenLoss.update

    def update(self, outputs, draw=0, folder=0):
        key = draw, int(outputs.supervised) > 40 * 2 - 20  # clm supervises nearly all tokens
        loss, count = totals.get(key, (0.0, 0))
        totals[key] = loss + float(outputs.total), count + int(outputs.supervised)
        real(self, outputs, draw, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenLoss, "update", update)
        found = at_start(run)
    assert sorted(totals) == [(0, False), (0, True), (1, False), (2, False)], "what is not random is evaluated once"
    draws = [totals[draw, False] for draw in range(3)]
    means = [loss / count for loss, count in draws]
    assert len(set(means)) == 3
    assert found["loss/eval_sd/mlm"] == pytest.approx(statistics.stdev(means), rel=1e-6)
    assert found["loss/eval/mlm"] == pytest.approx(sum(loss for loss, _ in draws) / sum(count for _, count in draws))
    assert "loss/eval_sd/clm" not in found


def test_weights_and_biases_gets_the_loss_of_each_folder(run_of, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = run_of("run", logging={"wandb_project": "test"}, evaluation={"mask_draws": 2})
    train(run)
    (written,) = (RunFolder.of(run).path / "wandb").rglob("*.wandb")
    names = [b"loss/eval/clm", b"loss/eval_folder/mlm/english", b"loss/eval_folder/clm/french", b"loss/eval_sd/mlm"]
    deadline = time.monotonic() + 20
    while not all(name in written.read_bytes() for name in names) and time.monotonic() < deadline:
        time.sleep(0.1)  # its own process writes what it holds a moment after it said that it had finished
    assert not [name for name in names if name not in written.read_bytes()]


def test_a_folder_without_a_supervised_token_has_no_loss_and_spoils_none():
    metric, logged = TokenLoss(draws=1, folders=2), {}
    metric.update(SimpleNamespace(total=torch.tensor(6.0), supervised=torch.tensor(3)), 0, 0)
    metric.update(SimpleNamespace(total=torch.tensor(0.0), supervised=torch.tensor(0)), 0, 1)
    state = SimpleNamespace(dataloader_label="clm", eval_metrics={"clm": {"loss": metric}})
    EvalLoss({"clm": ["a", "b"]}).eval_end(state, SimpleNamespace(log_metrics=logged.update))
    assert logged == {"loss/eval/clm": 2.0, "loss/eval_folder/clm/a": 2.0}


def test_a_batch_without_a_label_adds_nothing():
    h_0C, w_VC = torch.zeros(0, 4), torch.ones(7, 4)
    assert linear_cross_entropy(h_0C, w_VC, None, torch.zeros(0, dtype=torch.int64)).item() == 0


def test_validation_folders_that_are_trained_on_are_refused(run_of, corpus, tmp_path):
    run = run_of("same", data={"validation": [{"path": str(corpus.train)}]})
    with pytest.raises(
        DataError, match=r"data.validation: .*train: shard.00000.mds is shard.00000.mds of .* in data.train"
    ):
        build_trainer(run)
    info = TokenizerInfo(**json.loads((corpus.train / "manifest.json").read_text())["tokenizer"])
    with RowWriter(tmp_path / "mixed", seq_len=64, tokenizer=info, seed=0) as writer:
        for ids, lengths in [*rows_of(corpus.train)[:3], *rows_of(corpus.validation)[:3]]:
            writer.write(np.split(ids[: sum(lengths)], np.cumsum(lengths)[:-1]))
        source = SourceFile(path="a", sha256="cd" * 32, bytes=9, documents=6, license=None)
        writer.finish(sources=[source], documents=6, empty_skipped=0, documents_split=0)
    run = run_of("mixed", data={"validation": [{"path": str(tmp_path / "mixed")}]})
    with pytest.raises(DataError, match=r"mixed: 3 of 6 rows are also in data.train"):
        build_trainer(run)


def test_fewer_rows_than_folders_are_refused_before_anything_is_read(run_of):
    with pytest.raises(ConfigError, match=r"evaluation.rows: 1, expected at least one for each of the 2 folders"):
        run_of("run", rows=1)


# --- a resume -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder for the run of `stopped`, which is trained once and copied for each test."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def stopped(run_of, trained) -> RunConfig:
    """A finished run of two steps, with further tokens, so that it goes on from there."""
    run = run_of("run")
    if trained.exists():
        shutil.copytree(trained, RunFolder.of(run).path)
    else:
        train(run)
        shutil.copytree(RunFolder.of(run).path, trained)
    phases = [replace(run.phases[0], tokens=run.phases[0].tokens + 500)]
    return replace(run, phases=phases)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 4}, "evaluation.seed: was 17, now 4"),
        ({"rows": 15}, "validation rows: were 10 of 30 of english ("),
        ({"mask_draws": 2}, "evaluation.mask_draws: was 1, now 2"),
        ({"objectives": {"mlm": {"rate": 0.3}, "clm": {}}}, "evaluation.objectives.mlm: rate was 0.15, now 0.3"),
        ({"objectives": {"mlm": {"rate": 0.15, "mask_fraction": 1.0, "random_fraction": 0.0}, "clm": {}}},
         "evaluation.objectives.mlm: mask_fraction was 0.8, now 1.0, random_fraction was 0.1, now 0.0"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)  # fmt: skip
def test_a_resume_that_measures_otherwise_is_refused_or_marked(run_of, stopped, change, line, caplog):
    run = stopped
    other = replace(run, evaluation=replace(run.evaluation, **change))
    with pytest.raises(CheckpointError, match="would change how held-out losses are measured") as caught:
        train(other)
    assert line in str(caught.value)
    assert "evaluation.change_on_resume: true" in str(caught.value)
    end = lines_of(run)[-1]["token"]
    train(replace(other, evaluation=replace(other.evaluation, change_on_resume=True)))
    (event,) = [each for each in lines_of(run) if "measurement" in each]
    assert event["token"] == end
    assert any(each.startswith(line) for each in event["measurement"])
    assert f"from token {end:,} on, held-out losses are measured differently: {line}" in caplog.text


def test_another_validation_folder_is_refused(run_of, stopped, corpus):
    run = stopped
    other = replace(run.data, validation=[replace(run.data.validation[0], path=str(corpus.validation))])
    with pytest.raises(CheckpointError, match=r"validation rows: were .* now \d+ of \d+ of validation"):
        train(replace(run, data=other))


def test_a_folder_that_moved_and_another_order_are_the_same_measure(run_of, stopped, folders, tmp_path):
    run = stopped
    moved = [
        replace(run.data.validation[0], path=str(tmp_path / name / "validation")) for name in ("french", "english")
    ]
    for stream, name in zip(moved, ("french", "english"), strict=True):
        shutil.copytree(folders[name], stream.path)
    train(replace(run, data=replace(run.data, validation=moved)))
    assert not [line for line in lines_of(run) if "measurement" in line]


@pytest.mark.parametrize(
    ("section", "change", "line"),
    [
        ("system", {"precision": "bf16"}, "precision: was fp32, now bf16"),
        ("data", {"validation": []}, "evaluation: ends here"),
        ("evaluation", {"objectives": {"mlm": {"rate": 0.15}}}, "evaluation.objectives.clm: ends here"),
    ],
)
def test_what_a_user_may_want_is_told_and_marked(run_of, stopped, section, change, line, caplog):
    run = stopped
    other = replace(run, **{section: replace(getattr(run, section), **change)})
    with caplog.at_level(logging.WARNING):
        train(other)
    assert [each["measurement"] for each in lines_of(run) if "measurement" in each] == [[line]]
    assert line in caplog.text


def test_a_complete_run_is_not_marked(run_of):
    train(run := run_of("run"))
    before = RunFolder.of(run).metrics.read_bytes()
    train(replace(run, system=replace(run.system, precision="bf16")))
    assert RunFolder.of(run).metrics.read_bytes() == before


def test_a_mark_is_written_once_however_often_the_run_resumes(run_of, stopped):
    run = stopped
    other = replace(run, system=replace(run.system, precision="bf16"))
    folder = RunFolder.of(run).checkpoints
    first = checkpoints.listing(folder)[-1].tokens
    for _ in range(3):  # killed before its next checkpoint
        train(other)
        for later in checkpoints.listing(folder):
            if later.tokens > first:
                shutil.rmtree(later.path)
    train(other)
    train(other)
    assert len([line for line in lines_of(run) if "measurement" in line]) == 1


def test_a_run_of_an_earlier_version_goes_on_and_is_marked(run_of, stopped):
    run = stopped
    last = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].path
    state = json.loads((last / "state.json").read_text())
    del state["run"]["evaluation"]
    rewritten = json.dumps(state).encode()
    (last / "state.json").write_bytes(rewritten)
    manifest = json.loads((last / "manifest.json").read_text())
    text = json.dumps(manifest).replace(
        json.dumps(manifest["files"]["state.json"]),
        json.dumps({"bytes": len(rewritten), "sha256": hashlib.sha256(rewritten).hexdigest()}),
    )
    (last / "manifest.json").write_text(text)
    train(run)
    (event,) = [line for line in lines_of(run) if "measurement" in line]
    assert event["measurement"] == ["evaluation: the run began with a version that drew validation rows differently"]


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("parallelism", "rows"), [("ddp", 14), ("fsdp", 3)])
def test_two_processes_measure_what_one_measures(run_of, start, parallelism, rows):
    """10 and 4 rows in batches of 4 and 2 are five batches, 2 and 1 rows are three: one process has a batch without rows."""
    sections = {"evaluation": {"mask_draws": 2, "interval_tokens": 10**9}, "rows": rows, "micro_batch_size": 4}
    alone = run_of("alone", **sections)
    train(alone)
    run = run_of("two", system={"parallelism": parallelism}, **sections)
    children = start(run, processes=2)
    assert [child.code(200) for child in children] == [0, 0], children[0].text()[-4000:]
    one, two = measured(alone), measured(run)
    assert len(one) == 7  # mlm: together, two folders, spread; clm: together, two folders
    assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    assert not any(math.isnan(loss) for loss in two.values())


def test_a_folder_is_evaluated_under_its_own_name(tiny_run, corpus):
    run = tiny_run(data={"validation": [{"path": str(corpus.validation), "name": "general"}]})
    manifest = ShardManifest.load(corpus.validation)
    assert [folder.name for folder in validation_rows(run, {str(corpus.validation): manifest})] == ["general"]
