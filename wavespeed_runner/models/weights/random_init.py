"""Pipelines with seeded random weights: `init=tiny` and `init=random`.

`init=tiny` builds small shapes, `init=random` the published ones, with the same code. Parameters are created on the
meta device and filled one by one, so the full size needs no more memory than its weights. All random numbers come from
generators created here: the bits are the same every time, and the global random state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from .byte_tokenizer import BYTES
from .hub import get_diffusers_class

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

ComponentSpecs = dict[str, tuple[str, dict[str, Any]]]
"""Component -> (name of its class in diffusers or transformers, its configuration)."""

TINY_CLIP: dict[str, Any] = {
    "vocab_size": BYTES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "projection_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TINY_T5: dict[str, Any] = {"vocab_size": BYTES, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}


def clip_encoder(
    width: int, *, layers: int, heads: int, class_name: str = "CLIPTextModel", **more: Any
) -> tuple[str, dict[str, Any]]:
    """Spec of OpenAI's CLIP text encoder; width 768 with 12 layers and 12 heads is CLIP-L."""
    config: dict[str, Any] = {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "hidden_act": "quick_gelu",
    }
    return class_name, config | more


def t5_encoder(
    width: int, *, ff: int, layers: int, heads: int, class_name: str = "T5EncoderModel", **more: Any
) -> tuple[str, dict[str, Any]]:
    """Spec of the encoder of T5 1.1; width 4096 with 24 layers is XXL."""
    config: dict[str, Any] = {
        "vocab_size": 32128,
        "d_model": width,
        "d_kv": 64,
        "d_ff": ff,
        "num_layers": layers,
        "num_heads": heads,
        "feed_forward_proj": "gated-gelu",
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    return class_name, config | more


def override_configs(specs: ComponentSpecs, **changes: dict[str, Any]) -> ComponentSpecs:
    """The specs with some configuration values replaced. changes: component -> its new values."""
    return {name: (class_name, config | changes.get(name, {})) for name, (class_name, config) in specs.items()}


_ready: ContextVar[dict[str, nn.Module] | None] = ContextVar("ready", default=None)


@contextmanager
def use_ready_modules(modules: dict[str, nn.Module]) -> Iterator[None]:
    """Random pipelines that are built inside have these modules, by component, instead of new ones."""
    token = _ready.set(modules)
    try:
        yield
    finally:
        _ready.reset(token)


def build_random_pipeline(
    class_name: str,
    specs: ComponentSpecs,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    float32: tuple[str, ...] = (),
    **others: Any,
) -> DiffusionPipeline:
    """Builds a pipeline whose components have random weights.

    Args:
        class_name: of the pipeline, in diffusers.
        specs: its components. The position of a component is the seed of its weights.
        dtype: of the components, except those named in `float32`.
        device: where the weights are created; `meta` for shapes without memory.
        float32: components that stay in float32.
        others: components without weights (scheduler, tokenizers) and options of the pipeline class.
    """
    import torch

    ready = _ready.get() or {}
    modules = {
        name: ready[name]
        if name in ready
        else build_random_module(
            partial(_build_module, *spec),
            seed=seed,
            dtype=torch.float32 if name in float32 else dtype,
            device=device,
        )
        for seed, (name, spec) in enumerate(specs.items())
    }
    return get_diffusers_class(class_name)(**modules, **others)


def _build_module(name: str, config: dict[str, Any]) -> nn.Module:
    """Builds a module of diffusers, which takes its configuration as arguments, or of transformers, as one object.

    name: a class, or `folder.class` for classes that diffusers keeps in the folder of one pipeline.
    """
    import diffusers
    import transformers

    folder, _, class_name = name.rpartition(".")
    library = getattr(diffusers.pipelines, folder) if folder else diffusers
    if hasattr(library, class_name):
        return getattr(library, class_name)(**config)
    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**config))


def build_random_module(
    build: Callable[[], nn.Module], *, seed: int, dtype: torch.dtype, device: torch.device | str
) -> nn.Module:
    """The module that `build` returns, with seeded random weights, ready for inference.

    Matrices and kernels are normal with variance 1 / fan-in, so that activations keep their scale at any depth; norm
    weights are 1 and biases 0. The generator is the device's own, so bits agree only between runs on the same kind of
    device.
    """
    import torch
    import transformers.initialization  # noqa: F401  # must be imported before `no_init_weights` replaces torch's own
    from accelerate import init_empty_weights
    from diffusers.models.modeling_utils import no_init_weights

    # Parameters go to the meta device; buffers are computed by the module (rotary tables, running means).
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False), no_init_weights():
        module = build()
    tie_weights = getattr(module, "tie_weights", None)
    if tie_weights is not None:
        tie_weights()
    module = module.eval().requires_grad_(False)
    _allocate(module, dtype, device)
    if torch.device(device).type == "meta":
        return module
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() < 2 or parameter[0].numel() == 1:  # the latter: weights of a norm over (n, channels, ...)
            parameter.fill_(1)
        else:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return module


def _allocate(module: nn.Module, dtype: torch.dtype, device: torch.device | str) -> None:
    """Gives every parameter memory, tied ones only once, and moves the buffers."""
    import torch

    allocated: dict[int, nn.Parameter] = {}
    float32_names = list_float32_names(module, dtype)
    for path, part in module.named_modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                if id(parameter) not in allocated:
                    kept = float32_names.intersection((*path.split("."), name))
                    empty = torch.empty(parameter.shape, dtype=torch.float32 if kept else dtype, device=device)
                    allocated[id(parameter)] = torch.nn.Parameter(empty, requires_grad=False)
                part._parameters[name] = allocated[id(parameter)]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                # As in loading: buffers that a checkpoint holds are cast, tables computed from the config are not.
                cast = buffer.is_floating_point() and name not in part._non_persistent_buffers_set
                part._buffers[name] = buffer.to(device, dtype if cast else None)


def list_float32_names(module: nn.Module, dtype: torch.dtype) -> set[str]:
    """Names of submodules and parameters that loading keeps in float32.

    diffusers' models keep them always; models of transformers keep some only if the rest is float16.
    """
    import torch
    from transformers import PreTrainedModel

    names = set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    if not isinstance(module, PreTrainedModel) or dtype == torch.float16:
        names |= set(getattr(module, "_keep_in_fp32_modules", None) or ())
    return names
