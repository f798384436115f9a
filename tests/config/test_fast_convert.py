"""A config that differs from an earlier one in values alone is converted as if it were the first."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavespeed_runner import registry
from wavespeed_runner.config import fast, resolve
from wavespeed_runner.config.compose import compose_job, composer, list_options
from wavespeed_runner.config.error_messages import explain
from wavespeed_runner.config.fast import convert
from wavespeed_runner.config.resolve import resolve_config, resolve_stage_options
from wavespeed_runner.config.schema import CacheConfig

BASES = (
    ("cache=fbcache",),
    ("cache=taylorseer", "graph=hires_fix", "model.init=tiny"),
    ("model=demo_unet", "cache=deepcache", "+graph.stages.denoise.options={steps: 3, sampler: '${sampler}'}"),
    ("graph=image_to_image", "cache=magcache", "sampler=euler_karras"),
)
KEYS = (
    "steps", "seed", "prompt", "negative_prompt", "guidance_scale", "width", "strength", "device", "dry_run", "image",
    "cache.start", "cache.end", "cache.residual_diff_threshold", "cache.max_consecutive_cache_hits",
    "cache.signal.blocks", "cache.name", "cache.interval", "cache.depth", "model.repo", "model.dtype", "model.init",
    "model.steps", "model.width", "model.guidance_scale", "measure.repeats", "measure.reference", "graph.output",
    "graph.strength", "sampler", "graph.stages.denoise.options", "graph.stages.upscale.options.scale",
    "graph.stages.load.stage", "nope", "seeds",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 60), st.floats(), st.text(max_size=6),
    st.sampled_from(["fbcache", "none", "tiny", "${seed}", "${model.steps}", "${nope}", "a ${seed}", "???", "1.5"]),
    st.lists(st.integers(), max_size=2), st.just({}), st.just({"steps": 5}), st.just("per_prompt"),
)  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=3)


@pytest.fixture(scope="module")
def bases() -> list[dict[str, Any]]:
    with composer(None):
        return [compose_job(list(base), list(base)) for base in BASES]


@pytest.fixture(scope="module", autouse=True)
def known_shapes_cleared() -> Iterator[None]:
    yield
    convert._known.clear()


def changed(data: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    data = deepcopy(data)
    for key, value in values.items():
        *above, last = key.split(".")
        node: Any = data
        for name in above:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last] = value
    return data


def outcome(data: dict[str, Any]) -> str:
    """The typed config and its stages' options, or the error line; as text, because 1, 1.0 and True are equal."""
    try:
        config = resolve_config(data)
        return f"{config!r} {resolve_stage_options(config)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {explain(error)}"


def from_scratch(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as without:
        without.setenv(fast.SWITCH, "0")
        return outcome(data)


@pytest.mark.slow
@given(st.integers(0, len(BASES) - 1), st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_result_is_that_of_converting_from_scratch(
    bases: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, base: int, changes: list[dict[str, Any]]
) -> None:
    outcome(bases[base])
    for values in changes:
        data = changed(bases[base], values)
        assert outcome(data) == from_scratch(data, monkeypatch), values
    assert outcome(bases[base]) == from_scratch(bases[base], monkeypatch)


def test_only_the_first_of_many_is_merged(bases: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_known", type(convert._known)())
    merged: list[Any] = []
    merge = resolve._merge
    monkeypatch.setattr(resolve, "_merge", lambda composed: merged.append(composed) or merge(composed))
    for number in range(20):
        values = {"cache.residual_diff_threshold": number / 20, "prompt": f"image {number}", "seed": number}
        config = resolve_config(changed(bases[0], values))
        assert (config.seed, config.prompt, config.cache.criterion.threshold) == (  # type: ignore[union-attr]
            number,
            f"image {number}",
            number / 20,
        )
    assert len(merged) == 1


def test_what_a_plugin_registers_anew_counts(bases: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve_config(bases[0])
    own = type("Own", (type(before.cache),), {})
    entries = dict(registry._entries)
    name = ("cache", before.cache.name)
    entries[name] = replace(entries[name], options=own)
    monkeypatch.setattr(registry, "_entries", entries)
    assert type(resolve_config(bases[0]).cache) is own


@pytest.mark.slow
def test_the_stages_of_every_shipped_graph_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    with composer(None):
        models = {name: ["model=wan21"] if "video" in name else [] for name in list_options("graph")}
        given = [[f"graph={name}", *model] for name, model in models.items()]
        composed = [compose_job(overrides, overrides) for overrides in given]
    for data in composed:
        config = resolve_config(data)
        quick = resolve_stage_options(config)
        with monkeypatch.context() as without:
            without.setenv(fast.SWITCH, "0")
            slow = resolve_stage_options(config)
        assert repr(quick) == repr(slow) and quick == slow
        assert isinstance(next((o.cache for o in quick.values() if hasattr(o, "cache")), None), CacheConfig)
