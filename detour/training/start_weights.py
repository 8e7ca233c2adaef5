"""The identity of the weights at token 0, for `detour compare`."""

from __future__ import annotations

from typing import Any

from detour.models.attention import BACKENDS
from detour.models.encoder import Encoder
from detour.training.checkpoints.files import Checkpoint
from detour.training.run_folder import weights_sha256


def start_weights_record(encoder: Encoder, resumed: Checkpoint | None, *, device: str) -> dict[str, Any]:
    """What a run's record keeps of its start: the SHA-256 of the weights at token 0, and what "auto" resolved to.

    Args:
        encoder: The encoder as built; if the run is new, its weights are hashed.
        resumed: The checkpoint from which the encoder was built, whose record has the hash (None in earlier versions).
        device: "cpu" or "gpu".

    Returns:
        ``start_weights``, the hash, and ``resolved``, the device and the attention backend.

    Raises:
        CheckpointError: The checkpoint has no record.
    """
    backend = next(name for name, function in BACKENDS.items() if function is encoder.backend)
    if resumed is None:
        start = weights_sha256(encoder.weights())
    else:
        with resumed.translate_errors():
            start = resumed.state()["run"].get("start_weights")
    return {"start_weights": start, "resolved": {"system.device": device, "model.attention_backend": backend}}
