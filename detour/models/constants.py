"""Constants of the model code that configuration and cost estimates need without importing torch."""

from __future__ import annotations

ATTENTION_BACKENDS = ("sdpa", "flash", "varlen", "flex")  # the names in `detour.models.attention.BACKENDS`
# Upper bound on the elements of a chunk of logits. Small chunks fit a CPU's cache; GPUs need large matrix products.
CHUNK_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 27}
