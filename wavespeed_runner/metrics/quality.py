"""How alike two images are. scikit-image computes SSIM and PSNR; everything happens in float64.

Images are uint8 arrays of shape (height, width, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..media.images import check_image

if TYPE_CHECKING:
    from ..media.images import ImageArray

WINDOW = 7
"""Side in pixels of the uniform SSIM window (scikit-image's default)."""
LESS_IS_BETTER = frozenset({"mae"})
"""Metrics of which the greatest value is the worst; of all others it is the smallest."""
RESAMPLES = 2000
"""Bootstrap samples behind a 95 % interval."""


def compare_images(image: ImageArray, reference: ImageArray) -> dict[str, float | None]:
    """The metrics of one image against its reference.

    Returns:
        mae: mean |image - reference| over pixels and channels, on the 0-255 scale.
        mae_similarity: 1 - mae / 255.
        ssim: mean structural similarity, uniform 7 x 7 window, a channel at a time (Wang, Bovik, Sheikh, Simoncelli:
            Image quality assessment, IEEE Transactions on Image Processing 13(4), 2004; sample covariance, as
            scikit-image's defaults have it).
        psnr: peak signal-to-noise ratio in dB, peak 255. None where the images are identical: it is infinite, and
            JSON has no infinity.

    Raises:
        ValueError: not images, different shapes, or smaller than the SSIM window.
    """
    import numpy as np
    from skimage.metrics import structural_similarity

    check_image(image)
    check_image(reference, "reference")
    if image.shape != reference.shape:
        raise ValueError(f"images of different shapes cannot be compared: {image.shape} and {reference.shape}")
    if min(image.shape[:2]) < WINDOW:
        height, width = image.shape[:2]
        raise ValueError(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, got {width} x {height}")
    # Never uint8 arithmetic, where 0 - 255 = 1; nor float32, to which scikit-image's PSNR would fall.
    a, b = image.astype(np.float64), reference.astype(np.float64)
    mae = float(np.abs(a - b).mean())
    return {
        "mae": mae,
        "mae_similarity": 1 - mae / 255,
        "ssim": float(structural_similarity(a, b, win_size=WINDOW, channel_axis=2, data_range=255)),
        "psnr": _psnr(a, b),
    }


def compare_videos(video: Any, reference: Any) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """The metrics of one video, frames (n, height, width, 3), against its reference.

    Returns:
        Their means over the frames, and the worst frame's value of each. PSNR leaves out frames that are identical.

    Raises:
        ValueError: as `compare`; or different numbers of frames.
    """
    if len(video) != len(reference):
        raise ValueError(f"videos of {len(video)} and {len(reference)} frames cannot be compared")
    figures = summarize([compare_images(one, other) for one, other in zip(video, reference, strict=True)])
    return {name: each["mean"] for name, each in figures.items()}, {n: each["worst"] for n, each in figures.items()}


def _psnr(a: Any, b: Any) -> float | None:
    from skimage.metrics import peak_signal_noise_ratio

    if (a == b).all():
        return None
    return float(peak_signal_noise_ratio(b, a, data_range=255))


def summarize(values: Sequence[Mapping[str, float | None]], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Mean, its 95 % interval, and the worst image's value, for each metric of the per-image results.

    The interval is the percentile bootstrap over images (Efron and Tibshirani: An Introduction to the Bootstrap,
    1993, chapter 13), seeded, so that a record can be reproduced. It says how the mean would vary with other prompts
    like these; of fewer than about ten images it is too narrow. One image has none (null).

    Images without a value (PSNR of identical images) are left out of that metric, which makes its mean pessimistic,
    never flattering; where no image has one, all three are null.

    Returns:
        {metric: {"mean": float, "ci95": [low, high], "worst": float}}; {} of no images.
    """
    by_metric: dict[str, list[float]] = {}
    for image in values:
        for name, value in image.items():
            by_metric.setdefault(name, []).extend([] if value is None else [value])
    return {name: _summary(name, numbers, seed) for name, numbers in by_metric.items()}


def _summary(name: str, values: list[float], seed: int) -> dict[str, Any]:
    import numpy as np

    if not values:
        return {"mean": None, "ci95": None, "worst": None}
    array = np.asarray(values, dtype=np.float64)
    ci95 = None
    if len(values) > 1:
        rng = np.random.default_rng(seed)
        means = array[rng.integers(len(array), size=(RESAMPLES, len(array)))].mean(axis=1)
        ci95 = [float(bound) for bound in np.percentile(means, [2.5, 97.5])]
    return {
        "mean": float(array.mean()),
        "ci95": ci95,
        "worst": max(values) if name in LESS_IS_BETTER else min(values),
    }
