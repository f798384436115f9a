"""The model that ships with the package: complete, small, and able to do what it is there for."""

import json

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from training.common import DEMO
from training.evaluate import captions, generate, wilson
from training.oracle import judge
from training.scenes import held_out

SIZE_LIMIT = 20e6  # bytes; the folder is part of the package


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    made = FluxPipeline.from_pretrained(DEMO)
    made.set_progress_bar_config(disable=True)
    return made


def test_the_folder_is_small_and_says_nothing_about_the_machine_it_was_made_on() -> None:
    files = [f for f in DEMO.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < SIZE_LIMIT
    for file in DEMO.rglob("*.json"):
        assert "_name_or_path" not in json.loads(file.read_text()), file


def test_what_the_pipeline_reads_from_the_configuration_is_there(pipe: FluxPipeline) -> None:
    assert pipe.vae.config.scaling_factor != 1.0
    assert pipe.vae.config.shift_factor != 0.0
    assert pipe.vae_scale_factor == 4
    assert pipe.tokenizer_2.model_max_length == 20
    assert not pipe.transformer.config.guidance_embeds
    parts = (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}


def test_a_plain_call_gives_what_was_asked_for(pipe: FluxPipeline) -> None:
    prompt = "a red circle above a blue square"
    image = pipe(
        prompt,
        height=64,
        width=64,
        num_inference_steps=28,
        max_sequence_length=20,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    verdict = judge(np.asarray(image), prompt)
    assert verdict.right, verdict.problems


def test_held_out_captions_of_one_object(pipe: FluxPipeline) -> None:
    prompts = captions(8, pair=False)
    assert all(held_out(text) for text in prompts)
    verdicts = [judge(p, text) for p, text in zip(generate(pipe, prompts), prompts, strict=True)]
    wrong = [(text, v.problems) for text, v in zip(prompts, verdicts, strict=True) if not v.right]
    assert len(wrong) <= 1, wrong


def test_no_evaluation_caption_was_in_training() -> None:
    for pair in (False, True):
        asked = captions(100, pair=pair)
        assert all(held_out(text) for text in asked)
        assert len(set(asked)) == 100


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(10, 10, 0.722, 1.0), (0, 10, 0.0, 0.278), (90, 100, 0.826, 0.945)]
)
def test_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    """Against the tables in Newcombe 1998 and direct computation."""
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-3)
