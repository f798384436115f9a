"""Every cache strategy on compiled blocks: no graph break, and nothing is compiled again in the second generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.compile_runs import make_options
from tests.caching.strategy_outcomes import ACTING, build_config, compose_configs, try_plan
from tests.caching.strategy_runs import Model
from wavespeed_runner.accelerate.compilation import apply_compile, use_compiler
from wavespeed_runner.caching.calibration.data import build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.tuning.calibrate import calibrate

FAMILIES = {"flux": 15, "sd": 20, "wan": 15}
"""Two lists of blocks; a U-Net; a video model that is called once for each guidance branch -> strategies that run."""
ENGINE = [name for name in ACTING if name not in ("pab", "fastercache")]
"""Those two hook attention inside of blocks, and are refused with compilation."""


class Compiled(Model):
    """A tiny model whose blocks are compiled, and plans for it, calibrated where a strategy needs it."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.name, self.folder = name, folder
        plan = build_plan(build_config(name, folder=folder), ["a red circle"])
        key = build_key(plan.config)
        save(calibrate(plan, key), folder / "calibrations" / build_file_name(key))
        self.pipeline, self.compile_options = self.inputs["pipeline"], make_options()

    def compile_blocks(self) -> None:
        self.pipeline.compiler = apply_compile(self.pipeline.pipe, self.family, self.compile_options)
        self.pipeline.engaged["compile"] = {}
        self.pipeline.running = lambda: use_compiler(self.compile_options, str(self.folder), "cpu")

    def plan(self, strategy: str) -> Any:
        plan = try_plan(build_config(self.name, compose_configs()[1][strategy], self.folder))
        return None if isinstance(plan, str) else plan.graph.nodes["denoise"].options


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiled]:
    torch._dynamo.reset()
    yield Compiled(request.param, tmp_path_factory.mktemp("outputs"))
    torch._dynamo.reset()


@pytest.mark.slow
def test_every_strategy_runs_on_compiled_blocks_without_compiling_again(model: Compiled) -> None:
    eager = {name: (options, model.denoise(options)) for name in ENGINE if (options := model.plan(name))}
    model.compile_blocks()
    assert len(eager) == FAMILIES[model.name]
    for name, (options, expected) in eager.items():
        # The first generation of a setting is its warm-up; the second is timed.
        assert options.warmup == 0 and options.repeats == 1
        model.denoise(options)
        latents = model.denoise(options)
        evidence = latents.data["engaged"]
        assert latents.data["timing_void"] is None, name
        assert evidence["compile"]["graph_breaks"] == evidence["compile"]["fallbacks"] == 0
        assert evidence["cache"]["hits"] == expected.data["engaged"]["cache"]["hits"] > 0, name
        assert torch.allclose(latents.tensors["latents"], expected.tensors["latents"], atol=1e-5, rtol=1e-4), name
    assert model.pipeline.compiler.total.graphs > 0


@pytest.mark.slow
def test_the_warm_up_of_another_shape_is_its_own(model: Compiled) -> None:
    """What is compiled for it is compiled before anything is timed."""
    if model.pipeline.compiler is None:
        model.compile_blocks()
    model.denoise(model.options)
    smaller = replace(model.options, width=model.options.width // 2, warmup=1)
    first, second = model.denoise(smaller), model.denoise(replace(smaller, steps=smaller.steps + 1))
    assert first.data["compile_seconds"] > 0 and first.data["timing_void"] is None
    assert second.data["compile_seconds"] == 0 and second.data["timing_void"] is None
    again = model.denoise(replace(model.options, warmup=0))
    assert again.data["timing_void"] is None, "the graphs of the first shape are still there"
