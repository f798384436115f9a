"""Masks of attention whose tokens are divided among ranks.

Most models build a mask of all tokens, which every rank has; a few build one of the tokens that the rank holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import RunError
from .collectives import gather
from .groups import Place
from .shares import Segment

if TYPE_CHECKING:
    from torch import Tensor


def widen_mask(
    mask: Tensor, queries: Sequence[Segment], keys: Sequence[Segment], place: Place, *, pairs: bool
) -> Tensor:
    """The mask over the tokens of all ranks: (batch, heads, queries, keys), each of them 1 or all.

    Args:
        mask: over all keys, or over this rank's; of one row, or of all queries.
        queries: segments of the queries.
        keys: segments of the keys.
        place: of this rank.
        pairs: this rank's rows and columns are the same tokens, and a pair counts where both tokens do.

    Raises:
        RunError: it is of neither size.
    """
    while mask.ndim < 4:
        mask = mask[None]
    rows, columns = sum(segment.total for segment in queries), sum(segment.total for segment in keys)
    mine = sum(segment.lengths[place.sequence_rank] for segment in keys)
    if pairs and mask.shape[-2:] == (mine, mine):
        counts = _gather_columns(mask.diagonal(dim1=-2, dim2=-1)[..., None, :], keys, place)
        return counts & counts.transpose(-1, -2)
    # All ranks gather, or none: a mask of one column for all keys would be the same as none, so no model makes one.
    if mask.shape[-1] == mine and mask.shape[-2] == 1:
        mask = _gather_columns(mask, keys, place)
    if mask.shape[-1] not in (1, columns) or mask.shape[-2] not in (1, rows):
        raise RunError(
            f"parallel: a mask of {mask.shape[-2]} x {mask.shape[-1]} does not fit {rows} queries and {columns} keys"
        )
    return mask


def select_mask(mask: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """The part of a mask for some queries and some keys."""
    import torch

    for dim, wanted in ((-2, rows), (-1, columns)):
        if mask.shape[dim] > 1:
            mask = mask.index_select(dim, torch.tensor(wanted, device=mask.device))
    return mask


def _gather_columns(mask: Tensor, segments: Sequence[Segment], place: Place) -> Tensor:
    """Joins the columns of all ranks, in the order of the segments. mask: (batch, heads, 1, this rank's keys)."""
    import torch

    rows = mask.shape[:3].numel()
    counts = [sum(segment.lengths[rank] for segment in segments) for rank in range(len(place.sequence_ranks))]
    # As bytes: not every backend sends booleans.
    flat = mask.to(torch.uint8) if mask.dtype is torch.bool else mask
    gathered = gather(flat.reshape(-1), [rows * count for count in counts], place.name_group("sequence"), "mask")
    by_rank = [
        part.view(*mask.shape[:3], count).split([segment.lengths[rank] for segment in segments], -1)
        for rank, (part, count) in enumerate(
            zip(gathered.split([rows * count for count in counts]), counts, strict=True)
        )
    ]
    ordered = [
        by_rank[rank][position]
        for position, segment in enumerate(segments)
        for rank in ([0] if segment.whole else range(len(counts)))
    ]
    return torch.cat(ordered, -1).to(mask.dtype)
