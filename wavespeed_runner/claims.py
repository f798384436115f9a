"""What a run claims of its result, and whether another run bears it out.

    reproduced       the same pictures, pixel for pixel, or each likeness within the claimed interval; and on the same
                     hardware the claimed speed, or more
    within noise     so with the intervals widened by what is known to mean nothing: a likeness by the noise floor, the
                     larger one of the two runs, and by `LEAST` at least; a time by `SPREADS` robust standard deviations
                     of one repetition of the same work to the next, of the run that varies more, and by `SAME_MACHINE`
                     of itself at least and by `MOST` at most. A speed-up is divided by as much, and one that is none
                     is never within noise of one
    not reproduced   anything else

A likeness may be off in both directions: one that is far too good says that an option did not take effect. Speed is
judged in one, and on the same device name only: elsewhere it is not comparable. The noise floor of other numerics
counts where hardware, versions or code differ; where nothing does, only that of the reference once more. The whole is
as good as its worst part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median
from typing import Any

from .config import ClaimConfig, ClaimedFigure

JUDGED = ("ssim", "mae_similarity", "mae")
"""Not PSNR: it is infinite for equal pictures, and says nothing that MAE does not."""
SHOWN = (*JUDGED, "psnr")
PERFECT = {"ssim": 1.0, "mae_similarity": 1.0, "mae": 0.0}
LEAST = {"ssim": 1e-3, "mae_similarity": 4e-4, "mae": 0.1, "psnr": 0.1}
"""Differences that nobody sees, also where no noise floor was measured: a tenth of a grey level of 255, and what comes
to about the same in the others. Another kernel of the same library changes a mean by so much."""
SPREADS = 3
SAME_MACHINE = 0.05
"""Part of a time that is put down to another process on the same machine: other memory, another clock rate."""
MOST = 0.25
"""Largest part of a time that counts as noise: on a machine that is busier than this, no claim would ever fail."""
DIGITS = 6
"""Significant ones of a claimed figure; less than this is rounding."""
TO_STANDARD_DEVIATION = 1.4826
"""A median absolute deviation times this estimates the standard deviation of normal values."""

REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED = "reproduced", "within noise", "not reproduced"
VERDICTS = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
"""From best to worst."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One part of a claim beside what was found."""

    what: str
    verdict: str | None
    """None: not comparable, and so not judged."""
    text: str


def claim_of(record: dict[str, Any]) -> ClaimConfig:
    """What a completed record claims. Intervals are 95 % ones, as in a report: all pictures of a prompt are drawn
    together; the likeness of a single picture has none.

    No speed-up where run and reference were not timed in turn: that ratio is a guess.
    """
    from .report.measured import measured
    from .report.statistics import interval

    found = measured(record)
    samples, timing, environment = record["samples"], record["timing"], record["environment"]
    claim = ClaimConfig(
        computed_share=_rounded(found["computed_share"]),
        prompts=len(record["plan"]["prompts"]),
        prompts_sha256=prompts_digest(record),
        pixels_sha256=[s["pixels_sha256"] for s in samples],
        fingerprint=record["fingerprint"],
        device_name=environment["device_name"],
        code=environment["code"],
        commit=environment.get("commit"),
        versions=dict(environment["versions"]),
    )
    if timing["raw"]:
        seconds, part = found["seconds"], _deviation(record)
        mad = None if part is None else part * timing["median"]
        claim.seconds = _figure(value=timing["median"], low=seconds.low, high=seconds.high, mad=mad)
    if timing["speedup"] is not None and timing["same_run"]:
        pairs = [(s["prompt"], s["reference_seconds"] / s["seconds"]) for s in samples if s["seconds"]]
        ratios = interval(pairs, "median")
        value = timing["speedup"]
        # Of the ratios picture by picture; the value is the ratio of the medians, which may lie just outside.
        claim.speedup = _figure(value=value, low=min(ratios.low, value), high=max(ratios.high, value))
    for metric in SHOWN:
        figure = found["quality"].get(metric)
        if figure is not None:
            several = len(samples) > 1
            own = _figure(
                value=figure.mean.value,
                low=figure.mean.low if several else None,
                high=figure.mean.high if several else None,
                worst=figure.worst,
                noise_floor=noise_floor(record, metric),
                repeat_floor=noise_floor(record, metric, ("repeat",)),
            )
            setattr(claim, metric, own)
    return claim


def noise_floor(record: dict[str, Any], metric: str, kinds: Sequence[str] = ("repeat", "numerics")) -> float | None:
    """The worst that the reference was to itself; None where that was not measured."""
    floors = [(record.get("noise_floor") or {}).get(kind) or {} for kind in kinds]
    known = [floor[metric] for floor in floors if floor.get(metric) is not None]
    return (max if metric == "mae" else min)(known, default=None)


def prompts_digest(record: dict[str, Any]) -> str:
    return sha256("\n".join(record["plan"]["prompts"]).encode()).hexdigest()


def judge(claim: ClaimConfig, record: dict[str, Any]) -> list[Judged]:
    """Every part of a claim that can be compared with a completed record."""
    return [*_pictures(claim, record), *_speed(claim, record)]


def verdict_of(parts: Sequence[Judged]) -> str:
    """The worst one; of nothing that could be compared, that it was not reproduced."""
    judged = [part.verdict for part in parts if part.verdict is not None]
    return max(judged, key=VERDICTS.index) if judged else NOT_REPRODUCED


def differences(claim: ClaimConfig, record: dict[str, Any]) -> list[str]:
    """What may make the same config give other results."""
    environment = record["environment"]
    found = ["other prompts"] if claim.prompts_sha256 != prompts_digest(record) else []
    now = {**environment["versions"], "device": environment["device_name"], "code": environment["code"]}
    then = {**claim.versions, "device": claim.device_name, "code": claim.code}
    found += [f"{key} {then.get(key)} -> {value}" for key, value in now.items() if then.get(key) != value]
    if not found and claim.fingerprint != record["fingerprint"]:
        found = ["other weights, or the config was edited"]
    return found


def _figure(**values: float | None) -> ClaimedFigure:
    return ClaimedFigure(**{key: _rounded(value) for key, value in values.items()})  # type: ignore[arg-type]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _pictures(claim: ClaimConfig, record: dict[str, Any]) -> list[Judged]:
    found = [sample["pixels_sha256"] for sample in record["samples"]]
    same = sum(one == other for one, other in zip(claim.pixels_sha256, found, strict=False))
    count = max(len(claim.pixels_sha256), len(found))
    text = f"{same} of {count} are the same, pixel for pixel"
    if same == count > 0:
        return [Judged(what="pictures", verdict=REPRODUCED, text=text)]
    figures = [_likeness(metric, claim, record) for metric in JUDGED]
    judged = [one for one in figures if one is not None]
    return [Judged(what="pictures", verdict=None if judged else NOT_REPRODUCED, text=text), *judged]


def _likeness(metric: str, claim: ClaimConfig, record: dict[str, Any]) -> Judged | None:
    """Nothing where it was not claimed, or not measured again."""
    figure: ClaimedFigure | None = getattr(claim, metric)
    now = ((record["quality"] or {}).get(metric) or {}).get("mean")
    if figure is None or now is None:
        return None
    floors = [figure.repeat_floor, noise_floor(record, metric, ("repeat",))]
    if differences(claim, record):
        floors += [figure.noise_floor, noise_floor(record, metric)]
    widening = max([LEAST[metric], *(abs(PERFECT[metric] - floor) for floor in floors if floor is not None)])
    low, high = _bounds(figure)
    outside = max(low - now, now - high, 0.0)
    return Judged(
        what=metric,
        verdict=_verdict(outside, widening, abs(figure.value)),
        text=f"{_text(now, figure)}, noise {widening:.2g}",
    )


def _speed(claim: ClaimConfig, record: dict[str, Any]) -> list[Judged]:
    figures = {
        "seconds": (claim.seconds, record["timing"]["median"]),
        "speedup": (claim.speedup, record["timing"]["speedup"]),
    }
    known = {name: (figure, now) for name, (figure, now) in figures.items() if figure and now is not None}
    if record["environment"]["device_name"] != claim.device_name:
        other = "not comparable: other hardware"
        return [
            Judged(what=name, verdict=None, text=f"{_text(now, figure)}; {other}")
            for name, (figure, now) in known.items()
        ]
    spread = _spread(claim, record)
    judged = []
    for name, (figure, now) in known.items():
        low, high = _bounds(figure)
        if name == "seconds":
            short, widening = now - high, spread * figure.value
        else:
            # So much slower, and no more: a share taken off would let any speed-up sink below 1.
            short, widening = low - now, 0.0 if now <= 1 < low else low * spread / (1 + spread)
        verdict = _verdict(max(short, 0.0), widening, figure.value)
        judged.append(Judged(what=name, verdict=verdict, text=f"{_text(now, figure)}, spread {spread:.0%}"))
    return judged


def _spread(claim: ClaimConfig, record: dict[str, Any]) -> float:
    """Part of a time that counts as noise."""
    figure, deviations = claim.seconds, [_deviation(record) or 0.0]
    if figure is not None and figure.mad is not None and figure.value:
        deviations.append(figure.mad / figure.value)
    return min(MOST, max(SAME_MACHINE, SPREADS * TO_STANDARD_DEVIATION * max(deviations)))


def _deviation(record: dict[str, Any]) -> float | None:
    """Median absolute deviation of times of the same work, as part of them: of the repetitions of each picture, else of
    the references, which all compute the same. Not of the pictures: a cache hits more often in some. None: unknown."""
    repeated = [s["raw_seconds"] for s in record["samples"] if len(s["raw_seconds"]) > 1]
    references = [one for s in record["samples"] for one in s.get("reference_raw_seconds", ())]
    groups = repeated or ([references] if len(references) > 1 else [])
    parts = [abs(one / median(group) - 1) for group in groups if median(group) for one in group]
    return median(parts) if parts else None


def _bounds(figure: ClaimedFigure) -> tuple[float, float]:
    low = figure.value if figure.low is None else figure.low
    return low, figure.value if figure.high is None else figure.high


def _verdict(outside: float, widening: float, size: float) -> str:
    rounding = size * 10.0 ** (1 - DIGITS)
    if outside <= rounding:
        return REPRODUCED
    return WITHIN_NOISE if outside <= widening + rounding else NOT_REPRODUCED


def _text(now: float, figure: ClaimedFigure) -> str:
    low, high = _bounds(figure)
    bounds = f" ({low:.5g} to {high:.5g})" if low != high else ""
    return f"{now:.5g}, claimed {figure.value:.5g}{bounds}"
