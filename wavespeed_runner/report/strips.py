"""Draws the steps of a run as strips of text: which were computed and which were cached."""

from __future__ import annotations

from ..caching.calibration.find import UNQUANTIZED
from ..records.record import Record
from .console_text import LEGEND

STRIPS, STRIP = 8, 60
"""Most strips that are drawn, and most steps in one."""


def draw_strips(record: Record) -> list[str]:
    """Draws which steps were computed and which were cached: one line if all images agree, else one for each image."""
    strips = ["".join("■" if step.computed else "□" for step in sample.steps) for sample in record.samples]
    if not any("□" in strip for strip in strips) or max(map(len, strips)) > STRIP:
        return []
    predicted = _predicted_strip(record, max(map(len, strips)))
    if len(set(strips)) == 1:
        return [strips[0], *predicted, LEGEND]
    prompts = [" ".join(sample.prompt.split()) for sample in record.samples]
    lines = [f"{strip}  {prompt}"[:79] for strip, prompt in zip(strips, prompts, strict=True)]
    more = [f"... and {len(lines) - STRIPS} more images"] if len(lines) > STRIPS else []
    return [*lines[:STRIPS], *more, *predicted, LEGEND]


def _predicted_strip(record: Record, steps: int) -> list[str]:
    """The same for what a calibration predicts; nothing without one."""
    if record.cache is None or record.cache.predicted is None:
        return []
    computed = set(record.cache.predicted.computed_steps)
    strip = "".join("■" if step in computed else "□" for step in range(1, steps + 1))
    has_its_own = not record.cache.predicted.calibration.endswith(UNQUANTIZED)
    return [f"{strip}  predicted by {'the calibration' if has_its_own else 'a calibration without quantization'}"[:79]]
