"""Modules of diffusers and transformers built without weights, which are put in place afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def build_empty(module_class: Any, config: dict[str, Any]) -> nn.Module:
    """A module whose parameters are on the meta device, and whose other tensors are computed; ready for inference.

    Args:
        module_class: of diffusers or of transformers.
        config: its configuration, as in config.json.
    """
    import torch
    import transformers.initialization  # noqa: F401  # must be imported before `no_init_weights` replaces torch's own
    from accelerate import init_empty_weights
    from diffusers.models.modeling_utils import no_init_weights

    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False), no_init_weights():
        if hasattr(module_class, "from_config"):
            module: nn.Module = module_class.from_config(config)
        else:
            module = module_class(module_class.config_class.from_dict(config))
    _tie(module)
    return module.eval().requires_grad_(False)


def list_stored_buffers(module: nn.Module) -> list[str]:
    """Tensors beside the parameters of a diffusers module that its files have to hold: statistics of latents, tables.

    None of transformers' modules: theirs are tables that they compute, and not all releases save them.
    """
    from transformers import PreTrainedModel

    if isinstance(module, PreTrainedModel):
        return []
    stored = module.state_dict().keys()  # without those that are never saved
    return [name for name, tensor in module.named_buffers() if tensor.is_floating_point() and name in stored]


def assign(module: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Puts tensors in the places that their names say and ties tied parameters again; names of parameters still empty.

    tensors: by names that the module has.
    """
    import torch

    for name, tensor in tensors.items():
        path, _, attribute = name.rpartition(".")
        part = module.get_submodule(path)
        if attribute in part._buffers:
            part._buffers[attribute] = tensor
        else:
            part._parameters[attribute] = torch.nn.Parameter(tensor, requires_grad=False)
    _tie(module)
    return [name for name, parameter in module.named_parameters() if parameter.is_meta]


def _tie(module: Any) -> None:
    tie_weights = getattr(module, "tie_weights", None)
    if tie_weights is not None:
        tie_weights()
