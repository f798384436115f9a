"""Puts the engine on a U-Net: what lies between its first and its last convolution is walked layer by layer.

A layer ends where a skip connection does: a resnet with its attention, or a downsampler, leaves one on the way down; a
resnet with its attention, and the upsampler behind it, takes one on the way up. So a U-Net with D layers on the way
down has D + 1 on the way up, the last of which takes what the first convolution gave:

    conv_in  down 1 ... down D  middle  up D+1 ... up 1  conv_norm_out

The denoiser's own code does all the rest. For one generation its two lists of blocks are swapped for lists that hold
the same blocks and yield none, and the middle block for one that walks the layers; they hold every module, so that
whatever goes over the denoiser's modules (offloading, LoRA scales) finds them. Nothing is patched: not a class, not a
forward, not a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from ..engine import Engine, Pending
from ..interfaces import Seen

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
"""diffusers' classes of blocks that are walked as `layers` says."""

ADDED = ("down_block_additional_residuals", "mid_block_additional_residual", "down_intrablock_additional_residuals")
"""What ControlNets and T2I adapters hand to a U-Net: it would be added outside of the walk."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    way: str
    """`down` leaves a skip connection, `up` takes one, `middle` neither."""
    resnet: Any = None
    """Of `middle` the whole block; None for a downsampler."""
    attention: Any = None
    resamplers: tuple[Any, ...] = ()
    """What changes height and width: the downsampler, or the upsampler behind the last layer of a block."""


def layers(unet: Any) -> list[Layer]:
    """All layers of a `UNet2DConditionModel`, in the order in which they run.

    Raises:
        RunError: it has a block that is put together in another way.
    """
    for block in (*unet.down_blocks, *unet.up_blocks):
        if type(block).__name__ not in BLOCKS:
            raise RunError(
                f"its block {type(block).__name__} cannot be walked, only {', '.join(BLOCKS)} can; cache=none"
            )
    down = [layer for block in unet.down_blocks for layer in _down(block)]
    middle = [Layer(way="middle", resnet=unet.mid_block)] if unet.mid_block is not None else []
    return down + middle + [layer for block in unet.up_blocks for layer in _up(block)]


def _down(block: Any) -> Iterator[Layer]:
    for resnet, attention in _pairs(block):
        yield Layer(way="down", resnet=resnet, attention=attention)
    if block.downsamplers is not None:
        yield Layer(way="down", resamplers=tuple(block.downsamplers))


def _up(block: Any) -> Iterator[Layer]:
    *pairs, (resnet, attention) = _pairs(block)
    for first, second in pairs:
        yield Layer(way="up", resnet=first, attention=second)
    yield Layer(way="up", resnet=resnet, attention=attention, resamplers=tuple(block.upsamplers or ()))


def _pairs(block: Any) -> list[tuple[Any, Any]]:
    return list(zip(block.resnets, getattr(block, "attentions", [None] * len(block.resnets)), strict=True))


def always(*, head: int, depth: int | None) -> int:
    """How many layers run at every step."""
    return head if depth is None else 2 * depth + 1


@contextmanager
def attached_to_unet(engine: Engine, unet: Any, *, head: int, depth: int | None) -> Iterator[None]:
    """The engine on one U-Net; its own blocks are back afterwards.

    Args:
        head: without depth: so many layers run before the decision, and all others may be skipped. What stands in for
            them is a residual, as First Block Cache has it.
        depth: so many layers on the way down, and one more on the way up, always run; what stands in for those between
            them is what they gave (DeepCache, https://arxiv.org/abs/2312.00858, where it is the branch).

    Raises:
        RunError: a block, or something that is switched on in the U-Net, cannot be walked; or there are no such layers.
    """
    walk = Walk(engine, unet, head=head, depth=depth)
    _refuse(engine.cache.name, unet, walk)
    down, middle, up = unet.down_blocks, unet.mid_block, unet.up_blocks
    handle = unet.register_forward_pre_hook(_refuse_added(engine.cache.name), with_kwargs=True)
    try:
        unet.down_blocks, unet.mid_block, unet.up_blocks = _unwalked(down), _walking(walk, middle), _unwalked(up)
        yield
    finally:
        handle.remove()
        unet.down_blocks, unet.mid_block, unet.up_blocks = down, middle, up


class Walk:
    """Runs the layers of one U-Net: the first `start` always, those up to `end` unless the engine skips them, the rest
    always."""

    def __init__(self, engine: Engine, unet: Any, *, head: int, depth: int | None) -> None:
        self.engine, self.unet, self.depth = engine, unet, depth
        self.layers = layers(unet)
        self.start = head if depth is None else depth
        self.end = len(self.layers) - (0 if depth is None else depth + 1)

    def __call__(self, sample: Tensor, temb: Tensor, arguments: dict[str, Any]) -> Tensor:
        """Hidden states behind the first convolution -> those before the last one, of the same shape.

        arguments: what diffusers hands to attentions, beside `temb`.
        """
        skips = [sample]
        factor = 2**self.unet.num_upsamplers
        # diffusers' own rule: only these sizes are not simply doubled on the way up.
        uneven = any(side % factor for side in sample.shape[-2:])

        def run(some: list[Layer], x: Tensor) -> Tensor:
            for layer in some:
                x = self._layer(layer, x, skips, uneven, temb, arguments)
            return x

        after = run(self.layers[: self.start], sample)
        outcome = self._decide(sample, after, {"temb": temb, **arguments})
        if isinstance(outcome, Pending):
            gave = run(self.layers[self.start : self.end], after)
            outcome = self.engine.computed(outcome, {"hidden_states": gave})
        return run(self.layers[self.end :], outcome["hidden_states"])

    def _decide(self, before: Tensor, after: Tensor, arguments: dict[str, Any]) -> dict[str, Tensor] | Pending:
        # A `UNet2DConditionModel` has no cache contexts (it is no `CacheMixin`): the order of calls tells its branches.
        branch = self.engine.branch(None, self.unet)
        seen = Seen(
            at=self.engine.at(branch),
            before={"hidden_states": before},
            after={"hidden_states": after},
            latents=self.engine.latents,
            first_block=self.layers[0].resnet,
            arguments=arguments,
            flow=self.engine.run.flow,
        )
        return self.engine.decide(branch, seen, {"hidden_states": after if self.depth is None else None})

    def _layer(
        self, layer: Layer, x: Tensor, skips: list[Tensor], uneven: bool, temb: Tensor, arguments: dict[str, Any]
    ) -> Tensor:
        if layer.way == "middle":
            crossed = getattr(layer.resnet, "has_cross_attention", False)
            result: Tensor = layer.resnet(x, temb, **(arguments if crossed else {}))
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


def _walking(walk: Walk, middle: torch.nn.Module | None) -> torch.nn.Module:
    """Stands for the middle block. Defined here because torch is imported late."""
    import torch

    class Walking(torch.nn.Module):
        has_cross_attention = True

        def __init__(self) -> None:
            super().__init__()
            self.middle = middle

        def forward(self, hidden_states: Tensor, temb: Tensor, **arguments: Any) -> Tensor:
            return walk(hidden_states, temb, arguments)

    return Walking()


def _unwalked(blocks: torch.nn.ModuleList) -> torch.nn.ModuleList:
    """A list of the same blocks that yields none of them."""
    import torch

    class Unwalked(torch.nn.ModuleList):
        def __iter__(self) -> Iterator[torch.nn.Module]:
            return iter(())

    return Unwalked(blocks)


def _refuse(cache: str, unet: Any, walk: Walk) -> None:
    """Raises `RunError` for what the walk would leave out, or has no layers for."""
    blocks = (*unet.down_blocks, *unet.up_blocks)
    wide = len(unet.down_blocks[0].resnets)
    if walk.depth is None and walk.start > wide:
        raise RunError(
            f"cache={cache}: cache.signal.blocks={walk.start}: only the first {wide} layers of this U-Net have the "
            f"shape of its last one, to which their residual is added; at most cache.signal.blocks={wide}"
        )
    if any(all(getattr(block, name, None) for name in ("s1", "s2", "b1", "b2")) for block in blocks):
        raise RunError(
            f"cache={cache}: FreeU is on, which changes layers from outside; pipe.disable_freeu(), or cache=none"
        )
    registries = (getattr(block, "_diffusers_hook", None) for block in blocks)
    if any("group_offloading" in registry.hooks for registry in registries if registry is not None):
        raise RunError(
            f"cache={cache}: memory.group_type=block_level fetches the weights of a U-Net's block as it is called, and "
            "here layers are called one by one; memory.group_type=leaf_level"
        )


def _refuse_added(cache: str) -> Any:
    def hook(unet: Any, args: Any, kwargs: dict[str, Any]) -> None:
        names = list(signature(type(unet).forward).parameters)[1:]
        given = [name for name in ADDED if {**dict(zip(names, args, strict=False)), **kwargs}.get(name) is not None]
        if given:
            raise RunError(
                f"cache={cache}: the U-Net is called with {', '.join(given)}, as ControlNets and T2I adapters "
                "do; cache=none"
            )

    return hook
