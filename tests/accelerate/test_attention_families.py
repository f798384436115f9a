"""Every family: its attention is as the table says, and takes a backend, through diffusers' dispatcher or past it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.models import embeddings
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from tests.accelerate.denoiser_calls import FAMILIES, call_family, distance, watch_attention
from tests.models.shipped import MODELS, config_of
from wavespeed_runner.accelerate.attention import apply_attention, collect_evidence
from wavespeed_runner.accelerate.attention_families import FAMILY_ATTENTION, find_attention
from wavespeed_runner.accelerate.attention_options import AttentionOptions, Masks
from wavespeed_runner.accelerate.kernels import profile_kernels
from wavespeed_runner.accelerate.memory import denoiser_names
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.config.schema import Init
from wavespeed_runner.models.weights import random_init
from wavespeed_runner.registry import find_implementation

MATH = "aten::_scaled_dot_product_attention_math"


def test_every_family_is_in_the_table() -> None:
    assert {name.partition(":")[0] for name in FAMILY_ATTENTION} == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backend_is_used_by_every_layer_of_this_pipeline_and_of_no_other(name: str) -> None:
    model = call_family(name)
    expected, active = model.repeat(model.pipe), _AttentionBackendRegistry._active_backend
    pipe = copy_pipeline(model.pipe)
    apply_attention(pipe, model.family, AttentionOptions(name="math"))
    seen = profile_kernels(model.of(pipe))
    assert [*seen["self"], *seen["cross"]] and {*seen["self"], *seen["cross"]} == {MATH}
    assert distance(model.repeat(pipe), expected) < 1e-4

    assert _AttentionBackendRegistry._active_backend is active
    untouched = profile_kernels(model.examples)
    assert MATH not in {*untouched["self"], *untouched["cross"]}
    assert all(torch.equal(a, b) for a, b in zip(model.repeat(model.pipe), expected, strict=True))

    evidence, known = collect_evidence(pipe, AttentionOptions(name="math")), FAMILY_ATTENTION[name]
    assert evidence is not None
    assert bool(evidence["wrapped"]) == known.routed and bool(evidence["left"]) == known.linear
    nothing = collect_evidence(model.pipe, AttentionOptions(name="math"))
    assert nothing is not None and not nothing["set"] and not nothing["wrapped"]


def classify_mask(mask: torch.Tensor | None) -> Masks:
    if mask is None:
        return Masks.none
    if mask.dtype != torch.bool:
        return Masks.additive
    # At the end of the keys: none that is seen comes after one that is not.
    return Masks.padding if bool((mask.int().diff(dim=-1) <= 0).all()) else Masks.boolean


@pytest.mark.parametrize("name", FAMILIES)
def test_its_masks_are_those_of_the_table(name: str) -> None:
    model, known = call_family(name), FAMILY_ATTENTION[name]
    with watch_attention() as calls:
        model.repeat(model.pipe)
    masks = {classify_mask(call.get("attn_mask")) for call in calls}
    assert masks - {Masks.none} == (set() if known.only_in_batches else {known.masks} - {Masks.none})
    for call in calls:  # what backends without these parameters would drop
        assert not call.get("is_causal") and not call.get("dropout_p") and not call.get("enable_gqa")
        assert call.get("scale") in (None, call["query"].shape[-1] ** -0.5)


def test_prompts_of_different_lengths_give_qwen_image_masks_with_gaps() -> None:
    model = call_family("qwen_image")
    ((denoiser, args, kwargs),) = model.examples
    embeddings = kwargs["encoder_hidden_states"]
    doubled = {key: torch.cat([value, value]) for key, value in kwargs.items() if isinstance(value, torch.Tensor)}
    lengths = torch.ones(2, embeddings.shape[1], dtype=torch.bool)
    lengths[1, -2:] = False
    doubled |= {"encoder_hidden_states_mask": lengths, "img_shapes": [*kwargs["img_shapes"]] * 2}
    with watch_attention() as calls, torch.inference_mode():
        denoiser(*args, **{**kwargs, **doubled})
    assert {classify_mask(call.get("attn_mask")) for call in calls} == {FAMILY_ATTENTION["qwen_image"].masks}


def list_heads(pipe: Any) -> set[int]:
    """Sizes of heads of all attention layers that have scores."""
    modules = [module for name in denoiser_names(pipe) for module in getattr(pipe, name).modules()]
    layers = [m for m in modules if hasattr(m, "processor") and "Linear" not in type(m.processor).__name__]
    return {layer.to_q.out_features // layer.heads if hasattr(layer, "to_q") else layer.head_dim for layer in layers}


def build_denoisers(config: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipeline of the published sizes without memory; text encoders have one layer, and tables of positions zeros."""
    build = random_init._build_module

    def build_module(name: str, values: dict[str, Any]) -> Any:
        is_encoder = hasattr(transformers, name) and not hasattr(diffusers, name)
        shorter = {key: 1 for key in ("num_layers", "num_hidden_layers") if is_encoder and key in values}
        return build(name, values | shorter)

    def zeros(dimension: int, size: Any, **_: Any) -> torch.Tensor:
        return torch.zeros(int(np.prod(np.broadcast_to(size, 2))), dimension, device="meta")

    monkeypatch.setattr(random_init, "_build_module", build_module)
    monkeypatch.setattr(embeddings, "get_2d_sincos_pos_embed", zeros)
    return find_implementation("model", config).build(config, torch.bfloat16, "meta")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_sizes_of_heads_are_those_of_the_published_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(config_of(name), init=Init.random)
    pipe = build_denoisers(config, monkeypatch)
    known = find_attention(config)
    assert known is not None and list_heads(pipe) == set(known.heads)
