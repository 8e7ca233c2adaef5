"""Contrastive finishing of an encoder on pairs of texts, with sentence-transformers.

``python examples/contrastive.py MODEL TASK.yaml OUT [--data FOLDER] [--epochs 1] ...``
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from datasets import Dataset as Rows
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Normalize, Pooling, Transformer
from sentence_transformers.training_args import BatchSamplers

from detour.evaluation.data.dataset import Dataset, load_dataset
from detour.evaluation.data.task import Task, load_task
from detour.evaluation.models import resolve
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.task_probes import retrieval_probe


def finish(
    model: Path,
    task: Task,
    data: Dataset,
    out: Path,
    *,
    epochs: float = 1,
    batch_size: int = 64,
    learning_rate: float = 2e-5,
    seed: int = 42,
) -> dict[str, dict[str, float]]:
    """Trains on the pairs of the train split, and retrieves those of the test split before and after.

    Every pair is a positive; the second texts of the other pairs of a batch are its negatives (InfoNCE at temperature 0.05).
    A batch holds no text twice. The new folder loads in sentence-transformers, with mean pooling and normalization.

    Args:
        model: Hugging Face folder of the encoder.
        task: A task whose examples are pairs of texts that belong together.
        data: Its examples.
        out: The new folder.
        epochs: Passes over the pairs.
        batch_size: Pairs per step; a larger batch has more negatives.
        learning_rate: Peak, after a warmup of a tenth of the steps.
        seed: Seed of the order of the pairs and of dropout.

    Returns:
        "before" and "after": recall at 1 and 10, and mean reciprocal rank on the test pairs.
    """
    scores = {"before": retrieval_probe(Frozen(model), task, data).scores}
    trunk = Transformer(str(model), max_seq_length=task.max_length)
    encoder = SentenceTransformer(modules=[trunk, Pooling(trunk.get_word_embedding_dimension(), "mean"), Normalize()])
    pairs = [example.parts for example in data.splits["train"]]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SentenceTransformerTrainer(
            model=encoder,
            args=SentenceTransformerTrainingArguments(
                output_dir=scratch,
                num_train_epochs=epochs,
                per_device_train_batch_size=batch_size,
                learning_rate=learning_rate,
                warmup_steps=math.ceil(0.1 * epochs * len(pairs) / batch_size),
                weight_decay=0.01,
                seed=seed,
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                save_strategy="no",
                report_to=[],
                dataloader_pin_memory=False,
            ),
            train_dataset=Rows.from_dict({"anchor": [a for a, _ in pairs], "positive": [b for _, b in pairs]}),
            loss=MultipleNegativesRankingLoss(encoder),
        )
        trainer.train()
    encoder.save_pretrained(str(out))
    scores["after"] = retrieval_probe(Frozen(out), task, data).scores
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=(finish.__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/tasks"))
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=42)
    given = vars(parser.parse_args())
    task = load_task(given.pop("task"))
    data = load_dataset(task, given.pop("data"))
    (model,) = resolve([given.pop("model")])
    for when, scores in finish(model.folder, task, data, given.pop("out"), **given).items():
        print(when, ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))


if __name__ == "__main__":
    main()
