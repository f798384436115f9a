"""The functions of claims for records as plain data, as in record.json, so that a test can change any value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from wavespeed_runner.config.claim import ClaimConfig, ClaimedFigure
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing import claim as claims
from wavespeed_runner.sharing import verdict, verdict_text
from wavespeed_runner.sharing.parts import PartVerdict

Record = dict[str, Any]
"""As in record.json."""


def build_claim(record: Record) -> ClaimConfig:
    return claims.build_claim(record_from_data(record))


def find_differences(claim: ClaimConfig, record: Record) -> list[str]:
    return claims.find_differences(claim, record_from_data(record))


def verify_claim(claim: ClaimConfig, record: Record) -> list[PartVerdict]:
    return verdict.verify_claim(claim, record_from_data(record))


def format_headline(claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict]) -> str:
    return verdict_text.format_headline(claim, record_from_data(record), parts)


def get_verdicts(parts: list[PartVerdict]) -> dict[str, str | None]:
    return {part.name: part.verdict for part in parts}


def change_record(
    measured: Record, change: Callable[[Record], Any] = lambda record: None, *, other_pixels: bool = True
) -> Record:
    """A changed copy of a record, in which by default the first image differs."""
    record = deepcopy(measured)
    if other_pixels:
        record["samples"][0]["pixels_sha256"] = "0" * 64
    change(record)
    return record


def use_another_torch(record: Record) -> None:
    record["environment"]["versions"]["torch"] = "0.1"


def set_raw_seconds(record: Record, *raw: list[float]) -> None:
    for sample, seconds in zip(record["samples"], raw, strict=True):
        sample["raw_seconds"] = seconds


CHANGES: dict[str, Callable[[Record, str, float], Any]] = {
    "seconds": lambda r, name, value: r["timing"].update(median=value),
    "speedup": lambda r, name, value: r["timing"].update(speedup=value),
}


def verify_figure(measured: Record, name: str, figure: ClaimedFigure, measured_value: float) -> PartVerdict:
    """Verifies one figure for different images and versions, so that the floor of other numerics counts too."""
    claim = build_claim(measured)
    setattr(claim, name, figure)
    set_figure = CHANGES.get(name, lambda r, name, value: r["quality"][name].update(mean=value))
    record = change_record(measured, lambda r: (use_another_torch(r), set_figure(r, name, measured_value)))
    record["noise_floor"] = None
    (part,) = (part for part in verify_claim(claim, record) if part.name == name)
    return part


Change = Callable[[ClaimConfig], Any]
IMPROVED: dict[str, Change] = {
    "ssim": lambda c: vars(c.ssim).update(value=0.902),
    "mae_similarity": lambda c: vars(c.mae_similarity).update(value=0.951),
    "mae": lambda c: vars(c.mae).update(value=12.6),
    "psnr": lambda c: vars(c.psnr).update(value=30.2),
    "forks": lambda c: vars(c).update(forks=0),
    "computed_share": lambda c: vars(c).update(computed_share=(c.computed_share or 0) - 0.002),
}
"""Each makes a figure better: visibly, but by less than the width of its interval."""
IMAGE_FIGURES = tuple(IMPROVED)
