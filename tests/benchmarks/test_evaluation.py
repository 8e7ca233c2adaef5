"""The benchmark of a cell: both sides take the same steps and see the same examples; the ratio itself is measured elsewhere."""

from __future__ import annotations

import pytest
import transformers

from benchmarks import evaluation


@pytest.mark.slow
def test_both_sides_of_the_benchmark_of_a_cell_take_the_same_steps(monkeypatch):
    steps = []

    class Counting(transformers.TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    begin = transformers.Trainer.__init__

    def counted(self, *arguments, **options):
        begin(self, *arguments, **options)
        self.add_callback(Counting())

    monkeypatch.setattr(transformers.Trainer, "__init__", counted)
    (line,) = evaluation.cell_against_trainer(examples=24, rounds=1, width=32)
    assert steps == [6] * 4  # 24 examples in batches of 8, twice; a round before the one that counts
    assert len(line.ours) == len(line.theirs) == 1
    assert line.ratio > 0
