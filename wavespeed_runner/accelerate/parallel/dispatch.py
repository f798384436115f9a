"""Sends the attention of processors that use diffusers' dispatcher to all ranks.

Such a processor passes a `_parallel_config` on, and the native backend hands its tensors to
`_templated_context_parallel_attention` if that is not None. Here it is one of ours, and that function is replaced by
one that calls it; diffusers' own configurations go where they went before. A torch function mode, as in
`attention_routing`, does not serve: torch.compile cannot trace it around these processors.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from .attention import ParallelAttention


def divide_processor(processor: Any, attend: ParallelAttention) -> Any:
    """A copy of a processor whose attention is that of all ranks; the processor itself stays as it is."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    _take_over()
    divided = copy.copy(processor)
    divided._attention_backend = AttentionBackendName.NATIVE
    divided._parallel_config = attend
    return divided


@lru_cache(maxsize=1)
def _take_over() -> None:
    from diffusers.models import attention_dispatch

    theirs = attention_dispatch._templated_context_parallel_attention

    def attend_on_ranks(  # noqa: PLR0913 (the parameters of diffusers' function)
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        *,
        forward_op: Any,
        backward_op: Any,
        _parallel_config: Any = None,
    ) -> Any:
        if not isinstance(_parallel_config, ParallelAttention):
            operators = {"forward_op": forward_op, "backward_op": backward_op, "_parallel_config": _parallel_config}
            given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, return_lse)
            return theirs(*given, **operators)
        # The dispatcher has the tokens before the heads, torch has them after.
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        options: dict[str, Any] = {"enable_gqa": True} if enable_gqa else {}
        if scale is not None:
            options["scale"] = scale
        return _parallel_config(query, key, value, attn_mask, dropout_p, is_causal, **options).transpose(1, 2)

    attention_dispatch._templated_context_parallel_attention = attend_on_ranks
