"""Which files a config may name, wherever in it the name stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.trust import check_files
from wavespeed_runner.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def test_a_config_may_name_an_image_beside_it_and_the_command_line_any() -> None:
    graph = {"stages": {"a": {"options": {"path": "${mask}"}}, "b": {"options": {"path": "in/photo.JPG"}}}}
    check_files({"image": "in/photo.webp", "mask": "pkg://wavespeed_runner/samples/mask.png", "graph": graph})
    check_files({"image": "/home/me/photo.png", "mask": None}, {"image": "/home/me/photo.png"})
    typed = ["graph=image_to_image", "image=/home/me/photo.png"]
    assert compose_job(typed, typed)["image"] == "/home/me/photo.png"
    with pytest.raises(ConfigError, match=r"mask=/home/me/photo\.png: a config file"):
        check_files({"mask": "/home/me/photo.png"}, {"image": "x.png", "graph": "x"})


@pytest.mark.parametrize("value", ["/etc/passwd", "/dev/zero", "../x.yaml", "~/x.yaml", "secret.txt"])
def test_a_config_names_no_file_of_its_readers_as_a_calibration(value: str) -> None:
    with pytest.raises(ConfigError, match=r"cache\.calibration=.*relative \.yaml"):
        check_files({"cache": {"calibration": value}})
    check_files({"cache": {"calibration": value}}, {"cache.calibration": value})
    check_files({"cache": {"calibration": "calibrations/mine.yaml"}})


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/x.png"},
        {"paths": ["a.png", "/x.png"]},
        {"path": ["a.png", "../x.png"]},
        {"first_images": {"a": "/x.png"}},
        {"loader": {"mask": "~/x.png"}},
        {"loader": [{"deep": {"init_files": ["/x.png"]}}]},
    ],
)
def test_no_stage_s_option_names_a_private_image_however_it_is_nested(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^graph\.stages\.a\.options\..*x\.png: a config file may name a relative"):
        check_files({"graph": {"stages": {"a": {"options": options}}}})
    harmless = {"images": 4, "path": None, "files": [], "profile": "/x", "pathos": ["/x"], "masks": {"count": 2}}
    check_files({"graph": {"stages": {"a": {"options": harmless}}}})


@pytest.mark.parametrize("typed", ["prompts={path: PATH}", "+prompts={path: PATH}", "prompts.path=PATH"])
def test_the_command_line_names_any_file_also_inside_of_a_mapping(tmp_path: Path, typed: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text("a red circle\n")
    overrides = ["prompts=file", typed.replace("PATH", str(file)).lstrip("+")]
    assert compose_job(overrides, overrides)["prompts"]["path"] == str(file)
    with pytest.raises(ConfigError, match=r"prompts\.path=.*: a config file"):
        compose_job(overrides, ["prompts=file"])
