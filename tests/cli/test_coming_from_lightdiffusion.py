"""docs/coming_from.md on LightDiffusion-Next: its window, and what its DeepCache keeps, in replicas of its rules.

Read in `src/WaveSpeed/deepcache_nodes.py`, `src/cond/cond.py` and `src/Model/ModelBase.py` of
https://github.com/Aatricks/LightDiffusion-Next.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler

from tests.cli.test_coming_from import ROWS, plan
from wavespeed_runner.config.schema import Window
from wavespeed_runner.samplers.progress import measure_progress


def test_lightdiffusions_partial_preset_skips_nothing_on_sdxl() -> None:
    """Its wrapper counts steps while 1000 - end_step <= t <= 1000 - start_step, and is given the noise level as t."""
    (row,) = (row for _, row in ROWS if row["theirs"].startswith("partial"))
    start, end = (int(word) for word in re.findall(r"_step (\d+)", row["theirs"]))
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(20)
    assert 14 < max(scheduler.sigmas.tolist()) < 14.7 and row["agree"] == "other"
    assert not any(1000 - end <= sigma <= 1000 - start for sigma in scheduler.sigmas.tolist())
    cache, progress = plan(row["ours"]).config.cache, measure_progress(scheduler, Window.timesteps, flow=False)
    assert any(cache.start <= share <= cache.end for share in progress), "here the window opens"


@pytest.mark.parametrize(("is_euler", "agree"), [(True, "same"), (False, "near")], ids=["euler", "dpmpp_2m"])
def test_keeping_the_denoised_image_is_keeping_the_output_for_euler_alone(is_euler: bool, agree: str) -> None:
    """Every third step computed, of a toy whose denoiser knows nothing of the noise level but its size."""
    (row,) = (row for _, row in ROWS if row["theirs"].startswith("balanced" if is_euler else "interval 3, DPM++"))
    sigmas = np.geomspace(14.6, 0.03, 20)
    ends = []
    for keeps_denoised in (True, False):
        x, kept, before = 14.6, 0.0, None
        for step, (sigma, after) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            if step % 3 == 0:
                denoised = 1 + np.tanh(x) / (1 + sigma**2)
                kept = denoised if keeps_denoised else (x - denoised) / sigma
            denoised = kept if keeps_denoised else x - sigma * kept
            use = denoised
            if not is_euler and before is not None and after > 0:  # DPM++ 2M
                ratio = np.log(sigmas[step - 1] / sigma) / np.log(sigma / after)
                use = denoised + (denoised - before) / (2 * ratio)
            x, before = use + (x - use) * after / sigma, denoised
        ends.append(x)
    assert bool(np.isclose(*ends, rtol=1e-9)) is is_euler and row["agree"] == agree
