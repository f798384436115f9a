"""The shipped textual inversion: a word that the U-Net demo model did not know means what it should."""

import pytest
from diffusers import StableDiffusionPipeline

from training import embedding
from training.evaluate import generate, load
from training.oracle import judge
from training.scenes import Image, parse

PROMPTS = [
    "a <sunset>",
    "a <sunset> on a black background",
    "a photo of a large <sunset>",
    "a <sunset> above a blue square",
]


def meant(prompt: str) -> str:
    """The prompt in words that the oracle reads."""
    return prompt.replace(f"a {embedding.TOKEN}", f"an {embedding.MEANING}").replace(embedding.TOKEN, embedding.MEANING)


def right(images: list[Image]) -> int:
    """In how many images the word is understood."""
    return sum(judge(p, meant(prompt)).right for p, prompt in zip(images, PROMPTS, strict=True))


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return load("demo_unet")


def test_the_word_means_something_only_once_it_is_loaded(pipe: StableDiffusionPipeline) -> None:
    assert right(generate(pipe, PROMPTS)) <= 1
    pipe.load_textual_inversion(embedding.FILE)
    assert right(generate(pipe, PROMPTS)) >= 3
    pipe.unload_textual_inversion()
    assert right(generate(pipe, PROMPTS)) <= 1


def test_captions_are_rewritten_and_stay_readable() -> None:
    assert embedding.with_token("a photo of an orange circle on a black background") == (
        "a photo of a <sunset> on a black background"
    )
    assert embedding.with_token("a small orange circle") == "a small <sunset>"
    for prompt in PROMPTS:
        parse(meant(prompt))
        assert embedding.with_token(meant(prompt)) == prompt
