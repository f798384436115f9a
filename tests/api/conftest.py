"""What the tests of `load` and `accelerate` share: the runner's own images, and diffusers' pipelines of the demos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import run_as_data
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.media.images import hash_image
from wavespeed_runner.planning.plan import build_plan

PROMPT = "a red circle above a blue square"
Images = Callable[..., list[str]]


@pytest.fixture(scope="session")
def runner_images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """`runner_images(*overrides, prompts=[...])`: the hashes of the pixels that a run writes."""

    def run(*overrides: str, prompts: list[str] | None = None) -> list[str]:
        home = tmp_path_factory.mktemp("runner")
        with composer(None):
            config = compose_job(list(overrides), list(overrides))
        measure = {**config["measure"], "reference": False}
        plan = build_plan({**config, "measure": measure, "outputs": str(home)}, prompts or [PROMPT])
        record = run_as_data(plan, home / "run", [])
        assert record["status"] == "completed", record["error"]
        return [sample["pixels_sha256"] for sample in record["samples"]]

    return run


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The override that keeps compiled kernels for all tests of this process: compiling takes half a minute."""
    return f"compile.cache_dir={tmp_path_factory.mktemp('kernels')}"


def hash_pil(image: Any) -> str:
    """The hash of the pixels of a PIL image."""
    return hash_image(np.asarray(image))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, where `outputs` would appear."""
    monkeypatch.chdir(tmp_path)
