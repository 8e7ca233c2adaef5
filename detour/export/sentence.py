"""Makes an exported encoder a sentence-transformers model: mean pooling, then normalization. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

from detour.files import write_json

_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
CARD = """
## Sentence embeddings

`SentenceTransformer` loads this folder, too: it averages the last hidden states over the tokens and normalizes the mean.
The encoder was trained to predict tokens, not to place similar sentences near each other: most cosines are high, and only
their order means something. Train it on pairs of texts before you rely on them.
"""


def write_sentence_files(folder: Path, *, width: int, longest: int) -> None:
    """Adds the files from which sentence-transformers builds its modules to a Hugging Face folder, and a section to its card.

    The folder remains what it was for transformers.

    Args:
        folder: The folder of an encoder.
        width: Size of its hidden states.
        longest: Maximum input length in tokens.
    """
    write_json(folder / "modules.json", _MODULES)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    )
    (folder / "2_Normalize").mkdir()
    with (folder / "README.md").open("a", encoding="utf-8") as card:
        card.write(CARD)
