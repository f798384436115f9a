"""What many tests share: composed configs and plans of a tiny model, one finished run of it, and a clean process."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest

from tests.models.shipped import name_shared_file
from tests.process_state import describe_process, list_differences
from tests.tried_once import remember_texts
from wavespeed_runner import registry
from wavespeed_runner.accelerate import shared_weights
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.execution.runner import run_plan
from wavespeed_runner.metrics import timing
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.process.torchao_import import postpone_torchao
from wavespeed_runner.records.file import record_data
from wavespeed_runner.stages import generate as generation
from wavespeed_runner.stages import load

TINY = ("model.init=tiny", "width=32", "height=32", "steps=4", "device=cpu", "measure=none", "prompt='a red circle'")
"""The demo's architecture, shrunk, with random weights: an image in a tenth of a second. Later overrides win."""
CACHED = ("measure=default", "cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6")
"""Compared with its reference; at this threshold some steps are computed and some are not."""
PROMPTS = ("a red circle", "a blue square")


timing.TOO_FAST = float("inf")
"""The times of models this small mean nothing. What the runner takes for impossible has tests of its own."""


def run_as_data(plan: Plan, folder: Path, overrides: list[str], **options: Any) -> dict[str, Any]:
    """`run_plan`, with the record as record.json has it: plain data, which a test may change."""
    return record_data(run_plan(plan, folder, overrides, **options))


@lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    # Hydra takes a key once.
    by_key = {override.partition("=")[0].lstrip("+~"): override for override in (*TINY, *overrides)}
    with composer(None):
        return compose_job(list(by_key.values()), list(by_key.values()))


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """`composed(*overrides)`: plain data as `build_plan` takes it, of the tiny model."""
    return lambda *overrides: deepcopy(_composed(overrides))


@pytest.fixture
def planned(composed: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Plan]:
    """`planned(*overrides, key=value)`: a plan that writes below `tmp_path`; `key=value` without Hydra's grammar."""
    return lambda *overrides, **values: build_plan(
        {**composed(*overrides), "outputs": str(tmp_path / "outputs"), **values}
    )


@pytest.fixture(scope="session")
def finished(
    composed: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Folder and record of a run with a cache and two prompts from a file. For looking at, not for changing."""
    home = tmp_path_factory.mktemp("finished")
    (home / "prompts.txt").write_text("\n\n".join(PROMPTS) + "\n", encoding="utf-8")
    config = composed(*CACHED, "prompt=null", "prompts=file", "prompts.path=x.txt")
    config |= {"outputs": str(home), "prompts": {"path": str(home / "prompts.txt")}}
    record = run_as_data(build_plan(config), home / "run", ["cache=fbcache"])
    assert record["status"] == "completed", record["error"]
    return home / "run", record


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], registry.Entry]:
    """The registry's entries, for a test to change; they are as before when it is over."""
    registry.load_all()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    return registry._entries


@pytest.fixture
def family(
    own_registry: dict[tuple[str, str], registry.Entry], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """`family(decode=function, ...)` puts functions in the place of the tiny model's load, encode, denoise or decode;
    returns the list of its calls."""
    entry = own_registry["model", "flux"]
    shared = {"load": (load, "load_pipeline"), "denoise": (generation, "denoise")}

    def change(**functions: Callable[..., Any]) -> list[str]:
        calls: list[str] = []

        # The command that follows stands for a new process: what a kept traceback refers to is not shared with it.
        shared_weights._loaded.clear()

        def listed(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                calls.append(name)
                return functions.get(name, usual)(*args, **options)

            return call

        for name, (module, used) in shared.items():
            monkeypatch.setattr(module, used, listed(name, getattr(module, used)))
        listening = {name: listed(name, getattr(entry.implementation, name)) for name in ("encode", "decode")}
        own_registry["model", "flux"] = replace(entry, implementation=replace(entry.implementation, **listening))
        return calls

    return change


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """A test that leaves the process changed fails itself, instead of one of another file that runs after it.

    `clean_process` asks for it first, so that it looks when every other fixture of the test has ended.
    """
    before = describe_process()
    yield
    changed = list_differences(before, describe_process())
    assert not changed, "\n".join(["this test leaves changed:", *changed])


@pytest.fixture(autouse=True)
def clean_process(process_as_it_was: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands called in this process leave logging and environment as they found them."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    # What another test has loaded and still refers to does not stand in for what this one loads.
    monkeypatch.setattr(shared_weights, "_loaded", WeakValueDictionary())
    root, ours = logging.getLogger(), logging.getLogger("wavespeed_runner")
    before = [(logger, logger.level, list(logger.handlers)) for logger in (root, ours)]
    yield
    for weights in list(shared_weights._alive):  # kept by a traceback, or in a cycle; the test may have changed them
        weights.unquantized = ""
    for logger, level, handlers in before:
        for handler in set(logger.handlers) - set(handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
        logger.setLevel(level)
        logger.handlers = handlers


LONGEST_FILES = (
    "test_slurm.py",
    "test_fit.py",
    "test_tune_command.py",
    "test_kills.py",
    "test_every_strategy.py",
    "test_own_model.py",
    "test_recipe_experiments.py",
    "test_to_experiment.py",
)
"""The longest first; with Slurm, most of the time is waiting."""


class PostponeTorchao(MetaPathFinder):
    """Does what the load stage does, for tests that import diffusers themselves: else each process takes longer."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Finds nothing; acts when one of the two libraries is about to import its quantizers."""
        if name in ("diffusers.quantizers", "transformers.quantizers") and self in sys.meta_path:
            sys.meta_path.remove(self)
            postpone_torchao()


sys.meta_path.insert(0, PostponeTorchao())
remember_texts()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files, so that no process is left alone with one at the end (`--dist loadfile`)."""
    order = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish() -> None:
    """Most automatic collections of garbage look only at what is young."""
    set_aside()
    gc.set_threshold(50_000, 20, 20)


modules_set_aside = 0
"""How many there were the last time."""


def set_aside() -> None:
    """No later collection of garbage looks at what there is now: mostly modules, which stay until the end.

    Each run lets go of its models and collects garbage for that, which takes half a second once torch, diffusers and
    transformers are there: more than the runs of tiny models themselves.
    """
    global modules_set_aside
    gc.collect()
    gc.freeze()
    modules_set_aside = len(sys.modules)


@pytest.fixture(autouse=True, scope="module")
def imports_of_other_files_set_aside() -> Iterator[None]:
    """Garbage of a file's tests is looked for among what these tests have made, not among what was there before."""
    yield
    set_aside()  # after the file's other fixtures, so that no model of theirs is kept


@pytest.fixture(autouse=True)
def many_imports_set_aside() -> Iterator[None]:
    """As above, at once where a test or a fixture has imported a library."""
    yield
    # Not while a file's fixtures hold a pipeline: what is set aside in a cycle stays for good.
    weights = sys.modules.get("wavespeed_runner.accelerate.shared_weights")
    if len(sys.modules) > modules_set_aside + A_LIBRARY and not (weights and weights._alive):
        set_aside()


A_LIBRARY = 100
"""Modules; diffusers or transformers are hundreds."""

APART = {"Slurm": "test_slurm.py", "a browser": "test_browser", "kills at random moments": "test_kills.py"}
"""Kinds of tests that the log must show to have run, with the beginning of their files' names."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, file in APART.items():
        parts = []
        for outcome in ("passed", "failed", "error", "skipped"):
            reports = terminalreporter.stats.get(outcome, ())
            count = sum(f"/{file}" in report.nodeid for report in reports)
            parts += [f"{count} {outcome}"] if count else []
        if parts:
            terminalreporter.write_line(f"tests with {what} ({file}): {', '.join(parts)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Removes what the processes of this run shared, once all have ended."""
    if controller := session.config.pluginmanager.getplugin("dsession"):
        file = name_shared_file(controller.nodemanager.testrunuid)
        for path in (file, file.with_name(f"{file.name}.lock")):
            path.unlink(missing_ok=True)
