"""`detour plan` refuses the start models that training would refuse, and reads no weights to tell."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from transformers import (
    AutoTokenizer,
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
    ModernBertModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from detour.build import build_encoder
from detour.cli.main import main
from detour.config.load import from_mapping, to_yaml
from detour.config.schema import RunConfig
from detour.data.tokenizer import train_bpe
from detour.errors import DataError, ModelError
from detour.models import hf
from detour.training.start_check import check_start
from tests.stack import edit_as_4

SMALL = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "local_attention": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip


@pytest.fixture
def start(corpus, tmp_path, tiny_run):
    """A folder that transformers wrote, with the corpus's tokenizer, and a run from it; no network, no checkpoint."""

    def make(model=None, *, kind=ModernBertForMaskedLM, tokenizer=True, **changes) -> tuple[Path, RunConfig]:
        folder = tmp_path / "start"
        heads = tiny_run().model.architecture.get("num_attention_heads") or 2
        model = model or kind(ModernBertConfig(**{**SMALL, "num_attention_heads": heads, **changes}))
        model.save_pretrained(folder)
        if tokenizer:
            AutoTokenizer.from_pretrained(corpus.tokenizer).save_pretrained(folder)
        values = asdict(tiny_run())
        values["model"] |= {"init": str(folder), "tokenizer": None}
        values["model"]["architecture"] |= {"num_attention_heads": heads}
        return folder, from_mapping(values)

    return make


def plan_error(run: RunConfig, tmp_path: Path, capsys) -> str:
    """What `detour plan` says and exits 1 with; and training, whose weights are really read, refuses as well."""
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    with pytest.raises(SystemExit) as exit:
        main(["plan", str(tmp_path / "run.yaml")])
    assert exit.value.code == 1
    return capsys.readouterr().err


def test_a_good_folder_plans_and_its_weights_are_not_read(start, tmp_path, monkeypatch):
    folder, run = start()
    file = folder / "model.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    with file.open("r+b") as weights:
        weights.seek(header)
        weights.write(b"\xff" * (file.stat().st_size - header))  # every weight NaN: nobody looks
    monkeypatch.setattr(hf, "load_file", lambda path: pytest.fail(f"{path} is read"))
    check_start(run)


def test_a_model_of_another_family_is_told(start, tmp_path, capsys):
    config = RobertaConfig(
        vocab_size=600, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    _, run = start(RobertaForMaskedLM(config))
    assert "its architecture is bert, the configured model.size is modernbert" in plan_error(run, tmp_path, capsys)
    with pytest.raises(ModelError, match="its architecture is bert, the configured model"):
        build_encoder(run, None)


def test_a_folder_with_pickled_weights_only_is_told(start, tmp_path, capsys):
    folder, run = start()
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "no .safetensors file (pickled weights are not read)" in plan_error(run, tmp_path, capsys)
    with pytest.raises(ModelError, match="pickled weights are not read"):
        build_encoder(run, None)


def test_a_folder_without_a_head_is_told_as_training_tells_it(start, caplog):
    _, run = start(kind=ModernBertModel)
    check_start(run)
    said = [record.getMessage() for record in caplog.records if "no language-modeling head" in record.getMessage()]
    caplog.clear()
    build_encoder(run, None)
    assert said == [
        record.getMessage() for record in caplog.records if "no language-modeling head" in record.getMessage()
    ]
    assert said


def test_a_decoder_plans(start):
    model = ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**SMALL))
    folder, run = start(model)
    edit_as_4(folder)
    theta = {"local_rope_theta": 160_000.0}  # of all layers, in transformers 4
    fits = from_mapping(
        asdict(run) | {"model": asdict(run.model) | {"architecture": {**run.model.architecture, **theta}}}
    )
    check_start(fits)  # q, k and v are joined from their shapes
    with pytest.raises(ModelError) as refused:
        build_encoder(run, None)
    with pytest.raises(ModelError) as planned:
        check_start(run)
    assert str(planned.value) == str(refused.value)


@pytest.mark.parametrize("fault", ["architecture", "missing", "unknown", "shape", "truncated", "config"])
def test_what_training_refuses_is_refused_in_the_same_words(start, tmp_path, capsys, fault):
    folder, run = start(num_hidden_layers=2 if fault == "architecture" else 3)
    file = folder / "model.safetensors"
    if fault in ("missing", "unknown", "shape"):
        weights = load_arrays(file)
        name = "model.layers.1.mlp.Wi.weight"
        if fault == "unknown":
            weights["model.layers.1.mlp.Wj.weight"] = weights[name]
        elif fault == "missing":
            del weights[name]
        else:
            weights[name] = weights[name][:-1].copy()
        save_arrays(weights, file)
    elif fault == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif fault == "config":
        (folder / "config.json").write_text("{")
    said = plan_error(run, tmp_path, capsys)
    with pytest.raises(ModelError) as refused:
        build_encoder(run, None)
    assert str(refused.value).split(" (")[0] in said


def test_a_damaged_tokenizer_is_told(start):
    folder, run = start()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be loaded as a tokenizer"):
        check_start(run)


def test_a_tokenizer_of_another_vocabulary_is_told(start, tmp_path, capsys):
    _, run = start()
    train_bpe(["quite another text altogether " * 40], vocab_size=300).save_pretrained(tmp_path / "other")
    other = from_mapping(asdict(run) | {"model": asdict(run.model) | {"tokenizer": str(tmp_path / "other")}})
    assert "is not the tokenizer of" in plan_error(other, tmp_path, capsys)


@pytest.mark.parametrize("missing", ["/no/such/folder", "./nowhere", "~/nowhere"])
def test_a_path_that_is_not_there_is_told_and_a_name_on_the_hub_is_not_looked_up(start, tmp_path, capsys, missing):
    _, run = start()
    gone = from_mapping(asdict(run) | {"model": asdict(run.model) | {"init": missing}})
    assert f"model.init: {os.path.expanduser(missing)}: no such folder" in plan_error(gone, tmp_path, capsys)
    hub = from_mapping(asdict(run) | {"model": asdict(run.model) | {"init": "someone/some-model"}})
    check_start(hub)


def test_planning_from_a_hub_name_loads_no_model_library(tmp_path):
    code = "import sys; from detour.cli.main import main\ntry: main(['plan', 'yamls/base_clm_detour.yaml'])\n"
    code += "except SystemExit: pass\nprint(sorted({'torch', 'transformers'} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert "FLOPs" in done.stdout
