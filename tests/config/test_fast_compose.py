"""Composing once for many jobs gives what Hydra gives, to the last key, type and error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hypothesis import HealthCheck, given, settings
from omegaconf import OmegaConf

from tests.config.command_lines import COMMAND_LINES, outcome, write_experiments
from wavespeed_runner.config import fast
from wavespeed_runner.config.compose import CONFIG_NAME, compose_job, composer
from wavespeed_runner.config.fast import compose as fast_compose
from wavespeed_runner.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def hydra_initialized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hydra as it is: `spare_hydra_repetition` is used in `compose_quickly` alone."""
    folder: Path = tmp_path_factory.mktemp("configs")
    write_experiments(folder)
    with pytest.MonkeyPatch.context() as off:
        off.setenv(fast.SWITCH, "0")
        context = composer(str(folder))
        context.__enter__()
    yield
    context.__exit__(None, None, None)


def compose_quickly(overrides: list[str]) -> Any:
    with fast_compose.spare_hydra_repetition():
        return fast_compose.compose_config(overrides)


def compose_with_hydra(overrides: list[str]) -> Any:
    return OmegaConf.to_container(compose(CONFIG_NAME, overrides=overrides, return_hydra_config=True), resolve=False)


@pytest.mark.slow
@given(COMMAND_LINES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_result_is_hydras(overrides: list[str]) -> None:
    assert outcome(compose_quickly, overrides) == outcome(compose_with_hydra, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=detour", "graph.stages.twin.stage=z"],
        ["experiment=detour", "graph.stages.twin={stage: z}"],
        ["experiment=mine", "steps=3", "prompt=x"],
        ["steps=3", "~steps=3"],
        ["steps=4", "++steps=3", "steps=5"],
        ["cache.start=0.2", "cache=fbcache", "hydra.sweep.dir=x", "seed=4"],
        ["cache=fbcache", "prompt='a,b'", "cache.signal={blocks: 3}", "cache.signal.blocks=4"],
        ["graph.stages.load.inputs={a: '${graph.stages.decode}'}", "graph.stages.load.inputs.a.stage=z"],
    ],
    ids=" ".join,
)
def test_the_hard_cases(overrides: list[str]) -> None:
    assert outcome(compose_quickly, overrides) == outcome(compose_with_hydra, overrides)
    # One job leaves nothing behind for the next.
    assert outcome(compose_quickly, overrides[:1]) == outcome(compose_with_hydra, overrides[:1])


def test_hydra_composes_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    fast_compose.clear()
    calls: list[Any] = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(options["overrides"])
        return compose(*args, **options)

    monkeypatch.setattr(fast_compose, "compose", counted)
    for number in range(50):
        job = [f"cache.residual_diff_threshold={number / 50}", "cache=fbcache", f"prompt='a, {number}'"]
        assert fast_compose.compose_config(job)["cache"]["residual_diff_threshold"] == number / 50
    assert calls == [["cache=fbcache"]]


def test_what_a_job_does_to_its_config_stays_there() -> None:
    first = compose_job(["steps=3"], ["steps=3"])
    first["graph"]["stages"].clear()
    first["cache"]["name"] = "other"
    assert compose_job(["steps=4"], ["steps=4"])["graph"]["stages"]
    assert compose_job(["steps=4"], ["steps=4"])["cache"]["name"] == "none"


def test_every_job_is_checked() -> None:
    compose_job(["steps=3"], ["steps=3"])
    with pytest.raises(ConfigError, match=r"only plain interpolations"):
        compose_job(["prompt='${oc.env:HOME}'"], ["prompt='${oc.env:HOME}'"])
    with pytest.raises(ConfigError, match=r"image=/etc/x\.png: a config file may name"):
        compose_job(["image=/etc/x.png"], [])
    with pytest.raises(ConfigError, match=r"outputs=x: a config file sets it"):
        compose_job(["outputs=x"], [])
