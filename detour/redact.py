"""Removes secrets from logs, run folders, checkpoints, Weights & Biases and exports."""

from __future__ import annotations

import logging
import os
import re
from typing import Any, TypeVar

T = TypeVar("T")

HIDDEN = "[hidden]"
SHORTEST = 8  # shorter values are not secret, and occur inside other words
_TOKENS = re.compile(
    r"""(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}                    # Hugging Face
        | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])                # AWS
        | AIza[\w-]{35}                                           # Google
        | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,}         # GitHub
        | sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_]{20,}[\w-]*)
    | (?<=://)[^/\s:@]*:[^/\s]+(?=@)                              # user:password@ in a URL
    | (?<=[?&])(?i:[\w-]*(?:token|signature|sig|secret|key|credential))=[^&\s"']+ # signed URLs
    """,
    re.VERBOSE,
)
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ|S)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL|PRIVATE_?KEY|_KEY$|(?:^|_)PASS$",
    re.IGNORECASE,
)
_known: dict[str, str] = {}


def hide(value: str, *, shown_as: str = HIDDEN) -> None:
    """Registers a secret: from now on `redacted` replaces it by ``shown_as``."""
    if len(value) >= SHORTEST:
        _known[value] = shown_as


def redacted(value: T) -> T:
    """A copy of a string, mapping or list in which secrets are replaced in all strings.

    Secrets are values registered with `hide`, values of environment variables named like tokens, keys or passwords, and
    strings in the format of a well-known service's token. A value read by ``${oc.env:NAME}`` is replaced by that
    expression.
    """
    secrets = {
        value: HIDDEN
        for name, value in os.environ.items()
        if len(value) >= SHORTEST and _SECRET_NAME.search(name) and not os.path.exists(value)  # a path is not a secret
    }
    secrets |= _known
    # longest first, because one secret may contain another
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
    """Formats log records and tracebacks without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
