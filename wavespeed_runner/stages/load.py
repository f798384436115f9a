"""Loads the model. Not stored: a pipeline lives in the process, and is loaded only when something must be computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..accelerate import adapters, memory
from ..accelerate.order import ORDER
from ..artifacts import Pipeline
from ..config.environment import resolve_device
from ..config.schema import MODEL_DEFAULT_KEYS, AdaptersConfig, Init, MemoryConfig, ModelConfig, top_level
from ..errors import RunError
from ..models.weights.checkpoint import identity
from ..models.weights.pretrained import completed_from
from ..models.weights.pretrained import load as load_pipeline
from ..process.logging_setup import quiet_libraries
from ..registry import implementation_of
from .interface import stage


@dataclass(kw_only=True)
class LoadOptions:
    model: ModelConfig = top_level("model")
    device: str = top_level("device")
    adapters: AdaptersConfig = top_level("adapters")
    memory: MemoryConfig = top_level("memory")


_NOT_IN_WEIGHTS = tuple(f"model.{key}" for key in ("repo", "revision", "components", "fps", *MODEL_DEFAULT_KEYS))
"""Where the weights come from is said by what they are; the rest are defaults of other stages' options."""


def _weights(options: LoadOptions) -> list[str]:
    """What the weights are: also those of another folder that a single-file checkpoint is completed from, and what is
    loaded on top of them."""
    model, learned = options.model, adapters.identify_adapters(options.adapters)
    if model.init is not Init.pretrained:
        return [model.init.value, *learned]
    family = implementation_of("model", model)
    others = [completed_from(family, model), *(getattr(model, key) for key in family.elsewhere)]
    return [_identity(model.repo, model.revision), *(_identity(repo, None) for repo in others if repo), *learned]


# Asked for every image of a plan; weights are not expected to change under a running process.
_identity = lru_cache(maxsize=8)(identity)


@stage("load", options=LoadOptions, pure=False, identity=_weights, ignores=(*_NOT_IN_WEIGHTS, "adapters.path"))
def load(options: LoadOptions) -> Pipeline:
    """Builds or loads the pipeline and puts it on the device.

    Raises:
        RunError: no such device, no network, no access, or broken weights.
    """
    import torch

    quiet_libraries()
    device = resolve_device(options.device)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"device={options.device}: torch {torch.__version__} finds no CUDA device; use device=cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise RunError(f"device={options.device}: this torch has no MPS; use device=cpu")
    family = implementation_of("model", options.model)
    dtype = getattr(torch, options.model.dtype.value)
    pipe = load_pipeline(family, options.model, device)
    assert isinstance(options.memory, memory.MemorySettings)
    settings = options.memory
    appliers = {
        "adapters": lambda pipe: adapters.apply_adapters(pipe, options.adapters),
        "memory": lambda pipe: memory.apply_memory(pipe, settings, device, dtype),
    }
    for step in ORDER:
        if step.group in appliers:
            pipe = appliers[step.group](pipe)
    engaged = {"adapters": adapters.collect_evidence(pipe, options.adapters), "memory": memory.collect_evidence(pipe)}
    return Pipeline(pipe=pipe, model=options.model, family=family, device=device, engaged=engaged)
