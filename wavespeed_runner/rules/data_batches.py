"""Whether a run has enough batches for the ranks of `parallel=data`: no rule, since rules do not know the prompts."""

from __future__ import annotations

from ..accelerate.parallel.options import find_layout
from ..config.schema import Config
from .check import Finding


def judge_batches(c: Config, images: int) -> list[Finding]:
    """What is to be said of a run of so many images.

    Without a second batch the ranks could not take effect; with fewer batches than ranks some have nothing to do.
    """
    ranks, batches = find_layout(c.parallel).data, -(-images // c.batch_size)
    if ranks <= batches:
        return []
    what = f"{batches} batch{'es' * (batches > 1)} of {images} image{'s' * (images > 1)}"
    return [
        Finding(
            rule="data-batches",
            verdict="bad" if batches == 1 else "unverified",
            message=f"parallel=data parallel.degree={ranks}: there {'is' if batches == 1 else 'are'} {what} "
            f"(batch_size={c.batch_size}) for {ranks} ranks, and a batch is made by one rank",
            fix="more prompts or num_images_per_prompt, or parallel=none"
            if batches == 1
            else f"parallel.degree={batches}, or more images",
            source="",
        )
    ]
