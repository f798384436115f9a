"""Signals: what a strategy watches. `blocks` in a signal's options: how many first blocks run before it can look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.schema import PartConfig
from ...registry import register
from ..interfaces import Seen


@dataclass(kw_only=True)
class FirstBlockResidual(PartConfig):
    name: str = "first_block_residual"
    blocks: int = 1
    """Blocks at the head that always run; the signal is their residual."""


@register("cache/signal", "first_block_residual", FirstBlockResidual)
class FirstBlockResidualSignal:
    """What the first blocks add to the hidden states (First Block Cache, DBCache)."""

    looks_at_latents = False

    def __init__(self, options: FirstBlockResidual) -> None:
        pass

    def __call__(self, seen: Seen) -> Any:
        return seen.after["hidden_states"] - seen.before["hidden_states"]


@dataclass(kw_only=True)
class FirstBlockOutput(PartConfig):
    name: str = "first_block_output"
    blocks: int = 1
    """Blocks at the head that always run; the signal is what they give."""


@register("cache/signal", "first_block_output", FirstBlockOutput)
class FirstBlockOutputSignal:
    """The hidden states behind the first blocks: DiCache's probe; Comfy-WaveSpeed's test on FLUX."""

    looks_at_latents = False

    def __init__(self, options: FirstBlockOutput) -> None:
        pass

    def __call__(self, seen: Seen) -> Any:
        return seen.after["hidden_states"]


@dataclass(kw_only=True)
class ModulatedInput(PartConfig):
    name: str = "modulated_input"
    variant: str | None = None
    """Of TeaCache, where a published polynomial watches something else; null: what the family watches."""


@register("cache/signal", "modulated_input", ModulatedInput)
class ModulatedInputSignal:
    """The first block's timestep-modulated input (TeaCache, https://arxiv.org/abs/2411.19108). No block runs for it."""

    looks_at_latents = False

    def __init__(self, options: ModulatedInput) -> None:
        pass

    def __call__(self, seen: Seen) -> Any:
        return seen.modulated(seen.first_block, dict(seen.before), dict(seen.arguments))


@dataclass(kw_only=True)
class ModelChange(PartConfig):
    name: str = "model_change"


@register("cache/signal", "model_change", ModelChange)
class ModelChangeSignal:
    """The denoiser's own input; criteria that watch the model compare it with how the output answered (EasyCache)."""

    looks_at_latents = True

    def __init__(self, options: ModelChange) -> None:
        pass

    def __call__(self, seen: Seen) -> Any:
        return seen.latents


@dataclass(kw_only=True)
class NoSignal(PartConfig):
    name: str = "none"


@register("cache/signal", "none", NoSignal)
class NoSignalAtAll:
    """Nothing: for schedules, which decide by the step alone and so skip all blocks."""

    looks_at_latents = False

    def __init__(self, options: NoSignal) -> None:
        pass

    def __call__(self, seen: Seen) -> None:
        return None
