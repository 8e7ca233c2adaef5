"""Attention kernels behind one signature.

A backend is a function ``(packing, rule, dtype) -> attend``. It is called once per batch and attention rule, prepares
what all layers share (masks, block plans, boundaries), and returns ``attend(q, k, v, dropout) -> o`` on [N, H, d]
tensors. Attention never crosses a document boundary.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from detour.attention_rule import Rule
from detour.errors import ConfigError
from detour.models.packed import Packing
from detour.versions import torch_at_least

log = logging.getLogger(__name__)

Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def sdpa(packing: Packing, rule: Rule, dtype: torch.dtype) -> Attend:
    """torch's scaled_dot_product_attention on blocks: CPU and GPU, any dtype, without an N x N mask.

    Cost: full attention takes one kernel call per document, and on a GPU one synchronization per batch to read the lengths.
    Windowed attention takes a single call over query blocks with neighboring key blocks: O(N * window) compute and memory.
    """
    return _sdpa_documents(packing, rule) if rule.window is None else _sdpa_blocks(packing, rule, dtype)


def _sdpa_documents(packing: Packing, rule: Rule) -> Attend:
    lengths = packing.host_lengths
    if rule.lookahead or rule.reach:
        return _sdpa_masked_documents(packing, rule)

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        # split, not slices: its backward is one concatenation
        documents = zip(*(x.transpose(0, 1)[None].split(lengths, dim=2) for x in (q_NHd, k_NHd, v_NHd)), strict=True)
        outs = [
            F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=rule.causal) for q, k, v in documents
        ]
        return torch.cat(outs, dim=2)[0].transpose(0, 1)

    return attend


def _sdpa_masked_documents(packing: Packing, rule: Rule) -> Attend:
    """With a mask for each document, whose size is the square of its length."""
    lengths, masks = packing.host_lengths, []
    for right_n in packing.right_of(rule).split(lengths):
        at_n = torch.arange(len(right_n), device=right_n.device)
        masks.append(at_n[None, :] - at_n[:, None] <= right_n[:, None])

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        documents = zip(*(x.transpose(0, 1)[None].split(lengths, dim=2) for x in (q_NHd, k_NHd, v_NHd)), strict=True)
        outs = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
            for (q, k, v), mask in zip(documents, masks, strict=True)
        ]
        return torch.cat(outs, dim=2)[0].transpose(0, 1)

    return attend


def _sdpa_blocks(packing: Packing, rule: Rule, dtype: torch.dtype) -> Attend:
    left, right = rule.sides
    block = max(left, right, 16)
    blocks = -(-packing.N // block)
    fill = blocks * block - packing.N

    def halo(x_NX: Tensor, value: float = 0.0) -> Tensor:
        """[N, ...] -> [blocks, keys, ...]: each block's own keys with the block before and, if needed, after."""
        behind = block if right else 0
        padded = F.pad(x_NX, (0, 0) * (x_NX.ndim - 1) + (block, fill + behind), value=value)
        parts = padded.unflatten(0, (-1, block))
        return torch.cat([parts[i : i + blocks] for i in range(3 if right else 2)], dim=1)

    at_N = torch.arange(packing.N, device=packing.doc_N.device)
    doc_q, at_q = (F.pad(x, (0, fill), value=-1).unflatten(0, (blocks, block)) for x in (packing.doc_N, at_N))
    doc_k, at_k = halo(packing.doc_N, -2), halo(at_N, -1)
    distance = at_k[:, None, :] - at_q[:, :, None]
    allowed = (doc_q[:, :, None] == doc_k[:, None, :]) & (distance >= -left) & (distance <= right)
    if rule.reach:
        right_q = F.pad(packing.right_of(rule), (0, fill)).unflatten(0, (blocks, block))
        allowed &= distance <= right_q[:, :, None]
    allowed |= (at_q < 0)[:, :, None]  # padding of the last block attends to everything, so that softmax is defined
    bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, float("-inf"))[:, None]

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        q = F.pad(q_NHd, (0, 0, 0, 0, 0, fill)).unflatten(0, (blocks, block))
        q, k, v = (x.transpose(1, 2) for x in (q, halo(k_NHd), halo(v_NHd)))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return out.transpose(1, 2).flatten(0, 1)[: packing.N]

    return attend


def flash(packing: Packing, rule: Rule, dtype: torch.dtype) -> Attend:
    """flash-attn's varlen kernel (arXiv 2307.08691): the fastest on NVIDIA GPUs; fp16 and bf16 only.

    Under `torch.use_deterministic_algorithms` the backward pass adds in a fixed order. Cost: a slower backward pass.
    """
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

    cu, longest = packing.cu_seqlens_S1, packing.max_length
    exact = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        return flash_attn_varlen_func(
            q_NHd,
            k_NHd,
            v_NHd,
            cu,
            cu,
            longest,
            longest,
            dropout_p=dropout,
            causal=rule.sides[1] == 0,
            window_size=rule.sides,
            deterministic=exact,
        )

    return attend


def varlen(packing: Packing, rule: Rule, dtype: torch.dtype) -> Attend:
    """torch's own varlen attention on GPUs: FlashAttention 2 without the package flash-attn.

    From torch 2.11 on it is `torch.nn.attention.varlen`, without dropout; before, the operator beneath it, which knows windows
    and dropout (2.10's function knows no window). The kernel follows `torch.use_deterministic_algorithms` by itself.
    """
    if not torch_at_least(2, 11):
        return _aten_varlen(packing, rule)
    from torch.nn.attention.varlen import varlen_attn  # type: ignore[import-not-found]

    cu, longest = packing.cu_seqlens_S1, packing.max_length

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        if dropout:
            raise ConfigError("attention backend 'varlen' has no dropout; set attention_dropout to 0 or use 'sdpa'")
        return varlen_attn(q_NHd, k_NHd, v_NHd, cu, cu, longest, longest, window_size=rule.sides)

    return attend


def _aten_varlen(packing: Packing, rule: Rule) -> Attend:
    cu, longest, (left, right) = packing.cu_seqlens_S1, packing.max_length, rule.sides

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        return torch.ops.aten._flash_attention_forward(  # type: ignore[operator]
            q_NHd,
            k_NHd,
            v_NHd,
            cu,
            cu,
            longest,
            longest,
            dropout,
            rule.causal,
            False,
            window_size_left=left,
            window_size_right=right,
        )[0]

    return attend


def flex(packing: Packing, rule: Rule, dtype: torch.dtype) -> Attend:
    """torch's flex_attention: compiled on a GPU; with torch 2.7 also eager on a CPU, as a slow reference in tests. No dropout."""
    from torch.nn.attention.flex_attention import create_block_mask

    left, right = (packing.N if side < 0 else side for side in rule.sides)
    doc_N, right_N = packing.doc_N, packing.right_of(rule) if rule.reach else None

    def allowed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        near = (doc_N[q] == doc_N[k]) & (k - q >= -left) & (k - q <= right)
        return near if right_N is None else near & (k - q <= right_N[q])

    on_gpu = doc_N.device.type == "cuda"
    mask = create_block_mask(allowed, None, None, packing.N, packing.N, device=doc_N.device.type, _compile=on_gpu)

    def attend(q_NHd: Tensor, k_NHd: Tensor, v_NHd: Tensor, dropout: float) -> Tensor:
        if dropout:
            raise ConfigError("attention backend 'flex' has no dropout; set attention_dropout to 0 or use 'sdpa'")
        q, k, v = (x.transpose(0, 1)[None] for x in (q_NHd, k_NHd, v_NHd))
        return _flex_kernel(on_gpu)(q, k, v, block_mask=mask)[0].transpose(0, 1)

    return attend


@lru_cache
def _flex_kernel(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention  # type: ignore[return-value]


BACKENDS: dict[str, Callable[[Packing, Rule, torch.dtype], Attend]] = {
    "sdpa": sdpa,
    "flash": flash,
    "varlen": varlen,
    "flex": flex,
}


def _why_no_kernel() -> str | None:
    """Why torch has no FlashAttention kernel with windows for this machine's GPU, as a predicate; None if it has."""
    if torch.version.hip:  # type: ignore[attr-defined]
        return "is not known to have windows on ROCm"
    if not torch.backends.cuda.is_flash_attention_available():
        return f"needs a torch built with FlashAttention, which {torch.__version__} is not"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return f"needs a GPU of compute capability 8.0 or newer, not {'.'.join(map(str, torch.cuda.get_device_capability()))}"
    return None


def why_not(name: str, *, device: str, dtype: torch.dtype) -> str | None:
    """Why a backend cannot run on this device, as a predicate ("needs a GPU"); None if it can."""
    on_gpu, half = device == "cuda", dtype in (torch.float16, torch.bfloat16)
    if name == "flash":
        if importlib.util.find_spec("flash_attn") is None:
            return "needs the package flash-attn (pip install -e '.[gpu]')"
        return None if on_gpu and half else "needs a GPU and bf16 precision"
    if name == "varlen":
        return _why_no_kernel() if on_gpu and half else "needs a GPU and bf16 precision"
    if name == "flex" and not on_gpu and torch_at_least(2, 8):
        return f"has no backward pass on CPUs in torch {torch.__version__}"
    return None


def check_attention(name: str, attention: str, *, where: str) -> None:
    """Raises ConfigError if a backend cannot compute an objective's attention.

    Args:
        name: A backend, as `select` returns it.
        attention: The objective's attention.
        where: What asks for it, for the message.
    """
    if Rule.of(attention).reach and name in ("flash", "varlen"):
        raise ConfigError(
            f"{where}: its attention differs from token to token, which the kernels of model.attention_backend '{name}' cannot "
            "compute; set it to flex or sdpa"
        )


def select(name: str, *, device: str, dtype: torch.dtype) -> str:
    """Resolves a backend name: ``name`` itself, or for "auto" the fastest one available. Logs the choice.

    Raises:
        ConfigError: The name is unknown, or the backend cannot run on this device. There is no silent fallback.
    """
    if name == "auto":
        order = ("flash", "varlen", "sdpa") if device == "cuda" else ("sdpa",)
        name = next(backend for backend in order if why_not(backend, device=device, dtype=dtype) is None)
        log.info("attention backend: %s (chosen for %s, %s)", name, device, dtype)
        return name
    if name not in BACKENDS:
        raise ConfigError(f"model.attention_backend: no '{name}'; known: auto, {', '.join(BACKENDS)}")
    if reason := why_not(name, device=device, dtype=dtype):
        raise ConfigError(f"model.attention_backend: '{name}' {reason}")
    log.info("attention backend: %s (asked for)", name)
    return name
