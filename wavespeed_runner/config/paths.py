"""Where the package and its configs lie."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The shipped configs: inside the package in a wheel, beside it in a checkout."""

SPACES = CONF / "tune"
"""What `tune` may try: files of their own kind, no options of a config group."""


def list_groups() -> list[str]:
    """Names of the shipped config groups; Hydra's own too, where we ship options for them."""
    folders = {file.parent for file in CONF.rglob("*.yaml")} - {CONF, SPACES}
    return sorted(folder.relative_to(CONF).as_posix() for folder in folders)
