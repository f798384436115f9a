"""The blocks of every family are compiled without a break and, in a second generation, not again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.accelerate.compile_runs import compiled
from tests.caching.strategy_runs import Model
from tests.caching.tiny_models import families
from wavespeed_runner.accelerate.compile_options import CompileTarget
from wavespeed_runner.rules.compile import BREAKING


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_blocks_are_compiled_once(name: str, tmp_path: Path) -> None:
    model = Model(name)
    torch._dynamo.reset()
    with compiled(model.inputs["pipeline"].pipe, model.family, tmp_path) as monitor:
        model.inputs["pipeline"].compiler = monitor
        if name in BREAKING[CompileTarget.denoiser]:
            with pytest.raises(torch._dynamo.exc.UserError):
                model.denoise(model.options)
            return
        model.denoise(model.options)
        latents = model.denoise(model.options)
    assert latents.data["timing_void"] is None
    assert monitor.total.graphs > 0 and not monitor.total.graph_breaks and not monitor.total.fallbacks
    assert torch.equal(latents.tensors["latents"], model.reference)
