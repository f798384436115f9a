"""Compilation with what changes the same blocks: adapters, quantization, offloading. Numerics against eager blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.compile_runs import Run, compiled, run
from tests.caching.shrunk import Shrunk

__all__ = ["run"]
pytestmark = pytest.mark.slow
LORA = "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"


@pytest.mark.parametrize("fuse", ["true", "false"])
def test_an_adapter_is_part_of_the_graphs(run: Run, fuse: str) -> None:
    settings = ("model.init=pretrained", "adapters=lora", LORA, f"adapters.fuse={fuse}", "width=64", "height=64")
    record = run(*settings, "steps=3")
    eager = run(*settings, "steps=3", quick=("measure=default", "measure.reference=false"))
    assert record["samples"][0]["pixels_sha256"] == eager["samples"][0]["pixels_sha256"]
    evidence = record["engaged"]["compile"]
    assert evidence["graph_breaks"] == evidence["fallbacks"] == 0 and evidence["graphs"] > 0
    assert "void" not in record["timing"]


def test_offloading_stays_outside_of_the_graphs(run: Run) -> None:
    cached = ("cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6")
    plain = run(*cached)
    for memory in ("group_offload", "model_offload"):
        torch._dynamo.reset()  # each compiles its own graphs
        record = run(*cached, f"memory={memory}")
        assert record["status"] == "completed", record["error"]
        assert record["samples"][0]["pixels_sha256"] == plain["samples"][0]["pixels_sha256"]
        assert record["engaged"]["memory"] and record["engaged"]["cache"]["hits"] > 0
        assert record["engaged"]["compile"]["graphs"] > 0 and "void" not in record["timing"]


@pytest.mark.parametrize("scheme", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_quantized_blocks_are_compiled_without_a_break(tmp_path: Path, scheme: str) -> None:
    quantization: Any = pytest.importorskip("torchao.quantization")
    flux = Shrunk("flux", guided=True, steps=3)
    plain = flux.denoise()
    is_block: Callable[[Any, str], bool] = lambda m, name: isinstance(m, torch.nn.Linear) and "blocks." in name  # noqa: E731
    config = getattr(quantization, scheme)(set_inductor_config=False)
    quantization.quantize_(flux.denoiser, config, filter_fn=is_block)
    expected = flux.denoise()
    assert not torch.equal(expected, plain)
    with compiled(flux.pipe, flux.family, tmp_path, backend="aot_eager") as monitor:
        with monitor.watch() as first:
            actual = flux.denoise()
        with monitor.watch() as second:
            assert torch.equal(flux.denoise(), actual)
    error = float((actual - expected).norm() / expected.norm())
    assert error < 1e-5, "compiled and eager compute the same numbers"
    assert first.graphs > 0 and not first.graph_breaks and not first.fallbacks and second.compilations == 0


def test_a_whole_denoiser_and_model_offload(run: Run) -> None:
    record = run("compile=default", "memory=model_offload", "steps=2")
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["compile"]["modules"] == {"transformer": {"FluxTransformer2DModel": 1}}
    assert record["engaged"]["compile"]["graphs"] == 1 and "void" not in record["timing"]


def test_both_denoisers_of_a_model_with_two_are_compiled(run: Run) -> None:
    record = run("model=wan22", "width=null", "height=null", "steps=3")
    assert record["status"] == "completed", record["error"]
    blocks = {"WanTransformerBlock": 2}
    assert record["engaged"]["compile"]["modules"] == {"transformer": blocks, "transformer_2": blocks}
    assert record["engaged"]["compile"]["graphs"] == 1 and "void" not in record["timing"], "one graph serves both"


def test_decoder_and_text_encoders_make_the_same_image(run: Run) -> None:
    record = run("compile.target=[vae,text_encoders]", "steps=2")
    plain = run("steps=2", quick=("measure=default", "measure.reference=false"))
    assert record["status"] == "completed", record["error"]
    assert record["samples"][0]["pixels_sha256"] == plain["samples"][0]["pixels_sha256"]
    evidence = record["engaged"]["compile"]
    assert set(evidence["modules"]) == {"vae.decoder", "text_encoder", "text_encoder_2"}
    # Prompts are encoded before the first image is denoised; its own decoding comes later.
    assert evidence["graphs"] > 0 and evidence["seconds"] > 0 and record["timing"]["compile_seconds"] == 0
