"""What counts as a secret, and what stays as it is. Whole runs: tests/faults/test_secrets.py."""

from __future__ import annotations

import logging
import sys

import pytest

from detour import redact
from detour.redact import HIDDEN, RedactingFormatter, hide, redacted


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_known", {})


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "a1B2" * 8,
        "AKIA" + "ABCD" * 4,
        "AIza" + "x" * 35,
        "ghp_" + "a" * 36,
        "github_pat_" + "a" * 30,
        "sk-" + "a" * 40,
    ],
)
def test_tokens_of_known_services_are_hidden_inside_any_text(secret):
    assert redacted(f"before {secret} after") == f"before {HIDDEN} after"
    assert redacted({"a": ["x", (f"/{secret}/",)]}) == {"a": ["x", (f"/{HIDDEN}/",)]}


def test_passwords_and_signatures_of_addresses_are_hidden():
    assert redacted("https://me:pass@host/rows") == f"https://{HIDDEN}@host/rows"
    assert redacted("https://me:p@ss@host/rows") == f"https://{HIDDEN}@host/rows"
    signed = "https://host/x.mds?X-Amz-Signature=abcdef&part=1&token=q"
    assert redacted(signed) == f"https://host/x.mds?{HIDDEN}&part=1&{HIDDEN}"


@pytest.mark.parametrize(
    "text",
    [
        "runs/base_clm_detour",
        "s3://bucket/rows",
        "answerdotai/ModernBERT-base",
        "hf_cache/models",
        "runs/task-2026-11-21-long-context-ablation",
        "/scratch/disk-aaaaaaaaaaaaaaaaaaaaaaaa/rows",
        "runs/sk-long-context-ablation-of-november",
        "/x/asianlanguagescorpusv2",
        "a:b@c",
        "https://host/a?part=2",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redacted(text) == text


def test_values_that_are_no_text_keep_their_type():
    value = {"a": 1, "b": None, "c": [True, 2.5], "d": (0.9, 0.98)}
    assert redacted(value) == value
    assert isinstance(redacted(value)["d"], tuple)


def test_hidden_values_are_shown_as_asked_and_short_ones_not_touched():
    hide("/scratch/someone", shown_as="${oc.env:SCRATCH}")
    hide("short")
    assert redacted("/scratch/someone/rows, short") == "${oc.env:SCRATCH}/rows, short"


def test_the_longest_secret_goes_first():
    hide("12345678", shown_as="A")
    hide("12345678-90", shown_as="B")
    assert redacted("12345678-90 12345678") == "B A"


def test_environment_variables_that_are_named_like_secrets_are_hidden(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct horse battery")
    monkeypatch.setenv("MY_SERVICE_COLOR", "a rather long color")
    assert redacted("correct horse battery, a rather long color") == f"{HIDDEN}, a rather long color"


@pytest.mark.parametrize("name", ["GCS_KEY", "SSH_PRIVATE_KEY", "AZURE_STORAGE_KEY", "DB_PASS", "ENCRYPTION_KEY"])
def test_keys_and_passwords_by_other_names_are_hidden_in_keys_of_mappings_too(monkeypatch, name):
    monkeypatch.setenv(name, "open-sesame-now")
    assert redacted({"open-sesame-now": ["open-sesame-now"]}) == {HIDDEN: [HIDDEN]}


def test_log_records_and_their_tracebacks_are_redacted():
    hide("sesame-" * 2)
    words = ["open", "sesame-" * 2]
    try:
        raise ValueError(" ".join(words))
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed with %s", ("sesame-" * 2,), sys.exc_info())
    text = RedactingFormatter("%(message)s").format(record)
    assert "sesame-sesame" not in text
    assert "failed with [hidden]" in text
    assert "ValueError: open [hidden]" in text


def test_a_variable_that_names_a_tokenizer_or_a_file_hides_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKENIZER_PATH", "data/tokenizers/base")
    monkeypatch.setenv("MAX_TOKENS", "1000000000")
    monkeypatch.setenv("MY_CREDENTIALS_FILE", str(tmp_path))
    for text in ("data/tokenizers/base", "1000000000", f"{tmp_path}/rows"):
        assert redacted(text) == text
    monkeypatch.setenv("SOME_TOKEN", "abcdefgh123")
    assert redacted("data/abcdefgh123") == f"data/{HIDDEN}"
