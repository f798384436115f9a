"""Reads a checkpoint that is one file: a denoiser alone, or several components in the original layout.

GGUF files hold a quantized denoiser, whose layers convert their weights back at each call:
https://huggingface.co/docs/diffusers/quantization/gguf.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ...config.schema import ModelConfig
from ...errors import RunError, make_printable
from ...inputs.gguf_header import check_gguf_header
from ..family import Family
from .empty_module import build_empty
from .file_flags import FLAGS
from .folder_gate import list_components, read_config
from .hub import explain_loading_errors, get_diffusers_class, quiet_loading
from .layouts import find_converter
from .placement import drop_needless, place, refuse_misfit, refuse_unplaced
from .scales import Header, find_scales, read_headers
from .tensors import Stored, load_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

OTHERS = ("vae.", "first_stage_model.", "text_encoders.", "conditioner.", "cond_stage_model.", "audio_vae.", "vocoder.")
"""What stands before the names of other components in files that hold a whole model."""


def load_single_file(
    family: Family,
    model: ModelConfig,
    path: Path,
    repo: str,
    configs: Path,
    dtype: torch.dtype,
    ready: dict[str, nn.Module],
) -> dict[str, nn.Module]:
    """Component -> module, for every component that the file holds, and those that are ready.

    Args:
        family: its `single_file_prefixes` tell which components the file holds.
        model: its configuration.
        path: the file.
        repo: the repository that supplies the other components, as the user named it; for messages.
        configs: the folder of its configurations, after `check_folder`. They give the shapes of the modules, and the
            names of the classes that diffusers imports.
        dtype: of the modules.
        ready: components that are loaded already; they are not read from the file.

    Raises:
        RunError: the file holds no denoiser, a component of it is incomplete, a tensor of it has no place, or it cannot
            be read.
        ConfigError: a tensor of it is stored in a way that is not read.
    """
    import torch

    where, others = f"model.repo={model.repo}", f"model.components={repo}"
    index = list_components(others, configs)
    if family.denoiser not in index:
        raise RunError(f"{others}: its model_index.json names no {family.denoiser}; give another")
    if path.suffix.lower() == ".gguf":
        if family.denoiser in ready:
            return ready
        return {**ready, family.denoiser: _load_gguf(family, model, path, repo, configs, dtype)}
    tensors, about = read_headers([path])
    file = Stored(where, [path], find_scales(where, tensors, about), others)
    parts = _split(family, where, {name: t for name, t in tensors.items() if name not in file.scales.all_names})
    modules = dict(ready)
    with explain_loading_errors(model.repo), quiet_loading():
        for name, shapes in parts.items():
            if name not in ready:
                module = _build(name, others, configs)
                if name == family.denoiser and not hasattr(type(module), "from_single_file"):
                    kind = type(module).__name__
                    raise RunError(f"{where}: diffusers reads no single file of a {kind}; give a diffusers folder")
                prefixes = family.single_file_prefixes.get(name, ())
                part_dtype = torch.float32 if name in family.float32_components else dtype
                modules[name] = load_tensors(file, name, module, shapes, part_dtype, prefixes)
    return modules


def _split(family: Family, where: str, tensors: Header) -> dict[str, dict[str, list[int]]]:
    """Component -> its tensors and their shapes: by prefixes, or all are the denoiser's.

    Raises:
        RunError: there is no denoiser among them, or a tensor belongs to no component.
    """
    # Other families have no scheduler that reads flags: there they belong to nothing.
    flags = FLAGS if family.schedule == "diffusion" else ()
    names = [name for name in drop_needless(tensors) if name not in flags]
    owners = {
        name: component
        for component, prefixes in family.single_file_prefixes.items()
        for name in names
        if name.startswith(prefixes)
    }
    held = set(owners.values())
    if held and family.denoiser not in held:
        _refuse_no_denoiser(family, where, held, [name for name in names if name not in owners])
    if not family.single_file_prefixes and (other := next((name for name in names if name.startswith(OTHERS)), None)):
        raise RunError(
            make_printable(
                f"{where}: it holds more than the {family.denoiser}, such as {other}, and single files of this model "
                f"are read only of the {family.denoiser} alone; give such a file, or a diffusers folder"
            )
        )
    if held <= {family.denoiser}:
        return {family.denoiser: {name: tensors[name]["shape"] for name in names}}
    refuse_unplaced(where, [name for name in names if name not in owners], ", ".join(sorted(held)))
    return {
        component: {name: tensors[name]["shape"] for name in names if owners[name] == component}
        for component in sorted(held)
    }


def _refuse_no_denoiser(family: Family, where: str, held: set[str], others: list[str]) -> NoReturn:
    """Raises `RunError` for a file with parts of a whole model, of which none is named as the denoiser's are."""
    text = f"it holds {', '.join(sorted(held))} and no {family.denoiser}"
    if others:
        starts = " or ".join(family.single_file_prefixes[family.denoiser])
        text += (
            f", whose tensors begin with {starts} beside theirs: {len(others)} do not, the first is {others[0]}; give "
            f"a file of a whole model, or of the {family.denoiser} alone"
        )
    raise RunError(make_printable(f"{where}: {text}"))


def _build(component: str, where: str, configs: Path) -> nn.Module:
    """An empty component, as the folder that completes the file says. where: `key=value` of the folder."""
    index = list_components(where, configs)
    if component not in index:
        raise RunError(f"{where}: its model_index.json names no {component}, which the single file holds; give another")
    library, class_name = index[component]
    if library == "transformers":
        import transformers

        module_class = getattr(transformers, class_name)
    else:
        module_class = get_diffusers_class(class_name)
    with explain_loading_errors(where.partition("=")[2], key="model.components"):
        return build_empty(module_class, read_config(where, configs / component / "config.json"))


def _load_gguf(
    family: Family, model: ModelConfig, path: Path, repo: str, configs: Path, dtype: torch.dtype
) -> nn.Module:
    """The denoiser from a GGUF file, as it is stored."""
    from diffusers import GGUFQuantizationConfig
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    where, others = f"model.repo={model.repo}", f"model.components={repo}"
    module: Any = _build(family.denoiser, others, configs)
    if find_converter(module) is None:
        raise RunError(
            f"{where}: diffusers reads no GGUF file of a {type(module).__name__}; give a diffusers "
            "folder, and quant=int8_wo for small weights"
        )
    with explain_loading_errors(model.repo), quiet_loading():
        placement = place(module, check_gguf_header(path))
        refuse_misfit(where, family.denoiser, module, placement, others)
        state = placement.convert(load_gguf_checkpoint(str(path)))
        # Complete, and by diffusers' names: so it is not converted once more.
        buffers = {name: tensor for name, tensor in module.state_dict().items() if not tensor.is_meta}
        return type(module).from_single_file(
            {**buffers, **{name: state[name] for name in placement.sources}},
            config=str(configs),
            subfolder=family.denoiser,
            dtype=dtype,
            quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
            local_files_only=True,
        )
