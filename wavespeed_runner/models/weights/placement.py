"""Says which weight each tensor of a file becomes, before anything is loaded: a tensor without a place is refused.

Conversions between layouts rename tensors, cut them up and join them. So they run once on tensors that have a shape and
no memory, and that remember which tensors of the file they were made of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import RunError, format_error, make_printable
from .empty_module import list_stored_buffers
from .layouts import TEXT_MODEL, Convert, State, list_layouts
from .traced import StuckError, read_sources, trace

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, "list[int]"]

FILLED = 8
"""Most tensors that a file lacks and that are stood in for, to find those without a place."""
SPARE = 1000
"""Tensors that a file may have beside two for each weight of a module."""
NEEDLESS = re.compile(
    r"model_ema\..*|(sqrt_|log_|posterior_|\w*alphas_cumprod|betas)\w*|logvar|denoiser\.sigmas|"
    r"first_stage_model\.(loss|model_ema)\..*|(.*\.)?position_ids"
)
"""Tensors beside the weights of files in the layout of CompVis' and Stability AI's code: a second, averaged copy of the
weights, tables that the schedulers compute, and what only training needs. `position_ids` counts from 0."""
NOT_USED = re.compile(r"(.*\.)?(logit_scale|text_projection(\.weight)?)|.*\.model\.transformer\.resblocks\.23\..*")
"""What a text encoder of Stable Diffusion has and the pipeline does not use: it conditions on a hidden layer, without
the projection, in 2.1 on the last but one of 24."""

DROPPED = {
    "Lumina2Transformer2DModel": re.compile(r"(.*\.)?norm_final\.weight"),
    "ZImageTransformer2DModel": re.compile(r"(.*\.)?norm_final\.weight"),
    "SanaTransformer2DModel": re.compile(r"(.*\.)?(pos_embed|y_embedder\.y_embedding)"),
    "AutoencoderKLLTXVideo": re.compile(r"(.*\.)?per_channel_statistics\.(channel|mean-of-stds.*)"),
}
"""Class -> what its authors' files have and their code does not use to generate, so diffusers' converter drops it: a
norm, a table of positions that is computed, the caption of samples whose caption training left out, statistics that do
not normalise latents."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the tensors of a file go in a module."""

    layout: str = ""
    convert: Convert = dict
    sources: dict[str, frozenset[str]] = field(default_factory=dict)
    """Weight of the module -> tensors of the file that it is made of."""
    unplaced: list[str] = field(default_factory=list)
    """Tensors that end up nowhere."""
    missing: list[str] = field(default_factory=list)
    """Weights that no tensor becomes."""
    misshapen: list[str] = field(default_factory=list)
    """Sentences about weights of other shapes."""
    error: str = ""
    """Why the file does not have this layout."""
    stuck: str = ""
    """A tensor that the conversion could not cut or join, with its shape."""
    faults: float
    """How far this is from a layout that fits; 0 for one that does, but for shapes."""


def place(module: nn.Module, shapes: Shapes, prefixes: Collection[str] = ()) -> Placement:
    """Finds the layout that fits best.

    Args:
        module: as `build_empty` returns it.
        shapes: tensor -> shape, of those that belong to this module.
        prefixes: see `list_layouts`.
    """
    # Some converters look for each name among all.
    if len(shapes) > (most := 2 * len(module.state_dict()) + SPARE):
        error = f"it holds {len(shapes)} for this component, and at most {most} are read"
        return Placement(unplaced=list(shapes), error=error, faults=float("inf"))
    best: Placement | None = None
    for layout, convert in list_layouts(module, shapes, prefixes):
        found = _trace(module, layout, convert, shapes)
        if best is None or found.faults < best.faults:
            best = found
        if not best.faults:
            break
    assert best is not None
    return best


def _trace(module: nn.Module, layout: str, convert: Convert, shapes: Shapes) -> Placement:
    """Runs a conversion on shapes alone."""
    import torch
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY

    lacking: dict[str, list[int]] = {}
    while True:
        given = {**shapes, **lacking}
        traced: State = trace({name: torch.empty(shape, device="meta") for name, shape in given.items()})
        try:
            with torch.no_grad():
                converted = convert(traced)
            break
        except KeyError as error:
            # Converters stop at the first name that is not there: so this fits better than a layout of other names.
            lacks = str(error.args[0]).removeprefix(LDM_UNET_KEY)
            shape = _find_shape(lacks, shapes)
            if lacks in lacking or shape is None or len(lacking) >= FILLED:
                return _describe_lack(layout, [*dict.fromkeys([*lacking, lacks])], shapes)
            lacking[lacks] = shape  # to see what else is wrong with the file
        except StuckError as error:
            if lacking:  # what stands in for them does not fit
                return _describe_lack(layout, [*lacking], shapes)
            stuck = next(
                (f"{name} of the shape {shapes[name]}" for name in sorted(error.sources) if name in shapes), ""
            )
            return Placement(layout=layout, error=format_error(error), stuck=stuck, faults=len(shapes))
        except Exception as error:  # of diffusers, for files of anything
            return Placement(layout=layout, error=format_error(error), faults=float("inf"))
    sources = {name: read_sources(tensor) for name, tensor in converted.items()}
    wanted = module.state_dict()
    ignored = getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()
    used = [name for name in sources if name in wanted or any(re.search(pattern, name) for pattern in ignored)]
    reached = frozenset().union(*(sources[name] for name in used))
    unplaced = [name for name in shapes if name not in reached and not _is_unused(name, module)]
    missing = [*lacking] or _list_missing(module, sources)
    return Placement(
        layout=layout,
        convert=convert,
        sources={name: sources[name] for name in used if name in wanted},
        unplaced=unplaced,
        missing=missing,
        misshapen=[
            f"{name} has the shape {list(converted[name].shape)} and needs {list(wanted[name].shape)}"
            for name in used
            if name in wanted and converted[name].shape != wanted[name].shape
        ],
        error=f"it lacks {missing[0]}" if lacking else "",
        faults=len(unplaced) + len(missing),
    )


def _describe_lack(layout: str, missing: list[str], shapes: Shapes) -> Placement:
    """A file whose conversion stops for what is missing."""
    return Placement(layout=layout, missing=missing, error=f"it lacks {missing[0]}", faults=len(shapes))


def _find_shape(name: str, shapes: Shapes) -> list[int] | None:
    """The shape of a tensor of the same name in another block; None if there is none."""
    pattern = re.compile(r"\.\d+\.".join(map(re.escape, re.split(r"\.\d+\.", name))))
    return next((list(shape) for other, shape in shapes.items() if pattern.fullmatch(other)), None)


def _list_missing(module: nn.Module, given: Collection[str]) -> list[str]:
    """Parameters that are not given, and that are not tied to one that is; and buffers that files hold."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    missing = [same[0] for same in names.values() if not any(name in given for name in same)]
    return missing + [name for name in list_stored_buffers(module) if name not in given]


def drop_needless(names: Iterable[str]) -> list[str]:
    """The tensors of a file that ought to have a place."""
    return [name for name in names if not NEEDLESS.fullmatch(name)]


def refuse_unplaced(where: str, names: list[str], held: str) -> None:
    """Raises `RunError` for tensors of a file that belong to none of the components it holds. held: their names."""
    if names:
        raise RunError(
            make_printable(
                f"{where}: {len(names)} of its tensors belong to none of {held}, the first is {names[0]}; they would "
                "be left out, and the images would not be this file's: choose the model of this file (model=...), give "
                "a diffusers folder, or a file without them"
            )
        )


def refuse_misfit(where: str, component: str, module: nn.Module, placement: Placement, source: str) -> None:
    """Refuses a file that does not fit the module.

    Args:
        where: `key=value` of the file, for messages.
        component: what the module is in the pipeline.
        module: as `build_empty` returns it.
        placement: as `place` returned it.
        source: `key=value` of the folder that says which shapes weights have.

    Raises:
        RunError: names a tensor that has no place, is missing, or has another shape, and the way out.
    """
    kind = type(module).__name__
    choose = "choose the model of this file (model=...)"
    other = f"{choose}, or try the configuration with model.init=tiny"
    reason = ""
    if placement.stuck:
        reason = (
            f"'{component}': {placement.stuck} cannot be converted from {placement.layout} layout of a {kind}, which "
            f"diffusers reads in the published widths alone ({placement.error}); give it as a diffusers folder "
            f"(model.repo=FOLDER) or a file in diffusers' layout, or {choose}"
        )
    elif placement.error and placement.missing:
        reason = (
            f"'{component}' is incomplete, in {placement.layout} layout of a {kind} it lacks {placement.missing[0]}"
            f"{_name_strays(placement)}; download it again, or {other}"
        )
    elif placement.error or (len(placement.unplaced) > 1 and len(placement.missing) > len(placement.sources)):
        first = (placement.unplaced or ["none"])[0]
        reason = (
            f"its tensors, such as {first}, are not those of a {kind}, neither in diffusers' layout nor in the "
            f"original one{f' ({placement.error})' if placement.error else ''}; {other}"
        )
    elif placement.missing:
        reason = (
            f"'{component}' is incomplete, {len(placement.missing)} of its weights are missing, the first is "
            f"{placement.missing[0]}{_name_strays(placement)}; download it again, or {other}"
        )
    elif placement.unplaced:
        reason = (
            f"{len(placement.unplaced)} of its tensors have no place in '{component}' ({kind}), the first is "
            f"{placement.unplaced[0]}; they would be left out, and the images would not be this file's: {other}"
        )
    elif placement.misshapen:
        reason = f"'{component}': {placement.misshapen[0]}, as {source} says; give those of this file, or {other}"
    if reason:
        raise RunError(make_printable(f"{where}: {reason}"))


def _name_strays(placement: Placement) -> str:
    """`, and 2 of its tensors have no place, the first is x`; empty if all have one."""
    strays = placement.unplaced
    return f", and {len(strays)} of its tensors have no place, the first is {strays[0]}" if strays else ""


def _is_unused(name: str, module: nn.Module) -> bool:
    """True for a part beside the text encoder that this class does not have, and for what the authors do not use."""
    from transformers import PreTrainedModel

    if (dropped := DROPPED.get(type(module).__name__)) is not None:
        return dropped.fullmatch(name) is not None
    return isinstance(module, PreTrainedModel) and NOT_USED.fullmatch(name.removeprefix(TEXT_MODEL)) is not None
