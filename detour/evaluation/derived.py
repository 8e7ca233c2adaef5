"""Folders of models derived from others, such as transplants and merges: a parent's files with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError
from torch import Tensor

from detour import __version__
from detour.errors import ModelError, first_line
from detour.evaluation.models import CARDS, READ, Model
from detour.files import write_json, write_text
from detour.markup import markdown
from detour.models.hf import save_weights

# of sentence-transformers: they name modules in folders that are not copied
_MODULES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
RECORDS = ("transplant.json", "merge.json")  # of an earlier derivation: not carried over to the next


def refuse_full(out: Path) -> Path:
    """The absolute path of a new folder. Raises ModelError if it exists and is not empty."""
    out = out.expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: exists and is not empty")
    return out


def write_like(
    out: Path,
    parent: Path,
    weights: Mapping[str, Tensor],
    *,
    record_name: str,
    record: Mapping[str, Any],
    card: str,
    check: Callable[[Path], None],
) -> None:
    """Writes a Hugging Face folder with a parent's configuration and tokenizer, and other weights.

    It is written under a temporary name, checked, and renamed once it is complete.

    Args:
        out: The new folder, as returned by `refuse_full`.
        parent: Folder whose configuration and tokenizer files are copied.
        weights: Name in the folder -> tensor in fp32.
        record_name: One of RECORDS.
        record: Its content.
        card: Text of the model card.
        check: Called with the temporary folder; raises ModelError if it is not as it should be.

    Raises:
        ModelError: The folder cannot be written, or the check failed.
    """
    aside = out.with_name(f".writing-{out.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for file in _copied(parent):
            shutil.copyfile(file, aside / file.name)
        _state_float32(aside / "config.json")
        save_weights(aside / "model.safetensors", weights)
        write_json(aside / record_name, record)
        write_text(aside / "README.md", card)
        check(aside)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{out}: cannot be written: {first_line(error)}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def derived_card(title: str, *, tags: Sequence[str], text: str, parents: Sequence[tuple[str, str, str]]) -> str:
    """A model card with the hub's metadata header, what was done, and a table of the parents.

    Args:
        title: Heading.
        tags: Tags of the hub besides "causal-detour".
        text: Markdown; names in it must be escaped (`detour.markup.markdown`).
        parents: Role, name, and SHA-256 of each parent.
    """
    data = ModelCardData(library_name="transformers", tags=["causal-detour", *tags])
    rows = [f"| {markdown(role)} | {markdown(name)} | `{sha256}` |" for role, name, sha256 in parents]
    table = "\n".join(["| | model | sha256 of its folder |", "|---|---|---|", *rows])
    return str(
        ModelCard(
            f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{text}\n\n{table}\n\nWritten by detour, version {__version__}.\n"
        )
    )


def identity(model: Model) -> dict[str, str]:
    """Name and SHA-256 of a model, as recorded."""
    return {"name": model.name, "sha256": model.sha256}


def _copied(folder: Path) -> list[Path]:
    """Configuration and tokenizer files: no weights, no index of them, and no record of an earlier derivation."""
    files = sorted({file for pattern in READ for file in folder.glob(pattern)})
    others = (*CARDS, *RECORDS, *_MODULES)
    return [
        file
        for file in files
        if file.suffix != ".safetensors" and not file.name.endswith(".index.json") and file.name not in others
    ]


def _state_float32(config: Path) -> None:
    """Corrects the type of the weights in a copied config.json: newer versions of transformers load in that type."""
    values = json.loads(config.read_text(encoding="utf-8"))
    if wrong := {key: "float32" for key in ("dtype", "torch_dtype") if values.get(key, "float32") != "float32"}:
        write_text(config, json.dumps({**values, **wrong}, indent=2, ensure_ascii=False) + "\n")
