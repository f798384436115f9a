"""Sets up logging: our messages go to the console, around the progress bar; everyone's go to the run's `run.log`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class TqdmHandler(logging.Handler):
    """Writes log records with `tqdm.write` to stderr, so that they do not break the progress bar drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


class LogFile(logging.FileHandler):
    """The run's log file. Says nothing when the disk is full: whatever writes the results reports that, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores a record that cannot be written."""


def log_to(folder: Path) -> None:
    """Sets up the logging of `conf/hydra/job_logging/wavespeed.yaml` for runs that Hydra does not start.

    Args:
        folder: where `run.log` is written; made if it is missing.
    """
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
    """Sends the messages of torch, diffusers and transformers to the log file instead of the console.

    Their warnings are about our own calls (an optional package, a cast) and would hide the one line that matters. Call
    it before the libraries load.
    """
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_default_handler()
        library.enable_propagation()
        if not sys.stderr.isatty():
            library.disable_progress_bar()
    _quiet_torch()


def _quiet_torch() -> None:
    """Takes torch's messages off stderr, unless the user has chosen some with the environment variable TORCH_LOGS."""
    import torch  # noqa: F401  # adds the handler

    if "TORCH_LOGS" in os.environ:
        return
    logger = logging.getLogger("torch")
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:
            logger.removeHandler(handler)
    logger.propagate = True


@contextmanager
def log_warnings() -> Iterator[None]:
    """Sends Python's own warnings to the log file."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logging.getLogger("py.warnings").warning("%s:%d: %s: %s", filename, lineno, category.__name__, message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
