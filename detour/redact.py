"""Secrets stay out of what a run says and leaves: its log, its folder, checkpoints, Weights & Biases, exports."""

from __future__ import annotations

import logging
import os
import re
from typing import Any, TypeVar

T = TypeVar("T")

HIDDEN = "[hidden]"
SHORTEST = 8  # a shorter value hides nothing, and would be found inside other words
_TOKENS = re.compile(
    r"""(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}                    # Hugging Face
        | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])                # AWS
        | AIza[\w-]{35}                                           # Google
        | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,}         # GitHub
        | sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_]{20,}[\w-]*)
    | (?<=://)[^/\s:@]*:[^/\s]+(?=@)                              # user:password@ of an address
    | (?<=[?&])(?i:[\w-]*(?:token|signature|sig|secret|key|credential))=[^&\s"']+ # of a signed address
    """,
    re.VERBOSE,
)
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ|S)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL|PRIVATE_?KEY|_KEY$|(?:^|_)PASS$",
    re.IGNORECASE,
)
_known: dict[str, str] = {}


def hide(value: str, *, shown_as: str = HIDDEN) -> None:
    """From now on `redacted` replaces this value, wherever it occurs."""
    if len(value) >= SHORTEST:
        _known[value] = shown_as


def redacted(value: T) -> T:
    """The same value with secrets replaced in all strings inside it: those hidden by `hide`, the values of environment
    variables whose names speak of tokens, keys or passwords, and what looks like a well-known service's token.

    What was read from the environment by ``${oc.env:NAME}`` is shown as just that.
    """
    secrets = {
        value: HIDDEN
        for name, value in os.environ.items()
        if len(value) >= SHORTEST and _SECRET_NAME.search(name) and not os.path.exists(value)  # where one lies is none
    }
    secrets |= _known
    # the longest first: one may hold another
    return _replaced(value, sorted(secrets.items(), key=lambda item: -len(item[0])))


def _replaced(value: Any, secrets: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for secret, shown_as in secrets:
            value = value.replace(secret, shown_as)
        return _TOKENS.sub(HIDDEN, value)
    if isinstance(value, dict):
        return {_replaced(key, secrets): _replaced(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, secrets) for item in value)
    return value


class RedactingFormatter(logging.Formatter):
    """Formats log records, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
