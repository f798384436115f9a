"""Formulas that choose which steps a schedule computes."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from ...errors import Unfit


@lru_cache
def space_around_center(steps: int, count: int, center: int, power: float) -> frozenset[int]:
    """DeepCache's 1:N schedule with non-uniform spacing: `count` of `steps`, densest around `center`.

    Evenly spaced positions between (-center)^(1/power) and (steps - center)^(1/power), complex numbers, are raised to
    `power`; their real parts are truncated to integers. Step 0 replaces the first and the last of them. Source:
    arXiv 2312.00858 and https://github.com/horseee/DeepCache/blob/master/DeepCache/sd/pipeline_stable_diffusion.py.

    Returns:
        The chosen steps, counted from 0.

    Raises:
        Unfit: no power up to the given one leads to `count` steps.
    """
    tried = power
    while tried > 1:
        low, high = complex(-center) ** (1 / tried), complex(steps - center) ** (1 / tried)
        exact = [((low + (high - low) * k / count) ** tried).real for k in range(count + 1)]
        positions = sorted({int(round(position, 9)) for position in exact})  # rounding error must not turn -15 into -14
        chosen = [0, *(position + center for position in positions[1:-1])]
        if len(chosen) == count:
            return frozenset(chosen)
        tried -= 0.02
    raise Unfit(
        f"cache.criterion.center={center} with power={power}: no {count} of {steps} steps are found around it; use a "
        f"smaller center, another interval, or cache.criterion.spacing=uniform"
    )


@lru_cache
def space_growing(steps: int, count: int, warmup: int, power: float, largest: int) -> frozenset[int]:
    """`count` of `steps`: the first `warmup` ones and the last one, with gaps in between that never shrink.

    If the count is too small for both, the warm-up is shortened; a single step is the first one.

    Args:
        steps: number of steps of the generation.
        count: how many are computed.
        warmup: so many at the beginning are always computed.
        power: how fast the gaps grow; 1: even gaps.
        largest: largest allowed gap; -1: no limit.

    Returns:
        The chosen steps, counted from 0.

    Raises:
        Unfit: with the largest allowed gap, so few steps do not reach the end.
    """
    first = max(min(warmup, count - 1), 1)
    gaps, distance = count - first, steps - first
    if largest != -1 and gaps * largest < distance:
        whole = min(warmup, steps - 1)
        needed = whole + ceil((steps - whole) / largest)
        raise Unfit(
            f"cache.criterion.largest_gap={largest}: {count} computed steps cannot bridge {steps}; "
            f"compute {needed}, or allow a larger gap"
        )
    if count == 1:
        return frozenset([0])
    wanted = [distance * (((i + 1) / gaps) ** power - (i / gaps) ** power) for i in range(gaps)]
    sizes = [1] * gaps
    for _ in range(distance - gaps):
        growable = [i for i in range(gaps) if largest == -1 or sizes[i] < largest]
        sizes[max(growable, key=lambda i: (wanted[i] - sizes[i], i))] += 1
    computed = list(range(first))
    for gap in sorted(sizes):
        computed.append(computed[-1] + gap)
    return frozenset(computed)
