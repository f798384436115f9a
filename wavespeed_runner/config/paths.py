"""Where the package and its configs lie, and what the file paths in a config mean."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The shipped configs: inside the package in a wheel, beside it in a checkout."""


def resolve_path(path: str) -> Path:
    """Resolves a path from a config: `pkg://package/inside` lies in an installed package, `~` is the home folder.

    Raises:
        ConfigError: the package is not installed.
    """
    if not path.startswith("pkg://"):
        return Path(path).expanduser()
    package, _, inside = path.removeprefix("pkg://").partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{path}: package '{package}' is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def list_groups() -> list[str]:
    """Names of the shipped config groups; Hydra's own too, where we ship options for them."""
    return sorted({file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."})
