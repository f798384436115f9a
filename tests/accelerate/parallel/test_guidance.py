"""Guidance branches on two ranks: every family that has two, against one process."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from tests.accelerate.parallel.forked import run_on_ranks
from tests.caching.shrunk import Shrunk
from tests.caching.tiny_models import TinyModel, families
from wavespeed_runner.accelerate.parallel.apply import apply_parallel
from wavespeed_runner.accelerate.parallel.collectives import take_counts
from wavespeed_runner.accelerate.parallel.options import CfgOptions, ContextParallelOptions, ParallelOptions
from wavespeed_runner.errors import RunError

pytestmark = pytest.mark.slow
STACKED = ("cogvideox_i2v", "hidream", "ltx2", "ltx_video", "pixart_sigma", "sd3", "z_image")
SEPARATE = ("chroma", "hunyuan_video15_i2v", "qwen_image", "wan22", "wan_i2v")
"""Families by how their pipelines call the denoiser for the two branches."""
UNSPLIT = ("flux", "hunyuan_video", "lumina2")
"""Families without branches, because their guidance is an input of the denoiser, or without them in some steps."""
CFG = CfgOptions(name="cfg")


@lru_cache
def tiny(name: str) -> TinyModel:
    return TinyModel(families()[name][0])


def generate(name: str, parallel: ParallelOptions) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """On this rank: how far each tensor is from one process's, and the messages."""
    model = tiny(name)
    divided = apply_parallel(model.pipe, model.family, parallel)
    assert divided is not None
    with divided.divide(model.denoisers, 1):
        result = model.generate(on_step=divided.end_step)
    errors = {
        key: float((result[key] - value).norm() / value.norm())
        for key, value in model.result.items()
        if isinstance(value, torch.Tensor)
    }
    return errors, take_counts()


@pytest.mark.parametrize("name", [*STACKED, *SEPARATE])
def test_two_ranks_generate_what_one_process_generates(name: str) -> None:
    tiny(name)
    for errors, messages in run_on_ranks(2, lambda: generate(name, CFG)):
        assert max(errors.values()) < 1e-5
        assert name in STACKED or max(errors.values()) == 0.0, "the same calls, made by another rank"
        assert set(messages) == {"branches"}


@pytest.mark.parametrize("name", ["sd3", "wan_i2v"])
def test_branches_and_tokens_are_divided_together(name: str) -> None:
    tiny(name)
    parallel = ContextParallelOptions(name="ulysses", degree=2, cfg=True)
    for errors, messages in run_on_ranks(4, lambda: generate(name, parallel)):
        assert max(errors.values()) < 1e-5
        assert {"branches", "all_to_all", "gather"} <= set(messages)


@pytest.mark.parametrize("name", UNSPLIT)
def test_a_pipeline_without_branches_is_an_error(name: str) -> None:
    tiny(name)

    def run() -> str:
        with pytest.raises(RunError) as caught:
            generate(name, CFG)
        return str(caught.value)

    for message in run_on_ranks(2, run):
        assert message.startswith("parallel.cfg: the denoiser was called ") and "parallel=none" in message


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_branches_of_a_u_net_are_divided(name: str) -> None:
    model = Shrunk(name, guided=True, steps=2)
    expected = model.denoise()

    def run() -> float:
        divided = apply_parallel(model.pipe, model.family, CFG)
        assert divided is not None
        with divided.divide([model.denoiser], 1):
            latents = model.denoise(divided.end_step)
        return float((latents - expected).norm() / expected.norm())

    assert max(run_on_ranks(2, run)) < 1e-5
