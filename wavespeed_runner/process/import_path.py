"""Keeps the folder where a command runs off Python's search path: anyone may have sent the files in it.

`python -m` puts that folder before everything that is installed, so a `yaml.py` beside somebody's experiment would be
imported as PyYAML, and Hydra would import everything in `hydra_plugins`. What `PYTHONPATH` names stays.

Imports nothing that Python has not imported by itself, not even `__future__`: that would be looked for in the folder.
"""

import os
import sys

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds the package: a checkout, or where packages are installed."""
START = (
    "import json, runpy, sys; home, *path = json.loads(sys.argv.pop(1)); sys.path[:] = [home, *path]; "
    "import wavespeed_runner; sys.path[:] = path; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""As `-m`, and finds modules where this process does.

The first folder is for the package alone: another version of it may be installed.
"""


def leave_current_folder() -> None:
    """Takes off the search path what `python -m` has put there. Call it once, before other imports.

    In a checkout that is not installed too: the package has been found by now, and its modules lie in its own folder.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = ""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]
    keep_children_out()


def keep_children_out() -> None:
    """Keeps the folder off the search path of every Python that this process starts, also by way of a library."""
    os.environ["PYTHONSAFEPATH"] = "1"


def build_python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules in a process of its own, wherever the package lies."""
    import json

    path = json.dumps([HOME, *filter(None, sys.path)])
    return [sys.executable, "-P", "-c", START, path, module, *arguments]
