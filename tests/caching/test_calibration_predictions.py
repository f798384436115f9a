"""Predictions of a calibration against real runs of the demo model, and the `thresholds` command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any

import pytest
import torch
import yaml

from tests.caching.generate import fbcache
from wavespeed_runner.caching.calibration.data import Calibration
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.caching.calibration.simulate import (
    collect_levels,
    explain_idle_threshold,
    replace_threshold,
    simulate,
    simulate_thresholds,
)
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.stages.encode import encode
from wavespeed_runner.stages.generate import generate
from wavespeed_runner.stages.image_request import ImageRequest
from wavespeed_runner.stages.load import load as load_model


@pytest.fixture(scope="module")
def demo() -> Calibration:
    return load(SHIPPED / "demo.yaml")


def plan_run(*overrides: str) -> Any:
    given = [*overrides, "device=cpu"]
    with composer(None):
        return build_plan(compose_job(given, given))


@dataclass
class Demo:
    """The loaded demo model, with prompts of `prompts=demo`, which neither training nor calibration has seen."""

    model: str

    def __post_init__(self) -> None:
        plan = plan_run(f"model={self.model}")
        stages = {node.stage.name: node.options for node in plan.graph.nodes.values()}
        self.pipeline, self.options = load_model(stages["load"]), stages["denoise"]
        self.samples = plan.samples[:3]
        self.encoded = [encode(stages["encode"], pipeline=self.pipeline, sample=sample) for sample in self.samples]

    def list_computed_steps(self, cache: CacheConfig) -> list[list[int]]:
        """Computed steps, counted from 1, of each prompt."""
        computed = []
        with torch.inference_mode():
            for sample, embeddings in zip(self.samples, self.encoded, strict=True):
                job = ImageRequest(sample=0, embeddings=embeddings.tensors, seed=sample.seed, start={})
                trace = generate(replace(self.options, cache=cache), self.pipeline, [job]).trace
                computed.append([d.step + 1 for d in trace.decisions if d.computed])
        return computed


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
def test_predicted_steps_are_near_those_of_real_runs_on_other_prompts(strategy, model, demo):
    """Prompts differ by up to five computed steps at one threshold, and the calibration is their mean. So the
    prediction is compared with the median of three prompts, and must meet it within two steps."""
    cache = plan_run(f"cache={strategy}").config.cache
    differences = []
    for threshold in THRESHOLDS[strategy]:
        candidate = replace_threshold(cache, threshold)
        real = [len(steps) for steps in model.list_computed_steps(candidate)]
        predicted = len(simulate(demo, candidate).computed)
        print(f"{strategy} {threshold}: predicted {predicted}, real {real}")
        differences.append(predicted - median(real))
    assert max(map(abs, differences)) <= 2
    assert abs(mean(differences)) <= 1.5


def test_a_schedule_is_predicted_exactly(model, demo):
    cache = plan_run("cache=magcache").config.cache
    steps = simulate(demo, cache).computed
    assert 8 <= len(steps) < 28
    assert model.list_computed_steps(cache) == [steps] * 3


def test_warnings_name_the_threshold_that_would_change_something(model):
    """With the levels of a real run: a threshold just beyond the named one does what the message says."""
    reuses_nothing, reuses_everything = fbcache(0.001), fbcache(5.0)

    def measure_levels(cache: CacheConfig) -> list[tuple[float, bool]]:
        job = ImageRequest(sample=0, embeddings=model.encoded[0].tensors, seed=model.samples[0].seed, start={})
        with torch.inference_mode():
            trace = generate(replace(model.options, cache=cache), model.pipeline, [job]).trace
        return collect_levels([{"steps": trace.build_step_records([0.0] * 28)}])

    levels = measure_levels(reuses_nothing)
    lowest = min(level for level, _ in levels)
    message = explain_idle_threshold(levels, "cache.x")
    assert message.startswith(f"the cache never hit: cache.x must be above {lowest:.4g}")
    assert sum(not computed for _, computed in measure_levels(fbcache(lowest * 1.001))) == 1
    assert all(computed for _, computed in measure_levels(fbcache(lowest)))
    levels = measure_levels(reuses_everything)
    highest = max(level for level, _ in levels)
    assert f"lower cache.x below {highest:.4g} to change that" in explain_idle_threshold(levels, "cache.x")
    assert any(computed for _, computed in measure_levels(fbcache(highest)))
    assert explain_idle_threshold(measure_levels(fbcache(0.1)), "cache.x") == ""
    assert explain_idle_threshold([], "cache.x") == ""
    negative = explain_idle_threshold([(-80.0, False), (-77.6, False)], "cache.x")
    assert "no cache.x changes that: the highest value it was compared with is -77.6" in negative
    assert "lower" not in negative, "a threshold below 0 is refused"


def test_levels_of_all_branches_are_collected():
    branches = {"cond": {"computed": True, "level": 0.1}, "uncond": {"computed": False, "level": 0.2}}
    steps = [{"computed": True, "level": None}, {"computed": True, "level": 0.1, "branches": branches}]
    assert collect_levels([{"steps": steps}]) == [(0.1, True), (0.2, False)]


def test_the_command_prints_every_count(capsys, demo):
    assert main(["thresholds", "cache=fbcache", "device=cpu"]) == 0
    out = capsys.readouterr().out
    outcomes = list(simulate_thresholds(demo, fbcache(0.1)))
    least, most = outcomes[1][0], outcomes[-1][0]
    assert f"inert up to {least:.4g}; above {most:.4g} everything that may be skipped is" in out
    assert "cache.residual_diff_threshold  computed  steps" in out
    rows = [line.split() for line in out.splitlines() if set(line.split(" ")[-1]) <= {"■", "□"} and "■" in line]
    bars = {int(row[-2]): row[-1] for row in rows if row[-2].isdigit()}
    assert bars[28] == "■" * 28
    assert bars[1] == "■" + "□" * 27
    assert all(bar.count("■") == count for count, bar in bars.items())


def test_the_command_replays_the_calibration_that_is_named(capsys, tmp_path):
    data = yaml.safe_load((SHIPPED / "demo.yaml").read_text(encoding="utf-8"))
    watched = data["signals"]["modulated_input"]
    data["signals"]["modulated_input"] = {
        name: [[2 * x for x in row] for row in rows] for name, rows in watched.items()
    }
    (tmp_path / "twice.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    outputs = []
    for typed in ([], [f"cache.calibration={tmp_path / 'twice.yaml'}"]):
        assert main(["thresholds", "cache=teacache", "device=cpu", *typed]) == 0
        outputs.append(capsys.readouterr().out)
    assert "the calibration demo (shipped)" in outputs[0] and "twice.yaml" in outputs[1]
    assert outputs[0].splitlines()[1:] != outputs[1].splitlines()[1:]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cache=none"], "cache=none: which strategy?"),
        (["cache=step_mask", "cache.criterion.computed=[1,5]", "cache.criterion.mask=null"], "has no threshold"),
        (["cache=fbcache", "steps=20"], "a replay needs a calibration for model=flux"),
        (["cache=fbcach"], "did you mean 'fbcache'?"),
    ],
)
def test_the_command_says_what_is_missing(given, message, capsys):
    assert main(["thresholds", *given, "device=cpu"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
