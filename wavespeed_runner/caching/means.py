"""Means and inner products of tokens, also where the tokens are divided among ranks.

A strategy that decided by the tokens of one rank would decide differently on each, and the first rank to skip a block
would leave the others waiting for its message. So sums and counts are added up over the ranks before they are divided:
every rank gets the same number, and it is the one that a single process gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

AddUp = Callable[["Tensor"], "Tensor"]
"""The sum of a small tensor over all ranks that share the tokens."""

_add_up: ContextVar[AddUp | None] = ContextVar("add_up", default=None)


@contextmanager
def add_up_over_ranks(add_up: AddUp | None) -> Iterator[None]:
    """Makes `mean` and `total` those over all ranks while the context is open; None: there is one rank."""
    token = _add_up.set(add_up)
    try:
        yield
    finally:
        _add_up.reset(token)


def mean(values: Tensor) -> Tensor:
    """The mean over all tokens, of shape (), in the dtype of the values.

    What every rank holds whole gives the same: it is counted once a rank.
    """
    add_up = _add_up.get()
    if add_up is None:
        return values.mean()
    import torch

    exact = torch.promote_types(values.dtype, torch.float32)
    both = add_up(torch.stack([values.sum(dtype=exact), values.new_full((), values.numel(), dtype=exact)]))
    return (both[0] / both[1]).to(values.dtype)


def total(values: Tensor) -> Tensor:
    """A sum of shape () over this rank's tokens, added up over all ranks."""
    add_up = _add_up.get()
    return values if add_up is None else add_up(values)
