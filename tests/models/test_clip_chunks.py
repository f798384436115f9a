"""Weighted prompts and prompts of several chunks, against diffusers' own encoding of each chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_stable_diffusion import MODELS, tiny
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Init, Weighting
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.text.clip_chunks import COMMA_REACH, MAX_CHUNKS, PromptReading, split_tokens, weigh_states

LONG = "abcdefghijklmnopqrstuvwxyz0123456789" * 3
"""108 tokens of the tiny models, which have one for each byte: a chunk of 75, and one of 33."""


def read(name: str, prompt: str, negative: str = "", **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Embeddings, and what was counted."""
    family, config, pipe = tiny(name)
    reading = PromptReading(**how)
    sample = Sample(prompt=prompt, negative_prompt=negative)
    with torch.inference_mode():
        return family.encode(pipe, config, sample, 5.0, reading), reading.counts


def by_diffusers(name: str, text: str) -> dict[str, Any]:
    """What diffusers makes of a text that fits into one chunk, as prompt and as negative prompt."""
    family, config, pipe = tiny(name)
    with torch.inference_mode():
        return dict(family.encode(pipe, config, Sample(prompt=text, negative_prompt=text), 5.0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("negative", ["", "blue"])
@pytest.mark.parametrize("how", [{"chunked": True}, {"weighting": Weighting.a1111}])
def test_a_short_prompt_without_weights_has_the_bits_of_diffusers(name: str, negative: str, how: Any) -> None:
    family, config, pipe = tiny(name)
    sample = Sample(prompt="a red circle", negative_prompt=negative)
    with torch.inference_mode():
        expected = family.encode(pipe, config, sample, 5.0)
    found, counts = read(name, sample.prompt, negative, **how)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert (counts["prompt"]["tokens"], counts["prompt"]["chunks"]) == (12, 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("negative", ["", "blue"])
def test_layers_that_are_left_out_are_left_out_of_chunks_too(name: str, negative: str) -> None:
    family, config, pipe = tiny(name)
    skipping, sample = replace(config, clip_skip=1), Sample(prompt="a red circle", negative_prompt=negative)
    with torch.inference_mode():
        expected = family.encode(pipe, skipping, sample, 5.0)
        found = family.encode(pipe, skipping, sample, 5.0, PromptReading(chunked=True))
        plain = family.encode(pipe, config, sample, 5.0)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not torch.equal(found["prompt_embeds"], plain["prompt_embeds"])


@pytest.mark.parametrize("name", MODELS)
def test_a_long_prompt_is_read_in_chunks_that_are_joined(name: str) -> None:
    found, counts = read(name, LONG, "blue", chunked=True)
    first, second = by_diffusers(name, LONG[:75]), by_diffusers(name, LONG[75:])
    assert torch.equal(found["prompt_embeds"], torch.cat([first["prompt_embeds"], second["prompt_embeds"]], dim=1))
    # The shorter one is filled up with an empty chunk.
    empty, blue = (by_diffusers(name, text)["prompt_embeds"] for text in ("", "blue"))
    assert torch.equal(found["negative_prompt_embeds"], torch.cat([blue, empty], dim=1))
    if name == "sdxl":
        assert torch.equal(found["pooled_prompt_embeds"], first["pooled_prompt_embeds"])
    assert counts == {"prompt": {"tokens": 108, "chunks": 2}, "negative_prompt": {"tokens": 4, "chunks": 1}}


@pytest.mark.parametrize("name", MODELS)
def test_a_break_begins_a_new_chunk_also_of_a_short_prompt(name: str) -> None:
    found, counts = read(name, "a red circle BREAK a blue square", weighting=Weighting.a1111)
    parts = [by_diffusers(name, text)["prompt_embeds"] for text in ("a red circle", "a blue square")]
    assert torch.equal(found["prompt_embeds"], torch.cat(parts, dim=1)) and counts["prompt"]["chunks"] == 2


@pytest.fixture
def shifted() -> Iterator[None]:
    """Trained text encoders have a mean; that of a layer norm with random weights is 0."""
    norms = [
        module
        for name in ("sd15", "sd21")
        for part, module in tiny(name)[2].text_encoder.named_modules()
        if part.endswith("final_layer_norm")
    ]
    assert len(norms) == 2
    for norm in norms:
        norm.bias.data.fill_(0.3)
    yield
    for norm in norms:
        norm.bias.data.zero_()


@pytest.mark.usefixtures("shifted")
@pytest.mark.parametrize("name", MODELS)
def test_weights_multiply_the_embeddings_and_keep_the_mean_of_each_encoder(name: str) -> None:
    """In float64, from what diffusers makes of the same letters."""
    found, counts = read(name, "a (red:1.5) [cat]", weighting=Weighting.a1111)
    plain = by_diffusers(name, "a red cat")["prompt_embeds"][0].double().numpy()
    weights = np.ones(77)
    weights[3:6], weights[7:10] = 1.5, 1 / 1.1  # the begin token is at 0
    widths = [plain.shape[1]] if name != "sdxl" else [32, 48]
    expected, start = np.empty_like(plain), 0
    for width in widths:
        part = plain[:, start : start + width]
        scaled = part * weights[:, None]
        expected[:, start : start + width] = scaled * part.mean() / scaled.mean()
        start += width
    np.testing.assert_allclose(found["prompt_embeds"][0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found["prompt_embeds"][0].numpy(), plain, atol=1e-2)
    assert counts["prompt"] == {"tokens": 9, "chunks": 1, "weights": [["red", 1.5], ["cat", 0.909091]]}


def test_states_in_16_bits_are_weighted_in_float32() -> None:
    states = (torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)) + 0.5).to(torch.bfloat16)
    found = weigh_states(states, [1.0, 1.3, 1.0, 0.5, 1.0])
    scaled = states.double() * torch.tensor([1.0, 1.3, 1.0, 0.5, 1.0], dtype=torch.float64)[None, :, None]
    expected = scaled * states.double().mean() / scaled.mean()
    assert found.dtype == torch.bfloat16 and torch.allclose(found.double(), expected, rtol=2**-7, atol=1e-6)
    assert weigh_states(states, [1.0] * 5) is states


def test_a_mean_of_nothing_is_not_divided_by() -> None:
    states = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    assert torch.equal(weigh_states(states, [1.0, 1.5]), torch.tensor([[[1.0, -1.0], [3.0, -3.0]]]))


COMMA = -1


@pytest.mark.parametrize(
    ("place", "lengths"),
    [(70, [71, 29]), (75 - COMMA_REACH, [56, 44]), (75 - COMMA_REACH - 1, [75, 25]), (74, [75, 25]), (75, [75, 25])],
)
def test_a_full_chunk_ends_at_its_last_near_comma(place: int, lengths: list[int]) -> None:
    """A1111's default reaches back 20 tokens."""
    tokens = [(COMMA if number == place else number, 1.0) for number in range(100)]
    chunks = split_tokens(tokens, 75, COMMA)
    assert [len(chunk) for chunk in chunks] == lengths
    assert [token for chunk in chunks for token in chunk] == tokens


def test_chunks_of_no_tokens_and_of_whole_numbers_of_them() -> None:
    assert split_tokens([], 75, None) == [[]]
    assert [len(chunk) for chunk in split_tokens([(1, 1.0)] * 150, 75, 1)] == [75, 75]


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_what_does_not_fit_is_refused_with_the_way_out(name: str) -> None:
    family, config, pipe = tiny(name)
    trained, sample = replace(config, init=Init.pretrained), Sample(prompt=LONG)
    way_out = "prompts.chunked=true reads all of them, or shorten it"
    with pytest.raises(RunError, match=way_out):
        family.encode(pipe, trained, sample, 5.0)
    with pytest.raises(RunError, match=f"has 108 tokens, and 75 of them would be read; {way_out}"):
        family.encode(pipe, trained, sample, 5.0, PromptReading(weighting=Weighting.a1111))
    with pytest.raises(RunError, match=f"{MAX_CHUNKS + 1} chunks of 75 tokens"):
        endless = Sample(prompt="a" * (75 * MAX_CHUNKS + 1))
        family.encode(pipe, trained, endless, 5.0, PromptReading(chunked=True))
