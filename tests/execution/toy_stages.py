"""A graph of toy stages that list their calls, for tests of the executor and of what it keeps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavespeed_runner.artifacts import Images, Latents, Pipeline, Sample
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.planning.graph import Graph, Node
from wavespeed_runner.planning.store_keys import compute_keys
from wavespeed_runner.records.sample import StageRun
from wavespeed_runner.registry import lookup
from wavespeed_runner.stages import stage
from wavespeed_runner.storage.store import Store

SAMPLE = Sample(prompt="a red circle", seed=1)


@dataclass(kw_only=True)
class NoOptions:
    pass


class Work:
    """A graph of toy stages that list their calls: load, words, noise, image, and note, whose output no stage uses."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.calls: list[str] = []
        self.loaded: list[weakref.ref[Any]] = []
        self.image: Callable[[], Any] = lambda: np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
        self.seconds: Callable[[], float] = lambda: 0.0
        inputs = {
            "load": {},
            "words": {"pipeline": "load", "sample": "sample"},
            "noise": {"pipeline": "load", "words": "words"},
            "image": {"pipeline": "load", "noise": "noise"},
            "note": {"words": "words"},
        }
        self._register()
        nodes = {
            name: Node(
                name=name, stage=lookup("stage", f"toy_{name}").implementation, options=NoOptions(), inputs=given
            )
            for name, given in inputs.items()
        }
        self.graph = Graph(nodes=nodes, output="image")
        self.keys = compute_keys(self.graph, SAMPLE, {})

    def _register(self) -> None:
        def toy(name: str, pure: bool = True) -> Any:
            return stage(f"toy_{name}", options=NoOptions, pure=pure)

        @toy("load", pure=False)
        def load(options: NoOptions) -> Pipeline:
            self.calls.append("load")
            pipeline = Pipeline(pipe=None, model=None, family=None, device="cpu")
            self.loaded.append(weakref.ref(pipeline))
            return pipeline

        @toy("words")
        def words(options: NoOptions, *, pipeline: Pipeline, sample: Sample) -> Images:
            self.calls.append("words")
            return Images(tensors={"images": np.zeros((1, 1, sample.seed, 3), np.uint8)})

        @toy("noise")
        def noise(options: NoOptions, *, pipeline: Pipeline, words: Images) -> Latents:
            self.calls.append("noise")
            return Latents(tensors={}, data={"steps": [], "seconds": self.seconds()})

        @toy("image")
        def image(options: NoOptions, *, pipeline: Pipeline, noise: Latents) -> Images:
            self.calls.append("image")
            made = self.image()
            return Images(tensors={"images": made}) if isinstance(made, np.ndarray) else made

        @toy("note")
        def note(options: NoOptions, *, words: Images) -> Images:
            self.calls.append("note")
            return Images(tensors={"images": np.zeros((1, 1, 1, 3), np.uint8)})

    def run(self, executor: Executor | None = None, **options: Any) -> tuple[dict[str, Any], list[StageRun]]:
        """Runs the graph as a new process would; returns values and stage runs. `calls` holds this run's calls only."""
        self.calls.clear()
        executor = executor or Executor(self.store, **{"rerun": False, "on_stage": lambda name: None, **options})
        runs: list[StageRun] = []
        return executor.run(self.graph, [SAMPLE], [self.keys], runs)[0], runs
