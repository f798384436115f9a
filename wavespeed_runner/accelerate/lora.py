"""LoRA: loads, weights and fuses low-rank adapters with diffusers and PEFT.

diffusers drops much of what people's files hold, and only logs that, if anything. Here every tensor of a file is
accounted for: it reaches the model, or the file is refused and the tensor named.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..errors import RunError, format_error
from ..models.weights.traced import settle, trace
from .adapter_culprit import explain_failure
from .adapter_differences import add_differences, count_differences
from .adapter_file import read_settings
from .adapter_flaws import find_control, find_flaw, read_tensors
from .adapter_fused import split_fused
from .adapter_injection import inject, take_updates
from .adapter_layers import get_denoiser_name, list_modules
from .adapter_options import Lora, as_list, fetch_file, list_stand_ins, values_per_path
from .adapter_parts import DIFFERENCES
from .adapter_prefix import unify_prefix
from .adapter_scales import convert_scaled, multiply_scales
from .adapter_strength import find_change
from .lora_stand_in import build_stand_in

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def load_lora(pipe: DiffusionPipeline, adapters: Lora, stand_in: bool = False) -> None:
    """Loads LoRA files into the pipeline's modules, sets their weights and fuses them if asked to.

    Args:
        pipe: the pipeline.
        adapters: the options.
        stand_in: random updates take the place of files in the hub, for a tiny model.

    Raises:
        RunError: a file is not for this model.
    """
    paths, weights = as_list(adapters.path), _read_weights(adapters)
    files, components = values_per_path(adapters, "file"), values_per_path(adapters, "component")
    names: dict[str, float] = {}
    for index, (path, file, component) in enumerate(zip(paths, files, components, strict=True)):
        if stand_in and path in list_stand_ins(adapters):
            denoiser = component or get_denoiser_name(pipe)
            tensors, settings = build_stand_in(pipe.components[denoiser], denoiser, seed=index), None
        else:
            local_file = fetch_file(path, file or "pytorch_lora_weights.safetensors")
            tensors = read_tensors(f"adapters.path={path}", local_file)
            settings = read_settings(local_file)
        try:
            loaded = _load_file(pipe, tensors, settings, f"lora_{index}", weights[index], component)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {format_error(error)}") from error
        names |= dict.fromkeys(loaded, weights[index])
    _activate(pipe, names)
    if adapters.fuse:
        _fuse(pipe, list(names))


def _read_weights(adapters: Lora) -> list[float]:
    return [float(weight) for weight in values_per_path(adapters, "weight")]


def _load_file(
    pipe: DiffusionPipeline,
    tensors: dict[str, torch.Tensor],
    settings: dict[str, Any] | None,
    name: str,
    weight: float,
    component: str | None,
) -> list[str]:
    """Loads the tensors of one file. Returns the names of its adapters in PEFT."""
    denoiser = component or get_denoiser_name(pipe)
    renamed = unify_prefix(tensors, pipe, denoiser)
    try:
        return _load_tensors(pipe, renamed.tensors, settings, name, weight, denoiser)
    except RunError as error:
        raise RunError(renamed.restore(str(error))) from error


def _load_tensors(
    pipe: DiffusionPipeline,
    tensors: dict[str, torch.Tensor],
    settings: dict[str, Any] | None,
    name: str,
    weight: float,
    denoiser: str,
) -> list[str]:
    """Loads tensors, each by whom can apply it. Returns the names of its adapters in PEFT."""
    tensors = split_fused(pipe, tensors)
    shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
    module = pipe.components[denoiser]
    if flaw := find_flaw(shapes, weight) or find_control(tensors, module):
        raise RunError(flaw)
    differences = {key: tensors.pop(key) for key in list(tensors) if key.endswith(tuple(DIFFERENCES))}
    before = sum(count_differences(pipe).values())
    add_differences(pipe, differences, denoiser, weight)
    names = inject(pipe, take_updates(tensors, type(pipe)._lora_loadable_modules, settings or {}), name, denoiser)
    if tensors:
        _load_with_diffusers(pipe, tensors, settings, name, denoiser)
        names.append(name)
    if not names and sum(count_differences(pipe).values()) == before:
        raise RunError("it holds no tensors of a LoRA but zeros that have no place in this model; use another file")
    return names


def _load_with_diffusers(
    pipe: DiffusionPipeline, tensors: dict[str, torch.Tensor], settings: dict[str, Any] | None, name: str, denoiser: str
) -> None:
    """Loads what is left of a file with diffusers, and refuses it unless all of it has reached the model.

    diffusers ignores the scales of some layers where these differ from layer to layer, so they are multiplied in.
    """
    scaled = {} if settings else multiply_scales(tensors)
    given = trace(tensors, scaled)
    options = {"load_into_transformer_2": True} if denoiser == "transformer_2" else {}

    def load(part: dict[str, torch.Tensor], adapter: str) -> None:
        own = {down: alpha for down, alpha in scaled.items() if down in part}
        with (
            convert_scaled(pipe, settings, own),
            warnings.catch_warnings(),
        ):  # PEFT warns for every LoRA after the first
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            pipe.load_lora_weights(dict(part), adapter_name=adapter, use_safetensors=True, **options)

    try:
        load(given, name)
    except Exception as error:
        raise RunError(explain_failure(tensors, error, load)) from error
    placed = [(module, settle(module)) for module in list_modules(pipe).values()]
    reached = frozenset[str]().union(*(sources for _, found in placed for sources in found.values()))
    lost = [key for key in tensors if key not in reached]
    if lost:
        raise RunError(
            f"{len(lost)} of its {len(tensors)} tensors match nothing in the model: {_list_some(lost)}; "
            "use a file for this model"
        )
    if settings is None and (change := find_change(tensors, placed, name)):
        raise RunError(change)


def _list_some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _activate(pipe: DiffusionPipeline, weights: dict[str, float]) -> None:
    """Sets the weights of adapters in every component. weights: adapter -> weight."""
    from diffusers.utils.peft_utils import set_weights_and_activate_adapters

    for module in list_modules(pipe).values():
        set_weights_and_activate_adapters(module, list(weights), list(weights.values()))


def _fuse(pipe: DiffusionPipeline, names: list[str]) -> None:
    """Adds the adapters to the weights and removes their layers.

    Raises:
        RunError: a weight would not be a finite number.
    """
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    for component, module in list_modules(pipe).items():
        layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
        for layer in layers:
            try:
                layer.merge(safe_merge=True, adapter_names=names)
            except ValueError as error:
                raise RunError(f"adapters.fuse=true: {component}: {error}; use adapters.fuse=false") from error
        if layers:
            recurse_remove_peft_layers(module)
    if getattr(getattr(pipe, "transformer", None), "_transformer_norm_layers", None):
        pipe.transformer._transformer_norm_layers = None  # or unloading would bring the old norms back
    pipe.unload_lora_weights()


def _count_layers(pipe: DiffusionPipeline) -> dict[str, int]:
    """Component -> number of its layers that have an adapter; only components with any."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = list_modules(pipe).items()
    counts = {name: sum(isinstance(layer, BaseTunerLayer) for layer in module.modules()) for name, module in modules}
    return {name: count for name, count in counts.items() if count}


def collect_evidence(pipe: DiffusionPipeline, adapters: Lora) -> dict[str, Any]:
    """Evidence for the record: the weights of the LoRAs, and how many layers of each component have them."""
    evidence = {"lora": _read_weights(adapters), "fused": adapters.fuse, "layers": _count_layers(pipe)}
    added = count_differences(pipe)
    return {**evidence, "differences": added} if added else evidence
