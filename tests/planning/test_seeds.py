"""Seeds: all that torch takes, drawn ones that are recorded, and what their bits do to the noise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.command_line import CommandLine
from wavespeed_runner.artifacts import SEEDS, Embeddings, Images, Sample
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.config.denoise_options import DenoiseOptions
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.planning.seeds import draw_seed
from wavespeed_runner.report.collect import collect
from wavespeed_runner.rules.seeds import NOISE_SEEDS
from wavespeed_runner.stages.image_request import build_requests
from wavespeed_runner.sweeps.jobs import plan_job_again, plan_jobs


@pytest.fixture(autouse=True)
def drawn_anew() -> Iterator[None]:
    draw_seed.cache_clear()
    yield
    draw_seed.cache_clear()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


SMALL = ("model.init=tiny", "device=cpu", "width=32", "height=32", "steps=2", "measure=none")


def test_the_largest_seed_makes_an_image_that_is_made_again(command: CommandLine) -> None:
    assert command(*SMALL, f"seed={2**64 - 2}", "num_images_per_prompt=2", "prompt=x").status == 0
    images = sorted(Path("outputs").glob("runs/*/*/images/*.png"))
    assert [image.name for image in images] == [f"0{i}_x_seed{2**64 - 2 + i}.png" for i in range(2)]
    for image in images:
        said = command("replay", str(image))
        assert said.status == 0 and "identical, 1 of 1 images" in said.out, said


def test_a_drawn_seed_is_said_and_recorded_and_makes_the_image_again(command: CommandLine) -> None:
    assert command(*SMALL, "seed=-1", "prompt=x").status == 0
    (file,) = Path("outputs").glob("runs/*/*/record.json")
    record = json.loads(file.read_text())
    seed = record["config"]["seed"]
    assert 0 <= seed < 2**32 and record["samples"][0]["seed"] == seed
    assert record["plan"]["changes"] == [
        {"key": "seed", "value": seed, "why": "seed=-1 draws one for each command"},
    ]
    draw_seed.cache_clear()
    again = command("replay", str(file))
    assert again.status == 0 and "identical, 1 of 1 images" in again.out, again
    # What a report shows as the way to make it again, too.
    assert f"seed: {seed}" in collect(file.parent).rows[0].config_yaml


def test_the_jobs_of_a_sweep_share_a_drawn_seed_also_those_of_other_processes(command: CommandLine) -> None:
    typed = (*SMALL, "prompt=x", "seed=-1", "cache=none,fbcache")
    jobs = plan_jobs(parse_arguments(["-m", *typed]))
    plans = [job.plan for job in jobs if job.plan]
    assert len({plan.config.seed for plan in plans}) == 1 and 0 <= plans[0].config.seed < 2**32
    draw_seed.cache_clear()  # as in another process
    for job, plan in zip(jobs, plans, strict=True):
        again = plan_job_again(job.number, None, job.overrides, typed)
        assert again.plan is not None and again.plan.identity == plan.identity


def test_a_plan_says_the_drawn_seed(command: CommandLine) -> None:
    assert "seed=-1 draws one" in command.plans(*SMALL, "prompt=x", "seed=-1")


def test_seeds_are_drawn_of_all_that_give_different_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["wavespeed_runner.planning.seeds"]
    monkeypatch.setattr(module, "randbelow", lambda bound: bound)
    assert draw_seed() == NOISE_SEEDS


def test_ranks_that_were_started_together_are_given_a_seed(
    monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, Any]]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"seed=-1: torchrun has started 2 ranks.*give one"):
        build_plan(composed("seed=-1"))


def test_noise_comes_from_the_lowest_32_bits_of_a_seed() -> None:
    """What the rule `seed-bits` says; if torch changes that, the rule goes."""
    import torch

    def noise(seed: int) -> list[float]:
        drawn: list[float] = torch.randn(4, generator=torch.Generator("cpu").manual_seed(seed)).tolist()
        return drawn

    assert noise(7) == noise(7 + NOISE_SEEDS) == noise(SEEDS - NOISE_SEEDS + 7)
    assert noise(7) != noise(8) and noise(0) != noise(NOISE_SEEDS - 1)


def test_the_seeds_of_many_regions_go_on_at_zero_after_the_largest() -> None:
    images = Images(tensors={"images": np.zeros((3, 8, 8, 3), np.uint8)})
    options = DenoiseOptions(
        steps=1, guidance_scale=None, width=8, height=8, num_frames=None, strength=1.0, sampler=None, cache=None,
        batch_size=1, warmup=0, repeats=1,
    )  # type: ignore[arg-type]  # fmt: skip
    pipeline: Any = SimpleNamespace(device="cpu", family=SimpleNamespace(kind="image", beside_noise=()))
    sample = Sample(prompt="x", seed=SEEDS - 2)
    requests = build_requests(
        options, 0, pipeline=pipeline, embeddings=Embeddings(tensors={}), sample=sample, image=images
    )
    assert [request.seed for request in requests] == [SEEDS - 2, SEEDS - 1, 0]
