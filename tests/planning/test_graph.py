"""Graphs: what is wrong with one is said before anything runs, and a config alone adds, replaces and removes stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.artifacts import Images, Latents, Pipeline
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.graph import Graph, build_graph
from wavespeed_runner.stages import stage

Composed = Callable[..., dict[str, Any]]


@dataclass(kw_only=True)
class MixOptions:
    amount: float = 0.5


def mix(options: MixOptions, *, images: Images, other: Images | None = None) -> Images:
    return images


def paint(options: MixOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    return Images(tensors={})


@pytest.fixture(autouse=True)
def throw_away_stages(own_registry: Any) -> None:
    stage("mix", options=MixOptions)(mix)
    stage("paint", options=MixOptions)(paint)


def built(config: dict[str, Any]) -> Graph:
    return build_graph(resolve_config(config))


def node(stage: str, **inputs: str) -> dict[str, Any]:
    return {"stage": stage, "inputs": inputs, "options": None}


def no_such_input(stages: dict[str, Any]) -> None:
    stages["decode"]["inputs"]["latent"] = "denoise"


def cycle(stages: dict[str, Any]) -> None:
    stages |= {"one": node("mix", images="two"), "two": node("mix", images="one")}


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a missing input": (
        lambda stages: stages["decode"]["inputs"].pop("latents"),
        "graph.stages.decode.inputs.latents: missing; name the stage that gives Latents",
    ),
    "an unknown source": (
        lambda stages: stages["denoise"]["inputs"].update(embeddings="encod"),
        "graph.stages.denoise.inputs.embeddings=encod: no such stage (did you mean 'encode'?)",
    ),
    "an input that the stage does not have": (
        no_such_input,
        "graph.stages.decode.inputs.latent: stage 'decode' has no such input (did you mean 'latents'?)",
    ),
    "a wrong type": (
        lambda stages: stages["decode"]["inputs"].update(latents="encode"),
        "graph.stages.decode.inputs.latents=encode: it gives Embeddings, Latents is needed",
    ),
    "the sample where a model is needed": (
        lambda stages: stages["decode"]["inputs"].update(pipeline="sample"),
        "graph.stages.decode.inputs.pipeline=sample: it gives Sample, Pipeline is needed",
    ),
    "a wrong type for an optional input": (
        lambda stages: stages.update(mixed=node("mix", images="decode", other="denoise")),
        "graph.stages.mixed.inputs.other=denoise: it gives Latents,",
    ),
    "a cycle": (cycle, "graph.stages: a cycle: "),
    "a stage that takes its own output": (
        lambda stages: stages.update(one=node("mix", images="one")),
        "graph.stages: a cycle: one -> one",
    ),
    "the source's name": (
        lambda stages: stages.update(sample=node("mix", images="decode")),
        "graph.stages.sample: the name is taken by the graph's source",
    ),
    "an unknown stage": (
        lambda stages: stages["decode"].update(stage="decod"),
        "graph.stages.decode.stage=decod: no stage of that name is registered (did you mean 'decode'?)",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_with_a_graph_is_said_with_its_key(composed: Composed, fault: str) -> None:
    config, (spoil, message) = composed(), WRONG[fault]
    spoil(config["graph"]["stages"])
    with pytest.raises(ConfigError) as raised:
        built(config)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("decod", "graph.output=decod: no such stage (did you mean 'decode'?)"),
        ("sample", "graph.output=sample: no such stage"),
        ("denoise", "graph.output=denoise: it gives Latents, the result must be Images"),
    ],
)
def test_the_output_must_be_a_stage_that_gives_images(composed: Composed, output: str, message: str) -> None:
    config = composed()
    config["graph"]["output"] = output
    with pytest.raises(ConfigError) as raised:
        built(config)
    assert str(raised.value).startswith(message)


def test_nodes_come_after_their_inputs_however_the_yaml_orders_them(composed: Composed) -> None:
    config = composed()
    config["graph"]["stages"] = dict(reversed(config["graph"]["stages"].items()))
    graph = built(config)
    order = list(graph.nodes)
    assert sorted(order) == ["decode", "denoise", "encode", "load"]
    for name, found in graph.nodes.items():
        assert all(order.index(source) < order.index(name) for source in found.inputs.values() if source != "sample")


def test_an_optional_input_may_be_left_out_and_given(composed: Composed) -> None:
    config = composed()
    config["graph"]["stages"] |= {
        "one": node("mix", images="decode"),
        "two": node("mix", images="one", other="decode"),
    }
    assert built(config).nodes["two"].inputs == {"images": "one", "other": "decode"}


def test_a_config_file_adds_and_replaces_stages(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "mine.yaml").write_text(
        "defaults: [text_to_image, _self_]\noutput: mixed\nstages:\n"
        "  decode: {stage: paint}\n"
        "  mixed: {stage: mix, inputs: {images: decode}, options: {amount: 0.25}}\n"
    )
    with composer(str(tmp_path)):
        graph = built(compose_job(["graph=mine"], ["graph=mine"]))
    assert list(graph.nodes) == ["load", "encode", "denoise", "decode", "mixed"] and graph.output == "mixed"
    assert graph.nodes["decode"].stage.name == "paint" and graph.nodes["mixed"].options.amount == 0.25


def test_the_command_line_removes_a_stage(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "mine.yaml").write_text(
        "defaults: [text_to_image, _self_]\noutput: mixed\nstages:\n  mixed: {stage: mix, inputs: {images: decode}}\n"
    )
    overrides = ["graph=mine", "~graph.stages.mixed", "graph.output=decode"]
    with composer(str(tmp_path)):
        graph = built(compose_job(overrides, overrides))
    assert list(graph.nodes) == ["load", "encode", "denoise", "decode"]


def test_the_command_line_adds_a_stage() -> None:
    overrides = ["+graph.stages.mixed.stage=mix", "+graph.stages.mixed.inputs.images=decode", "graph.output=mixed"]
    with composer(None):
        graph = built(compose_job(overrides, overrides))
    assert list(graph.nodes)[-1] == graph.output == "mixed"


def test_a_graphs_own_strength_is_for_a_run_that_says_none(composed: Composed) -> None:
    config = resolve_config(composed("graph=detail"))
    assert config.strength == config.graph.strength == 0.2 != config.model.strength
    assert resolve_config(composed("graph=detail", "strength=0.4")).strength == 0.4
    assert resolve_config(composed("graph=image_to_image")).strength == config.model.strength
