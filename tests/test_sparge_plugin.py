"""The plugin for SpargeAttn: refused where it cannot run, and called as its authors do, with a stand-in on this CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.denoiser_calls import call_family, distance
from wavespeed_runner.accelerate.attention import apply_attention, collect_evidence, explain_attention_errors
from wavespeed_runner.accelerate.attention_routing import calls_torch, route_processor
from wavespeed_runner.accelerate.kernels import add_kernels, profile_kernels
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.errors import ConfigError, RunError

REPO = Path(__file__).resolve().parents[1]
PLUGIN = REPO / "plugins" / "sparge"

STAND_IN = '''
"""Exact attention with the signature and the checks of spas_sage_attn's function, but for the size of heads."""
import torch

calls = []

def spas_sage2_attn_meansim_topk_cuda(
    q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, smooth_k=True, simthreshd1=-0.1,
    cdfthreshd=None, topk=0.35, pvthreshd=50, attention_sink=False, tensor_layout="HND", output_dtype=torch.float16,
    return_sparsity=False, return_lse=False,
):
    assert tensor_layout == "HND" and attn_mask is None
    assert q.size(-2) >= LEAST, "seq_len should be not less than 128."
    calls.append({"topk": topk, "scale": scale, "shape": tuple(q.shape)})
    return torch.softmax(q @ k.transpose(-1, -2) * scale, dim=-1) @ v
'''


@pytest.fixture
def sparge(
    tmp_path: Path, own_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], tuple[Any, list[Any]]]]:
    """`sparge(least)`: the plugin's module and the calls of a kernel that needs so many tokens at least."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PLUGIN))

    def load(least: int = 16) -> tuple[Any, list[Any]]:
        (tmp_path / "spas_sage_attn.py").write_text(STAND_IN.replace("LEAST", str(least)), encoding="utf-8")
        import spas_sage_attn
        import wavespeed_sparge.backend as backend

        return backend, spas_sage_attn.calls

    yield load
    for name in [name for name in sys.modules if name.startswith(("spas_sage_attn", "wavespeed_sparge"))]:
        del sys.modules[name]
    torch._dynamo.reset()


@pytest.mark.parametrize("family", ["flux", "sdxl", "wan"])
def test_all_attention_of_a_pipeline_goes_through_the_kernel(sparge: Any, family: str) -> None:
    """Through diffusers' dispatcher or past it."""
    backend, calls = sparge(1)
    model, options = call_family(family), backend.SpargeOptions(topk=0.7)
    pipe = copy_pipeline(model.pipe)
    apply_attention(pipe, model.family, options)
    assert distance(model.repeat(pipe), model.repeat(model.pipe)) < 1e-4
    evidence = collect_evidence(pipe, options)
    assert evidence is not None and not evidence["set"] and not evidence["left"]
    assert len(calls) == sum(evidence["wrapped"].values()) and {call["topk"] for call in calls} == {0.7}

    added = add_kernels({"attention": evidence}, profile_kernels(model.of(pipe)))["attention"]
    assert {*added["self"], *added["cross"]} == {"spas_sage_attn::topk"}
    assert bool(added["cross"]) == (family != "flux")


def test_a_compiled_layer_calls_it_without_a_graph_break(sparge: Any) -> None:
    from diffusers.models.attention_processor import Attention

    backend, calls = sparge()
    layer = Attention(128, heads=2, dim_head=64).eval()
    with torch.inference_mode():
        tokens = torch.randn(1, 130, 128)
        expected = layer(tokens)
        assert calls_torch(layer.processor)
        layer.processor = route_processor(layer.processor, "sparge", backend.build(backend.SpargeOptions()))
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert distance([compiled(tokens)], [expected]) < 1e-5
    assert calls[-1] == {"topk": 0.5, "scale": 64**-0.5, "shape": (1, 2, 130, 64)}


@pytest.mark.parametrize(
    ("family", "least", "text"), [("z_image", 1, "without masks"), ("flux", 10_000, "not less than 128")]
)
def test_masks_and_short_sequences_fail_in_the_first_call(sparge: Any, family: str, least: int, text: str) -> None:
    backend, _ = sparge(least)
    model, options = call_family(family), backend.SpargeOptions()
    pipe = copy_pipeline(model.pipe)
    apply_attention(pipe, model.family, options)
    with pytest.raises(RunError, match=rf"attention=sparge does not fit .*{text}"), explain_attention_errors(options):
        model.repeat(pipe)


def test_without_the_package_loading_is_an_error(sparge: Any, tmp_path: Path) -> None:
    backend, _ = sparge()
    del sys.modules["spas_sage_attn"]
    (tmp_path / "spas_sage_attn.py").unlink()
    backend.define_operator.cache_clear()
    with pytest.raises(RunError, match=r"attention=sparge: No module named 'spas_sage_attn'; use another backend"):
        apply_attention(copy_pipeline(call_family("flux").pipe), call_family("flux").family, backend.SpargeOptions())


@pytest.mark.parametrize("topk", [0.0, 1.5])
def test_the_share_of_blocks_is_checked(sparge: Any, topk: float) -> None:
    with pytest.raises(ConfigError, match=r"attention\.topk"):
        sparge()[0].SpargeOptions(topk=topk)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin in it, as pip installs it; nothing is downloaded."""
    target = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(target), str(PLUGIN)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize(
    ("overrides", "status", "text"),
    [
        (["device=cpu"], 2, "attention=sparge runs on cuda, and this run on cpu"),
        (["device=cuda", "model.dtype=bfloat16"], 0, "and the package spas_sage_attn"),
        (["device=cuda"], 2, "attention=sparge computes in float16 or bfloat16"),
        (["device=cuda", "model.dtype=bfloat16", "model=z_image"], 2, "attention=sparge takes no masks"),
        (["device=cuda", "model.dtype=bfloat16", "attention.topk=2"], 2, "attention.topk=2"),
    ],
    ids=["cpu", "elsewhere", "dtype", "masks", "topk"],
)
def test_the_plan_says_whether_it_fits(
    installed: Path, tmp_path: Path, overrides: list[str], status: int, text: str
) -> None:
    # The demo's architecture at the size of FLUX.1, of which a plan makes nothing.
    command = [sys.executable, "-m", "wavespeed_runner", "attention=sparge", "model.init=random", "dry_run=true"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(installed)])}
    done = subprocess.run(
        [*command, *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
