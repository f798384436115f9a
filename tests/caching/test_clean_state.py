"""No generation sees another one's state: whatever ran before, beside or inside it, its bits are a fresh model's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.caching.generate import ALWAYS
from tests.conftest import run_as_data
from tests.models.shipped import config_of
from tests.models.staged import encode_prompt
from tests.models.test_batches import SAMPLES, options_of
from tests.models.test_every_model import image
from wavespeed_runner.artifacts import Embeddings, Images, Pipeline
from wavespeed_runner.caching.calibration.data import build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.caching.criteria.schedules import Interval
from wavespeed_runner.caching.criteria.thresholds import PredictedChange, RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.predictors.taylor import Foca, Taylor, Variable
from wavespeed_runner.caching.signals.block_signals import FirstBlockResidual, ModelChange, NoSignal
from wavespeed_runner.caching.strategies import Custom, NoCache
from wavespeed_runner.config.schema import CacheConfig, GuidanceBranches
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation, lookup
from wavespeed_runner.stages.denoise import denoise_batch
from wavespeed_runner.tuning.calibrate import calibrate

REPO = Path(__file__).resolve().parents[2]
MODELS = {"wan21": "contexts", "wan22": "two denoisers", "chroma": "fused", "sd35_medium": "batched", "demo_unet": ""}
"""Model -> what is special in how it is guided or built; the last one is a U-Net."""
CACHES: dict[str, CacheConfig] = {
    "none": NoCache(),
    "signal": Custom(
        signal=FirstBlockResidual(),
        criterion=RelativeChange(threshold=ALWAYS),
        predictor=Taylor(order=2, variable=Variable.sigma),
        max_consecutive_cache_hits=2,
    ),
    "model": Custom(
        signal=ModelChange(),
        criterion=PredictedChange(threshold=ALWAYS),
        predictor=Reuse(),
        guidance_branches=GuidanceBranches.first,
        max_consecutive_cache_hits=2,
    ),
    "schedule": Custom(signal=NoSignal(), criterion=Interval(interval=3), predictor=Foca()),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "six": {"steps": 6},
    "wider": {"steps": 6, "width": 96},
    "eight": {"steps": 8},
    "two images": {"steps": 5, "batch_size": 2},
    "near": {"steps": 10, "strength": 0.4},
    "far": {"steps": 10, "strength": 0.8},
    "six again": {"steps": 6},
}
"""One after the other. With a strength it starts from an image."""


class Model:
    """A shipped model, shrunk and loaded, as the denoise stage has it."""

    def __init__(self, name: str) -> None:
        self.config = config_of(name)
        self.family = find_implementation("model", self.config)
        self.pipe = load(self.family, self.config, "cpu")
        self.pipeline = Pipeline(pipe=self.pipe, model=self.config, family=self.family, device="cpu")
        self.denoisers = [getattr(self.pipe, one) for one in (self.family.denoiser, self.family.denoiser_2) if one]
        scale = self.config.guidance_scale
        self.inputs = [
            {
                "pipeline": self.pipeline,
                "sample": sample,
                "embeddings": Embeddings(tensors=encode_prompt(self.family, self.pipe, self.config, sample, scale)),
            }
            for sample in SAMPLES[:2]
        ]

    def fits(self, setting: str) -> bool:
        given = SETTINGS[setting]
        return ("strength" not in given or "image_to_image" in self.family.tasks) and (
            "batch_size" not in given or self.family.supports_batches
        )

    def run(
        self, cache: CacheConfig, setting: str = "six", observer: Any = None, **more: Any
    ) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Latents and steps of the first image. more: options of the stage."""
        given = {**SETTINGS[setting], **more}
        options = replace(options_of(self.family, self.config, 1), cache=cache, **given)
        inputs = self.inputs[: options.batch_size]
        if "strength" in given:
            start = Images(tensors={"images": np.asarray(image(self.family.tiny_size))[None]})
            inputs = [{**one, "image": start} for one in inputs]
        made = denoise_batch(options, inputs, observer)
        return torch.cat([one.tensors["latents"] for one in made]), made[0].data["steps"]


@lru_cache
def used(name: str) -> Model:
    """One that every test here goes on with."""
    return Model(name)


@lru_cache
def fresh(name: str, cache: str, setting: str = "six") -> tuple[torch.Tensor, list[bool]]:
    """What a model gives that has done nothing before, and which steps it computes."""
    latents, steps = Model(name).run(CACHES[cache], setting)
    return latents, [step["computed"] for step in steps]


def is_fresh(made: tuple[torch.Tensor, list[dict[str, Any]]], name: str, cache: str, setting: str = "six") -> bool:
    latents, computed = fresh(name, cache, setting)
    return torch.equal(made[0], latents) and [step["computed"] for step in made[1]] == computed


@pytest.mark.parametrize("name", MODELS)
def test_strengths_sizes_steps_batches_and_strategies_one_after_the_other(name: str) -> None:
    model = used(name)
    for setting in filter(model.fits, SETTINGS):
        for cache in CACHES:
            assert is_fresh(model.run(CACHES[cache], setting), name, cache, setting), (setting, cache)
    for cache in set(CACHES) - {"none"}:
        assert not all(fresh(name, cache)[1]), "or the test shows nothing"
        assert not torch.equal(fresh(name, cache)[0], fresh(name, "none")[0])
    if model.fits("near"):
        more = name == "demo_unet"  # whose sampler, PNDM, makes one call more
        assert [len(fresh(name, "signal", setting)[1]) for setting in ("near", "far")] == [4 + more, 8 + more]


@contextmanager
def at_call(modules: list[Any], number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Acts before the so many-th call (from 0) of one of these modules."""
    calls: list[int] = []

    def hook(*_: Any) -> None:
        calls.append(len(calls))
        if calls[-1] == number:
            act()

    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("cache", ["signal", "model", "schedule"])
@pytest.mark.parametrize("name", MODELS)
def test_an_exception_in_the_middle(name: str, cache: str, error: type[BaseException]) -> None:
    """Inside of the denoiser, in a step that is computed behind skipped ones, and in the second guidance branch where
    there is one: half of the state is of this step, half of the one before."""
    model = used(name)
    scheduler = model.pipe.scheduler
    branches = 2 if name in ("wan21", "wan22", "chroma") else 1
    computed = [i for i, done in enumerate(fresh(name, cache)[1]) if done]
    place = next(i for i in computed if i > 1)  # of a step
    inside = [list(one.modules())[-1] for one in model.denoisers]  # behind the blocks

    def fail() -> None:
        raise error

    with at_call(inside, place * branches + branches - 1, fail) as calls, pytest.raises(error):
        model.run(CACHES[cache])
    assert len(calls) == place * branches + branches
    assert model.pipe.scheduler is scheduler
    assert is_fresh(model.run(CACHES[cache]), name, cache)
    assert is_fresh(model.run(CACHES["none"]), name, "none")


@pytest.mark.parametrize(
    ("outer", "inner"), [("wan21", "chroma"), ("chroma", "demo_unet"), ("demo_unet", "wan22"), ("wan22", "sd35_medium")]
)
@pytest.mark.parametrize(("cache", "other"), [("signal", "schedule"), ("model", "signal"), ("schedule", "model")])
def test_a_generation_inside_of_another_one(outer: str, inner: str, cache: str, other: str) -> None:
    """Two pipelines with different strategies, both in the middle of their steps."""
    made: list[tuple[torch.Tensor, list[dict[str, Any]]]] = []
    with at_call(used(outer).denoisers, 3, lambda: made.append(used(inner).run(CACHES[other]))):
        around = used(outer).run(CACHES[cache])
    assert len(made) == 1
    assert is_fresh(made[0], inner, other)
    assert is_fresh(around, outer, cache)


def test_two_of_one_kind_with_two_strategies() -> None:
    one, two = used("chroma"), Model("chroma")
    made: list[tuple[torch.Tensor, list[dict[str, Any]]]] = []
    with at_call(one.denoisers, 5, lambda: made.append(two.run(CACHES["model"]))):
        assert is_fresh(one.run(CACHES["signal"]), "chroma", "signal")
    assert is_fresh(made[0], "chroma", "model")


class Positions:
    """An observer that keeps where each computed call was."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def record_blocks(self, branch: str, seen: Any, residual: Any) -> None:
        self.seen.append(seen.at)

    def record_output(self, branch: str, output: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "sampler", "start", "count"),
    [
        ("demo", "heun", {}, 13),
        ("demo", "default", {}, 7),
        ("demo", "default", {"strength": 0.5}, 4),
        ("demo_unet", "heun", {}, 13),
        ("demo_unet", "heun", {"strength": 0.5}, 5),
    ],
)
def test_each_call_is_where_the_denoiser_is_told_it_is(
    name: str, sampler: str, start: dict[str, Any], count: int
) -> None:
    """Noise levels, by which predictors extrapolate, against the timesteps that the denoiser is really given; samplers
    that call it twice a step count calls."""
    model = used(name)
    positions, times = Positions(), []

    def noted(_: Any, args: Any, kwargs: Any) -> None:
        times.append(float((args[1] if len(args) > 1 else kwargs["timestep"]).flatten()[0]))

    handle = model.denoisers[0].register_forward_pre_hook(noted, with_kwargs=True)
    try:
        never = replace(CACHES["signal"], criterion=RelativeChange(threshold=0.0))
        _, steps = model.run(never, observer=positions, steps=7, sampler=lookup("sampler", sampler).options(), **start)
    finally:
        handle.remove()
    assert len(steps) == len(times) == count
    assert [(at.step, at.steps) for at in positions.seen] == [(i, count) for i in range(count)]
    if name == "demo":
        levels = np.array(times)
    else:
        config = model.pipe.scheduler.config
        assert config.beta_schedule == "scaled_linear"
        ends = config.beta_start**0.5, config.beta_end**0.5
        kept = np.cumprod(1 - np.linspace(*ends, config.num_train_timesteps) ** 2)
        levels = np.interp(times, np.arange(len(kept)), np.sqrt((1 - kept) / kept))
    np.testing.assert_allclose([at.sigma for at in positions.seen], levels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["demo", "demo_unet"])
def test_a_window_is_in_calls_where_a_sampler_makes_several_a_step(name: str) -> None:
    always = replace(CACHES["signal"], start=0.2, end=0.8, max_consecutive_cache_hits=-1)
    heun = lookup("sampler", "heun").options()
    latents, steps = used(name).run(always, steps=6, sampler=heun)
    calls = 2 * 6 - 1
    assert [step["computed"] for step in steps] == [i == 0 or not 0.2 <= i / calls < 0.8 for i in range(calls)]
    assert torch.equal(latents, Model(name).run(always, steps=6, sampler=heun)[0])


def test_a_fitted_predictor_of_a_sampler_that_calls_twice(planned: Any, tmp_path: Path) -> None:
    """Calibrated, planned and run in calls of the denoiser."""

    plain = planned("sampler=heun", "steps=4")
    calibration = calibrate(plain, build_key(plain.config))
    assert calibration.steps == 7
    save(calibration, tmp_path / "outputs" / "calibrations" / build_file_name(calibration.key))
    plan = planned("sampler=heun", "steps=4", "cache=planned", "cache.computed=3")
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert record["cache"]["computed_steps"] == plan.config.cache.criterion.schedule
    assert len(record["samples"][0]["steps"]) == 7 and record["cache"]["hits"] == 4


def test_a_strategy_that_is_only_in_a_users_folder_runs(tmp_path: Path) -> None:
    """No Python: `cache=mine` from `--config-dir`, with parts of its own choice, and from the command line."""
    configs = tmp_path / "configs" / "cache"
    configs.mkdir(parents=True)
    (configs / "mine.yaml").write_text(
        "defaults:\n"
        "  - custom\n"
        "  - override signal: first_block_output\n"
        "  - override criterion: accumulated_change\n"
        "  - override predictor: taylor\n"
        "  - _self_\n"
        "criterion:\n"
        "  threshold: 1e9\n"
        "start: 0.25\n"
        "max_consecutive_cache_hits: 2\n"
    )
    command = [sys.executable, "-m", "wavespeed_runner", "--config-dir", str(tmp_path / "configs"), "cache=mine"]
    command += ["model.init=tiny", "device=cpu", "width=64", "height=64", "steps=8", "measure=none"]
    done = subprocess.run(
        [*command, "prompt=a red circle", "cache.predictor.order=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/runs/*/*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    cache = record["config"]["cache"]
    assert (cache["signal"]["name"], cache["predictor"]) == (
        "first_block_output",
        {"name": "taylor", "order": 2, "variable": "step"},
    )
    assert record["cache"]["computed_steps"] == [1, 2, 5, 8]
    assert record["engaged"]["cache"]["attached_to"] == "FluxTransformer2DModel"
