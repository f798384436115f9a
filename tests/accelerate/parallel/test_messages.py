"""The messages of whole generations, counted by the collectives, are those that a plan predicts."""

from __future__ import annotations

import pytest

from tests.accelerate.parallel.forked import run_on_ranks
from tests.caching.shrunk import Shrunk
from wavespeed_runner.accelerate.parallel.apply import apply_parallel
from wavespeed_runner.accelerate.parallel.collectives import take_counts
from wavespeed_runner.accelerate.parallel.geometry import find_geometry
from wavespeed_runner.accelerate.parallel.options import (
    CfgOptions,
    ContextParallelOptions,
    ParallelOptions,
    UnifiedOptions,
    find_layout,
)
from wavespeed_runner.accelerate.parallel.predict import count_step

pytestmark = pytest.mark.slow
STEPS = 2
OPTIONS = [
    ContextParallelOptions(name="ulysses", degree=2),
    ContextParallelOptions(name="ring", degree=2),
    UnifiedOptions(name="unified"),
    ContextParallelOptions(name="ring", degree=2, cfg=True),
]


@pytest.mark.parametrize(
    ("name", "branches", "options"),
    [("flux", 1, OPTIONS[:3]), ("wan21", 2, [*OPTIONS, CfgOptions(name="cfg")]), ("sd35_medium", 2, OPTIONS[:2])],
)
def test_measured_messages_are_the_predicted_ones(name: str, branches: int, options: list[ParallelOptions]) -> None:
    model = Shrunk(name, guided=True, steps=STEPS)
    size = {key: model.options.get(key) for key in ("width", "height", "num_frames")}
    geometry = find_geometry(model.model, **size)  # type: ignore[arg-type]
    assert geometry is not None
    denoisers = [model.denoiser]

    def measure(parallel: ParallelOptions) -> dict[str, dict[str, int]]:
        divided = apply_parallel(model.pipe, model.family, parallel)
        assert divided is not None
        take_counts()
        with divided.divide(denoisers, 1):
            model.denoise(divided.end_step)
        return take_counts()

    for parallel in options:
        layout = find_layout(parallel)
        by_rank = run_on_ranks(layout.ranks, lambda parallel=parallel: measure(parallel))  # type: ignore[misc]
        predicted = {one.kind: one for one in count_step(geometry, layout, branches=branches)}
        busiest = max(by_rank, key=lambda counts: sum(kind["bytes"] for kind in counts.values()))
        assert busiest.keys() == predicted.keys()
        for kind, counts in busiest.items():
            assert counts["calls"] == STEPS * predicted[kind].calls, kind
            assert counts["bytes"] == pytest.approx(4 * STEPS * predicted[kind].elements, rel=0.02), kind
