"""What a config file may name for a judge: weights in its folder, and nothing that is put together elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.config import trust
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.files import IMAGE, WEIGHTS


def check(options: dict[str, Any], typed: dict[str, Any] | None = None) -> dict[str, str]:
    return trust.check_files({"metrics": {"lpips": options}}, typed)


@pytest.mark.parametrize("path", ["/etc/x.safetensors", "../x.safetensors", "~/x.safetensors", "x.pth", "x.txt"])
def test_a_config_names_weights_in_its_folder_alone(path: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.lpips\.weights=.*a config file may name a relative .safetensors"):
        check({"weights": path})
    assert check({"weights": path}, {"metrics.lpips.weights": path}) == {}


def test_weights_in_the_folder_are_let_in_and_links_out_of_it_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    assert check({"weights": "x.safetensors"}) == {}
    (tmp_path / "private.safetensors").touch()
    (home / "x.safetensors").symlink_to(tmp_path / "private.safetensors")
    with pytest.raises(ConfigError, match="a link leads out of the folder"):
        check({"weights": "x.safetensors"})


@pytest.mark.parametrize("metrics", ["${cache}", {"lpips": "${cache}"}])
def test_no_node_is_an_interpolation(metrics: Any) -> None:
    with pytest.raises(ConfigError, match="no interpolation here"):
        trust.check_files({"metrics": metrics})


def test_files_of_a_plugins_judge_are_images_or_weights() -> None:
    assert trust.find_kind("metrics.own.weights") is trust.find_kind("metrics.own.net.base_weights") is WEIGHTS
    assert {trust.find_kind(f"metrics.own.{key}") for key in ("path", "target_image", "files.0")} == {IMAGE}
    assert trust.find_kind("metrics.clip_score.folder") is None
