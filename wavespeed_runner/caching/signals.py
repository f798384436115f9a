"""Signals: what a strategy watches. A signal is a function of what the head blocks of one call did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config import PartConfig
from ..registry import register


@dataclass(kw_only=True)
class FirstBlockResidual(PartConfig):
    name: str = "first_block_residual"
    blocks: int = 1
    """Blocks at the head that always run; the signal is their residual."""


@register("cache/signal", "first_block_residual", FirstBlockResidual)
def first_block_residual(before: Any, after: Any) -> Any:
    """Residual of the head blocks on the hidden states.

    Args:
        before: hidden states at the head's input, (batch, tokens, channels).
        after: hidden states at its output, same shape.
    """
    return after - before
