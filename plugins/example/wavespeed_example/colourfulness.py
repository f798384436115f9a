"""A judge that says how colourful an image is, without a reference."""

from __future__ import annotations

from typing import Any

from wavespeed_runner.judges import metric


@metric("colourfulness", less_is_better=False, needs_reference=False)
def judge_colourfulness(image: Any, reference: Any, prompt: str) -> float:
    """Mean difference between the strongest and the weakest channel, 0 (gray) to 255."""
    return float((image.max(axis=-1) - image.min(axis=-1)).mean())
