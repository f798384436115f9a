"""The metric `temporal`: flicker counts, a difference that stays does not."""

from __future__ import annotations

import numpy as np
import pytest

from wavespeed_runner.judges.temporal import judge_temporal

RNG = np.random.default_rng(0)
REFERENCE = RNG.integers(50, 200, (5, 8, 6, 3), dtype=np.uint8)


def test_it_is_the_difference_of_the_changes() -> None:
    video = RNG.integers(0, 256, REFERENCE.shape, dtype=np.uint8)
    v, r = video.astype(int), REFERENCE.astype(int)
    expected = [np.abs((v[t + 1] - v[t]) - (r[t + 1] - r[t])).mean() for t in range(4)]
    assert judge_temporal(video, REFERENCE, "") == pytest.approx(expected)


def test_a_video_that_is_darker_throughout_moves_as_its_reference_does() -> None:
    assert judge_temporal(REFERENCE - 40, REFERENCE, "") == [0, 0, 0, 0]


def test_one_frame_that_is_darker_counts_twice() -> None:
    video = REFERENCE.copy()
    video[2] -= 10
    assert judge_temporal(video, REFERENCE, "") == [0, 10, 10, 0]
