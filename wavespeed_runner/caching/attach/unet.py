"""Attaches the engine to a U-Net: the layers between its first and its last convolution run one by one, or are skipped.

The denoiser's own code does all the rest. For one generation its two lists of blocks are replaced by lists that hold
the same blocks and yield none, and its middle block by a module that runs the layers. These hold every module, so that
whatever visits the denoiser's modules (offloading, LoRA scales) finds them. Nothing is patched: no class, no forward,
no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from ..engine import Engine
from ..interfaces import DenoiserCall
from ..rows import Streams
from ..state import PendingCall
from .unet_layers import Layer, list_layers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CONTROL_ARGUMENTS = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)
"""What ControlNets and T2I adapters pass to a U-Net. Its own code would add them outside of the layers run here."""


@contextmanager
def attach_to_unet(engine: Engine, unet: Any, *, head: int, depth: int | None) -> Iterator[None]:
    """Keeps the engine attached to one U-Net; afterwards its own blocks are back.

    Args:
        engine: the engine.
        unet: a `UNet2DConditionModel`.
        head: without `depth`: this many layers run before the decision, and all others may be skipped. The predicted
            residual of those is added, as in First Block Cache.
        depth: this many layers on the way down, and one more on the way up, always run; the output of the layers
            between them is predicted (DeepCache, https://arxiv.org/abs/2312.00858, which calls it the branch).

    Raises:
        RunError: the U-Net has a block, or something switched on, that its layers cannot be run with one by one; or
            too few layers of one shape.
    """
    runner = LayerRunner(engine, unet, head=head, depth=depth)
    _check_unet(engine.cache.name, unet, runner)
    down, middle, up = unet.down_blocks, unet.mid_block, unet.up_blocks
    handle = unet.register_forward_pre_hook(_refuse_control_arguments(engine.cache.name), with_kwargs=True)
    try:
        unet.down_blocks, unet.up_blocks = _build_silent_list(down), _build_silent_list(up)
        unet.mid_block = _build_middle_block(runner, middle)
        yield
    finally:
        handle.remove()
        unet.down_blocks, unet.mid_block, unet.up_blocks = down, middle, up


class LayerRunner:
    """Runs the layers of one U-Net.

    The first `start` layers and those from `end` on always run; those between them unless the engine skips them.
    """

    def __init__(self, engine: Engine, unet: Any, *, head: int, depth: int | None) -> None:
        """See `attach_to_unet`."""
        self.engine, self.unet, self.depth = engine, unet, depth
        self.layers = list_layers(unet)
        self.start = head if depth is None else depth
        self.replaces = depth is not None or engine.cache.whole_output
        """Whether a prediction replaces what the skipped layers give; otherwise it is added to their input."""
        self.end = len(self.layers) - (0 if depth is None else depth + 1)

    def __call__(self, sample: Tensor, temb: Tensor, arguments: dict[str, Any]) -> Tensor:
        """Hidden states after the first convolution -> those before the last one, (rows, channels, height, width).

        Args:
            sample: the hidden states.
            temb: the embedded timestep, (rows, channels).
            arguments: what diffusers passes to attentions.
        """
        skips = [sample]
        factor = 2**self.unet.num_upsamplers
        # diffusers' own rule: only these sizes are not simply doubled on the way up.
        uneven = any(side % factor for side in sample.shape[-2:])

        def run(layers: list[Layer], x: Tensor) -> Tensor:
            for layer in layers:
                x = self._run_layer(layer, x, skips, uneven, temb, arguments)
            return x

        after = run(self.layers[: self.start], sample)
        outcome = self._decide(sample, after, {"temb": temb, **arguments})
        if isinstance(outcome, PendingCall):
            computed = run(self.layers[self.start : self.end], after)
            outcome = self.engine.record_computed(outcome, {"hidden_states": computed})
        return run(self.layers[self.end :], outcome["hidden_states"])

    def _decide(self, before: Tensor, after: Tensor, arguments: dict[str, Any]) -> Streams | PendingCall:
        # A `UNet2DConditionModel` has no cache contexts (it is no `CacheMixin`): the order of calls tells its branches.
        branch = self.engine.enter_branch(None, self.unet)
        call = DenoiserCall(
            at=self.engine.locate_step(branch),
            before={"hidden_states": before},
            after={"hidden_states": after},
            latents=self.engine.latents,
            first_block=self.layers[0].resnet,
            arguments=arguments,
            flow=self.engine.generation.flow,
        )
        return self.engine.decide(branch, call, {"hidden_states": None if self.replaces else after})

    def _run_layer(
        self, layer: Layer, x: Tensor, skips: list[Tensor], uneven: bool, temb: Tensor, arguments: dict[str, Any]
    ) -> Tensor:
        if layer.way == "middle":
            has_attention = getattr(layer.resnet, "has_cross_attention", False)
            result: Tensor = layer.resnet(x, temb, **(arguments if has_attention else {}))
            return result
        if layer.way == "up":
            import torch

            x = torch.cat([x, skips.pop()], dim=1)
        if layer.resnet is not None:
            x = layer.resnet(x, temb)
        if layer.attention is not None:
            x = layer.attention(x, **arguments, return_dict=False)[0]
        for resampler in layer.resamplers:
            x = resampler(x) if layer.way == "down" else resampler(x, skips[-1].shape[2:] if uneven else None)
        if layer.way == "down":
            skips.append(x)
        return x


def _build_middle_block(runner: LayerRunner, middle: torch.nn.Module | None) -> torch.nn.Module:
    """A module that takes the place of the middle block. The class is defined here because torch is imported late."""
    import torch

    class MiddleBlock(torch.nn.Module):
        has_cross_attention = True

        def __init__(self) -> None:
            super().__init__()
            self.middle = middle

        def forward(self, hidden_states: Tensor, temb: Tensor, **arguments: Any) -> Tensor:
            return runner(hidden_states, temb, arguments)

    return MiddleBlock()


def _build_silent_list(blocks: torch.nn.ModuleList) -> torch.nn.ModuleList:
    """A list of the same blocks that yields none of them. The class is defined here because torch is imported late."""
    import torch

    class SilentList(torch.nn.ModuleList):
        def __iter__(self) -> Iterator[torch.nn.Module]:
            return iter(())

    return SilentList(blocks)


def _check_unet(cache: str, unet: Any, runner: LayerRunner) -> None:
    """Raises `RunError` for what running layer by layer would leave out, or has no layers for."""
    blocks = (*unet.down_blocks, *unet.up_blocks)
    same_shape = len(unet.down_blocks[0].resnets)
    if runner.depth is None and runner.start > same_shape:
        raise RunError(
            f"cache={cache}: cache.signal.blocks={runner.start} is too many for this U-Net: only its first "
            f"{same_shape} layers have the shape of its last one, which their residual needs; "
            f"use cache.signal.blocks={same_shape} or fewer"
        )
    if any(all(getattr(block, name, None) for name in ("s1", "s2", "b1", "b2")) for block in blocks):
        raise RunError(
            f"cache={cache} does not work with FreeU, which changes layers from outside; call pipe.disable_freeu(), "
            "or use cache=none"
        )
    registries = (getattr(block, "_diffusers_hook", None) for block in blocks)
    if any("group_offloading" in registry.hooks for registry in registries if registry is not None):
        raise RunError(
            f"cache={cache} runs the layers of a U-Net one by one, and memory.group_type=block_level loads weights "
            "only when a whole block is called; use memory.group_type=leaf_level"
        )


def _refuse_control_arguments(cache: str) -> Callable[..., None]:
    """A hook that raises `RunError` when the U-Net is called with `CONTROL_ARGUMENTS`."""

    def hook(unet: Any, args: Any, kwargs: dict[str, Any]) -> None:
        names = list(signature(type(unet).forward).parameters)[1:]
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        control = [name for name in CONTROL_ARGUMENTS if arguments.get(name) is not None]
        if control:
            raise RunError(
                f"cache={cache} does not work with ControlNets and T2I adapters: the U-Net is called with "
                f"{', '.join(control)}; use cache=none"
            )

    return hook
