"""Quality metrics, checked against their formulas in float64 without scikit-image."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.metrics import quality


def pair(seed: int = 0, height: int = 24, width: int = 31, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    """An image with noise and the same image without."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 100 * np.sin(x / 5), 128 + 100 * np.cos(y / 4), 8 * (x + y) % 256], axis=2)
    return (np.clip(smooth + rng.normal(0, noise, smooth.shape), 0, 255).astype(np.uint8), smooth.astype(np.uint8))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM by Wang et al. 2004, equation 13: the mean over channels and all positions of a uniform 7 x 7 window.

    With the sample covariance, K1 = 0.01, K2 = 0.03 and L = 255.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for top in range(a.shape[0] - 6):
            for left in range(a.shape[1] - 6):
                window = np.s_[top : top + 7, left : left + 7, channel]
                x, y = a[window].astype(np.float64).ravel(), b[window].astype(np.float64).ravel()
                (vx, cxy), (_, vy) = np.cov(x, y)
                mx, my = x.mean(), y.mean()
                values.append((2 * mx * my + c1) * (2 * cxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_follow_their_formulas(seed: int) -> None:
    a, b = pair(seed)
    metrics = quality.compare_images(a, b)
    error = a.astype(np.float64) - b.astype(np.float64)
    assert metrics["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-12)
    assert metrics["mae_similarity"] == pytest.approx(1 - np.abs(error).mean() / 255, rel=1e-12)
    assert metrics["psnr"] == pytest.approx(10 * math.log10(255**2 / (error**2).mean()), rel=1e-12)
    assert metrics["ssim"] == pytest.approx(ssim(a, b), rel=1e-9)


def test_metrics_agree_with_scikit_image_on_8_bit_images() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = pair()
    metrics = quality.compare_images(a, b)
    assert metrics["ssim"] == pytest.approx(structural_similarity(a, b, channel_axis=2, data_range=255), rel=1e-9)
    assert metrics["psnr"] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), rel=1e-6)


def test_black_against_white_does_not_wrap_around() -> None:
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    for a, b in (dark, bright), (bright, dark):
        metrics = quality.compare_images(a, b)
        assert (metrics["mae"], metrics["mae_similarity"], metrics["psnr"]) == (255, 0, 0)
        assert metrics["ssim"] == pytest.approx(0, abs=1e-3)


def test_identical_images_have_no_psnr() -> None:
    a, _ = pair()
    assert quality.compare_images(a, a.copy()) == {"mae": 0, "mae_similarity": 1, "ssim": 1, "psnr": None}


def test_images_that_cannot_be_compared_are_refused_with_their_sizes() -> None:
    a, b = pair()
    with pytest.raises(ValueError, match=r"\(24, 31, 3\) and \(23, 31, 3\)"):
        quality.compare_images(a, b[1:])
    with pytest.raises(ValueError, match="7 x 7 pixels, got 31 x 6"):
        quality.compare_images(a[:6], b[:6])
    with pytest.raises(ValueError, match="float64"):
        quality.compare_images(a / 255, b)
    assert quality.compare_images(a[:7, :7], b[:7, :7])["ssim"] < 1


def test_summary_has_mean_interval_and_worst_value() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for n in (10, 100, 1000):
        values = [{"ssim": float(v), "mae": float(10 - 10 * v)} for v in rng.beta(20, 2, n)]
        summary = quality.summarize_metrics(values)
        for metric, worst in (("ssim", min), ("mae", max)):
            numbers = [v[metric] for v in values]
            low, high = summary[metric]["ci95"]
            assert low < summary[metric]["mean"] < high
            assert summary[metric]["mean"] == pytest.approx(np.mean(numbers))
            assert summary[metric]["worst"] == worst(numbers)
        widths.append(summary["ssim"]["ci95"][1] - summary["ssim"]["ci95"][0])
        # The normal approximation of the same interval.
        expected = 2 * 1.96 * np.std([v["ssim"] for v in values]) / math.sqrt(n)
        assert widths[-1] == pytest.approx(expected, rel=0.2)
    assert widths[0] > widths[1] > widths[2]
    assert quality.summarize_metrics(values) == summary


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_median_and_p10_are_those_of_the_standard_library(values: list[float]) -> None:
    """`p10` leaves a tenth of the images on its worse side, so it is the 90th percentile where less is better."""
    summary = quality.summarize_metrics([{"ssim": value, "mae": value} for value in values])
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    for metric, tail in (("ssim", deciles[0]), ("mae", deciles[-1])):
        found = summary[metric]
        assert found["median"] == pytest.approx(statistics.median(values), abs=1e-12)
        assert found["p10"] == pytest.approx(tail, abs=1e-12)
        ordered = [found["worst"], found["p10"], found["median"]]
        assert ordered == sorted(ordered, reverse=metric == "mae")


def test_summary_of_few_images() -> None:
    assert quality.summarize_metrics([]) == {}
    assert quality.summarize_metrics([{"ssim": 0.5, "psnr": None}]) == {
        "ssim": {"mean": 0.5, "ci95": None, "median": 0.5, "p10": 0.5, "worst": 0.5},
        "psnr": {"mean": None, "ci95": None, "median": None, "p10": None, "worst": None},
    }
    summary = quality.summarize_metrics([{"psnr": None}, {"psnr": 30.0}, {"psnr": 40.0}])["psnr"]
    assert (summary["mean"], summary["median"], summary["p10"], summary["worst"]) == (35, 35, 31, 30)
    assert quality.summarize_metrics([{"ssim": 0.1}] * 7)["ssim"]["ci95"] == pytest.approx([0.1, 0.1])
