"""Hydra that is spared its repetitions composes what it composes otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.command_lines import outcome, write_experiments
from wavespeed_runner.config import fast
from wavespeed_runner.config.compose import composer
from wavespeed_runner.config.fast.compose import compose_config

CHOSEN = """# @package _global_
defaults:
  - /one: two
  - /three@graph.stages.x: ${one}
  - _self_
"""
"""A defaults list that chooses an option by the name of another one."""


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=chosen"],
        ["experiment=chosen", "steps=3"],
        ["experiment=chosen", "one=nope"],
        ["experiment=mine", "cache=fbcache", "cache/predictor=taylor"],
        ["graph=hires_fix", "model=demo_unet", "sampler=euler_karras", "hydra/launcher=slurm"],
    ],
    ids=" ".join,
)
def test_it_composes_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: list[str]) -> None:
    """Twice each way, because what is read the first time is remembered."""
    write_experiments(tmp_path)
    for name, text in {
        "experiment/chosen": CHOSEN,
        "one/two": "# @package _global_\nseed: 5\n",
        "three/two": "stage: encode\n",
    }.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def compose_twice() -> list[str]:
        results = []
        for _ in range(2):
            with composer(str(tmp_path)):
                results.append(outcome(compose_config, overrides))
        return results

    quick = compose_twice()
    monkeypatch.setenv(fast.SWITCH, "0")
    plain = compose_twice()
    assert quick == plain and len(set(plain)) == 1
    assert ("'x': {'stage': 'encode'" in plain[0]) == (
        overrides[0] == "experiment=chosen" and overrides[-1] != "one=nope"
    )


def test_what_a_job_does_to_a_config_is_not_in_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        with composer(None):
            config = compose_config(["cache=fbcache"])
            assert config["graph"]["stages"] and config["cache"]["name"] == "fbcache"
            config["graph"]["stages"].clear()
            config["cache"]["name"] = "other"
