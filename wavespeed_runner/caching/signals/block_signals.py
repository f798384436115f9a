"""Signals read off a denoiser's call: the first blocks' residual or output, their modulated input, the model's input.

The option `blocks` of a signal says how many first blocks have to run before it can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...config.schema import PartConfig
from ...registry import register
from ..interfaces import DenoiserCall

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class FirstBlockResidual(PartConfig):
    """Options of `cache/signal=first_block_residual`."""

    name: str = "first_block_residual"
    blocks: int = 1
    """First blocks, which always run; the signal is their residual."""


@register("cache/signal", "first_block_residual", FirstBlockResidual)
class FirstBlockResidualSignal:
    """What the first blocks add to the hidden states (First Block Cache, DBCache)."""

    needs_latents: ClassVar[bool] = False

    def __init__(self, options: FirstBlockResidual) -> None:
        """Nothing to keep: `blocks` is read by the engine."""

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The residual, (rows, tokens, channels)."""
        return call.after["hidden_states"] - call.before["hidden_states"]


@dataclass(kw_only=True)
class FirstBlockOutput(PartConfig):
    """Options of `cache/signal=first_block_output`."""

    name: str = "first_block_output"
    blocks: int = 1
    """First blocks, which always run; the signal is their output."""


@register("cache/signal", "first_block_output", FirstBlockOutput)
class FirstBlockOutputSignal:
    """The hidden states after the first blocks: DiCache's probe, and Comfy-WaveSpeed's test on FLUX."""

    needs_latents: ClassVar[bool] = False

    def __init__(self, options: FirstBlockOutput) -> None:
        """Nothing to keep: `blocks` is read by the engine."""

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The hidden states, (rows, tokens, channels)."""
        return call.after["hidden_states"]


@dataclass(kw_only=True)
class ModulatedInput(PartConfig):
    """Options of `cache/signal=modulated_input`."""

    name: str = "modulated_input"
    variant: str | None = None
    """TeaCache's variant, where a published polynomial was fitted to another signal; null: the family's usual one."""


@register("cache/signal", "modulated_input", ModulatedInput)
class ModulatedInputSignal:
    """The first block's timestep-modulated input (TeaCache, https://arxiv.org/abs/2411.19108). No block runs for it."""

    needs_latents: ClassVar[bool] = False

    def __init__(self, options: ModulatedInput) -> None:
        """Nothing to keep: `variant` is read where the engine is attached."""

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The modulated input, (rows, ...) as the family gives it."""
        assert call.modulated, "the rule `modulated-family` refuses families without one"
        return call.modulated(call.first_block, dict(call.before), dict(call.arguments))


@dataclass(kw_only=True)
class ModelChange(PartConfig):
    """Options of `cache/signal=model_change`."""

    name: str = "model_change"


@register("cache/signal", "model_change", ModelChange)
class ModelChangeSignal:
    """The denoiser's input, for criteria that compare its change with the change of the output (EasyCache)."""

    needs_latents: ClassVar[bool] = True

    def __init__(self, options: ModelChange) -> None:
        """There are no options."""

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The denoiser's input."""
        return call.latents


@dataclass(kw_only=True)
class NoSignal(PartConfig):
    """Options of `cache/signal=none`."""

    name: str = "none"


@register("cache/signal", "none", NoSignal)
class EmptySignal:
    """No signal: for schedules, which decide by the step alone, so that all blocks can be skipped."""

    needs_latents: ClassVar[bool] = False

    def __init__(self, options: NoSignal) -> None:
        """There are no options."""

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """None."""
        return None
