"""Find, prove and share the fastest settings of a diffusion model: a runner driven by YAML.

In a program of your own: `from wavespeed_runner import load, accelerate` (docs/python.md). Importing this package
imports neither torch nor diffusers.
"""

# Nothing is imported here that Python has not loaded already: `python -m` looks for modules where the command runs, and
# a stranger's file may lie there as `typing.py`, until process/import_path.py has left that folder.
import sys

__version__ = "0.1.0"

OFFERED = {"load": ".api.loaded", "accelerate": ".api.borrowed"}
"""Function -> where it is. Imported when it is first asked for."""


def __getattr__(name: str):  # type: ignore[no-untyped-def]  # a type would need the module `typing`
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(OFFERED[name], __name__), name)


class _Package(type(sys)):  # type: ignore[misc]  # a module
    """Keeps the function `accelerate` in sight: Python would put the folder of that name here once it is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in OFFERED and isinstance(value, type(sys))):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
