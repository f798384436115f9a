"""Forks: how many there are, and when a few of them decide a mean."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.metrics.forks import FORK, Forks, find_forks

SSIM = st.floats(0.2, 1) | st.floats(0.89, 0.91) | st.floats(0.98, 1)


@given(st.lists(SSIM, min_size=1, max_size=60), st.randoms())
def test_forks_are_counted_and_decide_a_mean_as_defined(ssims: list[float], order: object) -> None:
    forks = find_forks(ssims)
    others = [ssim for ssim in ssims if not ssim < 0.9]
    assert (forks.count, forks.of) == (len(ssims) - len(others), len(ssims))
    few = 1 <= forks.count <= 2 or 1 <= 10 * forks.count <= len(ssims)
    if forks.mean_of_others is None:
        halved = bool(others) and 1 - fmean(others) < (1 - fmean(ssims)) / 2 - 1e-12
        assert len(ssims) < 10 or not few or not halved
    else:
        assert len(ssims) >= 10 and few
        assert forks.mean_of_others == pytest.approx(fmean(others), abs=1e-12)
        assert 1 - forks.mean_of_others < (1 - fmean(ssims)) / 2 + 1e-12
    order.shuffle(ssims)  # type: ignore[attr-defined]
    again = find_forks(ssims)
    assert (again.count, again.of) == (forks.count, forks.of)


@pytest.mark.parametrize(
    ("ssims", "forks"),
    [
        ([], Forks(count=0, of=0)),
        ([0.5], Forks(count=1, of=1)),
        ([FORK, 0.95], Forks(count=0, of=2)),
        ([*[0.99] * 46, 0.5, 0.6], Forks(count=2, of=48, mean_of_others=0.99)),
        ([*[0.99] * 8, 0.5], Forks(count=1, of=9)),
        ([*[0.99] * 8, 0.5, 0.6], Forks(count=2, of=10, mean_of_others=0.99)),
        ([*[0.99] * 8, 0.5, 0.6, 0.7], Forks(count=3, of=11)),
        ([*[0.99] * 27, 0.5, 0.6, 0.7], Forks(count=3, of=30, mean_of_others=0.99)),
        ([*[0.95] * 46, 0.85, 0.85], Forks(count=2, of=48)),
        ([0.8] * 20, Forks(count=20, of=20)),
    ],
    ids=["none", "one image", "at the limit", "two of 48", "too few images", "two of ten", "too many", "a tenth",
         "the others are no better", "all"],
)  # fmt: skip
def test_few_forks_among_good_images_decide_the_mean(ssims: list[float], forks: Forks) -> None:
    found = find_forks(ssims)
    assert (found.count, found.of) == (forks.count, forks.of)
    assert found.mean_of_others == (None if forks.mean_of_others is None else pytest.approx(forks.mean_of_others))
