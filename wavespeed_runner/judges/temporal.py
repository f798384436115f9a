"""Temporal difference: how much a video changes from frame to frame otherwise than its reference does."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from .metric import metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@metric("temporal", less_is_better=True, needs_reference=True, of_videos=True)
def judge_temporal(video: NDArray[np.uint8], reference: NDArray[np.uint8], prompt: str) -> list[float]:
    """Mean |(v[t+1] - v[t]) - (r[t+1] - r[t])| over pixels and channels, for each pair of neighbouring frames.

    On the 0-255 scale, as MAE. 0: the video moves as its reference does, whatever both look like: a frame that is
    darker by as much as all others costs nothing, flicker does.
    """
    import numpy as np

    # What is left of the two differences is the change of the error from frame to frame.
    error = video.astype(np.float64) - reference
    return [float(np.abs(after - before).mean()) for before, after in pairwise(error)]
