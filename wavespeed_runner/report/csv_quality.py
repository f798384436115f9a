"""The columns of `results.csv` about quality against the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..metrics.forks import FORK
from ..records.quality_summary import METRICS
from .csv_column import Column, get_record
from .rows import Row


def _count_identical_images(row: Row) -> int:
    samples = get_record(row).samples
    if any(sample.quality is None for sample in samples):
        raise LookupError
    return sum(sample.quality is not None and sample.quality.mae == 0 for sample in samples)


def _metric_columns(metric: str) -> list[Column]:
    def mean(name: str) -> Callable[[Row], Any]:
        return lambda row: getattr(row.quality[metric].mean, name)

    worst = "greatest" if metric == "mae" else "smallest"
    return [
        Column(name=metric, meaning=f"{MEANINGS[metric]}, mean over the images", value=mean("value")),
        Column(name=f"{metric}_low", meaning="lower bound of its interval", value=mean("low")),
        Column(name=f"{metric}_high", meaning="upper bound of its interval", value=mean("high")),
        Column(name=f"{metric}_median", meaning="median over the images", value=lambda row: row.quality[metric].median),
        Column(
            name=f"{metric}_p10",
            meaning=f"a tenth of the images are no better: {'90th' if metric == 'mae' else '10th'} percentile",
            value=lambda row: row.quality[metric].p10,
        ),
        Column(
            name=f"{metric}_worst",
            meaning=f"{worst} value, that of the worst image",
            value=lambda row: row.quality[metric].worst,
        ),
        Column(
            name=f"{metric}_noise_floor",
            meaning="the reference compared with itself, run again or with other numerics: the worst measured value",
            value=lambda row: row.quality[metric].noise_floor,
        ),
    ]


MEANINGS = {
    "mae": "mean absolute difference from the reference, 0 to 255",
    "mae_similarity": "1 - MAE / 255",
    "ssim": "structural similarity to the reference",
    "psnr": "peak signal-to-noise ratio in dB, without images identical to their reference, for which it is infinite",
}

QUALITY_COLUMNS = (
    *(column for metric in METRICS for column in _metric_columns(metric)),
    Column(
        name="worst_prompt",
        meaning="prompt of the image with the lowest SSIM",
        value=lambda row: row.quality["ssim"].worst_prompt,
    ),
    Column(name="worst_seed", meaning="seed of that image", value=lambda row: row.quality["ssim"].worst_seed),
    Column(
        name="forks",
        meaning=f"number of images whose SSIM is below {FORK:g}, which counts as another image than the reference",
        value=lambda row: row.forks and row.forks.count,
    ),
    Column(
        name="ssim_without_forks",
        meaning="mean SSIM of the other images, where few forks decide `ssim`: of at least ten images, two or a tenth "
        "are forks, and without them the mean is less than half as far from 1; empty elsewhere",
        value=lambda row: row.forks and row.forks.mean_of_others,
    ),
    Column(
        name="identical_pictures",
        meaning="number of images that are identical to their reference, pixel for pixel",
        value=_count_identical_images,
    ),
)
