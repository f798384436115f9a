"""Group offloading of every family: each weight is on the device when something is computed with it.

No GPU is needed: what diffusers' groups fetch and put back is followed by name, and every function of torch that is
given a weight which has not been fetched is a fault, for on a GPU it would be in main memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch.overrides import TorchFunctionMode, resolve_name

from tests.accelerate.denoiser_calls import FAMILIES, tiny_inputs
from tests.caching.tiny_models import families
from tests.models.staged import run_stages
from tests.models.test_every_model import SAMPLE, config_of
from wavespeed_runner.accelerate.memory import GroupType, MemorySettings, Offload, apply_memory
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.weights.pretrained import load

MOVED = {"to", "cpu", "clone", "detach", "numel", "size", "dim", "data_ptr", "__get__", "__set__", "is_floating_point"}
"""What may be done with a tensor wherever it is; `clone` because transformers copies tables before it moves them."""


@contextmanager
def follow_weights(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Collects `component.name: function` of every use of a weight that is not on the device."""
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    names = {id(p): f"{name}.{path}" for name, module in modules.items() for path, p in module.named_parameters()}
    fetched: set[int] = set()
    faults: set[str] = set()

    def weights_of(group: ModuleGroup) -> set[int]:
        return {id(p) for part in group.modules for p in part.parameters()} | {id(p) for p in group.parameters}

    fetch, put_back = ModuleGroup.onload_, ModuleGroup.offload_
    monkeypatch.setattr(ModuleGroup, "onload_", lambda group: (fetch(group), fetched.update(weights_of(group)))[0])
    monkeypatch.setattr(
        ModuleGroup, "offload_", lambda group: (put_back(group), fetched.difference_update(weights_of(group)))[0]
    )

    class Follow(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.__name__ not in MOVED:
                for value in (*args, *(kwargs or {}).values()):
                    if id(value) in names and id(value) not in fetched:
                        faults.add(f"{names[id(value)]}: {resolve_name(function)}")
            return function(*args, **(kwargs or {}))

    with Follow():
        yield faults


@pytest.mark.parametrize("group_type", list(GroupType))
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_fetched_before_they_are_used(
    name: str, group_type: GroupType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, family = families()[name]
    config = replace(config_of(model), dtype=Dtype.float32)
    pipe = load(family, config, "cpu")
    apply_memory(pipe, MemorySettings(offload=Offload.group, group_type=group_type), "cpu", torch.float32)
    with follow_weights(pipe, monkeypatch) as faults:
        run_stages(family, pipe, config, SAMPLE, steps=2, **tiny_inputs(family))
    assert not sorted(faults)
