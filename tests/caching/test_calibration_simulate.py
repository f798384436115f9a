"""Replays of strategies on recorded numbers: against real runs of the demo model, and exact where they must be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.caching.generate import fbcache
from wavespeed_runner.caching.calibration.data import Calibration, ModelTrace
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.caching.calibration.simulate import (
    collect_levels,
    explain_idle_threshold,
    replace_threshold,
    simulate,
    simulate_thresholds,
)
from wavespeed_runner.caching.criteria.schedules import Never
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, MagnitudeRatio, PredictedChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import FirstBlockOutput, FirstBlockResidual, ModelChange, NoSignal
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.stages.encode import encode
from wavespeed_runner.stages.generate import generate
from wavespeed_runner.stages.image_request import ImageRequest
from wavespeed_runner.stages.load import load as load_model


@pytest.fixture(scope="module")
def demo() -> Calibration:
    return load(SHIPPED / "demo.yaml")


def planned(*overrides: str) -> Any:
    given = [*overrides, "device=cpu"]
    with composer(None):
        return build_plan(compose_job(given, given))


@dataclass
class Demo:
    """The demo model, loaded; it runs prompts of `prompts=demo`, which neither training nor calibration has seen."""

    model: str

    def __post_init__(self) -> None:
        plan = planned(f"model={self.model}")
        stages = {node.stage.name: node.options for node in plan.graph.nodes.values()}
        self.pipeline, self.options = load_model(stages["load"]), stages["denoise"]
        self.samples = plan.samples[:3]
        self.encoded = [encode(stages["encode"], pipeline=self.pipeline, sample=sample) for sample in self.samples]

    def computed(self, cache: CacheConfig) -> list[list[int]]:
        """Computed steps, counted from 1, of each prompt."""
        found = []
        with torch.inference_mode():
            for sample, embeddings in zip(self.samples, self.encoded, strict=True):
                job = ImageRequest(sample=0, embeddings=embeddings.tensors, seed=sample.seed, start={})
                trace = generate(replace(self.options, cache=cache), self.pipeline, [job]).trace
                found.append([d.step + 1 for d in trace.decisions if d.computed])
        return found


@pytest.fixture(scope="module")
def model() -> Demo:
    return Demo("demo")


THRESHOLDS = {
    "fbcache": (0.05, 0.08, 0.2),
    "teacache": (0.018, 0.05),
    "dicache": (0.1, 0.2),
    "easycache": (0.03, 0.05),
}


@pytest.mark.parametrize("strategy", THRESHOLDS)
def test_foretold_steps_are_near_those_of_real_runs_on_other_prompts(strategy, model, demo):
    """Prompts differ among themselves by up to five computed steps at one threshold, and the calibration is their mean:
    so it is compared with the median of three, which it must meet within two."""
    cache = planned(f"cache={strategy}").config.cache
    differences = []
    for threshold in THRESHOLDS[strategy]:
        one = replace_threshold(cache, threshold)
        real = [len(steps) for steps in model.computed(one)]
        foretold = len(simulate(demo, one).computed)
        print(f"{strategy} {threshold}: foretold {foretold}, real {real}")
        differences.append(foretold - median(real))
    assert max(map(abs, differences)) <= 2
    assert abs(mean(differences)) <= 1.5


def test_a_schedule_is_foretold_exactly(model, demo):
    cache = planned("cache=magcache").config.cache
    steps = simulate(demo, cache).computed
    assert 8 <= len(steps) < 28
    assert model.computed(cache) == [steps] * 3


def test_the_window_and_the_limits_are_those_that_run(demo):
    everything = fbcache(1e9, start=0.3, end=0.8, max_consecutive_cache_hits=2)
    reused = set(range(1, 29)) - set(simulate(demo, everything).computed)
    assert reused == {10, 11, 13, 14, 16, 17, 19, 20, 22, 23}
    assert simulate(demo, replace(everything, max_cache_hits=3)).computed == sorted({*range(1, 29)} - {10, 11, 13})
    forced = simulate(demo, fbcache(1e9, warmup_steps=4, force_last_step=True)).computed
    assert forced == [1, 2, 3, 4, 28]


def small(rows: list[list[float]], rate: list[list[float]] | None = None) -> Calibration:
    """One branch with this signal; as the model's trace, each step's change against the step before."""
    steps = len(rows) + 1
    trace = ModelTrace(input=[row[-1] for row in rows], rate=rate or [[1.0] * len(row) for row in rows])
    signals = {name: {"cond": rows} for name in ("first_block_residual", "first_block_output")}
    sigmas = [1 - i / steps for i in range(steps)]
    return Calibration(key={}, made={}, sigmas=sigmas, signals=signals, model={"cond": trace})


def test_changes_against_the_last_computed_step_worked_by_hand():
    """Step 2 changes by .1: reused. Step 3 by .3 against step 1: computed. Step 4 by .15 against step 3: reused."""
    rows = [[0.1], [0.3, 0.25], [0.5, 0.4, 0.15]]
    assert simulate(small(rows), fbcache(0.2)).computed == [1, 3]
    assert simulate(small(rows), fbcache(0.35)).computed == [1, 4]
    assert simulate(small(rows), fbcache(0.35)).levels == [(0.1, False), (0.3, False), (0.5, True)]


def test_accumulated_changes_worked_by_hand():
    """.1, .1 + .25, then anew: .15."""
    cache = CacheConfig(
        name="custom", signal=FirstBlockOutput(), criterion=AccumulatedChange(threshold=0.3), predictor=Reuse()
    )
    rows = [[0.1], [0.3, 0.25], [0.5, 0.4, 0.15]]
    assert simulate(small(rows), cache).computed == [1, 3]


def test_predicted_changes_worked_by_hand():
    """No rate before step 3. There k is that of step 2: 2 * .1 = .2, reused; step 4 adds 2 * .2: .6, computed. Step 5
    has the rate of step 4 against the last computed one before it, step 2: 5 * .1 = .5, computed."""
    rate = [[2.0], [9.0, 9.0], [9.0, 5.0, 9.0], [9.0] * 4]
    rows = [[0.3], [0.0, 0.1], [0.0, 0.0, 0.2], [0.0, 0.0, 0.0, 0.1]]
    cache = CacheConfig(
        name="custom", signal=ModelChange(), criterion=PredictedChange(threshold=0.3), predictor=Reuse()
    )
    assert simulate(small(rows, rate), cache).computed == [1, 2, 4, 5]
    eased = replace_threshold(cache, 0.55)
    assert simulate(small(rows, rate), eased).computed == [1, 2, 4]


def test_where_nothing_can_be_compared_a_step_is_computed():
    rows: list[list[Any]] = [[None], [None, 0.1], [None, 0.1, 0.1]]
    assert simulate(small(rows), fbcache(1.0)).computed == [1, 2]


@st.composite
def triangles(draw: st.DrawFn) -> list[list[float]]:
    change = st.floats(0.001, 1.0).map(lambda x: round(x, 3))
    return [draw(st.lists(change, min_size=i + 1, max_size=i + 1)) for i in range(draw(st.integers(1, 9)))]


@settings(deadline=None, max_examples=60)
@given(rows=triangles(), data=st.data())
@pytest.mark.parametrize("kind", ["computed", "previous", "ratios"])
def test_pieces_are_all_there_is(kind, rows, data):
    """At any threshold at all, what is foretold is what the piece says in which it lies."""
    steps = len(rows) + 1
    parts = {
        "computed": fbcache(0.1),
        "previous": CacheConfig(
            name="custom", signal=FirstBlockResidual(), criterion=AccumulatedChange(), predictor=Reuse()
        ),
        "ratios": CacheConfig(
            name="custom",
            signal=NoSignal(),
            criterion=MagnitudeRatio(ratios=[1.0, *(1 - row[-1] / 2 for row in rows)]),
            predictor=Reuse(),
        ),
    }
    cache, calibration = parts[kind], small(rows)
    found = list(simulate_thresholds(calibration, cache))
    starts = [start for start, _ in found]
    assert starts == sorted(set(starts))
    assert found[0][1].computed == list(range(1, steps + 1))
    assert len(found[-1][1].computed) == 1
    threshold = data.draw(st.floats(0, 1.2 * starts[-1]))
    within = [told for start, told in found if start <= threshold][-1]
    # At the very level that ends a piece, criteria that ask for `level <= threshold` are one unit ahead.
    if not any(abs(start - threshold) < 1e-12 for start in starts):
        assert simulate(calibration, replace_threshold(cache, threshold)).computed == within.computed


def test_what_cannot_be_replayed_is_said(demo):
    cache = fbcache(0.1, blocks=2)
    with pytest.raises(ConfigError, match="with the default values only"):
        simulate(demo, cache)
    with pytest.raises(ConfigError, match="cache/signal=first_block_residual: the calibration has no trace of it"):
        simulate(replace(demo, signals={}), fbcache(0.1))
    with pytest.raises(ConfigError, match="cache/criterion=never: it has no threshold"):
        replace_threshold(replace(cache, criterion=Never()), 0.1)


def test_remarks_name_the_threshold_that_would_decide(model):
    """The levels are a real run's own: a threshold just beyond the one that is named does what is said."""
    inert, cliff = fbcache(0.001), fbcache(5.0)

    def of(cache: CacheConfig) -> list[tuple[float, bool]]:
        job = ImageRequest(sample=0, embeddings=model.encoded[0].tensors, seed=model.samples[0].seed, start={})
        with torch.inference_mode():
            trace = generate(replace(model.options, cache=cache), model.pipeline, [job]).trace
        return collect_levels([{"steps": trace.build_step_records([0.0] * 28)}])

    levels = of(inert)
    lowest = min(level for level, _ in levels)
    said = explain_idle_threshold(levels, "cache.x")
    assert said.startswith(f"the cache never hit: cache.x must be above {lowest:.4g}")
    assert sum(not computed for _, computed in of(fbcache(lowest * 1.001))) == 1
    assert all(computed for _, computed in of(fbcache(lowest)))
    levels = of(cliff)
    highest = max(level for level, _ in levels)
    assert f"lower cache.x below {highest:.4g} to change that" in explain_idle_threshold(levels, "cache.x")
    assert any(computed for _, computed in of(fbcache(highest)))
    assert explain_idle_threshold(of(fbcache(0.1)), "cache.x") == ""
    assert explain_idle_threshold([], "cache.x") == ""


def test_levels_of_all_branches_are_asked():
    branches = {"cond": {"computed": True, "level": 0.1}, "uncond": {"computed": False, "level": 0.2}}
    steps = [{"computed": True, "level": None}, {"computed": True, "level": 0.1, "branches": branches}]
    assert collect_levels([{"steps": steps}]) == [(0.1, True), (0.2, False)]


def test_the_command_prints_every_count(capsys, demo):
    assert main(["thresholds", "cache=fbcache", "device=cpu"]) == 0
    out = capsys.readouterr().out
    found = list(simulate_thresholds(demo, fbcache(0.1)))
    least, most = found[1][0], found[-1][0]
    assert f"inert up to {least:.4g}; above {most:.4g} everything that may be skipped is" in out
    assert "cache.residual_diff_threshold  computed  steps" in out
    rows = [line.split() for line in out.splitlines() if set(line.split(" ")[-1]) <= {"■", "□"} and "■" in line]
    bars = {int(row[-2]): row[-1] for row in rows if row[-2].isdigit()}
    assert bars[28] == "■" * 28
    assert bars[1] == "■" + "□" * 27
    assert all(bar.count("■") == count for count, bar in bars.items())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["cache=none"], "cache=none: which strategy?"),
        (["cache=step_mask", "cache.criterion.computed=[1,5]", "cache.criterion.mask=null"], "has no threshold"),
        (["cache=fbcache", "steps=20"], "a replay needs a calibration for model=flux"),
        (["cache=fbcach"], "did you mean 'fbcache'?"),
    ],
)
def test_the_command_says_what_is_missing(given, said, capsys):
    assert main(["thresholds", *given, "device=cpu"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
