"""Parts between breaks are counted when a run is planned: each is a chunk of its own, and so many are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.text.clip_chunks import MAX_CHUNKS
from wavespeed_runner.planning.plan import build_plan

A1111 = ("model=sdxl", "model.init=tiny", "prompts.weighting=a1111", "prompts.chunked=true")


@pytest.mark.parametrize("key", ["prompt", "negative_prompt"])
def test_more_breaks_than_chunks_are_refused_by_the_plan(composed: Callable[..., dict[str, Any]], key: str) -> None:
    config = composed(*A1111, "prompt=a red circle")
    config[key] = " BREAK ".join(["a"] * MAX_CHUNKS)
    build_plan(config)
    config[key] = "a BREAK " * 5000
    with pytest.raises(ConfigError, match=f"5000 parts between BREAK.*at most {MAX_CHUNKS} chunks"):
        build_plan(config)


def test_breaks_that_are_no_markup_are_words(composed: Callable[..., dict[str, Any]]) -> None:
    config = composed(*A1111, "prompt=a red circle")
    config["prompt"] = "BREAKFAST " * (2 * MAX_CHUNKS)
    build_plan(config)
