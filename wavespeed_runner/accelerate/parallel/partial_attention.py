"""Attention to some of the keys, and how such parts are merged to attention to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


def attend_with_lse(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of the sum of its exponentials, which torch's public function does not return.

    Args:
        query: (batch, heads, queries, head size); key and value with as many heads.
        key: (batch, heads, keys, head size).
        value: as `key`.
        mask: None, or of True where a key counts, or added to the scores; can be broadcast to (batch, heads, queries,
            keys).
        scale: of the scores; None: 1 / sqrt(head size).
        options: none are known.

    Returns:
        (batch, heads, queries, head size) and (batch, heads, queries), both in float32 at least.

    Raises:
        RunError: an option that a part of the keys cannot take, or a device without such an operator.
    """
    import torch

    if options:
        raise RunError(f"parallel: attention with {', '.join(options)} cannot be computed in parts")
    aten = torch.ops.aten
    bias = None if mask is None else _to_bias(mask, query)
    empty = None if bias is None else (bias == float("-inf")).all(-1)
    if query.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
    elif query.device.type == "cuda" and bias is None and query.dtype in (torch.float16, torch.bfloat16):
        out, lse = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, False, False, scale=scale)[:2]
    elif query.device.type == "cuda":
        if bias is not None:
            bias = align_bias(bias, query, key.shape[2])
        out, lse = aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, scale=scale)[:2]
        lse = lse[..., : query.shape[2]]  # padded to a multiple of 32
    else:
        raise RunError(f"parallel=ring: no operator for device {query.device.type}; use parallel=ulysses")
    exact = torch.promote_types(query.dtype, torch.float32)
    out, lse = out.to(exact), lse.to(exact)
    if empty is not None:  # of a query without a key in this part, operators return numbers of their own
        empty = empty.expand(lse.shape)
        out, lse = out.masked_fill(empty[..., None], 0.0), lse.masked_fill(empty, float("-inf"))
    return out, lse


def align_bias(bias: Tensor, query: Tensor, keys: int) -> Tensor:
    """A bias as the memory-efficient operator takes it: for every head and query, rows at multiples of 16 numbers.

    As torch's public attention pads it. Heads, and queries where there is one row, are repeated without a copy: written
    out, the bias of a video has tens of gigabytes.

    Args:
        bias: can be broadcast to (batch, heads, queries, keys).
        query: (batch, heads, queries, head size).
        keys: how many there are.
    """
    from torch.nn.functional import pad

    whole = bias.expand(*bias.shape[:-1], keys)
    return pad(whole, (0, -keys % 16))[..., :keys].expand(*query.shape[:3], keys)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention to the keys of both parts, each (result, logarithm of the sum of exponentials).

    A query that no key of either part counts for has a result of 0, as in torch.
    """
    import torch

    (out_1, lse_1), (out_2, lse_2) = first, second
    lse = torch.logaddexp(lse_1, lse_2)
    weights = [torch.exp(part - lse).nan_to_num(0.0)[..., None] for part in (lse_1, lse_2)]
    return out_1.nan_to_num(0.0) * weights[0] + out_2.nan_to_num(0.0) * weights[1], lse


def _to_bias(mask: Tensor, query: Tensor) -> Tensor:
    """A mask as what is added to the scores, in the dtype of the queries."""
    import torch

    if mask.dtype is not torch.bool:
        return mask.to(query.dtype)
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
