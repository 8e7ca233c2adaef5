"""Marginals of a linear-chain CRF, and scores of spans from them: the tagger of the authors' French span head.

Shapes: B sequences, T tokens, C tags (O, then I, B, L, U of each of L labels: 1 + 4 L), E labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = 4  # I, B, L, U of a label, in this order
ABSENT = -1e4  # log-probability of a span that does not exist


def log_marginals(
    scores_BTC: Tensor, lengths_B: Tensor, transitions_CC: Tensor, start_C: Tensor, end_C: Tensor
) -> Tensor:
    """float [B, T, C]: log-probability of each tag at each token, by the forward-backward algorithm (Rabiner 1989).

    Args:
        scores_BTC: Log-weights of the tags.
        lengths_B: Tokens of each sequence, at least 1; values behind them are of no consequence, and those returned there
            mean nothing.
        transitions_CC: Log-weight of a tag (column) after another (row).
        start_C: Log-weight of a tag at the first token.
        end_C: Log-weight of a tag at the last token.

    Cost: two loops over T, with B C^2 operations at each step.
    """
    length = scores_BTC.shape[1]
    forward = [start_C + scores_BTC[:, 0]]
    for t in range(1, length):
        forward.append(torch.logsumexp(forward[-1][:, :, None] + transitions_CC, 1) + scores_BTC[:, t])
    backward = [end_C.expand_as(forward[0])]
    for t in range(length - 2, -1, -1):
        after_BC = torch.logsumexp(transitions_CC + (scores_BTC[:, t + 1] + backward[0])[:, None, :], 2)
        is_last_B1 = (lengths_B - 1 <= t)[:, None]
        backward.insert(0, torch.where(is_last_B1, end_C, after_BC))
    joint_BTC = torch.stack(forward, 1) + torch.stack(backward, 1)
    return joint_BTC - torch.logsumexp(joint_BTC, -1, keepdim=True)


def span_log_probabilities(log_p_BTC: Tensor, lengths_B: Tensor, longest: int) -> Tensor:
    """float [B, T, K, E]: score of the span of k + 1 tokens that begins at t, K = ``longest``, for each label.

    The least of: the sum of log P(any tag of the label) over the span, log P(B or U) at its first token, and
    log P(L or U) at its last. Spans that reach past the end are ABSENT.

    Args:
        log_p_BTC: Log-marginals, as `log_marginals` returns them.
        lengths_B: Tokens of each sequence.
        longest: Tokens of the longest span.

    Memory: B T K E numbers.
    """
    length, tags = log_p_BTC.shape[1:]
    by_label_BTEK = log_p_BTC[..., 1:].unflatten(-1, ((tags - 1) // KINDS, KINDS))
    inside_BTE = torch.logsumexp(by_label_BTEK, -1)
    first_BTE = torch.logsumexp(by_label_BTEK[..., [1, 3]], -1)
    last_BTE = torch.logsumexp(by_label_BTEK[..., [2, 3]], -1)
    sums_BTE = F.pad(inside_BTE.cumsum(1), (0, 0, 1, longest - 1))  # before each token
    last_BTE = F.pad(last_BTE, (0, 0, 0, longest - 1))
    total_BTEK = sums_BTE[:, 1:].unfold(1, longest, 1) - sums_BTE[:, :length, :, None]
    score_BTEK = torch.minimum(torch.minimum(total_BTEK, first_BTE[..., None]), last_BTE.unfold(1, longest, 1))
    steps_TK = torch.arange(length)[:, None] + torch.arange(longest)
    exists_BTK = steps_TK.to(log_p_BTC.device) < lengths_B[:, None, None]
    return score_BTEK.transpose(2, 3).masked_fill(~exists_BTK[..., None], ABSENT)
