"""The stage `load`: loads the model and applies adapters and memory savers to it.

Its output is not stored: a pipeline lives in the process, and is loaded only if something has to be computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..accelerate import adapters, memory
from ..accelerate.order import ORDER
from ..artifacts import Pipeline
from ..config.environment import resolve_device
from ..config.schema import MODEL_DEFAULT_KEYS, AdaptersConfig, Init, MemoryConfig, ModelConfig, top_level
from ..errors import RunError
from ..models.weights.identity import identify_weights
from ..models.weights.pretrained import find_component_source
from ..models.weights.pretrained import load as load_pipeline
from ..process.logging_setup import quiet_libraries
from ..registry import find_implementation
from .interface import stage


@dataclass(kw_only=True)
class LoadOptions:
    """Options of `load`."""

    model: ModelConfig = top_level("model")
    device: str = top_level("device")
    adapters: AdaptersConfig = top_level("adapters")
    memory: MemoryConfig = top_level("memory")


_NOT_IN_WEIGHTS = tuple(f"model.{key}" for key in ("repo", "revision", "components", "fps", *MODEL_DEFAULT_KEYS))
"""Keys that do not decide the pipeline: the weights are identified by what they are, not where they come from, and the
others are defaults for the options of other stages."""


def _identify_weights(options: LoadOptions) -> list[str]:
    """Identifies all weights: the model's, those that complete a single-file checkpoint, and the adapters'."""
    model, adapter_ids = options.model, adapters.identify_adapters(options.adapters)
    if model.init is not Init.pretrained:
        return [model.init.value, *adapter_ids]
    family = find_implementation("model", model)
    others = [find_component_source(family, model), *(getattr(model, key) for key in family.external_components)]
    return [_identity(model.repo, model.revision), *(_identity(repo, None) for repo in others if repo), *adapter_ids]


# A plan asks for every image. Weights are not expected to change while a process runs.
_identity = lru_cache(maxsize=8)(identify_weights)


@stage("load", options=LoadOptions, pure=False, identity=_identify_weights, ignores=(*_NOT_IN_WEIGHTS, "adapters.path"))
def load(options: LoadOptions) -> Pipeline:
    """Loads a model's diffusers pipeline, applies adapters and memory settings, and moves it to the device.

    Raises:
        RunError: no such device, no network, no access, or broken weights.
    """
    import torch

    quiet_libraries()
    device = resolve_device(options.device)
    _check_device(options.device, device)
    family = find_implementation("model", options.model)
    dtype = getattr(torch, options.model.dtype.value)
    pipe = load_pipeline(family, options.model, device)
    assert isinstance(options.memory, memory.MemorySettings)
    settings = options.memory
    apply_group = {
        "adapters": lambda pipe: adapters.apply_adapters(pipe, options.adapters),
        "memory": lambda pipe: memory.apply_memory(pipe, settings, device, dtype),
    }
    for applied in ORDER:
        if applied.group in apply_group:
            pipe = apply_group[applied.group](pipe)
    engaged = {"adapters": adapters.collect_evidence(pipe, options.adapters), "memory": memory.collect_evidence(pipe)}
    return Pipeline(pipe=pipe, model=options.model, family=family, device=device, engaged=engaged)


def _check_device(requested: str, device: str) -> None:
    """Raises RunError if this torch cannot use the device."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"device={requested}: torch {torch.__version__} finds no CUDA device; use device=cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise RunError(f"device={requested}: this torch has no MPS; use device=cpu")
