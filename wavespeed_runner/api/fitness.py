"""What `accelerate` can apply to a pipeline of the user's, and what it cannot: each is refused by its name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerate.memory import NONE, denoiser_names
from ..accelerate.switches import SwitchSettings
from ..config.own_models import find_published_option
from ..config.schema import Config, Weighting
from ..errors import ConfigError
from ..inputs.files import find_place
from ..models.family import Family
from ..models.weights.checkpoint import find_local_path
from ..planning.graph import is_one_call
from ..planning.plan import Plan
from ..registry import find_implementation, list_names, lookup

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

log = logging.getLogger("wavespeed_runner")


def refuse_unfit_pipeline(pipe: Any, handle: str) -> None:
    """Refuses what is no diffusers pipeline as it was loaded.

    Args:
        pipe: what was given.
        handle: attribute of pipelines that are accelerated already.

    Raises:
        ConfigError: says what is on it.
    """
    from diffusers import DiffusionPipeline
    from torch import nn

    if not isinstance(pipe, DiffusionPipeline):
        raise ConfigError(f"pipeline: a diffusers pipeline is needed, not {type(pipe).__name__}")
    if handle in vars(pipe):
        raise ConfigError(f"pipeline: it is accelerated already; pipeline.{handle}.restore() takes that off")
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    for name, module in modules.items():
        if what := _find_alteration(module):
            raise ConfigError(f"pipeline: {name} has {what}; give the pipeline as it was loaded, on one device")
    devices = {str(parameter.device) for module in modules.values() for parameter in module.parameters()}
    if len(devices) > 1:
        raise ConfigError(f"pipeline: its weights are on {', '.join(sorted(devices))}; move it to one device")


def _find_alteration(module: nn.Module) -> str:
    """What was done to a module that copies of it could not share; empty if nothing was."""
    if type(module).__name__ == "OptimizedModule":
        return "been compiled (torch.compile), and compile= does that"
    for part in module.modules():
        if getattr(part, "_compiled_call_impl", None) is not None:
            return "been compiled (compile(), compile_repeated_blocks()), and compile= does that"
        if getattr(part, "_hf_hook", None) is not None:
            return "hooks of offloading"
        if (registry := vars(part).get("_diffusers_hook")) and registry.hooks:
            return f"hooks of diffusers ({', '.join(registry.hooks)})"
    return ""


def find_model(pipe: DiffusionPipeline) -> list[str]:
    """The overrides that choose the model option of a pipeline, by where it was loaded from, and the dtype that it has.

    Raises:
        ConfigError: that does not say which option it is; names those that run its class.
    """
    source, name = _get_source(pipe), type(pipe).__name__
    folder = find_local_path(source) if source else None
    dtype = [f"model.dtype={_get_dtype(pipe, component)}" for component in denoiser_names(pipe)[:1]]
    if folder is not None and (folder / "model_index.json").is_file():
        return [f"model={Path(source).absolute()}", *dtype]
    if option := find_published_option(source):
        return [f"model={option}", *dtype]
    families = [of for of in list_names("model") if name in lookup("model", of).implementation.tasks.values()]
    way = f"give model=OPTION, of the family {' or '.join(families)}" if families else "no model family runs its class"
    raise ConfigError(f"pipeline: which model it is cannot be seen from {name} of {source or 'nowhere'}; {way}")


def _get_dtype(pipe: DiffusionPipeline, component: str) -> str:
    return str(getattr(pipe, component).dtype).removeprefix("torch.")


def _get_source(pipe: DiffusionPipeline) -> str:
    """The folder or the repository that a pipeline was loaded from; empty where it was built."""
    return str(pipe.config.get("_name_or_path") or "")


def refuse_unfit_settings(plan: Plan, pipe: DiffusionPipeline) -> None:
    """Refuses settings that are not of this pipeline, or that one call of it cannot carry out.

    Raises:
        ConfigError: names the key, and the way out.
    """
    config = plan.config
    family: Family = find_implementation("model", config.model)
    wanted, name = next(iter(family.tasks.values()), "none"), type(pipe).__name__
    if family.single_call or name != wanted:
        raise ConfigError(f"model={config.model.name}: these settings are for {wanted}, and the pipeline is {name}")
    if not is_one_call(plan.graph) or family.run:
        kinds = [node.stage.name for node in plan.graph.nodes.values()]
        raise ConfigError(
            f"graph: its stages ({', '.join(kinds)}) are not one call of {name}; load runs them, or leave graph out"
        )
    _refuse_groups(config)
    for component in denoiser_names(pipe):
        dtype = _get_dtype(pipe, component)
        if dtype != config.model.dtype.value:
            raise ConfigError(
                f"model.dtype={config.model.dtype.value}: the pipeline's {component} is {dtype}; load it so, or "
                f"give model.dtype={dtype}"
            )
    if str(pipe.device) != config.device and pipe.device.type != config.device:
        raise ConfigError(f"device={config.device}: the pipeline is on {pipe.device}; move it, or leave device out")
    if family.check:
        family.check(config.model, pipe)


def _refuse_groups(config: Config) -> None:
    """Refuses groups that change what is loaded, or how prompts are read."""
    model: Any = config.model
    switches: Any = config.accelerate
    assert isinstance(switches, SwitchSettings)
    by_hand = {
        "adapters": (config.adapters.name != "none", "load them into the pipeline first (load_lora_weights)"),
        "memory": (config.memory != NONE, "call the pipeline's own methods instead, or use load"),
        "parallel": (config.parallel.name != "none", "run it with python -m wavespeed_runner"),
        "prompts.weighting": (config.prompts.weighting is not Weighting.none, "use load"),
        "prompts.chunked": (config.prompts.chunked, "use load"),
        "accelerate.channels_last": (switches.channels_last, "pipe.unet.to(memory_format=torch.channels_last) first"),
        "accelerate.tiny_vae": (switches.tiny_vae is not None, "set pipe.vae first"),
        "model.vae": (model.vae is not None, "set pipe.vae first"),
        "model.clip_skip": (getattr(model, "clip_skip", None) is not None, "give clip_skip to the pipeline's call"),
    }
    for key, (is_set, way_out) in by_hand.items():
        if is_set:
            raise ConfigError(f"{key}: cannot be applied to a pipeline that is there; {way_out}")


def refuse_other_weights(plan: Plan, pipe: DiffusionPipeline) -> None:
    """Warns where the settings name other weights than the pipeline was loaded from.

    Only the user knows whether these are the same, or near enough for numbers that were measured on the others.
    """
    source, repo = _get_source(pipe), plan.config.model.repo
    places = [find_local_path(each) if each else None for each in (source, repo)]
    known = [find_place(place) for place in places if place is not None]
    same = source == repo or (len(known) == 2 and known[0] == known[1])
    if not same:
        log.warning(
            "model.repo=%s: the pipeline was loaded from %s; the settings, and what was measured for them, are used on "
            "it all the same",
            repo,
            source or "nowhere that is known",
        )
