"""Which of a number of steps are computed, by formula: pure functions of the schedules' options."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from ...errors import Unfit


@lru_cache
def space_around_center(steps: int, count: int, center: int, power: float) -> frozenset[int]:
    """DeepCache's 1:N schedule with quadratic spacing: `count` of the steps, densest around `center`.

    Positions evenly spaced between (-center)^(1/power) and (steps - center)^(1/power), complex, are raised to `power`;
    real parts are cut to integers. The first and the last of these give way to step 0. Source: arXiv 2312.00858 and
    https://github.com/horseee/DeepCache/blob/master/DeepCache/pipeline_stable_diffusion.py.
    """
    tried = power
    while tried > 1:
        low, high = complex(-center) ** (1 / tried), complex(steps - center) ** (1 / tried)
        exact = [((low + (high - low) * k / count) ** tried).real for k in range(count + 1)]
        positions = sorted({int(round(position, 9)) for position in exact})  # -15 must not become -14 by a last bit
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
    """`count` of `steps`, counted from 0: the first `warmup` and the last, the gaps between never shrinking.

    With too small a count the warm-up is shortened so that the last step is in; one alone is the first step.
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
    made = [1] * gaps
    for _ in range(distance - gaps):
        open_gaps = [i for i in range(gaps) if largest == -1 or made[i] < largest]
        made[max(open_gaps, key=lambda i: (wanted[i] - made[i], i))] += 1
    computed = list(range(first))
    for gap in sorted(made):
        computed.append(computed[-1] + gap)
    return frozenset(computed)
