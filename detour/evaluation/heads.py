"""A tagger's head that knows which tag may follow which: BiLSTM and CRF over the words, as French clinical taggers use.

Shapes: B windows, T tokens, W words of the longest window, C tags, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedModel

from detour.batch import IGNORE

FORBIDDEN = -1e4  # log-weight of a transition that IOB2 does not have


class BiLstmCrf(nn.Module):
    """An encoder with a BiLSTM over its states at first sub-words, and a linear-chain CRF (Lafferty et al. 2001) over tags.

    Tags are always strict IOB2: an I-X can only follow B-X or I-X. A window's words are a chain of its own.

    Cost: a loop over the words of the longest window, forward and once more to decode.

    Args:
        encoder: Gives ``last_hidden_state``.
        labels: O, then B-X and I-X of each type.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: PreTrainedModel, labels: list[str]) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        hidden = encoder.config.hidden_size
        self.lstm = nn.LSTM(hidden, hidden // 2, batch_first=True, bidirectional=True)
        self.emit = nn.Linear(2 * (hidden // 2), len(labels))
        self.start_C = nn.Parameter(torch.zeros(len(labels)))
        self.transitions_CC = nn.Parameter(torch.zeros(len(labels), len(labels)))
        self.register_buffer("forbidden_CC", torch.tensor([[_may_not(a, b) for b in labels] for a in labels]), False)
        self.register_buffer("forbidden_start_C", torch.tensor([_may_not("O", b) for b in labels]), False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **loss_arguments: Any
    ) -> dict[str, Tensor]:
        """The loss (negative log-likelihood a word), and outside training also the best tags as ``logits`` [B, T].

        Args:
            labels: int64 [B, T]; where they are not IGNORE, a word is read. Nothing else of them reaches the tags.
            loss_arguments: ``num_items_in_batch``, the words of the whole batch, where this is a part of it.
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
        outputs = {"loss": losses_B.sum() / max(int(words_B.sum() if count is None else count), 1)}
        if not self.training:
            best_BW = self.best(emissions_BWC, mask_BW)
            outputs["logits"] = torch.full_like(labels, IGNORE).scatter(1, at_BW, best_BW.where(mask_BW, IGNORE))
        return outputs

    def score(self, emissions_BWC: Tensor, tags_BW: Tensor, mask_BW: Tensor) -> Tensor:
        """[B]: the log-weight of given tags."""
        start_C, move_CC = self._weights()
        emitted_BW = emissions_BWC.gather(2, tags_BW[..., None])[..., 0]
        moved_BW = torch.cat([start_C[tags_BW[:, :1]], move_CC[tags_BW[:, :-1], tags_BW[:, 1:]]], 1)
        return ((emitted_BW + moved_BW) * mask_BW).sum(1)

    def log_partition(self, emissions_BWC: Tensor, mask_BW: Tensor) -> Tensor:
        """[B]: the log of the summed weights of all tags, by the forward algorithm; 0 for a window without words."""
        start_C, move_CC = self._weights()
        alpha_BC = start_C + emissions_BWC[:, 0]
        for w in range(1, emissions_BWC.shape[1]):
            next_BC = torch.logsumexp(alpha_BC[:, :, None] + move_CC, dim=1) + emissions_BWC[:, w]
            alpha_BC = torch.where(mask_BW[:, w, None], next_BC, alpha_BC)
        return torch.logsumexp(alpha_BC, dim=1) * mask_BW[:, 0]

    def best(self, emissions_BWC: Tensor, mask_BW: Tensor) -> Tensor:
        """int64 [B, W]: the tags of the greatest weight, by Viterbi's algorithm."""
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

    def _weights(self) -> tuple[Tensor, Tensor]:
        start_C = self.start_C.float().masked_fill(self.forbidden_start_C, FORBIDDEN)  # type: ignore[arg-type]
        return start_C, self.transitions_CC.float().masked_fill(self.forbidden_CC, FORBIDDEN)  # type: ignore[arg-type]


def _may_not(tag: str, following: str) -> bool:
    return following.startswith("I-") and tag[2:] != following[2:]
