"""What a LoRA for few steps was distilled for, in the place of the model's own steps, guidance and sampler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..accelerate.adapter_options import Lora, list_stand_ins
from ..config.resolve import resolve_node
from ..config.schema import Config, Guidance, Init, SamplerConfig
from .changes import Change


def follow_adapters(config: Config, composed: dict[str, Any]) -> tuple[Config, list[Change]]:
    """The config with the steps, guidance and sampler of its LoRA where none is given, and what was set.

    Args:
        config: typed.
        composed: the same as plain data, in which null is what is not given.

    Raises:
        ConfigError: `adapters.sampler` is no sampler's options.
    """
    adapters = config.adapters
    if not isinstance(adapters, Lora) or (adapters.models and config.model.name not in adapters.models):
        return config, []  # of another model: a rule says so
    why = f"what {_name(adapters)} was distilled for"
    values: dict[str, Any] = {}
    if adapters.steps is not None and composed.get("steps") is None:
        values["steps"] = adapters.steps
    has_scale = adapters.guidance_scale is not None and config.model.guidance is not Guidance.none
    if has_scale and composed.get("guidance_scale") is None:
        values["guidance_scale"] = adapters.guidance_scale
    changes = [Change(key=key, value=value, why=why) for key, value in values.items()]
    if adapters.sampler is not None and config.sampler.name == "default":
        sampler: SamplerConfig = resolve_node("sampler", adapters.sampler, "adapters.sampler")
        values["sampler"] = sampler
        changes += [
            Change(key=f"sampler.{key}" if key != "name" else "sampler", value=value, why=why)
            for key, value in adapters.sampler.items()
        ]
    return replace(config, **values), [*changes, *_say_stand_ins(config, adapters)]


def _say_stand_ins(config: Config, adapters: Lora) -> list[Change]:
    if config.model.init is not Init.tiny:
        return []
    why = "model.init=tiny: a file of the hub is for the full model, so random updates stand in for it"
    return [Change(key="adapters.path", value=path, why=why) for path in list_stand_ins(adapters)]


def _name(adapters: Lora) -> str:
    return adapters.path if isinstance(adapters.path, str) else ", ".join(dict.fromkeys(map(str, adapters.path)))
