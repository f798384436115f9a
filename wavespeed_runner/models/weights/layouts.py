"""How tensors of a single file become weights of a module: as they are, or by diffusers' converter of the class."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]
Convert = Callable[[State], State]

PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "first_stage_model.",
    "vae.",
    "transformer.",
    "unet.",
    "model.",
)
"""What programs put before the names of a denoiser's or autoencoder's tensors; diffusers has nothing there."""
CLIP_L, PROJECTION = "text_encoders.clip_l.", "text_projection.weight"
TEXT_MODEL = "text_model."
"""Before the names of CLIP's weights in files of older releases of transformers, and in modules with a projection."""


def find_prefix(names: Collection[str], known: Collection[str]) -> str:
    """What stands before the name of most tensors, and not before those that the module knows; empty for nothing."""
    for prefix in PREFIXES:
        if 2 * sum(name.startswith(prefix) for name in names) > len(names):
            return "" if any(name.startswith(prefix) for name in known) else prefix
    return ""


def list_layouts(module: Any, names: Collection[str], prefixes: Collection[str]) -> list[tuple[str, Convert]]:
    """(name of the layout, conversion) for each layout that a file's tensors might have, diffusers' own first.

    Args:
        module: what the tensors are weights of.
        names: of the tensors.
        prefixes: one of them may stand before the names, as the family says of this component.
    """
    from transformers import PreTrainedModel

    if isinstance(module, PreTrainedModel):
        return _list_text_layouts(module, names, prefixes)
    prefix = find_prefix(names, module.state_dict().keys())
    layouts: list[tuple[str, Convert]] = [("diffusers'", partial(_strip, prefix=prefix))]
    if convert := find_converter(module):
        layouts.append(("the original", lambda state: convert(_strip(state, prefix=prefix))))
    return layouts


def _strip(state: State, prefix: str) -> State:
    """Without those that do not have the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def find_converter(module: nn.Module) -> Convert | None:
    """The converter of diffusers from the original layout, without prefixes; None if it has none for this class."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY

    name = type(module).__name__
    if name not in SINGLE_FILE_LOADABLE_CLASSES:
        return None
    # What stands before all names that their converters read.
    with_prefix = {"UNet2DConditionModel": LDM_UNET_KEY, "AutoencoderKLLTXVideo": "vae."}
    function: Any = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]

    def convert(state: State) -> State:
        if name in with_prefix:
            state = {f"{with_prefix[name]}{key}": tensor for key, tensor in state.items()}
        converted = function(checkpoint=dict(state), config=dict(module.config))  # type: ignore[arg-type]
        # diffusers' looks some names up and takes nothing for what is missing.
        return {key: tensor for key, tensor in converted.items() if tensor is not None}

    return convert


def _list_text_layouts(module: Any, names: Collection[str], prefixes: Collection[str]) -> list[tuple[str, Convert]]:
    """Layouts of a text encoder: transformers' own, and OpenCLIP's below `model.`."""
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)), "")
    inner = f"{prefix}transformer."
    if not prefix or any(name.startswith(inner) for name in names):
        strip = partial(_strip, prefix=inner if prefix else "")
        add = _add_projection if prefix == CLIP_L else dict
        return [("transformers'", lambda state: _rename_text_model(module, add(strip(state))))]
    if any(name.startswith(f"{prefix}model.") for name in names):
        from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

        def convert(state: State) -> State:
            converted = convert_open_clip_checkpoint(module, dict(state), prefix=f"{prefix}model.")
            return _rename_text_model(module, converted)

        return [("OpenCLIP's", convert)]
    return [("transformers'", lambda state: _rename_text_model(module, _strip(state, prefix)))]


def _add_projection(state: State) -> State:
    """With a projection that changes nothing, as diffusers has it for files of Stable Diffusion 3."""
    import torch

    bias = state[f"{TEXT_MODEL}final_layer_norm.bias"]
    # On its device: in a trial without memory the width is whatever the file says.
    return {**state, PROJECTION: torch.eye(bias.shape[0], device=bias.device)}


def _rename_text_model(module: Any, state: State) -> State:
    """With or without `text_model.`, as the installed transformers has it."""
    heads = {name.partition(".")[0] for name in module.state_dict()}
    if "text_model" in heads:
        return {
            name if name.partition(".")[0] in heads else f"{TEXT_MODEL}{name}": tensor for name, tensor in state.items()
        }
    return {name.removeprefix(TEXT_MODEL): tensor for name, tensor in state.items()}
