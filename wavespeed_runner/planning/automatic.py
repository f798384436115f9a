"""What a run leaves open and planning decides: device, seed, size, negative prompt.

Each decision is a `Change` that is said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..config.environment import resolve_device
from ..config.resolve import resolve_config
from ..config.schema import Config, Init
from ..models.family import Family, uses_cfg
from ..registry import find_implementation
from .adapter_defaults import follow_adapters
from .changes import Change as Change
from .image_sizes import follow_image
from .seeds import DRAW, draw_seed


def decide_automatic(composed: dict[str, Any]) -> tuple[Config, list[Change]]:
    """The typed config with everything automatic decided, and what was set.

    Args:
        composed: as `build_plan` takes it.

    Raises:
        ConfigError: as `resolve_config`; an image whose size is to be followed cannot be read.
        omegaconf.errors.OmegaConfBaseException: as `resolve_config`.
    """
    config = resolve_config(composed)
    family: Family = find_implementation("model", config.model)
    config, distilled = follow_adapters(config, composed)
    changes = [*_decide_size(config, composed, family)]
    changes += _decide_negative_prompt(config, composed, family)
    if config.seed == DRAW:
        changes.append(Change(key="seed", value=draw_seed(), why="seed=-1 draws one for each command"))
    decided = {change.key: change.value for change in changes}
    return replace(config, device=resolve_device(config.device), **decided), [*distilled, *changes]


def _decide_negative_prompt(config: Config, composed: dict[str, Any], family: Family) -> list[Change]:
    """The negative prompt that is not given: the model's own where guidance reads one, else none."""
    own = config.model.negative_prompt
    if composed.get("negative_prompt") is not None or not own:
        return []
    if not uses_cfg(config.model, config.guidance_scale, off=family.unguided_scale):
        return [Change(key="negative_prompt", value="", why="no guidance reads the model's own")]
    limit = getattr(config.model, "max_sequence_length", None)
    if config.model.init is Init.tiny and limit and len(own.encode()) >= limit:
        why = f"with model.init=tiny each letter is a token, and the model's own has more than {limit - 1}"
        return [Change(key="negative_prompt", value="", why=why)]
    return [Change(key="negative_prompt", value=own, why="the model's own; negative_prompt='' for none")]


def _decide_size(config: Config, composed: dict[str, Any], family: Family) -> list[Change]:
    """Width, height and frames that are not given: those of the image, or small ones for a tiny model."""
    open_keys = [key for key in ("width", "height", "num_frames") if composed.get(key) is None]
    given = {key: None if key in open_keys else getattr(config, key) for key in ("width", "height")}
    size = follow_image(config, family, **given)
    sizes: dict[str, Any] = {}
    if config.model.init is Init.tiny:
        sizes = {"width": family.tiny_size, "height": family.tiny_size}
        sizes |= {"num_frames": family.tiny_frames} if family.kind == "video" else {}
    why = dict.fromkeys(sizes, "model.init=tiny runs at a small size")
    if size:
        sizes |= {"width": size.width, "height": size.height}
        why |= dict.fromkeys(("width", "height"), size.why)
    return [Change(key=key, value=sizes[key], why=why[key]) for key in open_keys if key in sizes]
