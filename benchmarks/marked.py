"""The parts of documents that commands write: between `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path


def write_marked(document: Path, name: str, text: str) -> None:
    """Puts a text between the markers of this name."""
    content = document.read_text(encoding="utf-8")
    document.write_text(_find(name).sub(lambda found: found[1] + text + found[3], content), encoding="utf-8")


def read_marked(document: Path, name: str) -> str:
    """What stands between the markers of this name."""
    found = _find(name).search(document.read_text(encoding="utf-8"))
    assert found, f"{document}: no <!-- {name} -->"
    return found[2]


def _find(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)
