"""Store keys: equal for what gives the same result, different for what may give another; and the reference graph."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.artifacts import Images, Sample
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.planning import store_keys
from wavespeed_runner.planning.graph import Graph, Node, build_graph
from wavespeed_runner.planning.reference import build_reference_graph
from wavespeed_runner.planning.store_keys import compute_keys
from wavespeed_runner.registry import lookup
from wavespeed_runner.stages import stage

Composed = Callable[..., dict[str, Any]]
SAMPLE = Sample(prompt="a red circle", seed=1)
MATTERS = {"torch": "2.0", "device": "here"}


@dataclass(kw_only=True)
class MixOptions:
    amount: float = 0.5
    names: list[str] = field(default_factory=list)
    count: int | None = None
    loud: bool = False


def mix(options: MixOptions, *, images: Images, other: Images | None = None) -> Images:
    return images


@pytest.fixture(autouse=True)
def throw_away_stage(own_registry: Any) -> None:
    stage("mix", options=MixOptions)(mix)


def built(config: dict[str, Any]) -> Graph:
    return build_graph(resolve_config(config))


def node(stage: str, **inputs: str) -> dict[str, Any]:
    return {"stage": stage, "inputs": inputs, "options": None}


OPTIONS = st.builds(
    MixOptions,
    amount=st.floats(allow_nan=False, allow_infinity=False),
    names=st.lists(st.text(max_size=3), max_size=2),
    count=st.none() | st.integers(-3, 3),
    loud=st.booleans(),
)


def key_of(options: MixOptions) -> str:
    found = lookup("stage", "mix").implementation
    image = Node(name="mixed", stage=found, options=options, inputs={"images": "sample"})
    return compute_keys(Graph(nodes={"mixed": image}, output="mixed"), SAMPLE, MATTERS)["mixed"]


@given(OPTIONS, OPTIONS)
def test_keys_are_equal_exactly_for_equal_options(one: MixOptions, two: MixOptions) -> None:
    # repr, because 0.0 == -0.0.
    assert (key_of(one) == key_of(two)) == (repr(one) == repr(two))


@pytest.mark.parametrize("change", [{"prompt": "a blue circle"}, {"negative_prompt": "dark"}, {"seed": 2}])
def test_every_field_of_the_sample_changes_the_keys_that_follow_from_it(
    composed: Composed, change: dict[str, Any]
) -> None:
    graph = built(composed())
    one, two = compute_keys(graph, SAMPLE, MATTERS), compute_keys(graph, replace(SAMPLE, **change), MATTERS)
    assert {name for name in one if one[name] != two[name]} == {"sample", "encode", "denoise", "decode"}


def test_every_version_changes_every_key_but_the_samples(composed: Composed) -> None:
    graph = built(composed())
    one, two = compute_keys(graph, SAMPLE, MATTERS), compute_keys(graph, SAMPLE, {**MATTERS, "torch": "2.1"})
    assert {name for name in one if one[name] == two[name]} == {"sample"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("steps=5", {"denoise", "decode"}),
        ("width=48", {"denoise", "decode"}),
        ("cache=fbcache", {"denoise", "decode"}),
        ("sampler=euler", {"denoise", "decode"}),
        ("guidance_scale=3", {"encode", "denoise", "decode"}),
        ("model.dtype=bfloat16", {"load", "encode", "denoise", "decode"}),
        ("measure.difference_gain=2", set()),
        ("outputs=elsewhere", set()),
    ],
)
def test_an_option_changes_the_keys_of_what_it_decides(composed: Composed, override: str, changed: set[str]) -> None:
    one, two = (compute_keys(built(config), SAMPLE, MATTERS) for config in (composed(), composed(override)))
    assert {name for name in one if one[name] != two[name]} == changed


def test_a_nodes_name_is_not_in_its_key_but_which_input_is_which_is(composed: Composed) -> None:
    config = composed()
    config["graph"]["stages"] |= {
        "one": node("mix", images="decode", other="first"),
        "same": node("mix", images="decode", other="first"),
        "turned": node("mix", images="first", other="decode"),
        "first": node("mix", images="decode"),
    }
    found = compute_keys(built(config), SAMPLE, MATTERS)
    assert found["one"] == found["same"] != found["turned"]


PLUGIN = """
from dataclasses import dataclass
from wavespeed_runner.stages import stage
from wavespeed_runner.artifacts import Images, Sample

@dataclass(kw_only=True)
class Options:
    pass

@stage("mine", options=Options)
def mine(options: Options, *, sample: Sample) -> Images:
    return {}
"""


def test_the_code_of_a_loose_stage_is_in_its_key(
    own_registry: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def key(returned: str) -> str:
        own_registry.pop(("stage", "mine"), None)
        (tmp_path / "plugin_of_a_test.py").write_text(PLUGIN.format(returned))
        spec = importlib.util.spec_from_file_location("plugin_of_a_test", tmp_path / "plugin_of_a_test.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "plugin_of_a_test", module)
        spec.loader.exec_module(module)
        store_keys._digest_loose_code.cache_clear()
        found = lookup("stage", "mine")
        mine = Node(name="mine", stage=found.implementation, options=found.options(), inputs={"sample": "sample"})
        return compute_keys(Graph(nodes={"mine": mine}, output="mine"), SAMPLE, MATTERS)["mine"]

    assert key("1") == key("1") != key("2")


def built_reference(config: dict[str, Any]) -> Graph:
    resolved = resolve_config(config)
    return build_reference_graph(resolved, build_graph(resolved))


def test_the_reference_graph_differs_in_caches_alone(composed: Composed) -> None:
    cached, config = built(composed("cache=fbcache", "steps=7")), composed("cache=fbcache", "steps=7")
    lossless = built_reference(config)
    assert lossless == built(composed("steps=7")) != cached
    assert compute_keys(lossless, SAMPLE, MATTERS) == compute_keys(built(composed("steps=7")), SAMPLE, MATTERS)
    assert {name for name in cached.nodes if cached.nodes[name] != lossless.nodes[name]} == {"denoise"}


def test_without_a_cache_the_graph_is_its_own_reference(composed: Composed) -> None:
    assert built_reference(composed()) == built(composed())
