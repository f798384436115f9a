"""Whether another run bears a claim out, figure by figure.

    reproduced       the same images, pixel for pixel, with the claimed likeness and share of the work; or, of other
                     images, each likeness and the share as good as the claimed interval or better; and on the same
                     hardware the claimed speed, or more
    within noise     so with the bounds widened by what is known to mean nothing: a likeness by the noise floor, the
                     larger one of the two runs, and by `LEAST` at least; the share by a step of each image; a time by
                     `SPREADS` robust standard deviations of one repetition of the same work to the next, of the run
                     that varies more, and by `SAME_MACHINE` of itself at least and by `MOST` at most. A speed-up is
                     divided by as much
    not reproduced   anything else: a worse figure, one that was claimed and not measured again, a claim that
                     contradicts itself, a speed-up that is none

A claim's own interval and floors count up to `CLAIMED` from its value, or `MOST` of a time; see `claim_noise.py`.

Better than claimed is no failure, and is said: a likeness that is far too good may mean that an option did not take
effect, which the share and the speed-up then show. The same images have the same figures: there only rounding is let
pass, also of the worst image and of the intervals; where hardware, versions or code differ `LEAST`, and any interval.

Speed is judged on the same device name only: elsewhere it is not comparable. The noise floor of other numerics counts
where hardware, versions or code differ; where nothing does, only that of the reference once more. The whole is as good
as its worst part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from ..config.claim import ClaimConfig, ClaimedFigure
from ..config.lossy import is_lossy_beside_caches
from ..metrics.timing import is_too_fast
from ..records.record import Record
from .claim import LIKENESS, better, bounds, claim_of, contradictions, other_machine, rounding
from .tolerance import CLAIMED, LEAST, MOST, Room, likeness_room, time_room

REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED = "reproduced", "within noise", "not reproduced"
VERDICTS = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
"""From best to worst."""
CLAIM, IMAGES = "claim", "images"
"""Parts that are no figures."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One part of a claim beside what was found."""

    what: str
    verdict: str | None
    """None: not comparable, and so not judged."""
    text: str
    better: bool = False
    """Than claimed, by more than noise."""


def judge(claim: ClaimConfig, record: Record) -> list[Judged]:
    """Every part of a claim that can be compared with a completed record."""
    found = claim_of(record)
    wrong = contradictions(claim)
    speedup, share = claim.speedup.value if claim.speedup else None, claim.computed_share
    if is_too_fast(speedup, share) and not is_lossy_beside_caches(record.config):
        wrong.append(f"speedup {speedup:.6g} cannot be where a share of {share:.6g} is computed")
    itself = (
        [Judged(what=CLAIM, verdict=NOT_REPRODUCED, text=f"contradicts itself: {'; '.join(wrong)}")] if wrong else []
    )
    figures = [_likeness(metric, claim, record, found) for metric in LIKENESS]
    parts = [_images(claim, record, found), *figures, _share(claim, record, found), *_speed(claim, record)]
    return [*itself, *(part for part in parts if part is not None)]


def verdict_of(parts: Sequence[Judged]) -> str:
    """The worst one; of nothing that could be compared, that it was not reproduced."""
    judged = [part.verdict for part in parts if part.verdict is not None]
    return max(judged, key=VERDICTS.index) if judged else NOT_REPRODUCED


def same_images(claim: ClaimConfig, found: ClaimConfig) -> bool:
    """Pixel for pixel, all of them and no others."""
    return claim.pixels_sha256 == found.pixels_sha256 != []


def _images(claim: ClaimConfig, record: Record, found: ClaimConfig) -> Judged:
    """Of other images the likeness decides, if there is one."""
    then, now = claim.pixels_sha256, found.pixels_sha256
    same = sum(one == other for one, other in zip(then, now, strict=False))
    text = f"{same} of {max(len(then), len(now))} are the same, pixel for pixel"
    if same_images(claim, found):
        return Judged(what=IMAGES, verdict=REPRODUCED, text=text)
    measured = record.quality and any(getattr(claim, metric) is not None for metric in LIKENESS)
    return Judged(what=IMAGES, verdict=None if measured else NOT_REPRODUCED, text=text)


def _likeness(metric: str, claim: ClaimConfig, record: Record, found: ClaimConfig) -> Judged | None:
    """Nothing where it was not claimed."""
    figure: ClaimedFigure | None = getattr(claim, metric)
    if figure is None:
        return None
    measured = getattr(record.quality, metric, None)
    if measured is None:
        return _missing(metric, figure, record)
    if same_images(claim, found):
        return _exactly(metric, figure, getattr(found, metric), elsewhere=bool(other_machine(claim, record)))
    # PSNR of nothing but images that are identical to their references.
    now = inf if measured.mean is None else measured.mean
    room = likeness_room(metric, claim, record)
    verdict, more = _verdict(metric, now, room.low, room.high, room.widening)
    text = f"{_text(now, figure)}, noise {room.widening:.2g}{_capped(room, f'{CLAIMED[metric]:.2g}')}"
    return Judged(what=metric, verdict=verdict, text=text, better=more)


def _exactly(metric: str, figure: ClaimedFigure, found: ClaimedFigure | None, *, elsewhere: bool) -> Judged:
    """Of the same images: each part of the figure on its own; with other versions the reference may be another."""
    if found is None:
        return Judged(what=metric, verdict=REPRODUCED, text=_text(inf, figure), better=True)
    text, verdicts, more = _text(found.value, figure), [], False
    # Another scipy may draw another bootstrap.
    for name in ("value", "worst") if elsewhere else ("value", "worst", "low", "high"):
        then, now = getattr(figure, name), getattr(found, name)
        if then is None or now is None:
            continue
        verdict, is_better = _verdict(metric, now, then, then, LEAST[metric] if elsewhere else 0.0)
        verdicts.append(verdict)
        more = more or is_better
        if name != "value" and verdict != REPRODUCED:
            text += f"; {name} {now:.5g}, claimed {then:.5g}"
    return Judged(what=metric, verdict=max(verdicts, key=VERDICTS.index), text=text, better=more)


def _share(claim: ClaimConfig, record: Record, found: ClaimConfig) -> Judged | None:
    """Of other images, a step more of each is noise: a change that is near a threshold falls on either side."""
    name, then, now = "computed_share", claim.computed_share, found.computed_share
    if then is None:
        return None
    if now is None:
        return _missing(name, ClaimedFigure(value=then), record)
    widening = LEAST[name] if other_machine(claim, record) else 0.0
    if not same_images(claim, found):
        widening = max(LEAST[name], now / max(_computed_steps(record), 1))
    verdict, more = _verdict(name, now, then, then, widening)
    missing = record.engaged.cache and record.engaged.cache.flops_missing
    if missing and verdict == NOT_REPRODUCED:
        text = f"{now:.5g} of the steps, claimed {then:.5g}; not comparable: FLOPs were not counted ({missing})"
        return Judged(what=name, verdict=None, text=text)
    return Judged(what=name, verdict=verdict, text=_text(now, ClaimedFigure(value=then)), better=more)


def _computed_steps(record: Record) -> float:
    """Of an image, on average."""
    return sum(step.computed for sample in record.samples for step in sample.steps) / len(record.samples)


def _speed(claim: ClaimConfig, record: Record) -> list[Judged]:
    timing = record.timing
    figures = {
        "seconds": (claim.seconds, timing.median if timing else None),
        "speedup": (claim.speedup, timing.speedup if timing else None),
    }
    elsewhere = record.environment.device_name != claim.device_name
    judged = []
    for name, (figure, now) in figures.items():
        if figure is None:
            continue
        if now is None:
            judged.append(_missing(name, figure, record))
        elif elsewhere:
            text = f"{_text(now, figure)}; not comparable: other hardware"
            judged.append(Judged(what=name, verdict=None, text=text))
        else:
            judged.append(_on_the_same(name, claim, record, now))
    return judged


def _on_the_same(name: str, claim: ClaimConfig, record: Record, now: float) -> Judged:
    """A speed on the same hardware."""
    figure: ClaimedFigure = getattr(claim, name)
    room = time_room(name, claim, record)
    spread = room.widening
    text = f"{_text(now, figure)}, spread {spread:.0%}{_capped(room, f'{MOST:.0%}')}"
    if name == "speedup" and now <= 1 < figure.value:
        return Judged(what=name, verdict=NOT_REPRODUCED, text=f"{text}, no speed-up")
    # So much slower, and no more: a share taken off would let any speed-up sink below 1.
    widening = room.low * spread / (1 + spread) if name == "speedup" else spread * figure.value
    verdict, more = _verdict(name, now, room.low, room.high, widening)
    return Judged(what=name, verdict=verdict, text=text, better=more)


def _capped(room: Room, most: str) -> str:
    return f", its own interval and floors count for {most} at most" if room.capped else ""


def _missing(name: str, figure: ClaimedFigure, record: Record) -> Judged:
    """What the file claims and then does not have measured is no claim that holds."""
    kind = record.reference.kind
    why = {"none": " (measure.reference=false)", "self": " (nothing lossy is on to be compared)"}.get(kind, "")
    return Judged(what=name, verdict=NOT_REPRODUCED, text=f"claimed {figure.value:.5g}, not measured again{why}")


def _verdict(name: str, now: float, low: float, high: float, widening: float) -> tuple[str, bool]:
    """The verdict on a figure, and whether it is better than claimed by more than noise. Not a number: neither."""
    short, more = (low - now, now - high) if better(name) > 0 else (now - high, low - now)
    room = rounding(low if better(name) > 0 else high)
    if short <= room:
        return REPRODUCED, more > widening + room
    return (WITHIN_NOISE if short <= widening + room else NOT_REPRODUCED), False


def _text(now: float, figure: ClaimedFigure) -> str:
    low, high = bounds(figure)
    interval = f" ({low:.5g} to {high:.5g})" if low != high else ""
    found = f"{now:.5g}" if now != inf else "identical to the reference"
    return f"{found}, claimed {figure.value:.5g}{interval}"
