"""The typed configuration: what goes in comes out, nulls are filled, and nothing unknown passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import ConfigKeyError, ValidationError

import wavespeed_runner
from wavespeed_runner.caching.strategies import FirstBlockCache
from wavespeed_runner.config.paths import CONF, list_groups
from wavespeed_runner.config.resolve import resolve_config, resolve_stage_options
from wavespeed_runner.config.schema import Config, Dtype, Init, to_data
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.files import resolve_path
from wavespeed_runner.samplers import Sigmas

Composed = Callable[..., dict[str, Any]]


def test_classes_are_those_of_the_names(composed: Composed) -> None:
    config = resolve_config(composed("cache=fbcache", "sampler=euler_karras"))
    assert isinstance(config.cache, FirstBlockCache) and config.sampler.name == "euler"
    assert config.sampler.sigmas is Sigmas.karras
    assert config.model.init is Init.tiny and config.model.dtype is Dtype.float32


def test_interpolations_are_resolved(composed: Composed) -> None:
    config = resolve_config(composed("cache=fbcache", "cache.residual_diff_threshold=0.3"))
    assert config.cache.criterion is not None and config.cache.criterion.threshold == 0.3  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["steps", "guidance_scale", "width", "height"])
def test_null_is_the_models_own(composed: Composed, key: str) -> None:
    data = composed()
    assert getattr(resolve_config({**data, key: None}), key) == data["model"][key]
    assert getattr(resolve_config({**data, key: 48}), key) == 48


def test_data_is_json(composed: Composed) -> None:
    data = to_data(resolve_config(composed("cache=fbcache")))
    assert data["model"]["dtype"] == "float32" and data["cache"]["criterion"]["name"] == "relative_change"
    assert set(data) == {field.name for field in fields(Config)}


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("stesp", 3, ConfigKeyError),
        ("steps", "many", ValidationError),
        ("steps", "???", ConfigError),
        ("cache", {"name": "none", "foo": 1}, ConfigKeyError),
        ("cache", {"name": "fbcach"}, ConfigError),
        ("cache", {"name": "fbcache", "criterion": {"name": "nope"}}, ConfigError),
        ("cache", None, ValidationError),
        ("graph", {"output": "a", "stages": {"a": {"stge": "load"}}}, ConfigKeyError),
    ],
)
def test_what_does_not_fit_stops_here(composed: Composed, key: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve_config({**composed(), key: value})


def test_no_interpolation_comes_out_of_interpolations(composed: Composed) -> None:
    # It would be resolved by whoever reads the config next, and end in the record.
    with pytest.raises(ConfigError, match="put together"):
        resolve_config({**composed(), "negative_prompt": "$", "prompt": "${negative_prompt}{oc.env:HOME}"})


def test_stage_options_follow_the_top_level(composed: Composed) -> None:
    config = resolve_config(composed("cache=fbcache", "steps=9"))
    denoise = resolve_stage_options(config)["denoise"]
    assert (denoise.steps, denoise.cache, denoise.sampler) == (9, config.cache, config.sampler)
    assert (denoise.warmup, denoise.repeats) == (config.measure.warmup, config.measure.repeats)
    assert resolve_stage_options(config)["load"].model == config.model


def test_stage_options_that_are_given_do_not_follow(composed: Composed) -> None:
    data = composed("cache=fbcache", "steps=9")
    data["graph"]["stages"]["denoise"]["options"] = {"steps": 3, "cache": {"name": "none"}}
    denoise = resolve_stage_options(resolve_config(data))["denoise"]
    assert (denoise.steps, denoise.cache.name, denoise.width) == (3, "none", 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stesp": 3}, "graph.stages.denoise.options.stesp"),
        ({"steps": "many"}, "graph.stages.denoise.options.steps"),
        ({"cache": {"name": "nope"}}, "graph.stages.denoise.options: cache.name=nope"),
        (3, "graph.stages.denoise.options=3"),
    ],
)
def test_a_wrong_stage_option_is_named_in_full(composed: Composed, options: Any, words: str) -> None:
    data = composed()
    data["graph"]["stages"]["denoise"]["options"] = options
    with pytest.raises((ConfigError, ConfigKeyError, ValidationError)) as error:
        resolve_stage_options(resolve_config(data))
    assert words in str(getattr(error.value, "full_key", None) or error.value)


def test_groups_are_the_folders_of_options() -> None:
    assert {"model", "cache", "cache/criterion", "experiment", "hydra/job_logging"} <= set(list_groups())
    assert all((CONF / group).is_dir() for group in list_groups())


def test_a_packaged_path_lies_in_its_package() -> None:
    inside = Path(wavespeed_runner.__file__).parent
    assert resolve_path("pkg://wavespeed_runner/prompts/demo.txt") == inside / "prompts" / "demo.txt"
    assert resolve_path("here/x.txt") == Path("here/x.txt")


@pytest.mark.parametrize("path", ["pkg://no_such_package/x", "pkg://", "pkg://../x", "pkg://os/x", "pkg://os.path/x"])
def test_a_package_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match="is not installed"):
        resolve_path(path)
