"""What a configuration and a plan must know of the model's code, without loading torch."""

from __future__ import annotations

ATTENTION_BACKENDS = ("sdpa", "flash", "varlen", "flex")  # the names in `detour.models.attention.BACKENDS`
# Logits that the loss holds at once, in elements. Small chunks stay in a CPU's cache; a GPU wants large matrix products.
CHUNK_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 27}
