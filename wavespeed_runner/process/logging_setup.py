"""Logging: our own messages to the console, around the progress bar; everybody's to the run's `run.log`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path


class TqdmHandler(logging.Handler):
    """Writes records with `tqdm.write`, to stderr, where the bar is drawn as well."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


class LogFile(logging.FileHandler):
    """The run's log. On a full disk it stays silent: whoever writes the results says so, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def log_to(folder: Path) -> None:
    """The logging of `conf/hydra/job_logging/wavespeed.yaml`, for runs that Hydra does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    file = LogFile(folder / "run.log")
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file], force=True)
    console = TqdmHandler(logging.WARNING)
    console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    ours = logging.getLogger("wavespeed_runner")
    ours.setLevel(logging.DEBUG)
    ours.handlers = [console]


def quiet_libraries() -> None:
    """Sends what diffusers and transformers say to the log file instead of the console. Call it before they load.

    Their warnings speak of our own calls (an optional package, a cast), and drown the one line that matters.
    """
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_default_handler()
        library.enable_propagation()
        if not sys.stderr.isatty():
            library.disable_progress_bar()
