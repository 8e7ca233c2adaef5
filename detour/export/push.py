"""Uploads an exported encoder to the Hugging Face hub, with a model card that carries its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from huggingface_hub import CommitOperationAdd, EvalResult, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from detour.errors import ConfigError, ModelError, first_line
from detour.markup import latex

CARD = "README.md"
KINDS = {".json", ".jinja", ".md", ".model", ".safetensors", ".txt"}  # what an exported folder holds; nothing unpickled
PIPELINES = {  # kind of task -> the hub's name for it
    "classification": "text-classification",
    "multilabel": "text-classification",
    "similarity": "sentence-similarity",
    "ner": "token-classification",
    "nested_ner": "token-classification",
}


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What a push sends.

    Attributes:
        repo: The repository on the hub.
        files: Path in the repository -> size in bytes.
        card: Text of the model card.
        header: Its metadata, YAML.
        private: Whether a new repository is private.
    """

    repo: str
    files: dict[str, int]
    card: str
    header: str
    private: bool


def prepare_upload(
    folder: Path,
    repo: str,
    *,
    scores: Path | None = None,
    license: str | None = None,
    languages: Sequence[str] = (),
    datasets: Sequence[str] = (),
    authors: Sequence[str] = (),
    private: bool = True,
) -> Upload:
    """Lists what would be uploaded, and completes the model card. Neither reads weights nor touches the network.

    Args:
        folder: An exported folder.
        repo: The repository, ``owner/name``.
        scores: Folder of `detour eval run`: the test scores of this encoder, identified by the hash of its files, become the
            card's ``model-index`` as means over fine-tuning seeds, in percent.
        license: The hub's identifier of a license, such as ``apache-2.0``. None leaves it out: the licenses of the corpus are
            in the card's text, and which follows from them is the owner's decision.
        languages: ISO 639 codes.
        datasets: Names of the hub's datasets that were trained on.
        authors: For the citation; none leaves the encoder's own entry out.
        private: Whether a new repository is private.

    Raises:
        ConfigError: Not a repository's name, or a wrong license or language.
        ModelError: The folder is not an exported one, holds a file of another kind, or the scores are another model's.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"repository {repo[:100]!r}: {first_line(error)}") from error
    if repo.count("/") != 1:
        raise ConfigError(f"repository '{repo}': expected OWNER/NAME")
    files = _files(folder)
    card = ModelCard((folder / CARD).read_text(encoding="utf-8"))
    name = repo.split("/")[1]
    fields = {
        "license": license,
        "language": list(languages),
        "datasets": list(datasets),
        "model_name": name if scores else None,
        "eval_results": eval_results(folder, scores) if scores else None,
    }
    for key, value in fields.items():
        if value:
            setattr(card.data, key, value)
    card.text = card.text.rstrip("\n") + "\n\n" + _citation(name, repo, authors)
    content = str(card)
    return Upload(
        repo=repo, files={**files, CARD: len(content.encode())}, card=content, header=str(card.data), private=private
    )


def eval_results(folder: Path, scores: Path) -> list[EvalResult]:
    """Test scores of an encoder by task, from the records of `detour eval run`: means over fine-tuning seeds, in percent.

    Raises:
        ModelError: No record is of these files, or a task was limited to some of its examples.
        DataError: No records, or a damaged one.
    """
    from detour.evaluation.metrics import title  # imports numpy
    from detour.evaluation.models import folder_hash
    from detour.evaluation.suite import read_records

    ours = folder_hash(folder)
    found: dict[str, list[dict[str, Any]]] = {}
    others: set[str] = set()
    for record in read_records(scores):
        if record["model"]["sha256"] == ours:
            found.setdefault(record["task"]["name"], []).append(record)
        else:
            others.add(record["model"]["name"])
    if not found:
        raise ModelError(
            f"{scores}: scores of {', '.join(sorted(others))}, none of them with the files of {folder}; "
            "evaluate this folder first (detour eval run)"
        )
    results = []
    for name, records in found.items():
        task = records[0]["task"]
        if any(any(record["task"]["limit"].values()) for record in records):
            raise ModelError(
                f"{scores}: task '{name}' was limited to some of its examples (task.limit), so its score is not comparable; "
                "evaluate without a limit, or leave the scores out"
            )
        values = [100 * record["outcome"]["test"][task["metric"]] for record in records]
        seeds = f"{len(values)} fine-tuning seed{'s' if len(values) > 1 else ''}"
        results.append(
            EvalResult(
                task_type=PIPELINES[task["kind"]],
                dataset_type=name,
                dataset_name=name,
                dataset_split="test",
                metric_type=task["metric"],
                metric_name=f"{title(task['metric'])}, mean of {seeds}",
                metric_value=round(fmean(values), 2),
            )
        )
    return results


def push(folder: Path, upload: Upload, *, confirm: Callable[[str, bool], bool], api: HfApi | None = None) -> str | None:
    """Uploads, as one commit, after asking.

    Args:
        folder: The exported folder.
        upload: From `prepare_upload`.
        confirm: Called with the name of the account and whether the repository exists; False ends without an upload.
        api: The hub's client; None for the one of the environment.

    Returns:
        The commit's address; None if it was not confirmed.

    Raises:
        ModelError: No login, or the hub refuses or cannot be reached.
    """
    api = api or HfApi()
    try:
        account = str(api.whoami()["name"])
        exists = api.repo_exists(upload.repo)
        if not confirm(account, exists):
            return None
        if not exists:
            api.create_repo(upload.repo, private=upload.private)
        operations = [
            CommitOperationAdd(
                path_in_repo=path, path_or_fileobj=upload.card.encode() if path == CARD else folder / path
            )
            for path in upload.files
        ]
        return api.create_commit(
            upload.repo, operations, commit_message="Upload an encoder trained with detour"
        ).commit_url
    except LocalTokenNotFoundError as error:
        raise ModelError("not logged in to the hub; log in with: hf auth login") from error
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise ModelError(f"{upload.repo}: {first_line(error)}; nothing was uploaded") from error


def _files(folder: Path) -> dict[str, int]:
    """Path -> bytes of all files. Raises ModelError if this is not an exported folder, or for a file of another kind."""
    for needed in ("config.json", "model.safetensors", CARD):
        if not (folder / needed).is_file():
            raise ModelError(f"{folder}: no {needed}; expected a folder written by detour export")
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    foreign = [path.relative_to(folder) for path in paths if path.suffix not in KINDS or path.is_symlink()]
    if foreign:
        raise ModelError(
            f"{folder}: {foreign[0]} is not part of an export ({len(foreign)} such file{'s' if len(foreign) > 1 else ''}); "
            "move them elsewhere"
        )
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths}


def _citation(name: str, repo: str, authors: Sequence[str]) -> str:
    key = "".join(character for character in name if character.isalnum())
    fields = (latex(name), " and ".join(map(latex, authors)), latex(f"Hugging Face, {repo}"))
    own = "@misc{{{},\n  title = {{{}}},\n  author = {{{}}},\n  howpublished = {{{}}}\n}}\n\n".format(key, *fields)
    return (
        f"## Citation\n\n```bibtex\n{own if authors else ''}"
        "@misc{causaldetour,\n"
        "  title = {A Causal Language Modeling Detour Improves Encoder Continued Pretraining},\n"
        "  eprint = {2605.12438},\n  archivePrefix = {arXiv}\n}\n```\n"
    )
