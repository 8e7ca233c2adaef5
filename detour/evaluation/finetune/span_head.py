"""The span head of the authors' French evaluation: nested entities from CRF marginals and a biaffine (docs/decisions/0020).

Shapes: B windows, T tokens, H state size, K tokens of the longest span, E labels ("no entity", then the types), C tags
(1 + 4 E), G entities.
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
from detour.evaluation.data.span_features import LONGEST
from detour.evaluation.finetune.span_marginals import KINDS, log_marginals, span_log_probabilities

FORBIDDEN = -1e4  # log-weight of a transition that the tags do not allow
WIDTH, LAYERS, DROPOUT = 400, 3, 0.4
BIAFFINE = 64  # size of the begin and of the end of a label


class Contextualizer(nn.Module):
    """BiLSTM layers over the encoder's states, each mixed with its input by one gate per position, then layer norm.

    Args:
        hidden: Size of the encoder's states. If it is not ``width``, a linear layer and GELU come first.
        width: Size of the states returned.
        layers: Number of layers.
        dropout: Of each layer's output.
    """

    def __init__(self, hidden: int, width: int = WIDTH, layers: int = LAYERS, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(hidden, width), nn.GELU()) if hidden != width else nn.Identity()
        self.lstms = nn.ModuleList(
            nn.LSTM(width, width // 2, batch_first=True, bidirectional=True) for _ in range(layers)
        )
        self.gates = nn.ModuleList(nn.Linear(width, 1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BTH: Tensor, lengths_B: Tensor) -> Tensor:
        """float [B, T, width]."""
        x_BTH, lengths = self.project(states_BTH), lengths_B.cpu()
        for lstm, gate, norm in zip(self.lstms, self.gates, self.norms, strict=True):
            packed = pack_padded_sequence(x_BTH, lengths, batch_first=True, enforce_sorted=False)
            read_BTH, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x_BTH.shape[1])
            read_BTH = self.dropout(read_BTH)
            open_BT1 = torch.sigmoid(gate(read_BTH))
            x_BTH = norm(x_BTH * (1 - open_BT1) + read_BTH * open_BT1)
        return x_BTH


class SpanHead(nn.Module):
    """An encoder, BiLSTM layers, and for each span and label a score: that of a CRF's marginals plus that of a biaffine.

    The score is the log-odds that the span has the label, trained with binary cross-entropy. Decoding returns every span
    whose best type has a probability above a threshold, so entities may lie in each other.

    The authors' published evaluation code, which follows nlstruct (Wajsbürt 2021), is the source of the design; known
    differences are in docs/evaluation.md.

    Cost: two loops over the tokens of the longest window, and memory for B T K E scores.

    Args:
        encoder: A model whose output has ``last_hidden_state``.
        types: Number of entity types.
        threshold: Probability above which a span is an entity.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: PreTrainedModel, types: int, *, threshold: float = 0.5) -> None:
        super().__init__()
        self.encoder, self.config, self.labels, self.threshold = encoder, encoder.config, 1 + types, threshold
        tags = 1 + KINDS * self.labels
        self.context = Contextualizer(encoder.config.hidden_size)
        self.dropout = nn.Dropout(DROPOUT)
        self.emit = nn.Linear(WIDTH, tags)
        self.transitions_CC = nn.Parameter(torch.zeros(tags, tags))
        self.start_C, self.end_C = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))
        self.begin, self.end = nn.Linear(WIDTH, BIAFFINE * self.labels), nn.Linear(WIDTH, BIAFFINE * self.labels)
        self.bias = nn.Parameter(torch.zeros(()))
        names = tag_names(self.labels)
        moves = [[not may_follow(before, after) for after in names] for before in names]
        self.register_buffer("no_move_CC", torch.tensor(moves), False)
        self.register_buffer("no_start_C", torch.tensor([kind in "IL" for kind, _ in names]), False)
        self.register_buffer("no_end_C", torch.tensor([kind in "IB" for kind, _ in names]), False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, entities: Tensor, **loss_arguments: Any
    ) -> dict[str, Tensor]:
        """The loss, and in evaluation mode the spans found, as ``logits``: float32 [B, S, 4].

        A row of the logits is first token, last token, type, and probability; IGNORE behind the last.

        Args:
            labels: int8 [B, T, K], 1 for an entity, 0 for a negative, IGNORE for a span that the loss leaves out.
            entities: int64 [B, G, 3], first token, last token and type; -1 behind the last.
            loss_arguments: ``num_items_in_batch``, the number of scored spans in the batch of which this is a micro-batch.
        """
        lengths_B = attention_mask.sum(1)
        scores_BTKE = self.scores(input_ids, attention_mask)
        scored_BTK = labels != IGNORE
        count = loss_arguments.get("num_items_in_batch")
        each_BTKE = F.binary_cross_entropy_with_logits(scores_BTKE, self.targets(labels, entities), reduction="none")
        total = each_BTKE.mean(-1)[scored_BTK].sum()
        outputs = {"loss": total / max(int(scored_BTK.sum() if count is None else count), 1)}
        if not self.training:
            outputs["logits"] = self.found(scores_BTKE, lengths_B)
        return outputs

    def scores(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """float32 [B, T, K, E]: log-odds of each label of the span from t to t + k."""
        lengths_B = attention_mask.sum(1)
        states_BTH = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        states_BTH = self.context(states_BTH, lengths_B)
        log_p_BTC = log_marginals(self.emit(self.dropout(states_BTH)).float(), lengths_B, *self.weights())
        return span_log_probabilities(log_p_BTC, lengths_B, LONGEST) + self.biaffine(self.dropout(states_BTH))

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights of transitions [C, C], of the first tag [C], and of the last tag [C]."""
        pairs = (
            (self.transitions_CC, self.no_move_CC),
            (self.start_C, self.no_start_C),
            (self.end_C, self.no_end_C),
        )
        transitions_CC, start_C, end_C = (weights.float().masked_fill(no, FORBIDDEN) for weights, no in pairs)  # type: ignore[arg-type]
        return transitions_CC, start_C, end_C

    def biaffine(self, states_BTH: Tensor) -> Tensor:
        """float32 [B, T, K, E]: product of a span's begin and end for each label, over the root of their size; plus a bias."""
        length, blocks = states_BTH.shape[1], -(-states_BTH.shape[1] // LONGEST)
        begin_BETD, end_BETD = (
            layer(states_BTH).float().unflatten(-1, (self.labels, BIAFFINE)).transpose(1, 2)
            for layer in (self.begin, self.end)
        )
        # blocks of K begins times the 2 K tokens from the first of them on, of which each begin keeps its own K
        begin_BENKD = F.pad(begin_BETD, (0, 0, 0, blocks * LONGEST - length)).unflatten(2, (blocks, LONGEST))
        end_BEND2K = F.pad(end_BETD, (0, 0, 0, (blocks + 1) * LONGEST - length)).unfold(2, 2 * LONGEST, LONGEST)
        product_BENK2K = begin_BENKD @ end_BEND2K / math.sqrt(BIAFFINE)
        steps = torch.arange(LONGEST, device=states_BTH.device)
        own_KK = steps[:, None] + steps
        product_BENKK = product_BENK2K.gather(-1, own_KK.expand(*product_BENK2K.shape[:4], LONGEST))
        return product_BENKK.flatten(2, 3)[:, :, :length].permute(0, 2, 3, 1) + self.bias

    def targets(self, labels: Tensor, entities: Tensor) -> Tensor:
        """float32 [B, T, K, E]: 1 for the types of an entity's span, and for "no entity" elsewhere."""
        targets_BTKE = torch.zeros(*labels.shape, self.labels, device=labels.device)
        targets_BTKE[..., 0] = (labels != 1).float()
        b, g = (entities[..., 0] >= 0).nonzero(as_tuple=True)
        first, last, kind = entities[b, g].unbind(-1)
        targets_BTKE[b, first, last - first, kind + 1] = 1.0
        return targets_BTKE

    def found(self, scores_BTKE: Tensor, lengths_B: Tensor) -> Tensor:
        """float32 [B, S, 4]: the spans that are entities, as `forward` describes them."""
        best_BTK, kind_BTK = torch.sigmoid(scores_BTKE[..., 1:]).max(-1)
        ends_TK = torch.arange(scores_BTKE.shape[1])[:, None] + torch.arange(LONGEST)
        exists_BTK = ends_TK.to(lengths_B.device) < lengths_B[:, None, None]
        rows = []
        for best_TK, kind_TK, exists_TK in zip(best_BTK, kind_BTK, exists_BTK, strict=True):
            t, k = ((best_TK > self.threshold) & exists_TK).nonzero(as_tuple=True)
            rows.append(torch.stack([t, t + k, kind_TK[t, k], best_TK[t, k]], -1).float())
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE)
        return padded if padded.shape[1] else padded.new_full((len(rows), 1, 4), IGNORE)


def tag_names(labels: int) -> list[tuple[str, int]]:
    """Kind and label of each tag in the order of the CRF: O (without label, -1), then I, B, L, U of each label."""
    return [("O", -1), *((kind, label) for label in range(labels) for kind in "IBLU")]


def may_follow(before: tuple[str, int], after: tuple[str, int]) -> bool:
    """Whether a tag may follow another, where entities may be neighbors, and entities of one label may overlap.

    After B or I an entity is open: it goes on, with any tag of its label. After O none is open: O, or a B or U of any label.
    After L or U it may be closed, with the same successors as O, or another entity of its label is still open.
    """
    if before[0] in "BI":
        return after[1] == before[1]
    return after[0] in "OBU" or (before[0] in "LU" and after[1] == before[1])
