"""The text `parameters` of an image: what users of A1111's web UI read, in its form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.schema import Config, Init
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.records.a1111 import A1111_KEY, describe_as_a1111


def read_form(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and settings, as a reader of that form takes it apart: lines, then commas."""
    *lines, last = text.strip().split("\n")
    start = next((n for n, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).removeprefix("Negative prompt:").strip()
    settings, rest = {}, last
    while rest:
        key, _, rest = rest.partition(": ")
        if rest.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].removeprefix(", ")
        else:
            value, _, rest = rest.partition(", ")
        settings[key] = value
    return "\n".join(lines[:start]), negative, settings


def describe(*overrides: str) -> dict[str, str]:
    with composer(None):
        config = build_plan(compose_job(list(overrides), list(overrides))).config
    return read_form(describe_as_a1111(config, "a red circle", 5))[2]


def test_an_image_has_it_beside_our_own(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, record = finished
    sample = record["samples"][0]
    with Image.open(folder / sample["file"]) as image:
        texts = image.text  # type: ignore[attr-defined]
    assert set(texts) == {A1111_KEY, "wavespeed_runner"}
    prompt, negative, settings = read_form(texts[A1111_KEY])
    assert (prompt, negative) == (sample["prompt"], "")
    assert settings | {"Version": ""} == {
        "Steps": "6", "Sampler": "Euler", "CFG scale": "1", "Seed": "0", "Size": "32x32", "Model": "flux (tiny)",
        "Acceleration": "fbcache", "Version": "",
    }  # fmt: skip
    assert settings["Version"].startswith("wavespeed_runner ")
    content = (folder / sample["file"]).read_bytes()
    assert b"tEXtparameters\0a red circle" in content, "the chunk that every reader knows"
    with Image.open(folder / "reference" / Path(sample["file"]).name) as image:
        assert "Acceleration" not in image.text[A1111_KEY]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("sampler=euler_ancestral",), {"Sampler": "Euler a"}),
        (("sampler=dpmpp_2m_karras", "steps=9"), {"Sampler": "DPM++ 2M", "Schedule type": "Karras", "Steps": "9"}),
        (("sampler=sasolver",), {"Sampler": "sasolver"}),
        (("model.clip_skip=1", "guidance_scale=7.5"), {"Clip skip": "2", "CFG scale": "7.5"}),
        (("graph=image_to_image", "strength=0.5"), {"Denoising strength": "0.5"}),
        (("seed=3",), {"Seed": "5", "Size": "32x32"}),
    ],
)
def test_settings_have_the_names_of_that_form(overrides: tuple[str, ...], expected: dict[str, str]) -> None:
    settings = describe("model=sd15", "model.init=tiny", "device=cpu", "width=32", "height=32", *overrides)
    assert expected.items() <= settings.items()
    assert ("Denoising strength" in settings) == ("graph=image_to_image" in overrides)


def test_guidance_that_is_an_input_of_the_model_is_none_of_cfg() -> None:
    settings = describe("model=flux", "model.init=tiny", "device=cpu", "guidance_scale=3.5")
    assert (settings["CFG scale"], settings["Distilled CFG Scale"]) == ("1", "3.5")
    assert describe("model=flux_schnell", "model.init=tiny", "device=cpu")["CFG scale"] == "1"


@pytest.fixture(scope="module")
def config() -> Config:
    with composer(None):
        return build_plan(compose_job(["model=sd15", "model.init=tiny"], [])).config


WORDS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "Negative prompt: x",
        "a\nNegative prompt: b",
        "Steps: 3, Sampler: x, Seed: 4",
        '"',
        "a, b: c",
        "\0\x1b[2J",
        "日本",
    ]
)


@given(WORDS, WORDS)
def test_whatever_is_in_a_prompt_the_settings_are_read_as_they_are(config: Config, prompt: str, negative: str) -> None:
    text = describe_as_a1111(replace(config, negative_prompt=negative), prompt, 2**64 - 1)
    assert all(c == "\n" or c.isprintable() or c in "\u200b\u200c\u200d" for c in text)
    read, other, settings = read_form(text)
    assert settings["Seed"] == str(2**64 - 1) and settings["Steps"] == str(config.steps)
    if prompt.isprintable() and not prompt.startswith("Negative prompt:"):
        assert read.split() == prompt.split()
    if negative.isprintable() and not negative.startswith("Negative prompt:"):
        assert other.split() == negative.split()


def test_a_setting_with_a_comma_in_it_is_in_quotes(config: Config) -> None:
    model = replace(config.model, init=Init.pretrained, repo='x/a, "b": c')
    settings = read_form(describe_as_a1111(replace(config, model=model), "a", 0))[2]
    assert settings["Model"] == 'a, "b": c'


def test_a_text_that_is_not_latin_is_kept(planned: Callable[..., Plan], tmp_path: Path) -> None:
    from tests.conftest import run_as_data

    record = run_as_data(planned(prompt="日本 a circle"), tmp_path, [])
    (file,) = (tmp_path / "images").iterdir()
    assert record["status"] == "completed" and b"iTXtparameters" in file.read_bytes()
    with Image.open(file) as image:
        assert image.text[A1111_KEY].startswith("日本 a circle\n")  # type: ignore[attr-defined]
