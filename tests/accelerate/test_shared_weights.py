"""Pipelines of one process share what they have alike: all weights, or the components that are not quantized."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wavespeed_runner.accelerate.shared_weights import count_other_bytes
from wavespeed_runner.models.weights import random_init
from wavespeed_runner.models.weights.size import count_component_bytes, list_plain_tensors
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


class Loader:
    """Loads pipelines of the tiny model, and lists what was built for each."""

    def __init__(self, planned: Planned, outputs: Path) -> None:
        self.planned, self.outputs = planned, outputs
        self.built: list[str] = []

    def __call__(self, *overrides: str) -> Any:
        self.built.clear()
        node = self.planned(*overrides, outputs=str(self.outputs)).graph.nodes["load"]
        return node.stage.function(node.options)


@pytest.fixture
def load(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    gc.collect()
    loader = Loader(planned, tmp_path / "outputs")
    original = random_init.build_random_module

    def watch(build: Any, **options: Any) -> Any:
        loader.built.append(str(build.args[0]))
        return original(build, **options)

    monkeypatch.setattr(random_init, "build_random_module", watch)
    return loader


def places(module: torch.nn.Module) -> set[int]:
    return {part.data_ptr() for tensor in module.parameters() for part in list_plain_tensors(tensor)}


def test_what_is_not_quantized_is_shared(load: Loader) -> None:
    plain = load()
    weights = [parameter.clone() for parameter in plain.pipe.transformer.parameters()]
    quantized = load("quant=int8_wo", "quant.keep=false")
    assert load.built == []  # not even the denoiser: it is quantized from the weights that are there
    assert places(plain.pipe.vae) == places(quantized.pipe.vae)
    assert places(plain.pipe.text_encoder) == places(quantized.pipe.text_encoder)
    for before, after in zip(weights, plain.pipe.transformer.parameters(), strict=True):
        assert torch.equal(before, after)
    own = count_component_bytes(plain.pipe)["transformer"]
    assert 0 < count_other_bytes(quantized.weights, "cpu") < own < count_other_bytes(plain.weights, "cpu") + own


def test_it_is_shared_also_where_the_quantized_pipeline_is_loaded_first(load: Loader) -> None:
    quantized = load("quant=int8_wo")
    plain = load()
    assert len(load.built) == 1 and "Transformer" in load.built[0]
    assert places(plain.pipe.vae) == places(quantized.pipe.vae)
    del quantized, plain
    gc.collect()
    alone = load("quant=int8_wo")
    (component,) = alone.engaged["quant"]["components"].values()
    assert component["store"] == "read"


def test_the_weights_are_those_of_a_pipeline_that_is_loaded_alone(load: Loader) -> None:
    alone = load("quant=int8_wo", "quant.keep=false").pipe.transformer.state_dict()
    gc.collect()
    plain = load()
    beside = load("quant=int8_wo", "quant.keep=false").pipe.transformer.state_dict()
    assert plain.pipe and alone.keys() == beside.keys()
    for name, tensor in alone.items():
        for one, other in zip(list_plain_tensors(tensor), list_plain_tensors(beside[name]), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("override", ["accelerate.fuse_qkv=true", "memory=model_offload", "model.dtype=bfloat16"])
def test_what_is_changed_or_moved_is_not_shared(load: Loader, override: str) -> None:
    plain = load()
    other = load("quant=int8_wo", "quant.keep=false", override)
    assert len(load.built) >= 3 and not places(plain.pipe.vae) & places(other.pipe.vae)


def test_switches_of_torch_share_everything(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavespeed_runner.rules import check

    monkeypatch.setattr(check, "RULES", ())  # which refuse them on a CPU
    plain = load()
    switched = load("accelerate.tf32=true")
    assert load.built == [] and switched.pipe is plain.pipe
    assert switched.engaged["accelerate"] and not plain.engaged["accelerate"]


def test_options_that_decide_nothing_of_a_component_are_not_in_its_key(load: Loader) -> None:
    load("quant=int8_wo")
    gc.collect()
    again = load("quant=int8_wo", "quant.components=[denoiser,text_encoder]")
    stored = {name: part["store"] for name, part in again.engaged["quant"]["components"].items()}
    assert stored == {"transformer": "read", "text_encoder": "written"}
