"""Forks: images that left the reference's way and became another image, and means that a few of them decide.

A mean of many good images and few forks describes none of them. So the number of forks stands beside it, and where they
decide it, also the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FORK = 0.9
"""An image (or video) whose SSIM to its reference is lower counts as a fork, as another image than the reference. This
does not tell it from an image that is only much worse; if a setting makes all of them so, the median says it."""
FEWEST_IMAGES = 10
"""With fewer images, each one decides the mean."""
FEW = 2
"""So many forks are few, or a tenth of the images where that is more."""


@dataclass(frozen=True, kw_only=True)
class Forks:
    """How many of the images are forks."""

    count: int
    of: int
    """Images that were compared."""
    mean_of_others: float | None = None
    """Mean SSIM of the others, where few forks decide the mean; see `find_forks`."""


def find_forks(ssims: Sequence[float]) -> Forks:
    """Counts the forks among images, and finds out whether they decide the mean SSIM.

    They do if there are at least `FEWEST_IMAGES` images, the forks are few (`FEW`, or a tenth), and the mean of the
    others is less than half as far from 1 as the mean of all.

    Args:
        ssims: the SSIM of each image to its reference.
    """
    others = [ssim for ssim in ssims if ssim >= FORK]
    count = len(ssims) - len(others)
    if not 0 < count <= max(FEW, len(ssims) // 10) or len(ssims) < FEWEST_IMAGES:
        return Forks(count=count, of=len(ssims))
    mean, mean_of_others = sum(ssims) / len(ssims), sum(others) / len(others)
    decide = 1 - mean_of_others < (1 - mean) / 2
    return Forks(count=count, of=len(ssims), mean_of_others=mean_of_others if decide else None)
