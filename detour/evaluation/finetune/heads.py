"""A head for sequence labeling: a BiLSTM with a CRF and optionally a biaffine span classifier, as for French clinical corpora.

Shapes: B windows, T tokens, W words of the longest window, C tags, H hidden size, L words of the longest span, E entity
types, D size of the biaffine.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedModel

from detour.batch import IGNORE

FORBIDDEN = -1e4  # log-weight of a transition that is invalid in IOB2


class Biaffine(nn.Module):
    """Log-odds that a span of words is an entity of a given type, from its first and last word.

    Yu et al. 2020 (arXiv 2005.07150), equations 1 to 3: ``f'Ug + W[f; g] + b`` for each type, where f and g are one layer
    over the state of the first and of the last word. The paper has a softmax over types and "none"; here each type is a
    binary decision, because log-odds can be added to the log-weights of a CRF.

    Cost: B W L E D multiplications, in a loop over L.

    Args:
        hidden: Size of a word's state, H.
        types: Number of entity types, E.
        longest: Length of the longest span that is scored, in words, L.
        size: Size of both layers, D; 150 in the paper.
    """

    def __init__(self, hidden: int, types: int, longest: int, size: int = 150) -> None:
        super().__init__()
        self.longest = longest
        self.first, self.last = nn.Linear(hidden, size), nn.Linear(hidden, size)
        self.pair_DED = nn.Parameter(torch.randn(size, types, size) / size)
        self.first_alone, self.last_alone = nn.Linear(size, types, bias=False), nn.Linear(size, types)
        # at initialization one span per word is expected; even odds would dominate the loss of the tags
        nn.init.constant_(self.last_alone.bias, -math.log(longest * types))

    def forward(self, states_BWH: Tensor) -> Tensor:
        """float32 [B, W, L, E]: log-odds of the span from word w to word w + l; 0 if it ends beyond the last word."""
        first_BWD, last_BWD = F.relu(self.first(states_BWH)), F.relu(self.last(states_BWH))
        turned_BWED = torch.einsum("bwd,def->bwef", first_BWD, self.pair_DED)
        first_BWE, last_BWE = self.first_alone(first_BWD), self.last_alone(last_BWD)
        words, odds = states_BWH.shape[1], []
        for step in range(self.longest):
            ends = slice(min(step, words), words)
            begins = slice(0, max(words - step, 0))
            pair_BKE = torch.einsum("bkef,bkf->bke", turned_BWED[:, begins], last_BWD[:, ends])
            odds_BKE = pair_BKE + first_BWE[:, begins] + last_BWE[:, ends]
            odds.append(F.pad(odds_BKE.float(), (0, 0, 0, words - odds_BKE.shape[1])))
        return torch.stack(odds, 2)


class BiLstmCrf(nn.Module):
    """An encoder with a BiLSTM over its states at first sub-words, and a linear-chain CRF (Lafferty et al. 2001) over tags.

    I-X follows only B-X or I-X. Each window is one chain, which may begin with I-X: the continuation of an entity from the
    window before.

    With a biaffine over the same BiLSTM, both are trained jointly, and decoding maximizes the product of the CRF's
    probability and the biaffine's probabilities of the spans. (The paper names the three parts, but not their combination;
    docs/decisions/0011.)

    Cost: a loop over the words of the longest window, in the forward pass and in decoding.

    Args:
        encoder: A model whose output has ``last_hidden_state``.
        labels: O, followed by B-X and I-X of each type.
        longest: Length of the longest entity in words, for the biaffine, which predicts no longer one; 0 for no biaffine.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: PreTrainedModel, labels: list[str], *, longest: int = 0) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        hidden = encoder.config.hidden_size
        self.lstm = nn.LSTM(hidden, hidden // 2, batch_first=True, bidirectional=True)
        self.emit = nn.Linear(2 * (hidden // 2), len(labels))
        self.start_C = nn.Parameter(torch.zeros(len(labels)))
        self.transitions_CC = nn.Parameter(torch.zeros(len(labels), len(labels)))
        self.register_buffer("forbidden_CC", torch.tensor([[_may_not(a, b) for b in labels] for a in labels]), False)
        # at least two, so that spans of more than one word exist
        self.biaffine = Biaffine(2 * (hidden // 2), len(labels) // 2, max(longest, 2)) if longest else None

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **loss_arguments: Any
    ) -> dict[str, Tensor]:
        """The loss (negative log-likelihood per word) and, in evaluation mode, the best tags as ``logits`` [B, T].

        Args:
            labels: int64 [B, T]; other than IGNORE at the first sub-word of each word. Decoding uses only these positions.
            loss_arguments: ``num_items_in_batch``, the number of words in the batch of which this is a micro-batch.
        """
        states_BTH = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        read_BT = labels != IGNORE
        words_B = read_BT.sum(1)
        at_BW = torch.argsort((~read_BT).int(), dim=1, stable=True)[:, : max(int(words_B.max()), 1)]
        states_BWH = states_BTH.gather(1, at_BW[..., None].expand(-1, -1, states_BTH.shape[-1]))
        packed = pack_padded_sequence(states_BWH, words_B.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        hidden_BWH, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        emissions_BWC = self.emit(hidden_BWH).float()
        mask_BW = torch.arange(at_BW.shape[1], device=words_B.device) < words_B[:, None]
        tags_BW = labels.gather(1, at_BW).clamp(min=0)
        count = loss_arguments.get("num_items_in_batch")
        losses_B = self.log_partition(emissions_BWC, mask_BW) - self.score(emissions_BWC, tags_BW, mask_BW)
        odds_BWLE = None if self.biaffine is None else self.biaffine(hidden_BWH)
        if odds_BWLE is not None:
            losses_B = losses_B + span_losses(odds_BWLE, tags_BW, mask_BW)
        outputs = {"loss": losses_B.sum() / max(int(words_B.sum() if count is None else count), 1)}
        if not self.training:
            best_BW = (
                self.best(emissions_BWC, mask_BW)
                if odds_BWLE is None
                else self.best_spans(emissions_BWC, odds_BWLE, mask_BW)
            )
            outputs["logits"] = torch.full_like(labels, IGNORE).scatter(1, at_BW, best_BW.where(mask_BW, IGNORE))
        return outputs

    def score(self, emissions_BWC: Tensor, tags_BW: Tensor, mask_BW: Tensor) -> Tensor:
        """[B]: the log-weight of the given tags."""
        start_C, move_CC = self._weights()
        emitted_BW = emissions_BWC.gather(2, tags_BW[..., None])[..., 0]
        moved_BW = torch.cat([start_C[tags_BW[:, :1]], move_CC[tags_BW[:, :-1], tags_BW[:, 1:]]], 1)
        return ((emitted_BW + moved_BW) * mask_BW).sum(1)

    def log_partition(self, emissions_BWC: Tensor, mask_BW: Tensor) -> Tensor:
        """[B]: the log partition function, by the forward algorithm; 0 for a window without words."""
        start_C, move_CC = self._weights()
        alpha_BC = start_C + emissions_BWC[:, 0]
        for w in range(1, emissions_BWC.shape[1]):
            next_BC = torch.logsumexp(alpha_BC[:, :, None] + move_CC, dim=1) + emissions_BWC[:, w]
            alpha_BC = torch.where(mask_BW[:, w, None], next_BC, alpha_BC)
        return torch.logsumexp(alpha_BC, dim=1) * mask_BW[:, 0]

    def best(self, emissions_BWC: Tensor, mask_BW: Tensor) -> Tensor:
        """int64 [B, W]: the tags of maximum weight, by the Viterbi algorithm."""
        start_C, move_CC = self._weights()
        delta_BC, stay_C = start_C + emissions_BWC[:, 0], torch.arange(len(start_C), device=start_C.device)
        back = []
        for w in range(1, emissions_BWC.shape[1]):
            value_BC, from_BC = (delta_BC[:, :, None] + move_CC).max(1)
            delta_BC = torch.where(mask_BW[:, w, None], value_BC + emissions_BWC[:, w], delta_BC)
            back.append(torch.where(mask_BW[:, w, None], from_BC, stay_C))
        tags = [delta_BC.argmax(1)]
        for from_BC in reversed(back):
            tags.append(from_BC.gather(1, tags[-1][:, None])[:, 0])
        return torch.stack(tags[::-1], 1)

    @torch.no_grad()
    def best_spans(self, emissions_BWC: Tensor, odds_BWLE: Tensor, mask_BW: Tensor) -> Tensor:
        """int64 [B, W]: the tags that maximize their log-weight plus the log-odds of their spans.

        The Viterbi algorithm over segments (semi-Markov; Sarawagi and Cohen 2004): I-X is entered from the span's first word.
        """
        start_C, move_CC = (weights.double() for weights in self._weights())
        emissions_BWC, odds_BWLE = emissions_BWC.double(), odds_BWLE.double()  # differences of cumulative sums
        device, words, longest = start_C.device, emissions_BWC.shape[1], odds_BWLE.shape[2]
        types = torch.arange(1, len(start_C), 2, device=device)
        begin_E, stay_E = move_CC[types, types + 1], move_CC[types + 1, types + 1]
        inside_BWE = emissions_BWC[..., 2::2].cumsum(1)
        enter_BWE = torch.zeros_like(inside_BWE)  # maximum over tags up to a word, with B-X at it
        close: list[Tensor] = []  # [B, C] per word: maximum over tags up to it whose last span ends at it
        came: list[Tensor] = []  # [B, C] per word: the tag before
        since: list[
            Tensor
        ] = []  # [B, E] per word: first word of the span that ends at it in I-X; -1: before the window
        for w in range(words):
            before_BC = start_C.expand(len(emissions_BWC), 1, -1) if w == 0 else close[-1][:, :, None] + move_CC
            reach_BC, from_BC = before_BC.max(1)
            reach_BC = reach_BC + emissions_BWC[:, w]
            enter_BWE[:, w] = reach_BC[:, types]
            at_K = torch.arange(max(0, w - longest + 1), w, device=device)
            chain_BKE = begin_E + (w - at_K - 1)[:, None] * stay_E + inside_BWE[:, w, None] - inside_BWE[:, at_K]
            values_BKE = enter_BWE[:, at_K] + chain_BKE + odds_BWLE[:, at_K, w - at_K]
            if w < longest:
                going_on_BE = start_C[types + 1] + w * stay_E + inside_BWE[:, w] + odds_BWLE[:, 0, w]
                values_BKE, at_K = torch.cat([values_BKE, going_on_BE[:, None]], 1), F.pad(at_K, (0, 1), value=-1)
            ends_BE, which_BE = values_BKE.max(1)
            spans_BE2 = torch.stack([enter_BWE[:, w] + odds_BWLE[:, w, 0], ends_BE], -1)
            close.append(torch.cat([reach_BC[:, :1], spans_BE2.flatten(1)], 1))
            came.append(from_BC)
            since.append(at_K[which_BE])
        last_BWC, came_BWC, since_BWE = (torch.stack(steps, 1).cpu().numpy() for steps in (close, came, since))
        tags_BW = torch.zeros(mask_BW.shape, dtype=torch.int64)
        for b, w in enumerate((mask_BW.sum(1) - 1).tolist()):
            tag = int(last_BWC[b, w].argmax())
            while w >= 0:
                if tag and tag % 2 == 0:
                    begin = int(since_BWE[b, w, tag // 2 - 1])
                    tags_BW[b, begin + 1 : w + 1] = tag
                    w, tag = begin, tag - 1
                    if begin < 0:
                        break
                tags_BW[b, w] = tag
                w, tag = w - 1, int(came_BWC[b, w, tag])
        return tags_BW.to(mask_BW.device)

    def _weights(self) -> tuple[Tensor, Tensor]:
        return self.start_C.float(), self.transitions_CC.float().masked_fill(self.forbidden_CC, FORBIDDEN)  # type: ignore[arg-type]


def span_losses(odds_BWLE: Tensor, tags_BW: Tensor, mask_BW: Tensor) -> Tensor:
    """[B]: the binary cross-entropy of all spans within the window, whose targets are the spans of the tags."""
    words = torch.arange(tags_BW.shape[1], device=tags_BW.device)
    inner_BW = (tags_BW > 0) & (tags_BW % 2 == 0) & mask_BW
    stop_BW = words.where(~inner_BW, tags_BW.shape[1]).flip(1).cummin(1).values.flip(1)  # the next word that is not I-X
    length_BW = F.pad(stop_BW[:, 1:], (0, 1), value=tags_BW.shape[1]) - words
    begins_BW = (tags_BW % 2 == 1) & mask_BW
    begins_BW[:, 0] |= inner_BW[:, 0]
    b, w = (begins_BW & (length_BW <= odds_BWLE.shape[2])).nonzero(as_tuple=True)
    targets_BWLE = torch.zeros_like(odds_BWLE)
    targets_BWLE[b, w, length_BW[b, w] - 1, (tags_BW[b, w] - 1) // 2] = 1.0
    ends_WL = words[:, None] + torch.arange(odds_BWLE.shape[2], device=tags_BW.device)
    fits_BWL = ends_WL < mask_BW.sum(1)[:, None, None]
    each_BWLE = F.binary_cross_entropy_with_logits(odds_BWLE, targets_BWLE, reduction="none")
    return (each_BWLE * fits_BWL[..., None]).sum((1, 2, 3))


def _may_not(tag: str, following: str) -> bool:
    return following.startswith("I-") and tag[2:] != following[2:]
