"""The shipped models, tiny, and graphs, composed once for all tests."""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.resolve import resolve_config

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if not path.stem.startswith("generic"))
"""All except the generic ones, see test_generic.py."""
GRAPHS = sorted(path.stem for path in (CONF / "graph").glob("*.yaml"))
TINY = ("model.init=tiny", "model.dtype=float32", "measure=none", "device=cpu")
"""In float32: CPUs without instructions for 16-bit floats are up to thirty times slower in these."""


@lru_cache(maxsize=1)
def compose_shipped() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Model -> its composed config, and graph -> its composed node. Read-only."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return _compose_shipped()
    # One of the test processes composes, for all; the file is removed at the end (tests/conftest.py).
    file = name_shared_file(run)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_bytes(pickle.dumps(_compose_shipped()))
        models, graphs = pickle.loads(file.read_bytes())
    return models, graphs


def name_shared_file(run: str) -> Path:
    """The file that the processes of one run of the tests share."""
    return Path(tempfile.gettempdir()) / f"wavespeed-runner-tests-{run}.pickle"


def _compose_shipped() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    with composer(None):
        models = {name: compose_job([f"model={name}", *TINY], [f"model={name}", *TINY]) for name in MODELS}
        return models, {graph: compose_job([f"graph={graph}"], [])["graph"] for graph in GRAPHS}


def shipped_config(name: str) -> Any:
    """The options of a model, tiny, else as shipped."""
    return resolve_config(compose_shipped()[0][name]).model


def config_of(name: str) -> Any:
    """The same with shift 3 where it has one: with Wan's own 12 few steps never reach its second model."""
    model = shipped_config(name)
    return replace(model, shift=3.0) if getattr(model, "shift", None) is not None else model


@lru_cache(maxsize=1)
def list_variants() -> list[str]:
    """One shipped model for each family and kind of guidance: models that share both are the same tiny model, and run
    the same code."""
    variants: dict[tuple[str, str], str] = {}
    for name in MODELS:
        config = config_of(name)
        variants.setdefault((config.name, config.guidance.value), name)
    return list(variants.values())
