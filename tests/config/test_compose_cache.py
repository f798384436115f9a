"""Composition that is made once for many jobs is Hydra's own, to the last key, type and error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from wavespeed_runner.config import compose_cache
from wavespeed_runner.config.compose import CONFIG_NAME, compose_job, composer
from wavespeed_runner.config.error_messages import explain
from wavespeed_runner.errors import ConfigError

GROUPS = (
    "cache=fbcache", "cache=deepcache", "cache/predictor=taylor", "model=demo_unet", "model=flux", "sampler=euler",
    "graph=hires_fix", "measure=none", "experiment=known_answer", "experiment=detour", "experiment=mine",
    "prompts=file", "hydra/launcher=basic", "hydra.sweep.dir=x", "hydra.job.env_set={A: b}",
    "+hydra.sweeper.params={seed: 1}", "~hydra.sweep.subdir",
)  # fmt: skip
STRUCTURE = (
    "+graph.stages.y={stage: encode}", "++cache.start=0.1", "++new.thing=[1,2]", "~graph.stages.decode", "~prompt",
    "+graph.stages.x='${graph.stages.load}'", "cache={start: 0.5}", "~width=5", "graph={output: decode}",
    "+graph.stages.denoise.options={steps: 3}",
)  # fmt: skip
VALUES = (
    "steps=3", "steps=null", "steps=3.0", "seed=-1", "width='${height}'", "width=5", "height=${oc.env:HOME}",
    "prompt='a, b: {c} [d] ${seed}'", 'prompt="it\'s \\"quoted\\""', "prompt=a b", "prompt=é", "prompt='null'",
    "prompt=null", "negative_prompt=true", "negative_prompt=", "points=[{a: 1, b.c: [x]}]", "cache.start=0.3",
    "cache.start=-0.0", "cache.start=nan", "cache.end=1", "cache.residual_diff_threshold=0.2",
    "cache.criterion.threshold=0.2", "cache.signal=null", "cache.signal.blocks=2", "cache.signal={blocks: 3}",
    "model.repo=x/y", "model.dtype=bfloat16", "model.guidance_scale=2", "graph.stages.load={stage: x}",
    "graph.stages.denoise.inputs.sample=x", "graph.stages={}", "graph.output=y", "graph.stages.twin.stage=z",
    "graph.stages.twin={stage: z}", "graph.stages.twin='${graph}'", "outputs=y", "dry_run=true", "measure.repeats=2",
    "graph.stages.load.inputs={a: '${graph.stages.decode}'}", "prompts.path=a.txt", "hydra.job.num=3",
)  # fmt: skip
WRONG = (
    "cache=nope", "cache=[none]", "cache/signal=none", "~cache", "~sampler=default", "+cache=fbcache", "+seed=3",
    "cache@graph.x=none", "~steps=3", "seed=1,2", "seed=range(3)", "steps=abc", "steps=", "seed=1e3", "prompt='${'",
    "prompt=[a,b]", "cache.nope=1", "nope=1", "cache.start.x=1", "model.dtype=float8", "dry_run=maybe", "int(3)=4",
    "=3", "steps", "graph.stages.x.stage=z",
)  # fmt: skip
DETOUR = "# @package _global_\ngraph: {stages: {twin: '${graph.stages.load}'}}\n"
MINE = "# @package _global_\nsteps: 7\nprompt: ${negative_prompt}\npoints: [{steps: 3}]\n"

JOBS = st.builds(
    lambda first, more, wrong, order: sorted([*first, *more, *wrong], key=lambda _: order.random()),
    st.lists(st.sampled_from(GROUPS) | st.sampled_from(STRUCTURE), max_size=2, unique=True),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=4),
    st.one_of(st.just([]), st.just([]), st.just([]), st.lists(st.sampled_from(WRONG), max_size=1)),
    st.randoms(use_true_random=False),
)


@pytest.fixture(scope="module", autouse=True)
def composing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("configs")
    (folder / "experiment").mkdir()
    (folder / "experiment" / "detour.yaml").write_text(DETOUR)
    (folder / "experiment" / "mine.yaml").write_text(MINE)
    with composer(str(folder)):
        yield


def hydras(overrides: list[str]) -> Any:
    return OmegaConf.to_container(compose(CONFIG_NAME, overrides=overrides, return_hydra_config=True), resolve=False)


def outcome(composing: Any, overrides: list[str]) -> str:
    """What came out, or what was said; as text, because 1, 1.0 and True are equal and are not the same."""
    try:
        return repr(composing(overrides))
    except Exception as error:
        return f"{type(error).__name__}: {explain(error)}"


@pytest.mark.slow
@given(JOBS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_what_hydra_composes(overrides: list[str]) -> None:
    assert outcome(compose_cache.compose_config, overrides) == outcome(hydras, overrides)


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
    assert outcome(compose_cache.compose_config, overrides) == outcome(hydras, overrides)
    # Nor has a job left anything for the next.
    assert outcome(compose_cache.compose_config, overrides[:1]) == outcome(hydras, overrides[:1])


def test_hydra_composes_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    compose_cache.clear()
    composed: list[Any] = []

    def counted(*args: Any, **options: Any) -> Any:
        composed.append(options["overrides"])
        return compose(*args, **options)

    monkeypatch.setattr(compose_cache, "compose", counted)
    for number in range(50):
        job = [f"cache.residual_diff_threshold={number / 50}", "cache=fbcache", f"prompt='a, {number}'"]
        assert compose_cache.compose_config(job)["cache"]["residual_diff_threshold"] == number / 50
    assert composed == [["cache=fbcache"]]


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
