"""The fast way and the plain one through Hydra and OmegaConf give the same jobs, configs and error lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.command_lines import COMMAND_LINES, outcome, write_experiments
from wavespeed_runner.config import fast
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.fast import compose, convert
from wavespeed_runner.config.resolve import resolve_config, resolve_stage_options
from wavespeed_runner.config.sweep_overrides import read_sweep

SWEPT = (
    "seed=1,2", "steps=range(2,5)", "cache=none,fbcache", "cache.start=0.1,0.3", "prompt='a, b',c", "steps=4,abc",
    "cache.signal.blocks=1,2", "sampler=default,euler,nope", "cache.end=choice(0.5,null)", "seed=range(3,1)",
)  # fmt: skip
JOBS = 4
"""So many of a sweep's jobs are compared."""


@pytest.fixture(scope="module", autouse=True)
def hydra_initialized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("configs")
    write_experiments(folder)
    with composer(str(folder)):
        yield
    convert._known.clear()


def resolve_job(overrides: list[str]) -> list[Any]:
    config = resolve_config(compose_job(overrides, overrides))
    return [config, resolve_stage_options(config)]


def resolve_jobs(overrides: list[str], swept: list[str]) -> list[str]:
    if not swept:
        return [outcome(resolve_job, overrides)]
    keys, jobs, points = read_sweep([*overrides, *swept])
    return [repr((keys, jobs, points)), *(outcome(resolve_job, job) for job in jobs[:JOBS])]


@pytest.mark.slow
@given(COMMAND_LINES, st.lists(st.sampled_from(SWEPT), max_size=2, unique_by=lambda override: override.split("=")[0]))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_ways_agree(monkeypatch: pytest.MonkeyPatch, overrides: list[str], swept: list[str]) -> None:
    quick = outcome(resolve_jobs, overrides, swept)
    with monkeypatch.context() as off:
        off.setenv(fast.SWITCH, "0")
        compose.clear()
        plain = outcome(resolve_jobs, overrides, swept)
    assert quick == plain


@pytest.mark.parametrize("value", ["0", "1", None])
def test_the_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(fast.SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(fast.SWITCH, value)
    compose.clear()
    convert._known.clear()
    composed: list[str] = []
    hydra = compose.compose

    def compose_and_list(*args: Any, overrides: list[str], **options: Any) -> Any:
        composed.extend(overrides)
        return hydra(*args, overrides=overrides, **options)

    monkeypatch.setattr(compose, "compose", compose_and_list)
    for seed in range(3):
        assert resolve_job([f"seed={seed}"])[0].seed == seed
    assert composed == (["seed=0", "seed=1", "seed=2"] if value == "0" else [])
    assert bool(convert._known) == (value != "0")
