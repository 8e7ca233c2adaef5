"""Without a network, whatever would be read from the hub is one error at once: no retries, and nothing of another revision."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from datasets import config
from huggingface_hub import constants, utils

from detour import hub
from detour.corpus.readers.huggingface import HuggingFace
from detour.data.tokenizer import load_tokenizer
from detour.errors import DataError, ModelError
from detour.evaluation import models as evaluation_models
from detour.evaluation.data import readers
from detour.init.start import find_start
from detour.models import hf

reset_sessions = utils.reset_sessions if hasattr(utils, "reset_sessions") else utils.close_session  # of hub 0 and 1


@pytest.fixture
def endpoint(monkeypatch):
    """A port of this machine that nothing listens at, as the hub; clients that are not told to stay offline."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    real = time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():  # those of earlier tests may still run
            pytest.fail("it waits and tries again")
        real(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    reset_sessions()  # those of the other tests refuse every request
    yield address
    reset_sessions()


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (DataError, lambda: readers.build("hub", {"name": "nobody/nothing"}).read(Path("data"), "ner")),
        (DataError, lambda: HuggingFace().input_files(["nobody/nothing"])),
        (DataError, lambda: load_tokenizer("nobody/nothing")),
        (ModelError, lambda: hf.fetch("nobody/nothing")),
        (ModelError, lambda: evaluation_models._fetch("nobody/nothing")),
        (ModelError, lambda: find_start("nobody/nothing")),
    ],
    ids=["tasks", "corpus", "tokenizer", "start", "evaluation", "init"],
)
def test_a_hub_that_does_not_answer_is_one_error_that_says_what_to_do(endpoint, caplog, capfd, error, read):
    with pytest.raises(error, match="nobody/nothing") as caught:
        read()
    said = rf"{re.escape(endpoint)} cannot be reached \(Connect\w*Error\); name a local folder, or set HF_HUB_OFFLINE=1"
    assert re.search(said, str(caught.value))
    assert not [
        record for record in caplog.records if record.name.startswith(("huggingface_hub", "datasets", "transformers"))
    ]
    assert endpoint not in capfd.readouterr().err


def test_the_hub_is_asked_once(endpoint, monkeypatch):
    asked = []

    def head(self, url, **options):
        asked.append((url, options["timeout"]))
        raise TimeoutError("no route")

    monkeypatch.setattr(type(utils.get_session()), "head", head)
    for _ in range(2):
        with pytest.raises(ConnectionError, match=r"cannot be reached \(TimeoutError\)"):
            hub.check_hub()
    assert asked == [(endpoint, constants.HF_HUB_ETAG_TIMEOUT)]


def test_a_client_that_is_told_to_stay_offline_asks_nobody(endpoint, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_problem", lambda *_: pytest.fail("it asks"))
    hub.check_hub()


def test_a_line_of_the_client_is_logged_once(endpoint):
    logging.getLogger("huggingface_hub").addHandler(logging.StreamHandler())  # as its import does
    with pytest.raises(ConnectionError):
        hub.check_hub()
    assert not logging.getLogger("huggingface_hub").handlers
