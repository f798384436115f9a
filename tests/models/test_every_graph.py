"""Every shipped model option, tiny, through every shipped graph that fits it, executed as in a run.

The result is compared with the same sequence of calls of diffusers' pipelines, written by hand. Regions come from a
detector of this test, so that they do not depend on random weights. Second passes run at 1.5 times the size, for speed.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from tests.models.shipped import GRAPHS, compose_shipped, list_variants
from tests.models.test_every_model import call_diffusers
from tests.models.their_calls import CALLS, NEGATIVE
from wavespeed_runner.artifacts import Images, Regions
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.models.family import Family
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.rules.graph import takes_strength
from wavespeed_runner.stages import stage
from wavespeed_runner.storage.store import Store

UNFIT = {
    *("graph-fits", "decode-fits", "latents-fit", "encode-needs-image", "encode-takes-no-image"),
    "strength-unused",  # second passes change their image a little, which models that read it beside noise cannot
}
PROMPT, SEED, STEPS = "a red circle above a blue square", 3, 2
STRENGTH = 0.6
SCENE = Image.open(CONF.parent / "wavespeed_runner/samples/scene.png").convert("RGB")
MASK = Image.open(CONF.parent / "wavespeed_runner/samples/mask.png").convert("L")
SMALLER: dict[str, dict[str, Any]] = {
    "hires_fix": {"upscale": {"scale": 1.5, "method": "bicubic"}},
    "hires_fix_latents": {"upscale": {"scale": 1.5, "method": "bilinear"}},
    "detail": {"crop": {"padding": 0.0}, "paste": {"feather": 0.0}},
}
"""Graph -> options of its stages in this test."""


@dataclass(kw_only=True)
class NoOptions:
    pass


@pytest.fixture(autouse=True)
def two_quarters(own_registry: Any) -> None:
    """A stage `two_quarters` that finds the upper left and the lower right quarter of every image."""

    @stage("two_quarters", options=NoOptions)
    def two_quarters(options: NoOptions, *, images: Images) -> Regions:
        height, width = images.tensors["images"].shape[1:3]
        boxes = np.array([[0, 0, width // 2, height // 2], [width // 2, height // 2, width, height]])
        tensors = {"of": np.zeros(2, np.int64), "boxes": boxes, "scores": np.ones(2, np.float32)}
        return Regions(tensors=tensors, data={"labels": ["a", "b"]})


def cases() -> list[tuple[str, str]]:
    """(model, graph) for every pair that the rules allow, of one model for each family and kind of guidance."""
    models, graphs = compose_shipped()
    nodes = {name: resolve_config({**models["demo"], "graph": node}).graph for name, node in graphs.items()}
    pairs = []
    for name in list_variants():
        config = resolve_config({**models[name], "num_frames": 1, "width": 64, "height": 64})
        for graph, node in nodes.items():
            if not UNFIT & {word.rule for word in apply_rules(replace(config, graph=node))}:
                pairs.append((name, graph))
    return pairs


LOADED: dict[str, Any] = {}
"""Resources of the last model by key: the graphs of a model are tested in a row."""


def ours(name: str, graph: str, folder: Path) -> tuple[Any, Any, Any]:
    """(pixels, config, pipeline)."""
    models, graphs = compose_shipped()
    node = deepcopy(graphs[graph])
    for stage_name, options in SMALLER.get(graph, {}).items():
        node["stages"][stage_name]["options"] = options
    if graph == "detail":
        node["stages"]["detect"]["stage"] = "two_quarters"
    data = {**models[name], "graph": node, "prompt": PROMPT, "seed": SEED, "steps": STEPS, "outputs": str(folder)}
    config = resolve_config(data)
    family = find_implementation("model", config.model)
    if any(takes_strength(node, family) for node in config.graph.stages.values() if node.stage == "denoise"):
        data["strength"] = STRENGTH
    call = CALLS[data["model"]["name"]](resolve_config(models[name]).model, "text_to_image")
    plan = build_plan({**data, "negative_prompt": NEGATIVE if "negative_prompt" in call else ""})
    executor = Executor(Store(folder / "store"), rerun=False, on_stage=lambda stage: None)
    if plan.keys[0]["load"] not in LOADED:
        LOADED.clear()
    executor.resources.update(LOADED)
    (values,) = executor.run(plan.graph, plan.samples, plan.keys, [])
    LOADED.update(executor.resources)
    result = values[plan.graph.output].tensors
    return result["frames" if "frames" in result else "images"], plan.config, LOADED[plan.keys[0]["load"]].pipe


class ByHand:
    """Every graph as a sequence of diffusers' calls."""

    def __init__(self, pipe: Any, config: Any) -> None:
        self.pipe, self.config = pipe, config
        self.family: Family = find_implementation("model", config.model)
        self.size = (config.width, config.height)

    def call(self, task: str, seed: int = SEED, *, latent: bool = False, **given: Any) -> Any:
        """Pixels or latents of one call; the default size is that of the run."""
        wanted = {"width": self.size[0], "height": self.size[1]}
        if self.family.kind == "video":
            wanted["num_frames"] = self.config.num_frames
        return call_diffusers(
            self.family, self.config.model, self.pipe, task, {**wanted, **given}, PROMPT, seed, STEPS, latent
        )

    def refine(self, image: Any, seed: int = SEED, **given: Any) -> Any:
        return self.call("image_to_image", seed, image=image, strength=STRENGTH, **given)

    def text_to_image(self) -> Any:
        return self.call("text_to_image")

    def text_to_video(self) -> Any:
        return self.call("text_to_video")

    def image_to_video(self) -> Any:
        return self.call("image_to_video", image=self.scene())

    image_to_video_seen = image_to_video

    def image_to_image(self) -> Any:
        return self.refine(self.scene())

    image_to_image_seen = image_to_image

    def inpaint(self) -> Any:
        return self.call("inpaint", image=self.scene(), mask=self.mask(), strength=STRENGTH)

    def inpaint_overlay(self) -> Any:
        inpainted, scene, white = self.inpaint(), np.asarray(self.scene()), np.asarray(self.mask())
        mixed = Image.composite(Image.fromarray(inpainted[0]), Image.fromarray(scene), Image.fromarray(white))
        return np.asarray(mixed)[None]

    def hires_fix(self) -> Any:
        width, height = self.larger()
        small = Image.fromarray(self.text_to_image()[0])
        return self.refine(small.resize((width, height), Image.Resampling.BICUBIC), width=width, height=height)

    def hires_fix_latents(self) -> Any:
        latents = self.call("text_to_image", latent=True)
        if latents.ndim == 3:
            latents = self.pipe._unpack_latents(latents, *self.size[::-1], self.pipe.vae_scale_factor)
        grid = latents[:, :, 0] if latents.ndim == 5 else latents
        large = interpolate(grid, scale_factor=1.5, mode="bilinear")
        return self.refine(large, width=self.larger()[0], height=self.larger()[1])

    def detail(self) -> Any:
        image = self.text_to_image()[0].copy()
        height, width = image.shape[0] // 2, image.shape[1] // 2
        quarters = [(slice(0, height), slice(0, width)), (slice(height, None), slice(width, None))]
        crops = [Image.fromarray(image[part]).resize(self.size, Image.Resampling.LANCZOS) for part in quarters]
        for index, (part, crop) in enumerate(zip(quarters, crops, strict=True)):
            better = Image.fromarray(self.refine(crop, SEED + index)[0])
            image[part] = np.asarray(better.resize((width, height), Image.Resampling.LANCZOS))
        return image[None]

    def larger(self) -> tuple[int, int]:
        return self.size[0] * 3 // 2, self.size[1] * 3 // 2

    def scene(self) -> Any:
        return SCENE.resize(self.size, Image.Resampling.LANCZOS)

    def mask(self) -> Any:
        return MASK.resize(self.size, Image.Resampling.LANCZOS)


def test_every_graph_is_written_by_hand() -> None:
    assert [graph for graph in GRAPHS if not hasattr(ByHand, graph)] == []


def test_every_graph_has_a_model_and_every_model_a_graph() -> None:
    pairs = cases()
    assert {graph for _, graph in pairs} == set(GRAPHS) and {name for name, _ in pairs} == set(list_variants())


@pytest.mark.parametrize(("name", "graph"), cases())
def test_a_graph_is_the_sequence_of_calls_bit_for_bit(name: str, graph: str, tmp_path: Path) -> None:
    pixels, config, pipe = ours(name, graph, tmp_path)
    by_hand = ByHand(pipe, config)
    with torch.inference_mode():
        expected = getattr(by_hand, graph)()
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape and pixels.std() > 1
    assert np.array_equal(pixels, expected)
