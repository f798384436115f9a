"""What tests of replay share: images of a finished run, edited files, and edited experiment texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wavespeed_runner.media.images import read_png, write_png
from wavespeed_runner.records.new import IMAGE_KEY

Finished = tuple[Path, dict[str, Any]]
"""Folder and record of a completed run."""
Replay = Callable[..., tuple[int, str, str]]
"""Exit status, stdout and stderr of a replay of a file."""
ReplayText = Callable[..., tuple[int, str, str]]
"""Exit status, stdout and stderr of a replay of an experiment file with this text."""


def check_refused(result: tuple[int, str, str], words: str) -> None:
    """Exit status 2, one line with these words, and nothing written."""
    status, out, err = result
    assert (status, out) == (2, "") and err.count("\n") == 1 and words in err, result
    assert list(Path().iterdir()) == []


def first_image(finished: Finished, part: str = "images") -> Path:
    return min((finished[0] / part).iterdir())


def write_with_config(finished: Finished, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The finished run's first image with other metadata."""
    image, texts = read_png(first_image(finished))
    data = json.loads(texts[IMAGE_KEY])
    change(data["config"])
    write_png(target, image, metadata={IMAGE_KEY: json.dumps(data)})
    return target


def set_figures(text: str, **figures: str) -> str:
    for key, value in figures.items():
        text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", text)
        assert count == 1, key
    return text


def change_pixels(text: str) -> str:
    return re.sub(r'(?m)^  - "[0-9a-f]{64}"$', f'  - "{"0" * 64}"', text)
