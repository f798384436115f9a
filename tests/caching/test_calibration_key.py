"""The key of a calibration: what it depends on, what it does not, and which keys the shipped calibrations have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from training.scenes import held_out
from wavespeed_runner.caching.calibration.data import build_file_name, build_key, format_key
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config
from wavespeed_runner.errors import ConfigError

SHIPPED_FILES = sorted(SHIPPED.glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def config(*overrides: str) -> Config:
    return resolve_config(compose_job(list(overrides), list(overrides)))


def key_text(*overrides: str) -> str:
    return format_key(build_key(config(*overrides)))


def test_the_key_is_readable_and_names_what_the_numbers_depend_on():
    assert key_text("model=demo") == (
        "model=flux repo=pkg://wavespeed_runner/weights/demo init=pretrained guidance=true_cfg "
        "model.max_sequence_length=20 sampler=default steps=28 guidance_scale=1 width=64 height=64"
    )


@pytest.mark.parametrize(
    "override",
    [
        "model=demo_unet",
        "model.init=tiny",
        "model.revision=abc",
        "model.max_sequence_length=30",
        "sampler=euler",
        "steps=20",
        "guidance_scale=2",
        "width=96",
        "height=96",
        "graph=image_to_image",
    ],
)
def test_what_changes_the_numbers_changes_the_key(override):
    assert key_text(override) != key_text()


def test_a_scheme_of_quantization_and_what_it_leaves_out_are_in_the_key():
    texts = [key_text(), *(key_text("quant=int8_wo", *more) for more in ((), ("quant.skip=['.*ff.*']",)))]
    assert len(set(texts)) == 3 and "quant" not in texts[0]
    assert key_text("quant=int8_wo", "quant.keep=false") == texts[1]


def test_options_of_a_sampler_and_an_adapters_weight_are_in_the_key():
    assert key_text("sampler=euler", "sampler.shift=3") != key_text("sampler=euler")
    night = ["adapters=lora", "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"]
    assert len({key_text(), key_text(*night), key_text(*night, "adapters.weight=0.5")}) == 3


@pytest.mark.parametrize(
    "override",
    ["prompt='a red circle'", "seed=3", "model.dtype=bfloat16", "batch_size=2", "cache=fbcache", "measure.repeats=3"],
)
def test_what_does_not_change_the_numbers_is_not_in_the_key(override):
    assert key_text(override) == key_text()


def test_with_a_starting_image_the_strength_is_in_the_key():
    assert "strength=0.5" in key_text("graph=image_to_image", "strength=0.5")
    assert key_text("strength=0.5") == key_text()


def test_two_denoising_stages_have_no_common_calibration():
    with pytest.raises(ConfigError, match=r"graph\.stages: 2 of them denoise"):
        build_key(config("graph=hires_fix"))


def test_file_names_differ_by_model_steps_and_key():
    file_names = {
        build_file_name(build_key(config(*overrides)))
        for overrides in ([], ["steps=20"], ["width=96"], ["model=demo_unet"], ["model.init=tiny"])
    }
    assert len(file_names) == 5
    assert any(name.startswith("demo-28-") for name in file_names)
    assert any(name.startswith("flux-tiny-28-") for name in file_names)


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_shipped_calibrations_fit_the_models_with_their_defaults(path: Path):
    calibration = load(path)
    assert calibration.key == build_key(config(f"model={path.stem}"))
    assert path.stat().st_size < 60_000


def test_both_demo_models_have_a_calibration():
    assert [path.stem for path in SHIPPED_FILES] == ["demo", "demo_unet"]


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_shipped_calibrations_have_not_seen_the_test_prompts(path: Path):
    prompts = load(path).made["prompts"]
    demo_prompts = (Path(SHIPPED).parent / "prompts" / "demo.txt").read_text().splitlines()
    assert len(prompts) == len(set(prompts)) >= 128
    assert not any(held_out(prompt) for prompt in prompts)
    assert not set(prompts) & set(demo_prompts)
