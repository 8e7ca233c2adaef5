from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.nn.functional import cross_entropy

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.models.encoder import LossSum
from detour.objectives import CLM, MLM, ModuleObjective, Objective, PairClassification, RowRandom, build, registry
from detour.testing import ROWS, check_objective, make_batch, make_vocab
from detour.vocab import Vocab

OPTIONS = {
    "mlm": [
        {},
        {"rate": 0.01},
        {"rate": 0.9},
        {"mask_fraction": 1.0, "random_fraction": 0.0},
        {"mask_fraction": 0.0, "random_fraction": 1.0},
        {"whole_word": True},
        {"whole_word": True, "rate": 0.01},
        {"mean_span": 3.8, "rate": 0.15},
        {"mean_span": 2.0, "whole_word": True},
        {"lookahead": 4},
    ],
    "mntp": [{}, {"mean_span": 3.0}, {"whole_word": True}],
    "masked_diffusion": [{}, {"block": 8}],
    "mixed": [
        {"objectives": [{"objective": "clm", "proportion": 1}, {"objective": "mntp", "proportion": 3}]},
        {
            "objectives": [
                {"objective": "prefix_lm", "proportion": 1},
                {"objective": "masked_diffusion", "proportion": 1},
                {"objective": "clm", "proportion": 0},
            ]
        },
    ],
    "pair_classification": [{"classes": ["a", "b", "c"]}],
    "alternate": [{"turns": [{"objective": "clm", "steps": 2}, {"objective": "mlm"}]}],
}


@dataclass(frozen=True, kw_only=True)
class SpanMLM(Objective):
    """A third party's objective: masks spans that stay inside a document and around its special tokens."""

    rate: float = 0.15
    span: int = 3

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        ids_BT, doc_BT = batch["input_ids"], doc_ids_of(batch)
        eligible_BT = (doc_BT >= 0) & ~vocab.is_special_V[ids_BT]
        draw_BT = rng.uniform(ids_BT.shape[1]).masked_fill(~eligible_BT, 2.0)
        starts_BT = (draw_BT < 1 - (1 - self.rate) ** (1 / self.span)) | (
            draw_BT == draw_BT.min(1, keepdim=True).values
        )
        chosen_BT = starts_BT & eligible_BT
        for shift in range(1, self.span):
            chosen_BT[:, shift:] |= starts_BT[:, :-shift] & (doc_BT[:, shift:] == doc_BT[:, :-shift])
        chosen_BT &= eligible_BT
        return {
            **batch,
            "input_ids": ids_BT.masked_fill(chosen_BT, vocab.mask_id),
            "labels": ids_BT.where(chosen_BT, IGNORE),
        }

    def target_fraction(self, mean_document_tokens: float) -> float:
        return self.rate


def registered() -> list:
    return [pytest.param(name, o, id=f"{name}-{o}") for name in registry.names() for o in OPTIONS.get(name, [{}])]


@pytest.mark.parametrize(("name", "options"), registered())
def test_a_registered_objective_keeps_the_contract(name, options):
    check_objective(build(name, options), classes=len(options.get("classes", [])))


@pytest.mark.parametrize("name", registry.names())
def test_a_registered_objective_keeps_the_contract_on_a_tokenizer_without_words(name):
    options = OPTIONS.get(name, [{}])[0]
    vocab, classes = make_vocab(200, words=False), len(options.get("classes", []))
    check_objective(build(name, options), vocab=vocab, seeds=(5,), classes=classes)


@pytest.mark.parametrize("span", [1, 3])
def test_a_third_party_objective_keeps_the_contract(span):
    check_objective(SpanMLM(span=span))


def test_the_suite_looks_at_rows_of_every_kind():
    batch = make_batch(ROWS)
    doc_BT, lengths_BD = doc_ids_of(batch), batch["doc_lengths"]
    assert (doc_BT >= 0).all(1).any()
    assert (doc_BT < 0).any()
    assert (lengths_BD.max(1).values == 1).sum() >= 2
    assert (lengths_BD > 0).sum(1).max() > 10
    assert make_vocab().is_special_V[batch["input_ids"]][doc_BT >= 0].any()


# Each broken objective differs from a sound one in one thing.
@dataclass(frozen=True, kw_only=True)
class Broken(Objective):
    """A sound masked objective, with a hook to break it."""

    def corrupt(self, batch, vocab, rng):
        return self.spoil(batch, MLM().corrupt(batch, vocab, rng), vocab)

    def spoil(self, clean, out, vocab):
        return out

    def target_fraction(self, mean_document_tokens):
        return 0.3


class WritesIntoItsInput(Broken):
    def spoil(self, clean, out, vocab):
        clean["input_ids"].copy_(out["input_ids"])
        return out


class ReturnsItsInput(Broken):
    def spoil(self, clean, out, vocab):
        clean["labels"] = out["labels"]
        return clean


class DropsTheLabels(Broken):
    def spoil(self, clean, out, vocab):
        return clean | {"extra": 1}


class DropsTheDocuments(Broken):
    def spoil(self, clean, out, vocab):
        return {key: value for key, value in out.items() if key != "doc_lengths"}


class ShortensTheLabels(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "labels": out["labels"][:, 1:]}


class LabelsOfAnotherType(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "labels": out["labels"].int()}


class UnknownAttention(Broken):
    attention: ClassVar = "sideways"


class GlobalRandomness(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "labels": out["labels"].masked_fill(torch.rand(out["labels"].shape) < 0.3, IGNORE)}


class ForgetsTheEpoch(Broken):
    def corrupt(self, batch, vocab, rng):
        own = RowRandom(seed=0, step=0, sample_id_B=batch["sample_id"])
        return MLM().corrupt(batch, vocab, own)


class DependsOnThePlaceInTheBatch(Broken):
    def corrupt(self, batch, vocab, rng):
        own = RowRandom(seed=0, step=0, sample_id_B=torch.arange(len(batch["sample_id"])))
        return MLM().corrupt(batch, vocab, own)


class DependsOnTheLongestDocumentList(Broken):
    def corrupt(self, batch, vocab, rng):
        rng.uniform(batch["doc_lengths"].shape[1])
        return MLM().corrupt(batch, vocab, rng)


class LabelsPadding(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "labels": out["labels"].where(doc_ids_of(clean) >= 0, vocab.pad_id)}


class FillsPadding(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "input_ids": out["input_ids"].where(doc_ids_of(clean) >= 0, vocab.mask_id)}


class PredictsAcrossDocuments(Broken):
    attention: ClassVar = "causal"

    def corrupt(self, batch, vocab, rng):
        next_BT = batch["input_ids"].roll(-1, 1)
        in_row = (doc_ids_of(batch).roll(-1, 1) >= 0) & (
            torch.arange(batch["input_ids"].shape[1]) < len(next_BT[0]) - 1
        )
        return {**batch, "labels": next_BT.where(in_row & (doc_ids_of(batch) >= 0), IGNORE)}

    def target_fraction(self, mean_document_tokens):
        return 1.0


class CorruptsByTheWholeRow(Broken):
    def spoil(self, clean, out, vocab):
        parity_B1 = clean["input_ids"].sum(1, keepdim=True) % 2 == 0
        return {**out, "input_ids": out["input_ids"].where(parity_B1, clean["input_ids"])}


class LeavesRowsWithoutLabels(Broken):
    def spoil(self, clean, out, vocab):
        few_B1 = (out["labels"] != IGNORE).sum(1, keepdim=True) < 5
        return {**out, "labels": out["labels"].masked_fill(few_B1, IGNORE)}


class MasksSpecialTokens(Broken):
    def spoil(self, clean, out, vocab):
        framing_BT = (clean["input_ids"] == 1) | (clean["input_ids"] == 2)
        return {**out, "input_ids": out["input_ids"].masked_fill(framing_BT, vocab.mask_id)}


class DrawsSpecialTokens(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "input_ids": out["input_ids"].where(out["input_ids"] != vocab.mask_id, 3)}


class DrawsBeyondTheVocabulary(Broken):
    def spoil(self, clean, out, vocab):
        return {**out, "input_ids": out["input_ids"].where(out["input_ids"] != vocab.mask_id, vocab.size)}


class OverstatesItsShare(Broken):
    def target_fraction(self, mean_document_tokens):
        return 0.33


class CountsInPercent(Broken):
    def target_fraction(self, mean_document_tokens):
        return 30.0


CAUGHT = {
    WritesIntoItsInput: "changed in place",
    ReturnsItsInput: "gained or lost keys",
    DropsTheLabels: "no 'labels'",
    DropsTheDocuments: "'doc_lengths' must be handed on",
    ShortensTheLabels: "'labels' has shape",
    LabelsOfAnotherType: "int32, expected int64",
    UnknownAttention: "attention is 'sideways'",
    GlobalRandomness: "not deterministic",
    ForgetsTheEpoch: "another seed or step gives the same",
    DependsOnThePlaceInTheBatch: "run alone",
    DependsOnTheLongestDocumentList: "zero-length documents appended",
    LabelsPadding: "label at padding",
    FillsPadding: "padding changed",
    PredictsAcrossDocuments: "across documents",
    CorruptsByTheWholeRow: "depends on tokens of another document",
    LeavesRowsWithoutLabels: "no label in rows",
    MasksSpecialTokens: "special token replaced",
    DrawsSpecialTokens: "replaced by a special one",
    DrawsBeyondTheVocabulary: "outside the vocabulary",
    OverstatesItsShare: "target_fraction is 0.3300, measured",
    CountsInPercent: "expected a number in \\[0, 1\\]",
}


def test_the_objective_that_the_broken_ones_derive_from_is_sound():
    check_objective(Broken())


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda cls: cls.__name__)
def test_the_suite_catches(broken):
    with pytest.raises(AssertionError, match=CAUGHT[broken]):
        check_objective(broken())


def test_the_suite_runs_every_seed_it_is_given():
    class BrokenForOneSeed(Broken):
        def spoil(self, clean, out, vocab):
            late = clean["sample_id"].min() > 10**9
            return {**out, "labels": out["labels"].int()} if late else out

    check_objective(BrokenForOneSeed(), seeds=(0,))
    with pytest.raises(AssertionError, match="int32"):
        check_objective(BrokenForOneSeed(), seeds=(0, 1))


def test_a_causal_shift_is_sound_and_differs_from_a_masked_objective():
    check_objective(CLM())
    assert CLM().attention == "causal"
    assert MLM().attention == "bidirectional"


class OwnLoss(PairClassification):
    """Pair classification, with a hook to break its loss."""

    def spoil(self, loss, module):
        return loss

    def loss_sum(self, encoder, module, batch):
        return self.spoil(super().loss_sum(encoder, module, batch), module)


class GivesTheMean(OwnLoss):
    def spoil(self, loss, module):
        return loss._replace(total=loss.total / loss.supervised)


class CountsTokens(OwnLoss):
    def spoil(self, loss, module):
        return loss._replace(supervised=loss.supervised * 2)


class LosesItsGradient(OwnLoss):
    def spoil(self, loss, module):
        return loss._replace(total=loss.total.detach())


class LeavesAParameterOut(OwnLoss):
    def build_module(self, encoder):
        module = super().build_module(encoder)
        module.unused = torch.nn.Parameter(torch.zeros(2))
        return module


class OwnMaskedLoss(MLM, ModuleObjective):
    """MLM through a head of its own; its mean times a count is no number where a micro-batch has no label."""

    def build_module(self, encoder):
        return torch.nn.Linear(encoder.arch.hidden_size, encoder.arch.vocab_size)

    def mean(self, logits, target):
        return cross_entropy(logits, target, reduction="sum") / max(len(target), 1)

    def loss_sum(self, encoder, module, batch):
        labels = batch["labels"].flatten()
        at = (labels != IGNORE).nonzero().flatten()
        mean = self.mean(module(encoder.hidden_of(batch)[at]), labels[at])
        return LossSum(total=mean * len(at), supervised=torch.tensor(len(at)))


class MeanOfNothing(OwnMaskedLoss):
    def mean(self, logits, target):
        return cross_entropy(logits, target)


class SkipsTheEmpty(OwnMaskedLoss):
    def mean(self, logits, target):
        return super().mean(logits, target) if len(target) else torch.zeros(())


@pytest.mark.parametrize(("broken", "found"), [(MeanOfNothing, "nan"), (SkipsTheEmpty, "0.0")])
def test_the_suite_catches_a_loss_that_fails_on_a_micro_batch_without_labels(broken, found):
    check_objective(OwnMaskedLoss(), seeds=(0,))
    with pytest.raises(AssertionError, match=rf"micro-batch with 0 labels is .*{found}.*, expected a number"):
        check_objective(broken(), seeds=(0,))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (GivesTheMean, "for the batch and .* for its micro-batches of 1 rows"),
        (CountsTokens, "loss_sum counts .* positions, expected"),
        (LosesItsGradient, "expected a number with a gradient"),
        (LeavesAParameterOut, "no gradient for the module's parameter .*unused"),
    ],
)
def test_the_suite_catches_a_loss_that_is_no_sum_with_a_gradient(broken, message):
    check_objective(OwnLoss(classes=["a", "b"]), classes=2, seeds=(0,))
    with pytest.raises(AssertionError, match=message):
        check_objective(broken(classes=["a", "b"]), classes=2, seeds=(0,))
