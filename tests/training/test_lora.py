"""The shipped LoRAs: small, readable by the pipeline, and each with an effect that can be measured."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from training import flow, lora, text, vae
from training.evaluate import generate
from training.oracle import judge
from training.pool import Pool
from training.scenes import parse, place, render

pytest.importorskip("peft")

SIZE_LIMIT = 500e3  # bytes


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return lora.load_all()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_files_are_small() -> None:
    for name in lora.EFFECTS:
        assert (lora.LORAS / f"{name}.safetensors").stat().st_size < SIZE_LIMIT


@pytest.mark.parametrize("name", lora.EFFECTS)
def test_a_measure_tells_drawn_images_apart(name: str) -> None:
    effect = lora.EFFECTS[name]
    scenes = [place(parse(prompt), np.random.default_rng(0)) for prompt in lora.PROMPTS]
    assert max(effect.measure(render(scene)) for scene in scenes) < 0.05
    assert min(effect.measure(effect.draw(scene)) for scene in scenes) > 0.95


@pytest.mark.parametrize("name", lora.EFFECTS)
def test_the_effect_grows_with_the_weight(pipe: FluxPipeline, name: str) -> None:
    none, half, full = (lora.strength(pipe, name, {name: weight}) for weight in (0.0, 0.5, 1.0))
    assert none < 0.1
    assert none + 0.1 < half < full - 0.1
    assert full > 0.9


def test_a_weight_of_zero_is_the_model_without_it(pipe: FluxPipeline) -> None:
    pipe.set_adapters(list(lora.EFFECTS), [0.0] * len(lora.EFFECTS))
    silenced = generate(pipe, lora.PROMPTS[:1])[0]
    pipe.disable_lora()
    plain = generate(pipe, lora.PROMPTS[:1])[0]
    pipe.enable_lora()
    assert np.array_equal(silenced, plain)


def test_two_at_once_have_both_effects(pipe: FluxPipeline) -> None:
    both = dict.fromkeys(lora.EFFECTS, 1.0)
    for name in lora.EFFECTS:
        assert lora.strength(pipe, name, both) > 0.9


def test_night_changes_nothing_else(pipe: FluxPipeline) -> None:
    pipe.set_adapters(["night"], [1.0])
    prompts = ["a large green square", "a blue triangle on a gray background"]
    for image, prompt in zip(generate(pipe, prompts), prompts, strict=True):
        verdict = judge(image, prompt.removesuffix(" on a gray background") + " on a black background")
        assert verdict.right, verdict.problems


def test_training_changes_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    coding = flow.Coding(vae.build().eval().requires_grad_(False), text.load(lora.DEMO))
    made = lora.Trainer(flow.Recipe(steps=2, batch=2), Pool(coding, 0, 0), tmp_path, torch.device("cpu"))
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.train_step()
    made.train_step()
    changed = {name for name, value in made.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
