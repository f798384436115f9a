"""The shipped U-Net: complete, small, and able to do what it is there for."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

from training.common import DEMO_UNET
from training.evaluate import captions, generate, load
from training.oracle import judge

SIZE_LIMIT = 20e6  # bytes; the folder is part of the package


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    made = load("demo_unet")
    assert isinstance(made, StableDiffusionPipeline)
    return made


def test_the_folder_is_small_and_says_nothing_about_the_machine_it_was_made_on() -> None:
    files = [f for f in DEMO_UNET.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < SIZE_LIMIT
    for file in DEMO_UNET.rglob("*.json"):
        assert "_name_or_path" not in json.loads(file.read_text()), file


def test_what_the_pipeline_reads_from_the_configuration_is_there(pipe: StableDiffusionPipeline) -> None:
    assert pipe.vae.config.scaling_factor != 1.0
    assert pipe.vae.config.shift_factor == 0.0
    assert pipe.vae_scale_factor == 4
    assert pipe.unet.config.sample_size == 16
    assert pipe.tokenizer.model_max_length == 20
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.safety_checker is None
    assert {p.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters()} == {torch.float32}


def test_a_plain_call_gives_what_was_asked_for(pipe: StableDiffusionPipeline) -> None:
    """With nothing but the pipeline's defaults, which guide with a scale of 7.5."""
    prompt = "a red circle above a blue square"
    seed = torch.Generator().manual_seed(0)
    image = pipe(prompt, height=64, width=64, num_inference_steps=25, generator=seed).images[0]
    verdict = judge(np.asarray(image), prompt)
    assert verdict.right, verdict.problems


@pytest.mark.parametrize("sampler", [DDIMScheduler, EulerDiscreteScheduler])
def test_another_sampler_takes_over_the_configuration(pipe: StableDiffusionPipeline, sampler: type) -> None:
    prompt = "a yellow square on a gray background"
    other = StableDiffusionPipeline(**{**pipe.components, "scheduler": sampler.from_config(pipe.scheduler.config)})
    other.set_progress_bar_config(disable=True)
    (image,) = generate(other, [prompt])
    verdict = judge(image, prompt)
    assert verdict.right, verdict.problems


@pytest.mark.parametrize("pair", [False, True])
def test_held_out_captions(pipe: StableDiffusionPipeline, pair: bool) -> None:
    prompts = captions(8, pair=pair)
    images = generate(pipe, prompts)
    verdicts = [judge(p, text) for p, text in zip(images, prompts, strict=True)]
    wrong = [(text, v.problems) for text, v in zip(prompts, verdicts, strict=True) if not v.right]
    assert len(wrong) <= 1, wrong
