"""Textual inversion on tiny models: learned tokens take effect, and tokens that cannot are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.accelerate.random_adapters import (
    TOKEN,
    family_of,
    load_tiny,
    write_embedding,
)
from tests.models.staged import encode_prompt
from wavespeed_runner.accelerate.adapters import (
    TextualInversion,
    apply_adapters,
    check_adapters,
    collect_evidence,
)
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.planning.plan import build_plan


@pytest.mark.parametrize(("name", "second"), [("sdxl", "clip_g"), ("demo", "t5")])
def test_a_file_for_two_text_encoders_reaches_both(name: str, second: str, tmp_path: Path) -> None:
    """Compared with vectors written into the encoders' tables, at the tokens that the prompt consists of."""
    _, config, pipe = load_tiny(name)
    encoders = pipe.text_encoder, pipe.text_encoder_2
    first_width, second_width = (encoder.get_input_embeddings().embedding_dim for encoder in encoders)
    file = write_embedding(tmp_path / "two.safetensors", clip_l=(2, first_width), **{second: (2, second_width)})
    adapters = TextualInversion(path=file, token=TOKEN)
    apply_adapters(pipe, adapters)
    assert collect_evidence(pipe, adapters) == {"tokens": {"text_encoder": {TOKEN: 2}, "text_encoder_2": {TOKEN: 2}}}

    by_hand = load_tiny(name)[2]
    for tokenizer, encoder, key in (
        (by_hand.tokenizer, by_hand.text_encoder, "clip_l"),
        (by_hand.tokenizer_2, by_hand.text_encoder_2, second),
    ):
        tokens = tokenizer("XY", add_special_tokens=False).input_ids
        encoder.get_input_embeddings().weight.data[tokens] = load_file(file)[key]
    family = family_of(name)

    def encode(pipe: Any, prompt: str) -> dict[str, torch.Tensor]:
        return encode_prompt(
            family, pipe, config, Sample(prompt=prompt, negative_prompt="", seed=0), config.guidance_scale
        )

    # diffusers expands a token to words with spaces between, which the tokenizer keeps.
    expected = encode(by_hand, "a X Y")
    for key, tensor in encode(pipe, f"a {TOKEN}").items():
        assert torch.allclose(tensor, expected[key], atol=1e-5), key


def test_each_vector_counts_as_a_token_of_the_prompt(tmp_path: Path) -> None:
    family, config, pipe = load_tiny("sd15")
    pretrained = replace(config, init=Init.pretrained)
    apply_adapters(pipe, TextualInversion(path=write_embedding(tmp_path / "many.safetensors", new=(30, 32))))

    def encode(prompt: str) -> Any:
        return encode_prompt(family, pipe, pretrained, Sample(prompt=prompt, negative_prompt="", seed=0), 1.0)

    encode(f"a {TOKEN}")
    with pytest.raises(RunError, match=r"tokenizer\.model_max_length=77"):
        encode(f"a {TOKEN} and a {TOKEN}")


def test_files_for_another_model_are_refused(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    two = write_embedding(tmp_path / "two.safetensors", clip_l=(1, 32), clip_g=(1, 48))
    with pytest.raises(RunError, match="clip_g is for text_encoder_2, which StableDiffusionPipeline does not have"):
        apply_adapters(pipe, TextualInversion(path=two, token=TOKEN))
    wide = write_embedding(tmp_path / "wide.safetensors", new=(1, 33))
    with pytest.raises(RunError, match=r"wide\.safetensors: its <new> has vectors of 33 numbers, and .* takes 32"):
        apply_adapters(load_tiny("sd15")[2], TextualInversion(path=wide))


@pytest.mark.parametrize(
    ("shapes", "token", "texts", "message"),
    [
        ({"new": (1, 4)}, None, ["a <new>"], None),
        ({"new": (1, 4)}, None, ["a circle", "a <new>"], None),
        ({"new": (1, 4)}, None, None, None),
        ({"new": (1, 4)}, "cat", ["a cat"], None),
        ({"clip_l": (1, 4), "clip_g": (1, 8)}, "cat", ["a cat"], None),
        ({"new": (1, 4)}, None, ["a circle", "a <NEW>"], "its token <new> is in no prompt"),
        ({"new": (1, 4)}, "cat", ["a <new>"], "its token cat is in no prompt"),
        ({"emb_params": (1, 4)}, None, ["emb_params"], "adapters.token: the file names no word"),
        ({"clip_l": (1, 4), "clip_g": (1, 8)}, None, ["a cat"], "adapters.token: the file names no word"),
        ({"new": (1000, 4)}, None, ["a <new>"], None),
        ({"new": (1001, 4)}, None, ["a <new>"], r"its <?new>? of shape \[1001, 4\] is no learned token"),
        ({"new": (0, 4)}, None, ["a <new>"], "is no learned token"),
        ({"new": (1, 1, 4)}, None, ["a <new>"], "is no learned token"),
        ({"one": (1, 4), "other": (1, 4)}, "cat", ["a cat"], "no textual inversion: it has 2 tensors"),
    ],
)
def test_a_token_must_be_known_and_in_a_prompt(
    shapes: dict[str, Any], token: str | None, texts: list[str] | None, message: str | None, tmp_path: Path
) -> None:
    adapters = TextualInversion(path=write_embedding(tmp_path / "file.safetensors", **shapes), token=token)
    if message is None:
        check_adapters(adapters, texts)
        return
    with pytest.raises(ConfigError, match=message):
        check_adapters(adapters, texts)


def test_a_long_token_is_not_said_in_full(tmp_path: Path) -> None:
    save_file({"x" * 20_000: torch.ones(1, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="is in no prompt") as caught:
        check_adapters(TextualInversion(path=str(tmp_path / "x.safetensors")), ["a circle"])
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_file_on_the_hub_needs_its_token_in_the_config() -> None:
    check_adapters(TextualInversion(path="owner/name", token="cat"), ["a cat"])
    with pytest.raises(ConfigError, match=r"what is on the hub is not read before the run.*adapters\.token=WORD"):
        check_adapters(TextualInversion(path="owner/name"), ["a cat"])


def test_a_plan_checks_the_token_against_its_prompts(
    composed: Callable[..., dict[str, Any]], planned: Callable[..., Any], tmp_path: Path
) -> None:
    file = write_embedding(tmp_path / "new.safetensors", new=(1, 32))
    overrides = ("adapters=textual_inversion", f"adapters.path={file}")
    with pytest.raises(ConfigError, match="its token <new> is in no prompt"):
        planned(*overrides)
    planned(*overrides, prompt=f"a {TOKEN}")
    # When one of several images is generated again, the token may be in the prompt of another one.
    build_plan(composed(*overrides), ["a red circle"])
