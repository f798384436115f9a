"""What has become of a job, as its record tells: for the loop, which asks what is done, and for the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import make_printable

NEVER_HIT = "the cache never hit"
"""How the record's warning begins."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What has become of a job, as far as its files tell."""

    status: str
    """completed | failed | interrupted (by hand) | lost (its process died) | unfinished (or running) | missing"""
    identity: str | None = None
    reason: str = ""
    """Why it did not complete, on one line."""
    seconds: float | None = None
    """Of denoising an image, median."""
    speedup: float | None = None
    same_run: bool = True
    """Whether the speedup compares times that were taken together, and is one that can be."""
    ssim: float | None = None
    computed_share: float | None = None
    """Of the reference's work."""
    never_hit: str = ""
    """What the record says of a cache that was on while every step was computed."""


def as_outcome(record: dict[str, Any]) -> Outcome:
    """What a job's record says."""
    error, timing = record.get("error") or {}, record.get("timing") or {}
    status = str(record.get("status"))
    if status == "interrupted" and not error:
        status = "unfinished"
    where = f"stage {error['stage']}: " if error.get("stage") else ""
    # The message of these was written for people; of anything else, the type says more than the message.
    kind = "" if error.get("type") in ("RunError", "KeyboardInterrupt") else f"{error.get('type')}: "
    ssim = ((record.get("quality") or {}).get("ssim") or {}).get("mean")
    share, never_hit = _computed(record) if status == "completed" else (None, "")
    return Outcome(
        status=status,
        identity=record.get("identity"),
        reason=make_printable(f"{where}{kind}{error.get('message', '')}") if error else "",
        seconds=timing.get("median"),
        speedup=timing.get("speedup"),
        same_run=timing.get("same_run") is not False,
        ssim=ssim,
        computed_share=share,
        never_hit=never_hit,
    )


def _computed(record: dict[str, Any]) -> tuple[float | None, str]:
    """The share, and why a cache never hit; not known where somebody has edited the record."""
    from ..records.summary import computed_share, never_hit

    try:
        said = [word for word in record.get("warnings") or () if word.startswith(NEVER_HIT)] or [NEVER_HIT]
        return computed_share(record), said[0] if never_hit(record) else ""
    except (KeyError, TypeError, ZeroDivisionError, AttributeError):
        return None, ""
