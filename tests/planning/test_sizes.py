"""Sizes along a graph: what stages enlarge is counted before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan

Planned = Callable[..., Plan]
Composed = Callable[..., dict[str, Any]]


def chain(composed: Composed, outputs: str, scales: list[float]) -> dict[str, Any]:
    """The demo graph with these enlargements one after the other; its images have 64 pixels a side."""
    data = composed("graph=hires_fix", "width=64", "height=64")
    stages, source = data["graph"]["stages"], "decode"
    for number, scale in enumerate(scales):
        inputs = {"pipeline": "load", "images": source}
        source = f"upscale_{number}"
        stages[source] = {"stage": "upscale", "inputs": inputs, "options": {"scale": scale}}
    data["graph"]["output"] = source
    return data | {"outputs": outputs}


def test_stages_that_enlarge_each_other_s_images_are_counted(composed: Composed, tmp_path: Any) -> None:
    build_plan(chain(composed, str(tmp_path), [4.0] * 4))
    with pytest.raises(ConfigError, match=r"upscale_4\.options\.scale=4\.0: images of 65536 x 65536; at most 16384"):
        build_plan(chain(composed, str(tmp_path), [4.0] * 5))
    with pytest.raises(ConfigError, match=r"at most 16384 pixels a side"):
        build_plan(chain(composed, str(tmp_path), [8.0] * 100))


def test_the_limit_of_pixels_counts_them_too(composed: Composed, tmp_path: Any) -> None:
    data = chain(composed, str(tmp_path), [4.0, 4.0])
    data["limits"] = {"pixels": 1_000_000}
    with pytest.raises(ConfigError, match=r"scale=4\.0: images of 1024 x 1024: 1048576, and limits\.pixels=1000000"):
        build_plan(data)


def test_a_graph_has_a_bounded_number_of_stages(composed: Composed, tmp_path: Any) -> None:
    data = composed() | {"outputs": str(tmp_path)}
    data["graph"]["stages"] |= {f"load_{n}": {"stage": "load"} for n in range(200)}
    with pytest.raises(ConfigError, match=r"^graph\.stages: \d+ stages, and a graph has at most 200"):
        build_plan(data)
