"""Which folder of configs a report or an export reads experiments from: one that was typed, or a sweep's own.

`sweep.json` is data and may be a stranger's. A folder of configs that it names could be anybody's private one, and what
lies in it would end up in a page that is passed on.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..inputs.files import is_within

KEY = "config_dir"
PARTS = (".", "experiment")
"""What must lie where it may be followed to: the folder, and the one of its experiments, which may be a link."""


def check_typed(folder: str) -> Path:
    """The folder that the command line gives.

    Raises:
        ConfigError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"{KEY}={folder}: no such folder; give the --config-dir of the run")
    return Path(folder)


def explain_not_followed(named: str, sweep: Path) -> str:
    """Why the folder of configs that a `sweep.json` names is not followed; empty where it is.

    Args:
        named: what the file says.
        sweep: the folder that it is in.
    """
    what = f"{sweep / 'sweep.json'}: {KEY}={named:.200}"
    way_out = f"give the --config-dir of the run, {KEY}=DIR"
    try:
        allowed = all(is_within(Path(named, part), [Path.cwd(), sweep]) for part in PARTS)
        exists = allowed and Path(named).is_dir()
    except (OSError, ValueError):  # a zero byte, too long, or links in a circle
        return f"{what}: not a path; {way_out}"
    if not allowed:
        return f"{what}: not below the folder where the command runs, so it is not followed; {way_out}"
    return "" if exists else f"{what}: no such folder; {way_out}"
