"""What a run's record keeps of its first moment, for `detour compare`."""

from __future__ import annotations

from typing import Any

from detour.models.attention import BACKENDS
from detour.models.modernbert.encoder import TIED, Encoder
from detour.training.checkpoints.files import Checkpoint
from detour.training.run_folder import weights_sha256


def beginning(encoder: Encoder, resumed: Checkpoint | None, *, device: str) -> dict[str, Any]:
    """The hash of the weights at token 0 (``start_weights``), and what "auto" stood for (``resolved``).

    Args:
        encoder: As it was built; at token 0 its weights are hashed.
        resumed: The checkpoint that it was built from, whose record has the hash; None in those of earlier versions.
        device: "cpu" or "gpu".

    Raises:
        CheckpointError: The checkpoint has no record.
    """
    backend = next(name for name, function in BACKENDS.items() if function is encoder.backend)
    if resumed is None:
        start = weights_sha256({name: tensor for name, tensor in encoder.state_dict().items() if name != TIED})
    else:
        with resumed.translate_errors():
            start = resumed.state()["run"].get("start_weights")
    return {"start_weights": start, "resolved": {"system.device": device, "model.attention_backend": backend}}
