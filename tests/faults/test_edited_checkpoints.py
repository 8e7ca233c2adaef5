"""Row 24: checkpoints whose content does not fit the run, though their hashes fit the files."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from detour.build import build_trainer, close
from detour.errors import CheckpointError
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import FORMAT, RunFolder, run_record
from tests.faults.short_runs import LONGER, SHORT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of runs that were trained before, by what they train."""
    return tmp_path_factory.mktemp("trained"), {}


@pytest.fixture
def saved(tiny_run, trained):
    """The newest checkpoint of a short run, which `LONGER` continues; a copy where a test has trained the same before."""

    def make(**sections):
        run = tiny_run(**{**SHORT, **sections})
        (root, known), folder = trained, RunFolder.of(run)
        key = json.dumps(sections)
        if key not in known:
            train(run)
            known[key] = shutil.copytree(folder.path, root / str(len(known)), symlinks=True)
        elif not folder.path.exists():
            shutil.copytree(known[key], folder.path, symlinks=True)
        return checkpoints.listing(folder.checkpoints)[-1]

    return make


def rewrite(saved: checkpoints.Checkpoint, file: str, change) -> None:
    """Changes a file's content in place and makes the manifest fit."""
    path = saved.path / file
    if file.endswith(".json"):
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
    else:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(tensors)
        save_file(tensors, path)
    manifest = json.loads((saved.path / "manifest.json").read_text())
    data = path.read_bytes()
    manifest["files"][file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (saved.path / "manifest.json").write_text(json.dumps(manifest))


DENSE = "encoder.head.dense.weight"


def drop_half(moments):
    for name in [name for name in moments if "layers.1" in name or "layers.2" in name]:
        del moments[name]


TAMPERED = {
    "another shape": (lambda m: m.update({f"{DENSE}/exp_avg": torch.zeros(3)}), "is float32 \\[3\\], expected float32"),
    "a shape of as many numbers": (lambda m: m.update({f"{DENSE}/exp_avg": torch.zeros(1024)}), r"expected float32 \[32"),
    "another type": (lambda m: m.update({f"{DENSE}/exp_avg": m[f"{DENSE}/exp_avg"].half()}), "is float16"),
    "one is missing": (lambda m: m.pop(f"{DENSE}/exp_avg_sq"), f"{DENSE}/exp_avg_sq is missing"),
    "all of a parameter are missing": (lambda m: [m.pop(k) for k in list(m) if DENSE in k], f"{DENSE}/exp_avg is missing"),
    "half of them are missing": (drop_half, "is missing; .* more"),
    "none is there": (lambda m: m.clear(), "is missing; .* more"),
    "an unknown name": (lambda m: m.update({"encoder.head.other/exp_avg": torch.zeros(2)}), "other/exp_avg is unknown"),
    "moments of a parameter that never trained": (
        lambda m: m.update({"encoder.model.layers.0.attn.Wqkv.weight/exp_avg": torch.zeros(96, 32)}), "is unknown"
    ),
}  # fmt: skip


@pytest.mark.faults(24, "moments of another name, shape or type, or missing in part, with fitting hashes")
@pytest.mark.parametrize("kind", TAMPERED)
def test_moments_that_do_not_fit_are_refused(tiny_run, saved, kind):
    change, message = TAMPERED[kind]
    frozen = {"phases": [{**SHORT["phases"][0], "freeze": {"layers": "0"}}]}
    rewrite(saved(**frozen), "optimizer.safetensors", change)
    longer = {**LONGER, "phases": [{**LONGER["phases"][0], "freeze": {"layers": "0"}}]}
    with pytest.raises(CheckpointError, match=message):
        train(tiny_run(**longer))


def change_at(path: str, value=None):
    *parents, last = path.split("/")

    def change(state):
        for key in parents:
            state = state[int(key) if key.isdecimal() else key]
        if value is None:
            del state[last]
        else:
            state[last] = value

    return change


STATES = {
    "no ledger": (change_at("callbacks/Ledger"), "Ledger missing"),
    "no switch": (change_at("callbacks/PhaseSwitch"), "PhaseSwitch missing"),
    "no fingerprint": (change_at("callbacks/Ledger/fingerprint"), "fingerprint missing"),
    "a fingerprint without its digest": (change_at("callbacks/Ledger/fingerprint/digest"), "fingerprint: not a record"),
    "no entries": (change_at("callbacks/Ledger/entries"), "entries missing"),
    "an entry without its tokens": (change_at("callbacks/Ledger/entries/0/tokens"), r"entries\[0\]\.tokens: missing"),
    "an entry of text": (
        change_at("callbacks/Ledger/entries/0/flops", "many"),
        r"entries\[0\]\.flops: 'many', expected float",
    ),
    "a ledger of fewer tokens": (change_at("callbacks/Ledger/entries/0/tokens", 7), "counts 7 tokens, but the clock"),
    "a callback of another program": (change_at("callbacks/Other", {}), "Other unknown"),
    "another place in the data": (change_at("dataset/sample_in_epoch", 1), "sample_in_epoch is 1, but the clock has"),
    "no place in the data": (change_at("dataset"), "'dataset'"),
    "another weight decay": (change_at("param_groups/0/weight_decay", 9.0), "weight_decay is 9.0, expected"),
    "losses of text": (change_at("callbacks/StepGuard/losses", {"mlm": ["a"]}), "TypeError"),
    "losses without an objective": (change_at("callbacks/StepGuard/losses", [1.0]), "expected a mapping of objectives"),
    "no clock": (change_at("timestamp"), "'timestamp'"),
}


@pytest.mark.faults(24, "a missing ledger, fingerprint or place in the data; counts that contradict the clock")
@pytest.mark.parametrize("kind", STATES)
def test_states_that_do_not_fit_are_refused(tiny_run, saved, kind):
    change, message = STATES[kind]
    rewrite(saved(), "state.json", change)
    with pytest.raises(CheckpointError, match=message):
        train(tiny_run(**LONGER))


def test_weights_of_another_type_are_refused(tiny_run, saved):
    def halve(weights):
        weights["head.dense.weight"] = weights["head.dense.weight"].bfloat16()

    rewrite(saved(), "model.safetensors", halve)
    with pytest.raises(CheckpointError, match=r"head\.dense\.weight is bfloat16"):
        train(tiny_run(**LONGER))


@pytest.mark.faults(24, "a checkpoint or record of a newer version: said so, and left alone")
def test_a_newer_format_is_refused_and_left_alone(tiny_run, saved):
    newest = saved(checkpoint={"interval_tokens": 1})
    before = checkpoints.listing(newest.path.parent)
    path = newest.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": checkpoints.FORMAT + 1}))
    with pytest.raises(CheckpointError, match=r"format 2, which a newer version of detour wrote"):
        train(tiny_run(**LONGER))
    assert checkpoints.listing(newest.path.parent) == before
    path.write_text(json.dumps(manifest))
    rewrite(newest, "state.json", change_at("run/format", FORMAT + 1))
    with pytest.raises(CheckpointError, match=r"record has format 2, which a newer version"):
        train(tiny_run(**LONGER))
    rewrite(newest, "state.json", change_at("run/format"))  # of before there was a number
    train(tiny_run(**LONGER))


def test_the_record_of_a_run_has_its_format(tiny_run):
    assert run_record(tiny_run(), tokenizer="t")["format"] == FORMAT


def test_what_the_moments_are_compared_with_is_what_torch_says_of_frozen_and_reset_phases(tiny_run):
    """Frozen in every phase since the last reset: no moments. The expected names come from torch's own state."""
    frozen = {"layers": "0", "embeddings": True}
    phases = [
        {"name": "a", "objective": "mlm", "tokens": 600},
        {"name": "b", "objective": "clm", "tokens": 600, "freeze": frozen, "optimizer_state": "reset"},
        {"name": "c", "objective": "mlm", "tokens": 600, "freeze": frozen},
    ]
    run = tiny_run(phases=phases, schedule={"decay_phase": None, "warmup_tokens": 0}, data={"validation": []})
    train(run)
    optimizer = checkpoints.listing(RunFolder.of(run).checkpoints)[-1].tensors("optimizer")
    assert not [name for name in optimizer if "layers.0." in name or "embeddings" in name]
    longer = tiny_run(
        phases=[*phases[:2], {**phases[2], "tokens": 1200}], schedule=vars(run.schedule), data={"validation": []}
    )
    trainer = build_trainer(longer)
    held = {id(parameter) for parameter in trainer.state.optimizers[0].state}
    names = {name for name, parameter in trainer.state.model.named_parameters() if id(parameter) in held}
    close(trainer)
    assert names == {name.rsplit("/", 1)[0] for name in optimizer if not name.startswith("#")}
