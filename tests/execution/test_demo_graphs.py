"""The graphs on the trained demo model, as the command line asks for them: the images are judged by the demo's own
oracle, which knows nothing of how they were made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_as_data
from training.oracle import judge
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.inputs.files import resolve_path
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.storage.store import Store

SCENE = np.asarray(Image.open(resolve_path("pkg://wavespeed_runner/samples/scene.png")).convert("RGB"))
MASK = np.asarray(Image.open(resolve_path("pkg://wavespeed_runner/samples/mask.png")).convert("L"))
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(composed: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`run(graph, prompt, *overrides)`: the first image of every stage that makes some; `out` is the result."""
    store = Store(tmp_path_factory.mktemp("demo") / "store")
    executor = Executor(store, rerun=False, on_stage=lambda stage: None)

    def images(graph: str, prompt: str, *overrides: str) -> dict[str, Any]:
        own = ("model.init=pretrained", "width=64", "height=64", "steps=28", f"graph={graph}", f"prompt='{prompt}'")
        plan = build_plan({**composed(*own, *overrides), "outputs": str(store.root.parent)})
        (values,) = executor.run(plan.graph, plan.samples, plan.keys, [])
        made = {name: v.tensors["images"][0] for name, v in values.items() if "images" in getattr(v, "tensors", {})}
        return {**made, "out": made[plan.graph.output]}

    return images


def sharpness(image: Any) -> float:
    """Mean square of the differences between neighbours, over what differs at all: blur makes it small."""
    across = np.diff(image.astype(float), axis=1)
    return float((across**2).sum() / np.abs(across).sum())


def test_image_to_image_repaints_what_it_was_given(run: Run) -> None:
    made = run("image_to_image", "a green circle left of a blue square")["out"]
    verdict = judge(made, "a green circle left of a blue square")
    assert verdict.right, verdict.problems
    before = {thing.shape: thing for thing in judge(SCENE, "a red circle left of a blue square").found}
    for thing in verdict.found:
        assert abs(thing.x - before[thing.shape].x) < 4 and abs(thing.y - before[thing.shape].y) < 4


def test_strength_says_how_far_the_image_is_left(run: Run) -> None:
    prompt = "a green circle left of a blue square"
    apart = [
        np.abs(run("image_to_image", prompt, f"strength={s}")["out"].astype(int) - SCENE).mean()
        for s in (0.1, 0.6, 1.0)
    ]
    assert apart[0] < apart[1] < apart[2] and apart[0] < 3


def test_inpainting_replaces_one_object_and_keeps_the_other_to_the_pixel(run: Run) -> None:
    made = run("inpaint_overlay", "a red circle left of a yellow triangle")
    verdict = judge(made["out"], "a red circle left of a yellow triangle")
    assert verdict.right, verdict.problems
    assert np.array_equal(made["out"][MASK == 0], SCENE[MASK == 0])
    assert np.array_equal(made["out"][MASK == 255], made["decode"][MASK == 255])


@pytest.mark.parametrize(("graph", "overrides"), [("hires_fix", ()), ("hires_fix_latents", ("strength=0.1",))])
def test_hires_fix_draws_the_same_scene_at_twice_the_size(run: Run, graph: str, overrides: tuple[str, ...]) -> None:
    prompt = "a green square left of a purple circle on a gray background"
    small = run("text_to_image", prompt)["out"]
    made = run(graph, prompt, *overrides)["out"]
    assert made.shape == (128, 128, 3)
    pair = (np.asarray(Image.fromarray(made).reduce(2)), small)
    now, then = (sorted(judge(image, prompt).found, key=lambda thing: thing.x) for image in pair)
    assert [thing.colour for thing in now] == [thing.colour for thing in then] == ["green", "purple"]
    for new, old in zip(now, then, strict=True):
        assert abs(new.x - old.x) < 4 and abs(new.y - old.y) < 4
    enlarged = np.asarray(Image.fromarray(small).resize((128, 128), Image.Resampling.LANCZOS))
    assert np.abs(made.astype(int) - enlarged).max() > 50, "the second pass painted nothing"
    if graph == "hires_fix":
        assert sharpness(made) > sharpness(enlarged)


def test_the_detail_pass_refines_each_object_in_its_place(run: Run) -> None:
    prompt = "a green square left of a purple circle on a gray background"
    made = run("detail", prompt)
    verdict = judge(made["out"], prompt)
    assert verdict.right, verdict.problems
    assert made["crop"].shape == made["decode_detail"].shape == (64, 64, 3)
    assert sharpness(made["decode_detail"]) > sharpness(made["crop"])
    changed = np.abs(made["out"].astype(int) - made["decode"]).max(axis=-1) > 0
    assert 0.1 < changed.mean() < 0.9, "only the regions are painted anew"


@pytest.mark.parametrize("graph", ["image_to_image", "inpaint", "hires_fix", "hires_fix_latents", "detail"])
def test_a_run_leaves_images_and_a_record_with_the_steps_of_every_pass(
    composed: Callable[..., dict[str, Any]], tmp_path: Path, graph: str
) -> None:
    config = composed(f"graph={graph}", "measure=default", "measure.warmup=0", "cache=fbcache", "width=64", "height=64")
    plan = build_plan({**config, "outputs": str(tmp_path)})
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    (sample,) = record["samples"]
    passes = [name for name, node in plan.graph.nodes.items() if node.stage.name == "denoise"]
    by_stage = {name: [step for step in sample["steps"] if step["stage"] == name] for name in sample["engaged"]}
    assert set(by_stage) <= set(passes) and "denoise" in by_stage and all(by_stage.values())
    assert sum(map(len, by_stage.values())) == len(sample["steps"])
    assert {run["name"] for run in record["stages"] if run["of"] == "reference"} >= set(passes)
    assert sample["seconds"] > 0 and sample["quality"] is not None
    assert (tmp_path / "run" / sample["file"]).exists()
