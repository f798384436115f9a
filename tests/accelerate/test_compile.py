"""Compilation: what is compiled, that it takes effect and changes nothing else, and that nothing of it stays behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import get_compilation_metrics

from tests.accelerate.compile_runs import Run, compiled, make_options, run
from tests.caching.shrunk import Shrunk
from wavespeed_runner.accelerate.compilation import GRAPHS_PER_CLASS, apply_compile, use_compiler
from wavespeed_runner.accelerate.compile_targets import list_blocks, list_targets
from wavespeed_runner.config.code_keys import SWITCHES
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.families.generic import GenericConfig
from wavespeed_runner.registry import lookup

__all__ = ["run"]


@pytest.fixture(scope="module")
def flux() -> Shrunk:
    return Shrunk("flux", guided=True, steps=3)


def describe(targets: dict[str, list[Any]]) -> dict[str, dict[str, int]]:
    return {
        name: {kind: [type(m).__name__ for m in modules].count(kind) for kind in {type(m).__name__ for m in modules}}
        for name, modules in targets.items()
    }


@pytest.mark.parametrize("name", ["flux", "hidream", "sd35_medium", "cogvideox", "wan22"])
def test_regional_compiles_every_block_that_a_cache_strategy_can_skip(name: str) -> None:
    """Also where diffusers does not name them."""
    model = Shrunk(name, guided=False, steps=2)
    targets = list_targets(model.pipe, model.family, make_options())
    assert list(targets) == [part for part in (model.family.denoiser, model.family.denoiser_2) if part]
    for component, modules in targets.items():
        denoiser = getattr(model.pipe, component)
        lists = [getattr(denoiser, block_list.name) for block_list in model.family.blocks.lists]
        assert modules == [block for blocks in lists for block in blocks] and modules


def test_of_a_u_net_the_resnets_and_transformer_blocks_are_compiled() -> None:
    model = Shrunk("sdxl", guided=True, steps=2)
    (modules,) = list_targets(model.pipe, model.family, make_options()).values()
    expected = [m for m in model.denoiser.modules() if type(m).__name__ in ("ResnetBlock2D", "BasicTransformerBlock")]
    assert modules == expected and len({type(m) for m in modules}) == 2


def test_every_target_is_compiled_whole_or_by_its_repeated_modules(flux: Shrunk) -> None:
    everything: Any = {"target": ["denoiser", "vae", "text_encoders"]}
    everything["target"] = [type(make_options().target[0])(name) for name in everything["target"]]
    whole = describe(list_targets(flux.pipe, flux.family, make_options(regional=False, **everything)))
    assert whole == {
        "transformer": {"FluxTransformer2DModel": 1},
        "vae.decoder": {"Decoder": 1},
        "text_encoder": {"CLIPTextModel": 1},
        "text_encoder_2": {"T5EncoderModel": 1},
    }
    parts = describe(list_targets(flux.pipe, flux.family, make_options(**everything)))
    assert parts["text_encoder"] == {"CLIPEncoderLayer": 2} and parts["text_encoder_2"] == {"T5Block": 2}
    assert parts["vae.decoder"]["UpDecoderBlock2D"] == len(flux.pipe.vae.decoder.up_blocks)


def test_a_pipeline_without_the_target_is_refused(flux: Shrunk, monkeypatch: pytest.MonkeyPatch) -> None:
    generic = lookup("model", "generic").implementation
    assert GenericConfig is not None and generic.blocks is None
    assert list_blocks(flux.denoiser, generic) == list_targets(flux.pipe, flux.family, make_options())["transformer"]
    monkeypatch.setattr(type(flux.denoiser), "_repeated_blocks", None)
    with pytest.raises(
        RunError, match=r"compile\.regional=true: the repeated blocks of FluxTransformer2DModel are not"
    ):
        list_blocks(flux.denoiser, generic)
    with monkeypatch.context() as patched:
        patched.setattr(flux.pipe, "transformer", None)
        with pytest.raises(RunError, match=r"compile\.target=denoiser: FluxPipeline has none"):
            list_targets(flux.pipe, flux.family, make_options())


@pytest.mark.parametrize("regional", [True, False])
def test_compiled_code_runs_and_the_latents_are_the_same(flux: Shrunk, tmp_path: Path, regional: bool) -> None:
    plain = flux.denoise()
    with compiled(flux.pipe, flux.family, tmp_path, regional=regional) as monitor:
        with monitor.watch() as first:
            assert torch.equal(flux.denoise(), plain)
        with monitor.watch() as second:
            assert torch.equal(flux.denoise(), plain)
    assert first.graphs >= (2 if regional else 1) and first.seconds > 0 and not first.graph_breaks
    assert second.compilations == second.graphs == 0 and second.explain_void() is None
    assert torch.equal(flux.denoise(), plain)


def test_disabled_everything_is_prepared_and_runs_eagerly(flux: Shrunk, tmp_path: Path) -> None:
    with compiled(flux.pipe, flux.family, tmp_path, disable=True) as monitor, monitor.watch() as events:
        flux.denoise()
    assert events.compilations == 0 and monitor.targets["transformer"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ({}, {"fullgraph": True, "dynamic": False, "mode": None, "options": None, "disable": False}),
        ({"fullgraph": False, "dynamic": True}, {"fullgraph": False, "dynamic": True}),
        ({"backend": "inductor", "mode": "max-autotune-no-cudagraphs"}, {"mode": "max-autotune-no-cudagraphs"}),
        ({"backend": "inductor", "options": '{"epilogue_fusion": false}'}, {"options": {"epilogue_fusion": False}}),
        ({"disable": True}, {"disable": True}),
    ],
)
def test_every_switch_reaches_torch(
    flux: Shrunk, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], passed: dict[str, Any]
) -> None:
    calls: list[dict[str, Any]] = []

    def compile_nothing(function: Any, **options: Any) -> Any:
        calls.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    modules = apply_compile(flux.pipe, flux.family, make_options(**values)).targets["transformer"]
    for module in modules:
        vars(module).pop("forward")
    assert len(calls) == len(modules) and all(call.items() >= passed.items() for call in calls)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backend": "inducter"}, r"compile\.backend=inducter: unknown \(did you mean 'inductor'\?\)"),
        (
            {"backend": "inductor", "options": {"no_such": 1}},
            r"compile\.options=.*no_such.*leave it out, or correct it",
        ),
    ],
)
def test_what_torch_does_not_know_is_refused(flux: Shrunk, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        apply_compile(flux.pipe, flux.family, make_options(**values))
    assert not any("forward" in vars(module) for module in flux.denoiser.modules())


def test_what_is_set_for_the_process_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config, utils

    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    before = config.recompile_limit, config.accumulated_recompile_limit, utils._compilation_metrics.maxlen
    with pytest.raises(ValueError, match="x"), use_compiler(make_options(), str(tmp_path), "cpu"):
        assert config.recompile_limit == GRAPHS_PER_CLASS
        for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
            assert Path(os.environ[name]).is_dir() and Path(os.environ[name]).is_relative_to(tmp_path / "compile_cache")
        # torch itself sets it when it first compiles.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/elsewhere"
        raise ValueError("x")
    assert (config.recompile_limit, config.accumulated_recompile_limit, utils._compilation_metrics.maxlen) == before
    assert os.environ["TRITON_CACHE_DIR"] == "/mine" and "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_the_record_says_what_was_compiled_and_for_how_long(run: Run) -> None:
    record = run("steps=3")
    assert record["status"] == "completed", record["error"]
    evidence, timing = record["engaged"]["compile"], record["timing"]
    expected = {"backend": "eager", "mode": "default", "fullgraph": True, "dynamic": False}
    assert evidence.items() >= expected.items() and "disabled" not in evidence
    assert evidence["modules"] == {"transformer": {"FluxTransformerBlock": 2, "FluxSingleTransformerBlock": 4}}
    # Hidden states come to the first single block from another place in memory than to the others.
    assert evidence["graphs"] == 3 and evidence["graph_breaks"] == evidence["fallbacks"] == 0
    assert list(evidence["recompiles_why"].values()) == [evidence["recompiles"]] == [1]
    assert evidence["cache_hits"] == evidence["cache_misses"] == 0
    assert 0 < timing["compile_seconds"] <= timing["first_call"] and timing["median"] < timing["compile_seconds"]
    assert timing["compile_seconds"] == pytest.approx(evidence["seconds"], abs=0.001)
    assert "void" not in timing and "timing_void" not in record["samples"][0]
    assert record["samples"][0]["compile_seconds"] == timing["compile_seconds"]


def test_flops_are_counted_also_of_compiled_blocks_and_no_block_is_compiled_for_that(run: Run) -> None:
    strategy = ("cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6")
    compiled_run = run(*strategy)
    metrics = len(get_compilation_metrics())
    plain = run(*strategy, quick=("measure=default", "measure.reference=false"))
    assert len(get_compilation_metrics()) == metrics and plain["engaged"]["compile"] is None
    one, other = (record["engaged"]["cache"] for record in (compiled_run, plain))
    assert one["hits"] > 0 and one == other and one["flop_share"] < 1
    assert compiled_run["samples"][0]["pixels_sha256"] == plain["samples"][0]["pixels_sha256"]


def test_what_an_earlier_job_compiled_decides_nothing(run: Run) -> None:
    """torch makes the second size of a process variable: a job's kernels would depend on the jobs before it."""
    first, other, again = run("steps=2"), run("steps=2", "width=48"), run("steps=2", "rerun=true")
    for record in (other, again):
        compiled = record["engaged"]["compile"]
        assert compiled["graphs"] == first["engaged"]["compile"]["graphs"] and "shared_graphs" not in compiled
        assert compiled["recompiles"] == first["engaged"]["compile"]["recompiles"]


def test_where_the_environment_switches_compiling_off_the_run_fails(run: Run) -> None:
    # Not by monkeypatch: torch hides a setting of its config for good when it is deleted, as undoing does.
    with torch._dynamo.config.patch(disable=True):
        record = run("steps=2", "compile.fullgraph=false")
    assert "nothing of transformer was compiled; unset TORCH_COMPILE_DISABLE" in record["error"]["message"]


def test_what_a_config_file_may_switch_are_switches_of_inductor() -> None:
    from torch._inductor import config

    assert all(isinstance(getattr(config, name), bool | None) for name in SWITCHES)
