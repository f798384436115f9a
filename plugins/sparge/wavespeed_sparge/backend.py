"""The backend `sparge`: https://arxiv.org/abs/2502.18137, by the package spas_sage_attn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wavespeed_runner.accelerate.attention_options import Backend
from wavespeed_runner.config.schema import AttentionConfig
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.registry import register

OPERATOR = "spas_sage_attn::topk"
"""The kernel as an operator of torch, so that torch.compile calls it as it is and the profiler sees it."""


@dataclass(kw_only=True)
class SpargeOptions(AttentionConfig):
    name: str = "sparge"
    topk: float = 0.5
    """Share of the blocks of keys that each block of queries keeps."""

    def __post_init__(self) -> None:
        if not 0 < self.topk <= 1:
            raise ConfigError(f"attention.topk={self.topk}: more than 0 and at most 1 is needed")


@lru_cache(maxsize=1)
def define_operator() -> Any:
    """Wraps the kernel as an operator of torch, once a process."""
    import torch
    from spas_sage_attn import spas_sage2_attn_meansim_topk_cuda as kernel

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, topk: float, scale: float) -> torch.Tensor:
        # The custom operator may not return a view of an input.
        return kernel(query, key, value, topk=topk, scale=scale, is_causal=False, tensor_layout="HND").contiguous()

    # Without annotations as text, which torch cannot read.
    run.__annotations__ = {
        **dict.fromkeys(("query", "key", "value", "return"), torch.Tensor),
        **dict.fromkeys(("topk", "scale"), float),
    }
    operator = torch.library.custom_op(OPERATOR, run, mutates_args=())
    operator.register_fake(lambda query, key, value, topk, scale: torch.empty_like(query).contiguous())
    return operator


def build(options: SpargeOptions) -> Callable[..., Any]:
    """A function with the parameters of `torch.nn.functional.scaled_dot_product_attention`.

    The kernel ignores masks, so they are refused here.
    """
    operator = define_operator()

    def attend(  # noqa: PLR0913 (torch's parameters)
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        if attn_mask is not None or is_causal or dropout_p or enable_gqa:
            raise ValueError("SpargeAttn computes attention without masks, dropout and grouped heads only")
        return operator(query, key, value, options.topk, query.shape[-1] ** -0.5 if scale is None else scale)

    return attend


register("attention", "sparge", SpargeOptions)(
    Backend(
        build=build,
        package="spas_sage_attn",
        install="spas_sage_attn from https://github.com/thu-ml/SpargeAttn",
        capability=(8, 0),
        head_sizes=(64, 128),
        operators=f"^{OPERATOR}$",
        source="https://github.com/thu-ml/SpargeAttn spas_sage_attn/core.py",
    )
)
