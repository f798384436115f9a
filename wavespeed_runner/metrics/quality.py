"""Image quality: MAE, SSIM and PSNR of an image against its reference, in float64.

scikit-image computes SSIM and PSNR.

Images are uint8 arrays of shape (height, width, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..media.images import check_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..media.images import ImageArray

WINDOW = 7
"""Side in pixels of the uniform SSIM window (scikit-image's default)."""
LESS_IS_BETTER = frozenset({"mae"})
"""Metrics whose largest value is the worst. For all others the smallest is."""
TAIL = 10
"""Percent of the images that are no better than the figure `p10`."""
RESAMPLES = 2000
"""Bootstrap samples behind a 95 % interval."""


def compare_images(image: ImageArray, reference: ImageArray) -> dict[str, float | None]:
    """Computes the metrics of one image against its reference.

    Returns:
        mae: mean |image - reference| over pixels and channels, on the 0-255 scale.
        mae_similarity: 1 - mae / 255.
        ssim: mean structural similarity, with a uniform 7 x 7 window, over all channels (Wang, Bovik, Sheikh,
            Simoncelli: Image quality assessment, IEEE Transactions on Image Processing 13(4), 2004; sample covariance,
            scikit-image's default).
        psnr: peak signal-to-noise ratio in dB, with a peak of 255. None for identical images: it is infinite, and JSON
            has no infinity.

    Raises:
        ValueError: not images, of different shapes, or smaller than the SSIM window.
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
    # Not in uint8, where 0 - 255 = 1, and not in float32, in which scikit-image would compute PSNR.
    a, b = image.astype(np.float64), reference.astype(np.float64)
    mae = float(np.abs(a - b).mean())
    return {
        "mae": mae,
        "mae_similarity": 1 - mae / 255,
        "ssim": float(structural_similarity(a, b, win_size=WINDOW, channel_axis=2, data_range=255)),
        "psnr": _psnr(a, b),
    }


def compare_videos(
    video: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Computes the metrics of one video, uint8 (frames, height, width, 3), against its reference.

    Returns:
        The mean of each metric over the frames, and its value for the worst frame. PSNR leaves out identical frames.

    Raises:
        ValueError: as `compare`; or different numbers of frames.
    """
    if len(video) != len(reference):
        raise ValueError(f"videos of {len(video)} and {len(reference)} frames cannot be compared")
    summary = summarize_metrics([compare_images(*frames) for frames in zip(video, reference, strict=True)])
    means = {name: values["mean"] for name, values in summary.items()}
    worst = {name: values["worst"] for name, values in summary.items()}
    return means, worst


def _psnr(image: NDArray[np.float64], reference: NDArray[np.float64]) -> float | None:
    from skimage.metrics import peak_signal_noise_ratio

    if (image == reference).all():
        return None
    return float(peak_signal_noise_ratio(reference, image, data_range=255))


def summarize_metrics(
    values: Sequence[Mapping[str, float | None]], *, seed: int = 0, less_is_better: Collection[str] = LESS_IS_BETTER
) -> dict[str, dict[str, Any]]:
    """Summarizes the metrics of several images: mean, 95 % interval of the mean, median, p10 and worst value of each.

    The interval is the percentile bootstrap over images (Efron and Tibshirani: An Introduction to the Bootstrap,
    1993, chapter 13). It says how the mean would vary with other prompts of this kind; with fewer than about ten images
    it is too narrow, and with one image there is none (null).

    Images without a value (the PSNR of identical images) are left out of that metric, which can only lower its mean;
    if no image has a value, all are null.

    Args:
        values: the metrics of each image.
        seed: of the bootstrap, so that a record can be reproduced.
        less_is_better: metrics whose largest value is the worst.

    Returns:
        {metric: {"mean": float, "ci95": [low, high], "median": float, "p10": float, "worst": float}}, p10 as
        `compute_tail` has it; {} without images.
    """
    by_metric: dict[str, list[float]] = {}
    for image in values:
        for name, value in image.items():
            by_metric.setdefault(name, []).extend([] if value is None else [value])
    return {
        name: _summarize_metric(numbers, seed, less_is_better=name in less_is_better)
        for name, numbers in by_metric.items()
    }


def _summarize_metric(values: list[float], seed: int, *, less_is_better: bool) -> dict[str, Any]:
    import numpy as np

    if not values:
        return {"mean": None, "ci95": None, "median": None, "p10": None, "worst": None}
    array = np.asarray(values, dtype=np.float64)
    ci95 = None
    if len(values) > 1:
        rng = np.random.default_rng(seed)
        means = array[rng.integers(len(array), size=(RESAMPLES, len(array)))].mean(axis=1)
        ci95 = [float(bound) for bound in np.percentile(means, [2.5, 97.5])]
    return {
        "mean": float(array.mean()),
        "ci95": ci95,
        "median": float(np.median(array)),
        "p10": compute_tail(values, less_is_better=less_is_better),
        "worst": max(values) if less_is_better else min(values),
    }


def compute_tail(values: Sequence[float], *, less_is_better: bool) -> float:
    """The value that a tenth of the images do not exceed in quality: the 10th percentile, or the 90th of MAE.

    Interpolated linearly between images.

    Args:
        values: of each image; at least one.
        less_is_better: the largest value is the worst.
    """
    import numpy as np

    return float(np.percentile(np.asarray(values, dtype=np.float64), 100 - TAIL if less_is_better else TAIL))
