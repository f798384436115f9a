"""Attention backends: numerics against the formula, one pipeline alone, compilation, and clear failures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from tests.accelerate.denoiser_calls import call_family, distance
from tests.conftest import run_as_data
from wavespeed_runner.accelerate.attention import (
    apply_attention,
    collect_evidence,
    explain_attention_errors,
    identify_attention,
    refuse_other_operators,
)
from wavespeed_runner.accelerate.attention_options import BACKENDS, AttentionOptions, NoAttention
from wavespeed_runner.accelerate.attention_routing import attend_with_dispatcher, calls_torch, route_processor
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import RunError
from wavespeed_runner.planning.plan import Plan

Name = attention_dispatch.AttentionBackendName
KERNELS = ("native", "flash_native", "math", "flex")
"""Backends that this machine has, whatever it is."""


@pytest.fixture(autouse=True)
def clean_compiler() -> Iterator[None]:
    """Discards compiled code before and after each test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_all_backends_of_diffusers_have_a_name_and_a_config() -> None:
    assert {backend.dispatch for backend in BACKENDS.values()} == {name.value for name in Name}
    assert {path.stem for path in (CONF / "attention").glob("*.yaml")} == {"none", *BACKENDS}


def compute_reference(query: Any, key: Any, value: Any, mask: Any) -> torch.Tensor:
    """softmax(Q K^T / sqrt(width) + mask) V in float64, from (batch, heads, tokens, width)."""
    scores = query.double() @ key.double().transpose(-1, -2) / sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    return torch.softmax(scores, dim=-1) @ value.double()


def build_inputs(queries: int = 12, keys: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 4, tokens, 16, generator=generator) for tokens in (queries, keys, keys))


def build_masks(queries: int = 12, keys: int = 20) -> dict[str, torch.Tensor | None]:
    """Masks of every kind, each of which changes the result."""
    generator = torch.Generator().manual_seed(1)
    padding = torch.arange(keys) < torch.tensor([[15], [9]])
    return {
        "none": None,
        "padding": padding[:, None, None],
        "boolean": torch.rand(2, 1, queries, keys, generator=generator) > 0.3,
        "additive": torch.randn(2, 4, queries, keys, generator=generator),
        "matrix": torch.randn(queries, keys, generator=generator),
    }


@pytest.mark.parametrize("kind", list(build_masks()))
@pytest.mark.parametrize("backend", KERNELS)
def test_routed_attention_is_the_formula(backend: str, kind: str) -> None:
    mask, inputs = build_masks()[kind], build_inputs()
    attend = attend_with_dispatcher(Name(BACKENDS[backend].dispatch))
    if backend == "flash_native" and mask is not None:
        with pytest.raises(ValueError, match="attn_mask"):
            attend(*inputs, mask)
        return
    actual = attend(*inputs, attn_mask=mask)
    assert distance([actual.double()], [compute_reference(*inputs, mask)]) < 1e-5


def test_a_mask_as_large_as_the_batch_is_not_taken_for_one_of_batch_and_keys() -> None:
    """The dispatcher would, where there are as many queries as images."""
    inputs, mask = build_inputs(2, 20), build_masks(2, 20)["matrix"]
    reference = compute_reference(*inputs, mask)
    assert distance([attend_with_dispatcher(Name.NATIVE)(*inputs, mask).double()], [reference]) < 1e-5
    plain = attention_dispatch.dispatch_attention_fn(*(t.transpose(1, 2) for t in inputs), attn_mask=mask)
    assert distance([plain.transpose(1, 2).double()], [reference]) > 0.01


def wrap_math(processor: Any) -> Any:
    return route_processor(processor, "math", attend_with_dispatcher(Name._NATIVE_MATH))


def test_a_wrapped_processor_is_of_the_same_class_and_signature_and_leaves_the_original() -> None:
    processor = AttnProcessor2_0()
    wrapped = wrap_math(processor)
    assert isinstance(wrapped, AttnProcessor2_0) and type(processor) is AttnProcessor2_0
    assert inspect.signature(wrapped.__call__) == inspect.signature(processor.__call__)
    assert calls_torch(processor) and not hasattr(processor, "_routed_attention")
    assert type(wrap_math(AttnProcessor2_0())) is type(wrapped), "or torch.compile makes a graph of every block"


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["math", "flash_native"])
def test_a_wrapped_processor_compiles_as_one_graph_and_only_once(name: str, backend: str) -> None:
    torch.manual_seed(0)
    layer = Attention(32, heads=2, dim_head=16).eval()
    with torch.inference_mode():
        tokens = torch.randn(2, 10, 32)
        expected = layer(tokens)
        layer.processor = route_processor(layer.processor, name, attend_with_dispatcher(Name(BACKENDS[name].dispatch)))
        compiled = torch.compile(layer, fullgraph=True, backend=backend)
        assert distance([compiled(tokens)], [expected]) < 1e-5
        with torch._dynamo.config.patch(error_on_recompile=True):
            compiled(tokens + 1)


def test_without_a_backend_nothing_is_set() -> None:
    model = call_family("flux")
    apply_attention(model.pipe, model.family, NoAttention())
    assert collect_evidence(model.pipe, NoAttention()) is None
    assert identify_attention(NoAttention()) == identify_attention(AttentionOptions(name="math")) == []


def test_a_missing_package_is_an_error_with_the_way_out() -> None:
    model = call_family("flux")
    with pytest.raises(RunError, match=r"attention=flash: .*flash-attn.*; use another backend .*attention=none"):
        apply_attention(copy_pipeline(model.pipe), model.family, AttentionOptions(name="flash"))


def test_a_pipeline_without_attention_layers_is_an_error() -> None:
    class Pipe:
        transformer = torch.nn.Linear(2, 2)

    with pytest.raises(RunError, match=r"attention=math: no attention layer of Pipe can take a backend"):
        apply_attention(Pipe(), call_family("flux").family, AttentionOptions(name="math"))


@pytest.mark.parametrize("family", ["z_image", "lumina2"])
def test_a_backend_that_takes_no_masks_fails_in_the_first_call_and_says_so(family: str) -> None:
    model, options = call_family(family), AttentionOptions(name="flash_native")
    pipe = copy_pipeline(model.pipe)
    apply_attention(pipe, model.family, options)
    text = r"attention=flash_native does not fit .*`attn_mask` is not supported"
    with pytest.raises(RunError, match=text), explain_attention_errors(options):
        model.repeat(pipe)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(KeyError), explain_attention_errors(AttentionOptions(name="math")):
        raise KeyError("elsewhere")


def test_other_operators_than_the_backends_are_an_error() -> None:
    refuse_other_operators("flash_native", ["aten::_scaled_dot_product_flash_attention_for_cpu"])
    refuse_other_operators("flash", ["flash_attn::_flash_attn_forward"])
    with pytest.raises(RunError, match=r"attention=flash: the denoiser ran aten::_scaled_dot_product_attention_math"):
        refuse_other_operators("flash", ["aten::_scaled_dot_product_attention_math"])


def attend_without_padding(q: Any, k: Any, v: Any, cu_seqlens_k: Any, softmax_scale: Any, **options: Any) -> Any:
    """Exact attention with the signature of `flash_attn_varlen_func`: packed sequences, no masks."""
    batch = len(cu_seqlens_k) - 1
    results = []
    for index, queries in enumerate(q.unflatten(0, (batch, -1))):
        keys, values = (t[cu_seqlens_k[index] : cu_seqlens_k[index + 1]] for t in (k, v))
        queries, keys, values = (t.transpose(0, 1)[None] for t in (queries, keys, values))
        out = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, scale=softmax_scale)
        results.append(out[0].transpose(0, 1))
    return torch.cat(results)


@pytest.mark.parametrize("family", ["z_image", "lumina2", "hunyuan_video", "hunyuan_video15"])
def test_leaving_out_the_padding_of_these_families_gives_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what the backends do that take masks of padding only; shown with an exact function in their place."""
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", True)
    monkeypatch.setattr(attention_dispatch, "flash_attn_varlen_func", attend_without_padding)
    model = call_family(family)
    pipe = copy_pipeline(model.pipe)
    apply_attention(pipe, model.family, AttentionOptions(name="flash_varlen"))
    assert distance(model.repeat(pipe), model.repeat(model.pipe)) < 1e-4


def test_xformers_takes_boolean_masks_for_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As diffusers calls it: which is why masks of numbers alone are allowed. Shown with the formula in its place."""

    class Ops:
        @staticmethod
        def memory_efficient_attention(q: Any, k: Any, v: Any, mask: Any, p: float, scale: Any) -> torch.Tensor:
            heads_first = (t.transpose(1, 2) for t in (q, k, v))
            return compute_reference(*heads_first, mask).transpose(1, 2).to(q.dtype)

    monkeypatch.setattr(attention_dispatch, "xops", Ops, raising=False)
    attend, inputs = attend_with_dispatcher(Name.XFORMERS), build_inputs()
    for kind, wrong in (("additive", False), ("none", False), ("boolean", True)):
        mask = build_masks()[kind]
        error = distance([attend(*inputs, mask).double()], [compute_reference(*inputs, mask)])
        assert (error > 0.01) == wrong, kind


def test_a_run_records_the_backend_and_the_operators(planned: Callable[..., Plan], tmp_path: Path) -> None:
    record = run_as_data(planned("attention=math"), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    evidence = record["engaged"]["attention"]
    assert evidence["backend"] == "math" and evidence["set"] == {"FluxAttnProcessor": 6}
    assert evidence["self"] == {"aten::_scaled_dot_product_attention_math": 6} and evidence["cross"] == {}


@pytest.mark.parametrize("cache", ["pab", "fbcache"])
def test_a_cache_and_a_backend_both_act(planned: Callable[..., Plan], tmp_path: Path, cache: str) -> None:
    steps = ("steps=8",) if cache == "pab" else ("steps=6", "cache.residual_diff_threshold=0.65")
    plain = run_as_data(planned(f"cache={cache}", *steps), tmp_path / "plain", [])
    record = run_as_data(planned(f"cache={cache}", *steps, "attention=math"), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    engaged, alone = (r["engaged"] for r in (record, plain))
    assert engaged["attention"]["self"] == {"aten::_scaled_dot_product_attention_math": 6}
    assert engaged["cache"] is not None and engaged["cache"]["hits"] == alone["cache"]["hits"] > 0
