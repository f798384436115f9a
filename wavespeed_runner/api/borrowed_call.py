"""One call of a pipeline that the user owns, with sampler and cache strategy in place for as long as it lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from ..accelerate.kernels import add_kernels, needs_kernels, profile_kernels, record_examples
from ..artifacts import Pipeline
from ..config.denoise_options import DenoiseOptions
from ..errors import ConfigError
from ..models.family import CallInputs, uses_cfg
from ..models.pipeline_call import build_prompt_call
from ..stages.attached import find_denoisers, follow_generation, refuse_eager, use_sampler
from .settings import NO_PROMPT, Settings
from .turns import OneThread, take_turn
from .values import refuse_halves

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

RENAMED = {"num_inference_steps": "steps", "width": "width", "height": "height", "num_frames": "num_frames"}
"""Argument of a diffusers call -> our key of the same meaning. Guidance has several names, see `_find_guidance`."""
SCHEDULES = ("timesteps", "sigmas")
"""Arguments that give a schedule of their own, which the settings do."""
PROMPTS = tuple(f"{negative}prompt{end}" for negative in ("", "negative_") for end in ("", "_2", "_3", "_4"))
"""Arguments that are texts."""
PROBE = 7.03125
"""A guidance scale that nothing else has."""


class Caller:
    """Calls a pipeline as its settings say."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        """Plans the call that gives no options of its own. Raises ConfigError, see `Settings.plan_call`."""
        self.pipeline, self.settings = pipeline, settings
        self.negative_prompt = settings.plan.config.negative_prompt or ""
        self._options: dict[tuple[Any, ...], DenoiseOptions] = {}
        self._one_thread = OneThread(settings.plan.config.compile)
        self._guidance = _find_guidance(pipeline, self._find_options({}))

    def call(self, pipe: DiffusionPipeline, original: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the pipeline's own code with what was given, and with what the settings say of the rest.

        Args:
            pipe: the pipeline.
            original: its class.
            args: of the call.
            kwargs: of the call.

        Raises:
            ConfigError: an argument does not fit the settings.
            RunError: an option does not take effect.
        """
        with take_turn():
            self._one_thread.check()
            given = _bind(original, pipe, args, kwargs)
            for name in PROMPTS:
                refuse_halves(name, given.get(name))
            names = {**RENAMED, **({self._guidance: "guidance_scale"} if self._guidance else {})}
            options = self._find_options({ours: given[name] for name, ours in names.items() if name in given})
            wanted = _build_inputs(self.pipeline, options, given.get("generator"))
            call = {**self._fill(original, wanted, given), **given}
            return self._generate(pipe, original, options, wanted, call)

    def _generate(
        self, pipe: DiffusionPipeline, original: Any, options: DenoiseOptions, wanted: CallInputs, call: dict[str, Any]
    ) -> Any:
        """The call itself, with everything of one generation around it; adds the evidence."""
        pipeline, setting = self.pipeline, repr(options)
        profiled = find_denoisers(pipe, pipeline.family)
        if not needs_kernels(pipeline.engaged) or setting in pipeline.kernels:
            profiled = []
        with use_sampler(pipe, options.sampler), pipeline.running():
            if pipeline.family.prepare:
                pipeline.family.prepare(pipe, wanted)
            with (
                follow_generation(options, pipeline, pipe, wanted, _count_images(call)) as trace,
                record_examples(profiled) as examples,
                pipeline.watch_compiler(),
            ):
                result = original.__call__(pipe, **call)
            if profiled:
                pipeline.kernels[setting] = profile_kernels(examples)
        refuse_eager(pipeline)
        pipeline.engaged = add_kernels(pipeline.engaged, pipeline.kernels.get(setting))
        pipeline.engaged["cache"] = trace.build_evidence(0)
        if pipeline.compiler and pipeline.engaged["compile"]:
            pipeline.engaged["compile"] |= pipeline.compiler.build_evidence()
        return result

    def _find_options(self, changes: dict[str, Any]) -> DenoiseOptions:
        """The options of a call with these values, planned when they are first asked for."""
        key = tuple(sorted(changes.items()))
        if key not in self._options:
            plan = self.settings.plan_call([NO_PROMPT], changes)
            nodes = plan.graph.nodes.values()
            self._options[key] = next(node.options for node in nodes if isinstance(node.options, DenoiseOptions))
        return self._options[key]

    def _fill(self, original: Any, wanted: CallInputs, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the settings give to a call, as far as it takes it: steps, size, guidance, the negative prompt."""
        model, family = self.pipeline.model, self.pipeline.family
        accepted = signature(original.__call__).parameters
        values = build_prompt_call(family, model, wanted, accepted)
        prompt = given.get("prompt")
        guided = uses_cfg(model, wanted.guidance_scale, off=family.unguided_scale)
        if guided and prompt is not None and "negative_prompt" in accepted and "negative_prompt_embeds" not in given:
            texts = [self.negative_prompt] * len(prompt)
            values["negative_prompt"] = texts if isinstance(prompt, list) else self.negative_prompt
        return values


def _bind(original: Any, pipe: DiffusionPipeline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that were given, by name, without those that are None.

    Raises:
        ConfigError: a schedule, which the settings decide.
        TypeError: the pipeline has no such argument.
    """
    parameters = signature(original.__call__).parameters
    bound = dict(signature(original.__call__).bind_partial(pipe, *args, **kwargs).arguments)
    bound.pop(next(iter(parameters)))
    for name in [name for name in bound if parameters[name].kind is Parameter.VAR_KEYWORD]:
        bound |= bound.pop(name)
    for name in SCHEDULES:
        if bound.get(name) is not None:
            raise ConfigError(f"{name}: the settings decide the schedule (sampler, steps); leave it out")
    return {name: value for name, value in bound.items() if value is not None}


def _build_inputs(pipeline: Pipeline, options: DenoiseOptions, generator: Any) -> CallInputs:
    size = {name: getattr(options, name) for name in ("width", "height", "num_frames")}
    return CallInputs(
        task="text_to_video" if pipeline.family.kind == "video" else "text_to_image",
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        generator=generator,
        **size,
    )


def _find_guidance(pipeline: Pipeline, options: DenoiseOptions) -> str:
    """The argument of the pipeline's call that is our `guidance_scale`; empty if there is none."""
    probe = _build_inputs(pipeline, replace(options, guidance_scale=PROBE), None)
    arguments = pipeline.family.build_arguments(pipeline.model, {}, probe)
    return next((name for name, value in arguments.items() if isinstance(value, float) and value == PROBE), "")


def _count_images(call: Mapping[str, Any]) -> int:
    """How many images, or videos, a call makes together."""
    prompt, embeds = call.get("prompt"), call.get("prompt_embeds")
    prompts = len(prompt) if isinstance(prompt, list) else 1 if prompt is not None or embeds is None else len(embeds)
    return prompts * (call.get("num_images_per_prompt") or call.get("num_videos_per_prompt") or 1)
