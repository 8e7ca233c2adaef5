"""Uploading an exported encoder: what goes, what the card says, and that nothing goes unasked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, ModelError
from detour.evaluation.models import folder_hash
from detour.export.push import CARD, prepare_upload, push

NO_ANSWER: Any = SimpleNamespace(headers={}, request=None)

HEAD = "---\nlibrary_name: transformers\ntags:\n- causal-detour\n---\n\n# my run\n\nText.\n"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name, text in {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "{}", CARD: HEAD}.items():
        (folder / name).write_text(text)
    return folder


def record(scores: Path, *, sha256: str, seed: int, score: float, train: int = 0) -> None:
    """A record of `detour eval run` for one cell."""
    path = scores / "cells" / "detour" / "hoc" / f"seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    task = {
        "name": "hoc",
        "language": "en",
        "kind": "multilabel",
        "metric": "micro_f1",
        "max_length": 512,
        "note": None,
    }
    measures = {"micro_f1": score}
    content = {
        "format": 1,
        "model": {"name": "detour", "sha256": sha256},
        "task": {**task, "limit": {"train": train, "dev": 0, "test": 0}},
        "data": {"sha256": "d", "counts": {"train": 3, "dev": 1, "test": 2}, "labels": ["a", "b"]},
        "seed": seed,
        "outcome": {
            "test": measures, "validation": measures, "epoch": 1, "max_length": 512, "truncated": {"test": 0},
            "unreadable": {"test": 0}, "precision": "fp32", "seconds": 1.0, "degenerate": None,
        },
        "environment": {"detour": "0.1.0", "commit": None},
    }  # fmt: skip
    path.write_text(json.dumps(content))


class Hub:
    """Stands in for the hub's client and keeps what it was asked."""

    def __init__(self, *, exists: bool = False, login: bool = True, refuses: Exception | None = None) -> None:
        self.exists, self.login, self.refuses = exists, login, refuses
        self.created: list[tuple[str, bool]] = []
        self.committed: dict[str, bytes] = {}

    def whoami(self) -> dict[str, Any]:
        if not self.login:
            raise LocalTokenNotFoundError("Token is required")
        return {"name": "me"}

    def repo_exists(self, repo: str) -> bool:
        return self.exists

    def create_repo(self, repo: str, *, private: bool) -> None:
        self.created.append((repo, private))

    def create_commit(self, repo: str, operations: list[CommitOperationAdd], *, commit_message: str) -> Any:
        if self.refuses:
            raise self.refuses
        for operation in operations:
            with operation.as_file() as file:
                self.committed[operation.path_in_repo] = file.read()
        return type("Commit", (), {"commit_url": f"hub/{repo}/commit/1"})()


def yes(account: str, exists: bool) -> bool:
    return True


def test_all_files_go_as_one_commit_with_the_completed_card(exported):
    hub = Hub()
    upload = prepare_upload(exported, "org/name", license="apache-2.0", languages=["en", "fr"], datasets=["org/texts"])
    address = push(exported, upload, confirm=yes, api=hub)  # type: ignore[arg-type]
    assert address == "hub/org/name/commit/1"
    assert hub.created == [("org/name", True)]
    assert hub.committed.keys() == {"config.json", "model.safetensors", "tokenizer.json", CARD}
    assert hub.committed["model.safetensors"] == b"weights"
    card = ModelCard(hub.committed[CARD].decode())
    assert card.data.to_dict() == {
        "library_name": "transformers", "tags": ["causal-detour"], "license": "apache-2.0", "language": ["en", "fr"],
        "datasets": ["org/texts"],
    }  # fmt: skip
    assert card.text.lstrip().startswith("# my run\n\nText.")
    assert (exported / CARD).read_text() == HEAD  # the local folder is as it was
    assert {path: len(content) for path, content in hub.committed.items()} == upload.files


def test_scores_become_the_card_s_model_index(exported, tmp_path):
    for seed, score in ((1, 0.71), (2, 0.74), (3, 0.755)):
        record(tmp_path / "scores", sha256=folder_hash(exported), seed=seed, score=score)
    data: Any = ModelCard(prepare_upload(exported, "org/name", scores=tmp_path / "scores").card).data
    (result,) = data.eval_results  # read back by huggingface_hub from model-index
    assert result.metric_value == 73.5  # (71 + 74 + 75.5) / 3
    assert (result.metric_type, result.dataset_name, result.dataset_split) == ("micro_f1", "hoc", "test")
    assert result.task_type == "text-classification"
    assert result.metric_name.endswith("mean of 3 fine-tuning seeds")


def test_scores_of_another_model_are_refused(exported, tmp_path):
    record(tmp_path / "scores", sha256="another", seed=1, score=0.9)
    with pytest.raises(ModelError, match="scores of detour, none of them with the files of"):
        prepare_upload(exported, "org/name", scores=tmp_path / "scores")


def test_scores_of_a_trial_on_some_examples_are_refused(exported, tmp_path):
    record(tmp_path / "scores", sha256=folder_hash(exported), seed=1, score=0.9, train=60)
    with pytest.raises(ModelError, match="task 'hoc' was limited to some of its examples"):
        prepare_upload(exported, "org/name", scores=tmp_path / "scores")


def test_authors_are_cited_beside_the_method(exported):
    assert "2605.12438" in prepare_upload(exported, "org/name").card
    card = prepare_upload(exported, "org/my_name", authors=["Ada Lovelace", "A {B} & C"]).card
    assert "title = {my\\_name}" in card
    assert r"author = {Ada Lovelace and A \{B\} \& C}" in card


@pytest.mark.parametrize("name", ["optimizer.pt", ".env", "notes.bin"])
def test_a_file_that_no_export_writes_stops_the_upload(exported, name):
    (exported / name).write_text("x")
    with pytest.raises(ModelError, match=f"{name} is not part of an export"):
        prepare_upload(exported, "org/name")


def test_a_link_stops_the_upload(exported, tmp_path):
    (tmp_path / "private.json").write_text("{}")
    (exported / "vocab.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(ModelError, match=r"vocab\.json is not part of an export"):
        prepare_upload(exported, "org/name")


@pytest.mark.parametrize(
    ("repo", "message"), [("name", "expected OWNER/NAME"), ("a/b/c", "repository"), ("a/..", "repository")]
)
def test_a_wrong_repository_is_refused(exported, repo, message):
    with pytest.raises(ConfigError, match=message):
        prepare_upload(exported, repo)


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json; expected a folder written by detour export"):
        prepare_upload(tmp_path, "org/name")


def test_nothing_goes_unless_it_is_confirmed(exported):
    hub, asked = Hub(exists=True), []
    upload = prepare_upload(exported, "org/name")
    assert push(exported, upload, confirm=lambda *a: bool(asked.append(a)), api=hub) is None  # type: ignore[arg-type]
    assert asked == [("me", True)]
    assert not hub.created
    assert not hub.committed


def test_an_existing_repository_is_not_created_again(exported):
    hub = Hub(exists=True)
    push(exported, prepare_upload(exported, "org/name"), confirm=yes, api=hub)  # type: ignore[arg-type]
    assert not hub.created
    assert hub.committed


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        (Hub(login=False), "not logged in to the hub"),
        (Hub(refuses=OSError("Connection refused")), "org/name: Connection refused; nothing was uploaded"),
        (
            Hub(refuses=HfHubHTTPError("403 Forbidden", response=NO_ANSWER)),
            "org/name: 403 Forbidden",
        ),  # type: ignore[arg-type]
    ],
)
def test_a_hub_that_refuses_is_one_sentence(exported, hub, message):
    with pytest.raises(ModelError, match=message):
        push(exported, prepare_upload(exported, "org/name"), confirm=yes, api=hub)


def test_the_dry_run_shows_files_and_card_without_a_network(exported, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("a connection was opened"))
    result = CliRunner().invoke(app, ["push", str(exported), "org/name", "--language", "fr", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "7 B  model.safetensors" in result.output
    assert "language:\n- fr" in result.output
    assert "Dry run: nothing was uploaded to org/name." in result.output
