"""Figures of matplotlib as it is installed, without what a stranger's folder would set."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..process.import_path import HOME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = ("MATPLOTLIBRC", "MPLCONFIGDIR")
"""Environment variables by which the user names matplotlib's settings, also by a path from where the command runs."""


def new_figure(**options: Any) -> Figure:
    """An empty figure with these options of matplotlib's `Figure`."""
    _import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(**options)


def _import_matplotlib() -> None:
    """Imports matplotlib, which reads a file `matplotlibrc` where the command runs before its own and the user's.

    Such a file could have each text set by LaTeX, a program that opens files, and a pipe of that name would be waited
    for. Only the first import looks for it, and does so by a relative path: it happens in another folder.
    """
    if "matplotlib" in sys.modules:
        return
    here = None
    with suppress(OSError):  # the folder was removed: then nothing is in it
        here = os.getcwd()
        for name in NAMED:
            if os.environ.get(name):
                os.environ[name] = os.path.abspath(os.environ[name])
    os.chdir(os.path.join(HOME, "wavespeed_runner"))
    try:
        import matplotlib  # noqa: F401
    finally:
        if here is not None:
            os.chdir(here)
