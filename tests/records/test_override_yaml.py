"""A run as an experiment file: composed again by Hydra it is the same configuration."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.records.override_yaml import experiment_yaml

BASE = """\
# @package _global_
defaults:
  - known_answer
  - override /cache: wavespeed
cache:
  start: 0.3
"""
OWN = """\
# @package _global_
defaults:
  - override /cache: fbcache
  - override /model: demo_unet
hydra:
  sweeper:
    params:
      seed: 1,2
cache:
  start: 0.3
  end: 0.7
steps: 9
"""


def composed(overrides: list[str], config_dir: Path | None = None) -> dict[str, Any]:
    with composer(str(config_dir) if config_dir else None):
        found = compose_job(overrides, overrides)
    return {key: value for key, value in found.items() if key not in ("outputs", "rerun", "dry_run")}


def again(text: str, folder: Path) -> dict[str, Any]:
    """Composed as the file's own first comment says."""
    (folder / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "experiment" / "NAME.yaml").write_text(text, encoding="utf-8")
    command = text.splitlines()[1].removeprefix("# ").partition(" --config-dir")[0]
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "wavespeed_runner", "experiment=NAME"]
    return composed(words[3:], folder)


@pytest.mark.parametrize(
    "overrides",
    [
        ["cache=fbcache", "cache.residual_diff_threshold=0.2"],
        ["experiment=known_answer", "cache/predictor=taylor", "cache.start=0.1"],
        ["experiment=fbcache_careful", "cache=wavespeed"],
        ["model=demo_unet", "cache=deepcache", "cache.interval=2", "++seed=1", "outputs=x", "rerun=true"],
        ["model=flux", "model.init=tiny", "steps=4", "negative_prompt=''", "width=64", "measure=full"],
        ["graph=image_to_image", "image=/somewhere/else.png", "strength=0.5"],
        ["prompts=file", "prompts.path=/etc/prompts.txt"],
        ["prompts=file", "prompts.path=mine.txt"],
        ["experiment=known_answer", "~graph.stages.denoise.inputs.sample"],
        ["seed=${steps}", "steps=3"],
        [],
    ],
)
def test_it_is_the_same_configuration(overrides: list[str], tmp_path: Path) -> None:
    text = experiment_yaml(overrides)
    assert again(text, tmp_path) == composed(overrides)
    assert text.startswith("# @package _global_\n") and "outputs" not in text and "known_answer" not in text


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\\$'\x85\u2028\u2029")))
@example(prompt="\xa0")
def test_any_prompt_is_kept(tmp_path: Path, prompt: str) -> None:
    overrides = [f"prompt='{prompt}'", "cache=fbcache"]
    assert again(experiment_yaml(overrides), tmp_path)["prompt"] == prompt


def test_an_experiment_of_the_users_is_written_out(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(OWN)
    overrides = ["experiment=own", "cache.end=0.9"]
    text = experiment_yaml(overrides, tmp_path)
    assert again(text, tmp_path / "other") == composed(overrides, tmp_path)
    assert "sweeper" not in text and "own" not in yaml.safe_load(text)["defaults"]


def test_an_experiment_made_of_others_stands_in_as_a_base(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "base.yaml").write_text(BASE)
    overrides = ["experiment=base", "cache=fbcache", "cache.end=0.7"]
    text = experiment_yaml(overrides, tmp_path)
    assert yaml.safe_load(text)["defaults"] == ["base", {"override /cache": "fbcache"}]
    assert again(text, tmp_path) == composed(overrides, tmp_path)


SECRET = """\
# @package _global_
steps: 7
prompt: a secret
"""


@pytest.mark.parametrize(
    "name", ["../secret", "../../secret", "{home}/secret", "linked", "a/../../secret", "'..\\\\secret'"]
)
def test_an_override_reads_no_file_from_elsewhere(tmp_path: Path, name: str) -> None:
    config_dir = tmp_path / "configs"
    (config_dir / "experiment").mkdir(parents=True)
    for place in (tmp_path, config_dir):
        (place / "secret.yaml").write_text(SECRET)
    (config_dir / "experiment" / "linked.yaml").symlink_to(tmp_path / "secret.yaml")
    name = name.format(home=tmp_path)
    text = experiment_yaml([f"experiment={name}"], config_dir)
    assert "a secret" not in text and len(yaml.safe_load(text)["defaults"]) == 1, "it stands in as a base"
    (config_dir / "experiment" / "own.yaml").write_text(SECRET)
    assert "a secret" in experiment_yaml(["experiment=own"], config_dir)


def test_a_file_that_is_no_experiment_is_not_written_out(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "keys.yaml").write_text("steps: 4\npassword: hunter2\n")
    text = experiment_yaml(["experiment=keys"], tmp_path)
    assert "hunter2" not in text and yaml.safe_load(text) == {"defaults": ["keys"]}


def test_a_replay_says_how_it_is_replayed() -> None:
    assert "wavespeed_runner replay record.json" in experiment_yaml(["replay=/x/record.json"])


def test_what_only_the_command_line_may_choose_stays_on_it() -> None:
    text = experiment_yaml(
        ["attention=flash_hub", "steps=2", "compile=regional", "compile.options={compile_threads: 2}"]
    )
    assert "attention=flash_hub" in text.splitlines()[1] and "compile_threads" in text.splitlines()[1]
    assert yaml.safe_load(text) == {"defaults": [{"override /compile": "regional"}], "steps": 2}


@pytest.mark.parametrize("bracket", ["[]", "[", "{a:", "choice("])
def test_an_override_that_is_nested_too_deep_is_refused(bracket: str) -> None:
    closed = "]" * 3000 if bracket == "[]" else ""
    with pytest.raises(ConfigError, match=rf"^a={re.escape(bracket[0])}.*\.\.\.: more than 100 levels"):
        experiment_yaml([f"a={bracket[0] * 3000 if closed else bracket * 3000}{closed}"])
    prompt = "('" + "(" * 200 + "')"
    assert yaml.safe_load(experiment_yaml([f'prompt="{prompt}"'])) == {"prompt": prompt}
