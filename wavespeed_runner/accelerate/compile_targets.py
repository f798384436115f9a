"""Which modules of a pipeline are compiled: the repeated blocks of its denoisers, its decoder, its text encoders.

diffusers names the classes of repeated blocks in `_repeated_blocks`, but not for every denoiser (SD3, HiDream,
CogVideoX, Lumina 2, PixArt and Sana have none), so the lists are those of `Family.blocks`, where strategies attach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..models.family import Family, UNetBlocks
from .compile_options import CompileOptions, CompileTarget
from .memory import denoiser_names

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

UNET_BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")
"""Classes of a U-Net's repeated blocks. A strategy runs a U-Net layer by layer, and each layer is made of these."""


def list_targets(pipe: DiffusionPipeline, family: Family, options: CompileOptions) -> dict[str, list[nn.Module]]:
    """The modules whose `forward` is compiled, by the component of the pipeline that holds them.

    Raises:
        RunError: the pipeline has nothing of what the options name.
    """
    chosen: dict[str, list[nn.Module]] = {}
    for target in options.target:
        found = _list_components(pipe, target)
        if not found:
            raise RunError(
                f"compile.target={target.value}: {type(pipe).__name__} has none that is known; leave it out, or use "
                "compile=none"
            )
        for name, module in found.items():
            if not options.regional:
                chosen[name] = [module]
            elif target is CompileTarget.denoiser:
                chosen[name] = list_blocks(module, family)
            else:
                chosen[name] = _list_repeated(module) or [module]
    return chosen


def count_classes(modules: Sequence[nn.Module]) -> dict[str, int]:
    """How many modules there are of each class."""
    return dict(Counter(type(module).__name__ for module in modules))


def list_blocks(denoiser: Any, family: Family) -> list[nn.Module]:
    """The repeated blocks of a denoiser.

    Raises:
        RunError: they are not known.
    """
    if isinstance(family.blocks, UNetBlocks):
        return [module for module in denoiser.modules() if type(module).__name__ in UNET_BLOCKS]
    if family.blocks is not None:
        return [block for block_list in family.blocks.lists for block in getattr(denoiser, block_list.name)]
    classes = getattr(denoiser, "_repeated_blocks", None) or ()
    blocks = [module for module in denoiser.modules() if type(module).__name__ in classes]
    if not blocks:
        raise RunError(
            f"compile.regional=true: the repeated blocks of {type(denoiser).__name__} are not known, neither here nor "
            "in diffusers; use compile.regional=false"
        )
    return blocks


def _list_components(pipe: DiffusionPipeline, target: CompileTarget) -> dict[str, Any]:
    """The pipeline's modules that a target means, by name; of the VAE its decoder."""
    import torch

    if target is CompileTarget.denoiser:
        return {name: getattr(pipe, name) for name in denoiser_names(pipe)}
    if target is CompileTarget.vae:
        decoder = getattr(getattr(pipe, "vae", None), "decoder", None)
        return {"vae.decoder": decoder} if decoder is not None else {}
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: module for name, module in modules.items() if name.startswith("text_encoder")}


def _list_repeated(module: nn.Module) -> list[nn.Module]:
    """The elements of the outermost lists, inside a module, whose elements are all of one class."""
    return [element for elements in _find_lists(module) for element in elements]


def _find_lists(module: nn.Module) -> Iterator[list[nn.Module]]:
    import torch

    for child in module.children():
        elements = list(child) if isinstance(child, torch.nn.ModuleList) else []
        if elements and len({type(element) for element in elements}) == 1:
            yield elements
        else:
            yield from _find_lists(child)
