"""Which version of torch runs. Both stacks of docs/install.md are supported; what differs between them asks here."""

from __future__ import annotations

import torch


def torch_at_least(major: int, minor: int) -> bool:
    """Whether torch is of this version or a newer one."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (major, minor)
