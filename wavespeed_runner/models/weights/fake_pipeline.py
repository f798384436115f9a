"""A pipeline whose weights have shapes and no memory, to find out what running it would need.

Pipelines, schedulers and stages run as they are, with real latents and embeddings; only inside a module's own call do
tensors become fake ones, https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html. So a model of any size
can be followed on any machine, and no code of a family needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.schema import Init, ModelConfig
from ..family import Family
from .checkpoint import find_local_path
from .folder_gate import check_folder, list_components
from .hub import get_diffusers_class, quiet_loading
from .pretrained import find_component_source, list_candidates
from .random_init import build_random_module
from .trial import refuse_unbuildable

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

METHODS = ("forward", "encode", "decode")
"""What of a module pipelines call."""
STATISTICS = 4096
"""Numbers in a buffer that pipelines may read: a mean or a deviation for each channel of latents."""


def build_shapes(family: Family, model: ModelConfig) -> tuple[DiffusionPipeline, str]:
    """A pipeline on the meta device, and in words what its shapes are those of.

    Nothing is loaded: shapes come from the configurations in a local folder, or from the family's published ones.
    """
    import torch

    dtype = getattr(torch, model.dtype.value)
    source = find_component_source(family, model) or model.repo if model.init is Init.pretrained else ""
    folder = find_local_path(source) if source else None
    if folder is not None and (folder / "model_index.json").is_file():
        return _build_from_folder(family, source, folder, dtype), f"the configurations in {source}"
    init = Init.random if model.init is Init.pretrained else model.init
    pipe = family.build(replace(model, init=init), dtype, "meta")
    return pipe, f"init={init.value}" if model.init is init else f"the published {model.name}, not {model.repo} itself"


def _build_from_folder(family: Family, source: str, folder: Path, dtype: torch.dtype) -> DiffusionPipeline:
    import torch

    where = f"model.repo={source}"
    check_folder(where, folder)
    refuse_unbuildable(where, list_candidates(where, folder, without=family.pipeline_options))
    modules = {
        name: module
        for name, (library, class_name) in list_components(str(folder), folder).items()
        if (build := _find_builder(folder / name, library, class_name))
        for module in [
            build_random_module(
                build, seed=0, dtype=torch.float32 if name in family.float32_components else dtype, device="meta"
            )
        ]
    }
    pipeline_class = get_diffusers_class(next(iter(family.tasks.values())))
    options = {**family.pipeline_options, **modules, "trust_remote_code": False}
    with quiet_loading():
        return pipeline_class.from_pretrained(str(folder), use_safetensors=True, **options)


def _find_builder(folder: Path, library: str, class_name: str) -> Callable[[], nn.Module] | None:
    """Builds a component with weights from its configuration; None for tokenizers, schedulers and the like."""
    import torch
    import transformers

    if library == "transformers":
        model_class = getattr(transformers, class_name)
        if not issubclass(model_class, torch.nn.Module):
            return None
        return partial(model_class, model_class.config_class.from_pretrained(str(folder)))
    component = get_diffusers_class(class_name)
    if not issubclass(component, torch.nn.Module):
        return None
    return partial(component.from_config, component.load_config(str(folder)))


@contextmanager
def run_fake(pipe: DiffusionPipeline, inside: Callable[[str], Any], most_calls: int) -> Iterator[Any]:
    """Makes a meta pipeline callable: within the context its modules take real tensors and return zeros.

    Args:
        pipe: as from `build_shapes`; its weights are fake afterwards.
        inside: name of a component -> context in which its calls run.
        most_calls: further calls of a module return zeros at once: every step needs as much as the ones before.

    Yields:
        The `FakeTensorMode`, for whoever changes the modules meanwhile.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    fake: dict[int, Any] = {}
    for module in modules.values():
        _make_fake(module, mode, fake)
    for name, module in modules.items():
        module.to = partial(_cast, module, mode, partial(inside, name))  # type: ignore[method-assign]
        for method in METHODS:
            if callable(original := getattr(module, method, None)):
                setattr(module, method, _run_inside(original, mode, partial(inside, name), most_calls))
    yield mode


def _make_fake(module: nn.Module, mode: Any, fake: dict[int, Any]) -> None:
    """Replaces parameters and buffers by fake ones that say they are on the CPU."""
    import torch

    def replace_tensor(tensor: torch.Tensor) -> Any:
        if id(tensor) not in fake:
            with mode:
                fake[id(tensor)] = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
        return fake[id(tensor)]

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(replace_tensor(parameter), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                # Pipelines compute with statistics of latents themselves, outside of the module's own call.
                is_real = buffer.numel() <= STATISTICS
                part._buffers[name] = (
                    torch.ones(buffer.shape, dtype=buffer.dtype) if is_real else replace_tensor(buffer)
                )


def _cast(module: nn.Module, mode: Any, inside: Callable[[], Any], *args: Any, **kwargs: Any) -> nn.Module:
    """What `module.to` does to fake weights: torch's own would swap them in place, which fake ones do not allow."""
    import torch

    _, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    for part in module.modules() if dtype is not None else ():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_floating_point() and parameter.dtype != dtype:
                with mode, inside():
                    part._parameters[name] = torch.nn.Parameter(parameter.to(dtype), requires_grad=False)
    return module


def _run_inside(function: Callable[..., Any], mode: Any, inside: Callable[[], Any], most_calls: int) -> Any:
    """The function on fake copies of its arguments; returns real zeros of the results' shapes."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._pytree import tree_leaves, tree_map_only

    calls = 0
    results: dict[tuple[Any, ...], Any] = {}
    """Shapes of arguments -> those of the results: a model may make calls of several sizes in a step."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, FakeTensor) for leaf in (*args, *kwargs.values())):
            return function(*args, **kwargs)  # called by another module
        nonlocal calls
        shape = tuple(leaf.shape for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor))
        if calls < most_calls or shape not in results:
            with mode, inside():
                given = tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
                out = function(*given[0], **given[1])
            calls += 1
            results[shape] = _map_result(FakeTensor, _to_meta, out)
        return _map_result(torch.Tensor, lambda meta: torch.zeros(meta.shape, dtype=meta.dtype), results[shape])

    return run


def _map_result(kind: type, change: Callable[[Any], Any], result: Any) -> Any:
    """What a module returned with all its tensors of a kind changed, those of an encoder's distribution among them."""
    from torch.utils._pytree import tree_map

    def map_leaf(leaf: Any) -> Any:
        if isinstance(leaf, kind):
            return change(leaf)
        held = {name: value for name, value in getattr(leaf, "__dict__", {}).items() if isinstance(value, kind)}
        if not held:
            return leaf
        changed = copy(leaf)
        vars(changed).update({name: change(value) for name, value in held.items()})
        return changed

    return tree_map(map_leaf, result)


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """The shape of a fake tensor, without keeping that one alive."""
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
