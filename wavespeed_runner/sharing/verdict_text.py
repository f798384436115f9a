"""What `replay` says of a claim in its first line: the verdict, and what a reader has to know to understand it."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.claim import ClaimConfig
from ..records.record import Record
from .claim import LIKENESS, OTHER_CONFIG, claim_of, differences
from .verdict import CLAIM, NOT_REPRODUCED, REPRODUCED, Judged, same_images, verdict_of

OF_IMAGES = (*LIKENESS, "computed_share")
"""Figures that follow from the images and how they were made; the others are of the machine."""
SHOWN = 12
"""Characters of a fingerprint that are shown."""


def headline(claim: ClaimConfig, record: Record, parts: Sequence[Judged]) -> str:
    """`not reproduced (ssim); better than claimed: seconds; what differs: torch 2.9.0 -> 2.10.0`."""
    verdict, found = verdict_of(parts), claim_of(record)
    same = same_images(claim, found)
    short = [part.what for part in parts if part.verdict == NOT_REPRODUCED]
    figures = [what for what in short if what != CLAIM]
    said = [
        verdict
        + (f" ({', '.join(figures)})" if figures else "")
        + (", with other images" if verdict != NOT_REPRODUCED and not same else ""),
        "the claim contradicts itself" if CLAIM in short else "",
        _listed("better than claimed: ", [part.what for part in parts if part.better]),
        _difference(claim, record, parts, found),
        _listed("not compared, on other hardware: ", _elsewhere(claim, record, parts)),
        _not_theirs(record, parts) if same else "",
    ]
    return "; ".join(filter(None, said))


def _elsewhere(claim: ClaimConfig, record: Record, parts: Sequence[Judged]) -> list[str]:
    """Figures of the machine that another one cannot bear out."""
    if claim.device_name == record.environment.device_name:
        return []
    return [part.what for part in parts if part.what in ("seconds", "speedup") and part.verdict is None]


def _listed(about: str, names: Sequence[str]) -> str:
    return f"{about}{', '.join(names)}" if names else ""


def _difference(claim: ClaimConfig, record: Record, parts: Sequence[Judged], found: ClaimConfig) -> str:
    """What else than the figures is not as claimed, as far as that may be why."""
    differing, same = differences(claim, record), same_images(claim, found)
    if differing == [OTHER_CONFIG]:
        though = ", or the fingerprint was edited: the images are the same" if same else ""
        return f"{OTHER_CONFIG}{though} (fingerprint {claim.fingerprint[:SHOWN]} -> {record.fingerprint[:SHOWN]})"
    worse = [part.what for part in parts if part.verdict not in (None, REPRODUCED)]
    said = _listed("what differs: ", differing if worse or not same else [])
    if not same and _same_likeness(claim, found):
        return "; ".join(
            filter(None, [said, "the likeness is the claimed one to the last digit, so hashes were edited"])
        )
    if not same and not said:
        return "nothing else differs: the file was edited, or this machine does not repeat itself"
    if worse and not said and not any(what in OF_IMAGES for what in worse):
        return "nothing else differs: this machine is busier or slower than it was, or the file was edited"
    return said


def _not_theirs(record: Record, parts: Sequence[Judged]) -> str:
    """Figures that the same images cannot have."""
    measured = [part for part in parts if part.what in OF_IMAGES and (record.quality or part.what not in LIKENESS)]
    wrong = [part.what for part in measured if part.better or part.verdict == NOT_REPRODUCED]
    other = ": the file was edited, or the reference is another"
    return _listed("the images are the same, but not their claimed ", wrong) + other if wrong else ""


def _same_likeness(claim: ClaimConfig, found: ClaimConfig) -> bool:
    """Other images do not come as close to their references by chance; those without any loss do."""
    pairs = [(getattr(claim, metric), getattr(found, metric)) for metric in LIKENESS]
    known = [(then.value, now.value) for then, now in pairs if then is not None and now is not None]
    lossy = claim.mae is not None and claim.mae.value > 0
    return lossy and all(then == now for then, now in known)
