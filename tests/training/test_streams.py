"""An objective with a module and a stream of its own, in turn with MLM: rows, exact resume, checkpoints, exports, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from composer.core import Callback
from safetensors.torch import load_file

from data_prep.synthetic import RELATIONS
from detour.build import build_encoder, build_trainer
from detour.config.check import check
from detour.cost.flops import training_flops
from detour.cost.plan import plan
from detour.cost.plan_table import show
from detour.data.stream_spec import StreamSpec
from detour.errors import CheckpointError, ConfigError, DataError
from detour.experiments.tree import shared_tokens
from detour.export.run import export_run
from detour.objectives import build
from detour.report.compare import compare_runs
from detour.train import train
from detour.training.checkpoints import files
from detour.training.checkpoints.files import listing, newest_valid
from detour.training.objective_modules import add_modules
from detour.training.run_folder import RunFolder
from detour.training.tune import measured, trials
from tests.training.test_phase_data import orders_of, watch

CLASSES = sorted(RELATIONS)
PAIRS = {"objective": "pair_classification", "options": {"classes": CLASSES}}


def saved(run):
    found, _ = newest_valid(RunFolder.of(run).checkpoints)
    assert found is not None
    return found


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_each_turn_reads_the_next_rows_of_its_own_stream(streamed_run, pair_rows, workers):
    run = streamed_run("rows", workers=workers)
    orders = {
        64: list(islice(orders_of(run, run.data.train), 6)),
        48: list(islice(orders_of(run, [{"path": pair_rows}]), 6)),
    }
    sizes, at = {64: (4, 2), 48: (6, 3)}, {64: (0, 0), 48: (0, 0)}
    found = watch(run)
    for step, (before, rows, (B, T), micro) in enumerate(found):
        in_middle = run.phase_schedule.at(before).index == 1
        assert (48 if in_middle and step % 3 == 2 else 64) == T
        assert (B, micro) == sizes[T]
        epoch, row = at[T]
        if row + B > len(orders[T][epoch]):
            epoch, row = epoch + 1, 0
        assert list(rows) == orders[T][epoch][row : row + B]
        at[T] = (epoch, row + B)
    assert sum(shape == (6, 48) for _, _, shape, _ in found) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_cut_at_any_checkpoint_and_resumed_is_the_unbroken_one_bitwise(streamed_run, workers):
    whole = streamed_run("whole", workers=workers)
    train(whole)
    expected, every = saved(whole), sorted(RunFolder.of(whole).checkpoints.iterdir())
    for cut in (2, 4, len(every) - 2) if workers == 0 else (3,):  # within the turns, and at their end
        again = replace(whole, name=f"cut{cut}")
        shutil.copytree(RunFolder.of(whole).path, RunFolder.of(again).path)
        for path in every[cut:]:
            shutil.rmtree(RunFolder.of(again).checkpoints / path.name)
        train(again)
        for part in ("model", "objectives", "optimizer"):
            ours, theirs = saved(again).tensors(part), expected.tensors(part)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), (cut, part)


def test_the_head_is_trained_and_saved_and_in_no_export(streamed_run, tmp_path):
    run = streamed_run("saved")
    train(run)
    found = saved(run)
    assert set(found.tensors("objectives")) == {"pair_classification.weight", "pair_classification.bias"}
    assert not any("objectives" in name for name in found.tensors("model"))
    moments = {
        name.split("encoder.")[1].rsplit("/", 1)[0] for name in found.tensors("optimizer") if "objectives" in name
    }
    assert moments == {"objectives.pair_classification.weight", "objectives.pair_classification.bias"}
    metrics = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    losses = [line["loss/train/pair_classification"] for line in metrics if "loss/train/pair_classification" in line]
    assert len(losses) >= 2
    assert losses[0] == pytest.approx(torch.log(torch.tensor(6.0)).item(), rel=0.15)  # nothing is learned yet
    before = next(c for c in listing(RunFolder.of(run).checkpoints) if 0 < c.tokens < 900)
    assert not any("objectives" in name for name in before.tensors("optimizer"))
    export_run(RunFolder.of(run).path, tmp_path / "export")
    exported = load_file(tmp_path / "export" / "model.safetensors")
    assert exported
    assert not any("objectives" in name or "pair" in name for name in exported)


def test_the_head_starts_the_same_whatever_else_a_run_trains(streamed_run):
    one, other = streamed_run("one"), streamed_run("other")
    heads = []
    for run in (one, replace(other, phases=other.phases[1:])):
        trainer = build_trainer(run)
        heads.append(trainer.state.model.encoder.objectives["pair_classification"].weight.detach().clone())
        trainer.close()
    assert torch.equal(*heads)


def test_moments_that_a_checkpoint_lacks_are_noticed(streamed_run):
    run = streamed_run("lacks")
    train(run)
    folder = RunFolder.of(run).checkpoints
    state = json.loads((saved(run).path / "state.json").read_text())
    names = state["callbacks"]["PhaseSwitch"]["with_moments"]
    assert {"objectives.pair_classification.weight", "decoder.bias"} <= {*names}
    last = listing(folder)[-2]
    optimizer = {k: v for k, v in last.tensors("optimizer").items() if "pair_classification.bias" not in k}
    tensors = {name: last.tensors(name) for name in ("model", "objectives", "rng")} | {"optimizer": optimizer}
    plain = last.state()
    for path in listing(folder)[-2:]:
        shutil.rmtree(path.path)
    files.write(folder, tokens=last.tokens, tensors=tensors, state=plain)
    with pytest.raises(CheckpointError, match=r"pair_classification\.bias/exp_avg is missing"):
        train(run)


def test_the_cost_of_a_pair_is_counted_with_the_head_and_without_the_vocabulary(streamed_run, pair_rows):
    phase = {
        "name": "pairs",
        **PAIRS,
        "tokens": 600,
        "streams": {"pairs": {"train": [{"path": pair_rows}], "seq_len": 48}},
    }
    run = streamed_run("cost", phases=[phase], schedule={"decay_phase": None})
    batches = []

    class Keep(Callback):
        def batch_end(self, state, logger):
            batches.append({key: state.batch[key].clone() for key in ("doc_lengths", "labels")})

    trainer = build_trainer(run)
    trainer.state.callbacks.append(Keep())
    trainer.fit()
    trainer.close()
    arch, expected = run.architecture, 0.0
    for batch in batches:
        lengths = batch["doc_lengths"].numpy()
        count = int((batch["labels"] >= 0).sum())
        assert count == (lengths > 0).sum()
        head = 6 * 3 * arch.hidden_size * len(CLASSES) * count
        expected += training_flops(arch, lengths, attention="bidirectional", supervised=0) + head
    costs = saved(run).state()["callbacks"]["Ledger"]["entries"]
    assert costs[0]["flops"] == pytest.approx(expected, rel=1e-12)


def test_the_plan_weighs_turns_by_the_tokens_of_their_batches_and_knows_the_length_of_a_pair(
    streamed_run, pair_rows, capsys
):
    run = streamed_run("planned")
    mlm, head = 4 * 64, 6 * 48
    lengths = np.load(Path(pair_rows) / "lengths.npy")  # of each length, how many pairs
    mean = (lengths[:, 0] * lengths[:, 1]).sum() / lengths[:, 1].sum()
    assert 5 < mean < 30
    line = plan(run, document_tokens=16)[1]
    supervised = (2 * mlm * 0.3 + head / mean) / (2 * mlm + head)
    assert line.supervised == pytest.approx(2000 * supervised)
    settings: dict = {"document_tokens": 16, "peak_tflops": 1, "mfu": 0.4, "memory_gigabytes": 80}
    show(run, **settings)
    assert f"Document length in the stream pairs: {mean:,.4g} tokens, the mean of its rows." in capsys.readouterr().out

    away = replace(
        run.phases[1], streams={"pairs": replace(run.phases[1].streams["pairs"], train=[StreamSpec(path="a")])}
    )
    run = replace(run, phases=[run.phases[0], away, run.phases[2]])
    assert plan(run, document_tokens=16)[1].supervised == pytest.approx(
        2000 * (2 * mlm * 0.3 + head / 48) / (2 * mlm + head)
    )
    show(run, **settings)
    said = " ".join(capsys.readouterr().out.split())
    assert "stream pairs: 48 tokens, a whole row, because its folders are not on this machine." in said


def test_tune_measures_text_and_says_what_it_leaves_out(streamed_run):
    run = streamed_run("tuned")
    found, left_out = measured(run)
    assert {objective.name for objective in found} == {"mlm"}
    (sentence,) = left_out
    assert sentence.startswith("pair_classification (phase ontology) is not measured")
    assert "phases[1].streams.pairs.micro_batch_size" in sentence
    pairs = replace(run.phases[1], objective="pair_classification", options={"classes": CLASSES})
    with pytest.raises(ConfigError, match=r"pair_classification \(phase ontology\) is not measured"):
        next(trials(replace(run, phases=[pairs]), memory_bytes=None, document_tokens=20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": {}}, r"phases\[0\].streams: pair_classification reads the stream 'pairs', and it is missing"),
        ({"streams": {"pair": {"train": [{"path": "a"}]}}}, "reads the stream 'pairs'; did you mean 'pair'"),
        ({"streams": {"pairs": {"train": []}}}, r"phases\[0\].streams.pairs.train: empty"),
        (
            {"streams": {"pairs": {"train": [{"path": "a"}], "seq_len": 4}}},
            r"streams.pairs.seq_len: 4, expected at least 8",
        ),
        (
            {"objective": "mlm", "options": {}, "streams": {"pairs": {"train": [{"path": "a"}]}}},
            r"phases\[0\].streams.pairs: no objective of the phase reads it",
        ),
    ],
)
def test_streams_that_are_missing_or_unread_are_refused(tiny_run, changes, message):
    phase = {"name": "a", "tokens": 1000, **PAIRS, **changes}
    with pytest.raises(ConfigError, match=message):
        tiny_run(phases=[phase], schedule={"decay_phase": None})


def held_out(folder, **changes):
    objectives = {"mlm": {}, "pair_classification": {"classes": CLASSES}}
    return {"objectives": objectives, "streams": {"pairs": [{"path": folder}]}, "rows": 7} | changes


def test_the_held_out_loss_of_pairs_is_that_of_the_head_on_the_drawn_rows(streamed_run, held_out_pairs):
    run = streamed_run("held_out", evaluation=held_out(held_out_pairs))
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    losses = [line["loss/eval/pair_classification"] for line in lines if "loss/eval/pair_classification" in line]
    assert len(losses) == 4  # at the start and at the end of each phase
    assert sum("loss/eval/mlm" in line for line in lines) == 4

    trainer = build_trainer(run)  # resumed at the end
    encoder, drawn = trainer.state.model.encoder.eval(), trainer.state.evaluators[1].dataloader.dataloader
    trainer.close()
    assert [len(folder.drawn) for folder in drawn.folders] == [7]
    objective, total, count = build("pair_classification", {"classes": CLASSES}), 0.0, 0
    for batch in drawn:  # by hand: no encoder's loss
        hidden_NC = encoder.hidden(batch["input_ids"], batch["doc_lengths"], "bidirectional").detach()
        head, T = encoder.objectives["pair_classification"], batch["input_ids"].shape[1]
        for row, (lengths, classes, spans) in enumerate(
            zip(*(batch[key].tolist() for key in ("doc_lengths", "doc_classes", "doc_spans")), strict=True)
        ):
            for length, label, (a, b, c, d) in zip(lengths, classes, spans, strict=True):
                if length:
                    u, v = (hidden_NC[row * T + i : row * T + j].mean(0) for i, j in ((a, b), (c, d)))
                    total -= head(torch.cat([u, v, (u - v).abs()])).log_softmax(0)[label].item()
                    count += 1
    assert objective.stream_at(0) == "pairs"
    assert losses[-1] == pytest.approx(total / count, rel=1e-5)


def test_other_held_out_pairs_are_noticed_at_a_resume(streamed_run, held_out_pairs, pair_rows, tmp_path):
    run = streamed_run("resumed", evaluation=held_out(held_out_pairs))
    train(run)
    shutil.rmtree(saved(run).path)
    other = replace(run, evaluation=replace(run.evaluation, rows=5))
    with pytest.raises(CheckpointError, match=r"validation rows: were .*7 of .* of rows .*, now .*5 of .* of rows"):
        train(other)
    rows = [StreamSpec(path=pair_rows)]
    trained = replace(run, name="trained", evaluation=replace(run.evaluation, streams={"pairs": rows}))
    with pytest.raises(DataError, match="expected rows that are not trained on"):
        build_trainer(trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"streams": {}},
            r"evaluation\.objectives\.pair_classification: it reads the stream 'pairs'; give its held-out",
        ),
        ({"objectives": {"mlm": {}}}, r"evaluation\.streams\.pairs: no objective of evaluation\.objectives reads it"),
        ({"streams": {"pairs": []}}, r"evaluation\.streams\.pairs: empty, expected at least one folder"),
        ({"streams": {"pairs": [{"path": "a", "proportion": 1.0}]}}, r"evaluation\.streams\.pairs: rows are drawn in"),
        (
            {"objectives": {"pair_classification": {"classes": ["a", "b"]}}},
            r"evaluation\.objectives\.pair_classification: no phase trains its module",
        ),
        (
            {"objectives": {"alternate": {"turns": [PAIRS]}}},
            r"evaluation\.objectives\.alternate: it differs from step to",
        ),
    ],
)
def test_a_held_out_loss_that_cannot_be_measured_is_refused(streamed_run, held_out_pairs, changes, message):
    with pytest.raises(ConfigError, match=message):
        streamed_run("refused", evaluation=held_out(held_out_pairs, **changes))


def test_held_out_rows_without_the_classes_are_refused_before_training(streamed_run, corpus):
    run = streamed_run("plain", evaluation=held_out(str(corpus.validation)))
    with pytest.raises(
        ConfigError, match=r"evaluation\.objectives\.pair_classification: classes: .*, but those of the rows"
    ):
        build_trainer(run)


def test_classes_that_are_not_those_of_the_rows_are_refused_before_training(streamed_run):
    run = streamed_run("classes")
    assert not check(run)
    wrong = {"turns": [{"objective": "pair_classification", "options": {"classes": CLASSES[::-1]}}]}
    run = replace(run, phases=[replace(run.phases[1], options=wrong)], schedule=replace(run.schedule, decay_phase=None))
    with pytest.raises(
        ConfigError, match=r"phases\[0\]: pair_classification: classes: .*, but those of the rows are comp"
    ):
        build_trainer(run)


def test_rows_of_plain_text_are_refused_as_pairs(streamed_run, corpus):
    phase = {"name": "a", "tokens": 600, **PAIRS, "streams": {"pairs": {"train": [{"path": str(corpus.train)}]}}}
    run = streamed_run("plain", phases=[phase], schedule={"decay_phase": None})
    with pytest.raises(ConfigError, match="those of the rows are none; make them with detour data pack-pairs"):
        build_trainer(run)


def test_the_phases_whose_rows_are_equal_are_named(streamed_run):
    """Another second phase: the first has equal rows, and the last as the watched batches say."""
    run = streamed_run("one")
    other = replace(run, name="other", phases=[run.phases[0], replace(run.phases[1], objective="mlm", options={}, streams={}),
                                               run.phases[2]])  # fmt: skip
    rows = []
    for each in (run, other):
        rows.append({phase.name: [] for phase in each.phases})
        for before, ids, shape, _ in watch(replace(each, name=f"watched_{each.name}")):
            rows[-1][each.phase_schedule.at(before).phase.name].append((shape, ids))
        train(each)
    equal = [name for name in rows[0] if rows[0][name] == rows[1][name]]
    assert "before" in equal
    assert "ontology" not in equal
    ((_, _, found),) = compare_runs([RunFolder.of(each).path for each in (run, other)]).rows
    assert found.text.endswith(f"phases with equal rows: {', '.join(equal)}")


def test_a_phase_measures_only_the_held_out_losses_that_it_names(tiny_run):
    phases = [
        {"name": "before", "objective": "mlm", "tokens": 1000, "evaluate": ["mlm"]},
        {"name": "detour", "objective": "clm", "tokens": 1000, "evaluate": []},
        {"name": "decay", "objective": "mlm", "tokens": 1000},
    ]
    run = tiny_run(phases=phases, evaluation={"interval_tokens": 1, "rows": 4})
    train(run)
    lines = [json.loads(line) for line in RunFolder.of(run).metrics.read_text().splitlines()]
    measured: dict[str, set[str]] = {phase["name"]: set() for phase in phases}
    trained = 0  # phase of the batch before the evaluation
    for line in lines:
        names = {key.removeprefix("loss/eval/") for key in line if key.startswith("loss/eval/")}
        if "lr" in line:
            trained = line["phase/index"]
        elif names and line["batch"]:  # at the start, all are measured
            measured[phases[trained]["name"]] |= names
    assert measured == {"before": {"mlm"}, "detour": set(), "decay": {"mlm", "clm"}}


def test_a_held_out_loss_that_is_not_measured_is_refused(tiny_run):
    phases = [{"name": "a", "objective": "mlm", "tokens": 1000, "evaluate": ["mml"]}]
    with pytest.raises(ConfigError, match=r"phases\[0\].evaluate: 'mml'; did you mean 'mlm'"):
        tiny_run(phases=phases, schedule={"decay_phase": None})


def test_a_spike_is_one_among_the_losses_of_its_own_objective(streamed_run):
    """Losses of pairs are a fraction of those of MLM; a window over both would take every MLM step for a spike."""
    run = streamed_run("spikes", guard={"spike_factor": 1.5, "spike_window": 2, "max_skips": 0})
    train(run)
    assert saved(run).tokens >= run.phase_schedule.total_tokens


def test_two_uses_with_other_classes_do_not_share_a_head(streamed_run):
    run = streamed_run("heads")
    other = {"objective": "pair_classification", "options": {"classes": [f"{name}s" for name in CLASSES]}}
    phase = replace(run.phases[1], options={"turns": [PAIRS, other]})
    encoder = build_encoder(run)
    with pytest.raises(ConfigError, match=r"phases\[0\]: pair_classification: its options need another module"):
        add_modules(encoder, [phase], seed=1)


def test_arms_share_no_past_where_one_of_them_could_not_branch_from_it(streamed_run, tiny_run):
    plain = tiny_run(
        "plain", phases=[{"name": "before", "objective": "mlm", "tokens": 900}], schedule={"decay_phase": None}
    )
    with_pairs = streamed_run("pairs")
    assert shared_tokens(plain, with_pairs) == 0
    assert shared_tokens(with_pairs, replace(with_pairs, name="twin")) == with_pairs.phase_schedule.total_tokens
    other = replace(with_pairs, phases=[replace(with_pairs.phases[0], evaluate=["clm"]), *with_pairs.phases[1:]])
    assert shared_tokens(with_pairs, other) == 0


def test_an_objective_with_a_module_is_not_added_to_a_run_that_has_begun(streamed_run):
    run = streamed_run("late")
    train(replace(run, phases=run.phases[:1], schedule=replace(run.schedule, decay_phase=None)))
    with pytest.raises(CheckpointError, match="objectives with modules were none, now pair_classification"):
        train(run)
