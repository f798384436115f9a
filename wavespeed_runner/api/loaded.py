"""`load`: a pipeline for programs, with everything that settings say applied, that stays loaded between calls.

Every call is planned and goes through the stages of the runner, so it gives the runner's bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..artifacts import Images, Videos
from ..config.compose import find_key
from ..config.denoise_options import DenoiseOptions
from ..errors import ConfigError, RunError
from ..execution.batches import Pass, list_batches, run_pass
from ..execution.executor import Executor
from ..execution.process_cache import ProcessCache
from ..execution.refusals import refuse_unbuildable_models
from ..execution.runner import run_plan
from ..execution.sample_record import describe_sample
from ..planning.graph import Graph
from ..planning.plan import Plan
from ..records.record import Record
from ..records.sample import SampleRecord, StageRun
from .settings import Settings, Source, read_prompts, read_settings, refuse_keys, tell
from .turns import OneThread, take_turn


def load(
    settings: Source = (),
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    **values: Any,
) -> LoadedPipeline:
    """Loads the model of some settings and applies cache, sampler, quantization, compilation and the rest to it.

        pipe = load("mine.yaml")                                    # what `export` or `tune` wrote
        pipe = load(["model=demo", "cache=fbcache"], device="cpu")  # as on the command line
        pipe = load(model="demo", cache="fbcache")                  # the same without a list
        image = pipe("a red circle", seed=3)[0]

    Args:
        settings: an experiment file, or a list of overrides as on the command line; none where `values` say all.
        overrides: more of them, which win: `["cache.start=0.2"]`.
        config_dir: a folder of your own options, as `--config-dir`.
        values: keys without dots and their values, the same as overrides: `steps=8`, `cache="fbcache"`.

    Returns:
        The pipeline. What measures (`measure`, `metrics`, a claim) and prompts in the settings are not used.

    Raises:
        ConfigError: the settings are wrong, or a rule refuses them; nothing was loaded.
        RunError: the model cannot be loaded, or an option does not take effect.
    """
    with take_turn():
        return LoadedPipeline(read_settings(settings, overrides, config_dir, values))


class LoadedPipeline:
    """A loaded model with its settings. Call it with a prompt; calls from several threads wait for each other."""

    def __init__(self, settings: Settings) -> None:
        """Loads. Raises ConfigError and RunError, see `load`."""
        self._settings, self.plan = settings, settings.plan
        self._kept = ProcessCache(limit=0)
        self._one_thread = OneThread(self.plan.config.compile)
        self._is_closed = False
        self.made: list[SampleRecord] = []
        """Of the last call, for each image: prompt, seed, seconds, steps, and evidence of what took effect."""
        if self.plan.config.parallel.name != "none":
            raise ConfigError(
                f"parallel={self.plan.config.parallel.name}: not from Python, because its ranks are processes of the "
                "runner; run it with python -m wavespeed_runner, or leave it out"
            )
        tell(self.plan)
        refuse_unbuildable_models(self.plan)
        executor = self._build_executor(self.plan)
        for name, node in self.plan.graph.nodes.items():
            if name in _find_loaded(self.plan):
                alone = Graph(nodes={name: node}, output=name)
                executor.run(alone, self.plan.samples[:1], self.plan.keys[:1], [])

    def __call__(self, prompt: str | Sequence[str], **values: Any) -> list[Any]:
        """Makes the images, or videos, of one prompt or of several.

        Args:
            prompt: a text, or a list of them.
            values: what may differ from call to call: `seed`, `negative_prompt`, `steps`, `guidance_scale`, `width`,
                `height`, `num_frames`, `num_images_per_prompt`, and of graphs that start from an image `image`, `mask`
                (paths) and `strength`. None, or left out: as the settings say.

        Returns:
            A PIL image for each prompt, or `num_images_per_prompt` of them; of a video the list of its frames.

        Raises:
            ConfigError: a value that is wrong, that no call takes, or that a rule refuses.
            RunError: it failed while running.
        """
        with take_turn():
            plan = self._plan_call(prompt, values)
            graph = _keep_nothing(plan.graph)
            executor, runs = self._build_executor(plan), list[StageRun]()
            results = [
                result
                for batch in list_batches(plan)
                for result in run_pass(
                    plan, executor, runs, batch, Pass(graph=graph, keys=plan.keys, of="run"), is_made=False
                )
            ]
            self.made = [
                describe_sample(sample, index, result, None, runs)
                for index, (sample, result) in enumerate(zip(plan.samples, results, strict=True))
            ]
            return [image for result in results for image in _to_pil(result[plan.graph.output])]

    def record(self, folder: str | os.PathLike[str], prompt: str | Sequence[str], **values: Any) -> Record:
        """Makes images into a folder as a run does, with `record.json` and the store; returns the record.

        Args:
            folder: where images and record go.
            prompt: as at a call.
            values: as at a call.

        Raises:
            ConfigError: as at a call.
            RunError: it failed while running; the record says where.
        """
        with take_turn():
            plan = self._plan_call(prompt, values)
            typed = [o for o in self._settings.typed if find_key(o) != "experiment"]
            record = run_plan(plan, Path(folder), typed, cache=self._kept)
            if record.error is not None:
                where = f"in stage {record.error.stage}, see {Path(folder) / 'record.json'}"
                raise RunError(f"{record.error.message}; {where}")
        return record

    def close(self) -> None:
        """Lets go of the model. A later call is an error."""
        with take_turn():
            self._is_closed = True
            self._kept.clear()

    def __enter__(self) -> LoadedPipeline:
        """The pipeline itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes it."""
        self.close()

    def _plan_call(self, prompt: str | Sequence[str], values: dict[str, Any]) -> Plan:
        """Plans a call. Raises ConfigError where it would need another model than the one that is loaded."""
        if self._is_closed:
            raise RunError("the pipeline was closed; load it again")
        self._one_thread.check()
        refuse_keys(values, "load")
        plan = self._settings.plan_call(read_prompts(prompt), values)
        if _find_loaded(plan) != _find_loaded(self.plan):
            given = " ".join(f"{key}={value}" for key, value in values.items())
            raise ConfigError(f"{given}: this would load the model anew; give it to load")
        return plan

    def _build_executor(self, plan: Plan) -> Executor:
        return Executor(
            plan.store, rerun=False, on_stage=lambda name: None, device=plan.config.device, cache=self._kept
        )


def _find_loaded(plan: Plan) -> dict[str, str]:
    """Node -> key of what stays in the process: loaded models."""
    nodes = plan.graph.nodes.values()
    return {node.name: plan.keys[0][node.name] for node in nodes if node.lasting and not node.stage.pure}


def _keep_nothing(graph: Graph) -> Graph:
    """The graph with nothing of it in the store, and without a warm-up: nobody measures how long it takes."""
    nodes = {}
    for name, node in graph.nodes.items():
        options = node.options
        if isinstance(options, DenoiseOptions):
            options = replace(options, warmup=0)
        nodes[name] = replace(node, options=options, lasting=node.lasting and not node.stage.pure)
    return Graph(nodes=nodes, output=graph.output)


def _to_pil(value: Images | Videos) -> list[Any]:
    """PIL images; of each video the list of its frames."""
    if isinstance(value, Videos):
        return [Images(tensors={"images": frames}).as_pil() for frames in value.tensors["frames"]]
    return value.as_pil()
