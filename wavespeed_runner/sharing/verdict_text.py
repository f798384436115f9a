"""Writes the first line of `replay` about a claim: the verdict, and what a reader needs to interpret it."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.claim import ClaimConfig
from ..records.record import Record
from .claim import CONFIG_DIFFERS, QUALITY_METRICS, build_claim, find_differences
from .parts import CLAIM, NOT_REPRODUCED, REPRODUCED, PartVerdict
from .verdict import combine_verdicts, has_same_images

IMAGE_FIGURES = (*QUALITY_METRICS, "forks", "computed_share")
"""Figures that depend only on the images and how they were computed; the others depend on the machine."""
FINGERPRINT_DIGITS = 12
"""Characters of a fingerprint that are shown."""


def format_headline(claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict]) -> str:
    """Returns a line such as `not reproduced (ssim); better than claimed: seconds; what differs: torch 2.9 -> 2.10`."""
    verdict, measured = combine_verdicts(parts), build_claim(record)
    same = has_same_images(claim, measured)
    failed = [part.name for part in parts if part.verdict == NOT_REPRODUCED]
    figures = [name for name in failed if name != CLAIM]
    clauses = [
        verdict
        + (f" ({', '.join(figures)})" if figures else "")
        + (", with different images" if verdict != NOT_REPRODUCED and not same else ""),
        "the claim contradicts itself" if CLAIM in failed else "",
        _list_names("better than claimed: ", [part.name for part in parts if part.better]),
        _explain_differences(claim, record, parts, measured),
        _list_names("not compared on different hardware: ", _find_speeds_not_compared(claim, record, parts)),
        _explain_edited_figures(record, parts) if same else "",
    ]
    return "; ".join(filter(None, clauses))


def _find_speeds_not_compared(claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict]) -> list[str]:
    if claim.device_name == record.environment.device_name:
        return []
    return [part.name for part in parts if part.name in ("seconds", "speedup") and part.verdict is None]


def _list_names(intro: str, names: Sequence[str]) -> str:
    return f"{intro}{', '.join(names)}" if names else ""


def _explain_differences(
    claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict], measured: ClaimConfig
) -> str:
    """What differs besides the figures, where that may be the reason."""
    differences, same = find_differences(claim, record), has_same_images(claim, measured)
    if differences == [CONFIG_DIFFERS]:
        doubt = ", or the fingerprint was edited: the images are the same" if same else ""
        then, now = claim.fingerprint[:FINGERPRINT_DIGITS], record.fingerprint[:FINGERPRINT_DIGITS]
        return f"{CONFIG_DIFFERS}{doubt} (fingerprint {then} -> {now})"
    worse = [part.name for part in parts if part.verdict not in (None, REPRODUCED)]
    reason = _list_names("what differs: ", differences if worse or not same else [])
    if not same and _has_same_quality(claim, measured):
        edited = "the quality equals the claimed one to the last digit, so the hashes were edited"
        return "; ".join(filter(None, [reason, edited]))
    if not same and not reason:
        return "nothing else differs: the file was edited, or this machine does not give the same result twice"
    if worse and not reason and not any(name in IMAGE_FIGURES for name in worse):
        is_faster = any(part.name == "seconds" and part.better for part in parts)
        speed = "less busy or faster" if is_faster else "busier or slower"
        return f"nothing else differs: this machine is {speed} than it was, or the file was edited"
    return reason


def _explain_edited_figures(record: Record, parts: Sequence[PartVerdict]) -> str:
    """Names the claimed figures that the same images cannot have."""
    comparable = [
        part for part in parts if part.name in IMAGE_FIGURES and (record.quality or part.name == "computed_share")
    ]
    wrong = [part.name for part in comparable if part.better or part.verdict == NOT_REPRODUCED]
    if not wrong:
        return ""
    intro = _list_names("the images are the same, but these figures are not: ", wrong)
    return f"{intro}; the file was edited, or the reference differs"


def _has_same_quality(claim: ClaimConfig, measured: ClaimConfig) -> bool:
    """Whether the quality is lossy and equal in every digit, which does not happen by chance for different images."""
    pairs = [(getattr(claim, metric), getattr(measured, metric)) for metric in QUALITY_METRICS]
    known = [(then.value, now.value) for then, now in pairs if then is not None and now is not None]
    lossy = claim.mae is not None and claim.mae.value > 0
    return lossy and all(then == now for then, now in known)
