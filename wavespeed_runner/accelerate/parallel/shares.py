"""Which tokens each rank holds: sequences are cut as evenly as possible, in the order of the ranks.

As `torch.tensor_split` cuts: 10 tokens on 4 ranks are 3, 3, 2 and 2. Every rank can work out every other's share, so
sequences of any length need no message about sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from ...errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

REST = "the rest"
"""In place of a stream: the tokens at the end that every rank holds whole."""


def divide(total: int, ranks: int) -> tuple[int, ...]:
    """How many of `total` tokens, or heads, each rank gets."""
    return tuple(total // ranks + (rank < total % ranks) for rank in range(ranks))


@dataclass(kw_only=True)
class Shares:
    """The shares of the denoiser call in progress, on this rank."""

    ranks: int
    rank: int
    active: bool = False
    """False while the denoiser runs undivided: outside of a generation, and when it is compared with itself."""
    lengths: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Stream -> the tokens that each rank holds."""

    def set_length(self, stream: str, total: int) -> None:
        """Divides a stream of so many tokens.

        Raises:
            RunError: there are fewer tokens than ranks.
        """
        if total < self.ranks:
            raise RunError(
                f"parallel: {total} tokens of {stream} cannot be divided among {self.ranks} ranks; "
                f"use at most {total} ranks"
            )
        self.lengths[stream] = divide(total, self.ranks)

    def cut(self, tensor: Tensor, dim: int, parts: Sequence[str]) -> Tensor:
        """This rank's tokens of a whole tensor.

        Args:
            tensor: `dim` is as long as the streams in `parts` together.
            dim: the tokens.
            parts: the streams in their order; `REST` for what follows and stays whole.
        """
        import torch

        pieces, start = [], 0
        for part in parts:
            if part == REST:
                pieces.append(tensor.narrow(dim, start, tensor.shape[dim] - start))
                continue
            lengths = self.lengths[part]
            pieces.append(tensor.narrow(dim, start + sum(lengths[: self.rank]), lengths[self.rank]))
            start += sum(lengths)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)

    def find_segments(self, parts: Sequence[str], local: int) -> list[Segment]:
        """The segments of a sequence that has `local` tokens on this rank.

        Raises:
            RunError: it does not consist of these streams.
        """
        rest = local - sum(self.lengths[part][self.rank] for part in parts if part != REST)
        if rest < 0 or (rest and REST not in parts):
            raise RunError(f"parallel: an attention has {local} tokens on this rank, which are not {', '.join(parts)}")
        return [
            Segment(lengths=(rest,) * self.ranks, whole=True) if part == REST else Segment(lengths=self.lengths[part])
            for part in parts
        ]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a sequence: divided among the ranks, or whole on each of them."""

    lengths: tuple[int, ...]
    """Tokens on each rank."""
    whole: bool = False

    @property
    def total(self) -> int:
        """Tokens of the undivided sequence."""
        return self.lengths[0] if self.whole else sum(self.lengths)


def list_positions(segments: Sequence[Segment], ranks: Sequence[int], *, whole: bool = True) -> list[int]:
    """Where the tokens of some ranks are in the undivided sequence, segment by segment, rank by rank.

    whole: include the segments that every rank holds.
    """
    positions: list[int] = []
    starts = accumulate((segment.total for segment in segments), initial=0)
    for segment, start in zip(segments, starts, strict=False):
        if segment.whole:
            positions += range(start, start + segment.total) if whole else ()
            continue
        for rank in ranks:
            first = start + sum(segment.lengths[:rank])
            positions += range(first, first + segment.lengths[rank])
    return positions
