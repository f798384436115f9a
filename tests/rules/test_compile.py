"""Rules on compilation: when each applies, and when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.cases import FBCACHE, Apply, Cases, check_rule
from wavespeed_runner.accelerate.compile_options import CompileTarget
from wavespeed_runner.rules import Rule, compile, compile_needs
from wavespeed_runner.rules.compile import COMPILING

WARM = {"measure": "default"}
REGIONAL = WARM | {"compile": "regional"}
WHOLE = WARM | {"compile": "default"}
OVERHEAD = WARM | {"compile": "reduce_overhead"}
CUDA = {"device": "cuda"}
GROUP = {"memory": "group_offload"}
LEAVES = GROUP | {"memory.group_type": "leaf_level"}
ALL = {"compile.target": [target.value for target in CompileTarget]}
OFF = {"compile.disable": True}

GENERIC = {"name": "generic", "repo": "a/b", "steps": 4, "width": 64, "height": 64}
CASES: Cases = {
    "compile-backend": (
        [REGIONAL | {"compile.backend": "inducter"}],
        [REGIONAL, REGIONAL | {"compile.backend": "aot_eager"}, {}],
    ),
    "compile-mode-options": (
        [WHOLE | {"compile.mode": "max-autotune", "compile.options": {"epilogue_fusion": False}}],
        [WHOLE | {"compile.options": {"epilogue_fusion": False}}, OVERHEAD],
    ),
    "compile-backend-mode": (
        [
            OVERHEAD | {"compile.backend": "eager"},
            REGIONAL | {"compile.backend": "aot_eager", "compile.options": {"a": 1}},
        ],
        [
            REGIONAL | {"compile.backend": "eager"},
            REGIONAL | {"compile.backend": "openxla", "compile.options": {"a": 1}},
        ],
    ),
    "compile-mps": (
        [REGIONAL | {"device": "mps"}],
        [REGIONAL, REGIONAL | {"device": "mps", "compile.backend": "eager"}],
    ),
    "compile-warmup": (
        [
            *(REGIONAL | {"measure": "none"}, WHOLE | {"measure.warmup": 0}),
            REGIONAL | {"measure": "none", "compile.target": ["vae"], "model": GENERIC},
        ],
        [
            *(REGIONAL, {"measure": "none"}, REGIONAL | OFF | {"measure": "none"}),
            REGIONAL | {"measure": "none", "compile.target": ["vae"]},
        ],
    ),
    "compile-disabled": ([REGIONAL | OFF], [REGIONAL, {}]),
    "compile-cuda-graphs-device": (
        [OVERHEAD, WARM | {"compile": "max_autotune"}, REGIONAL | {"compile.backend": "cudagraphs"}],
        [OVERHEAD | CUDA, WARM | {"compile": "max_autotune_no_cudagraphs"}, OVERHEAD | OFF],
    ),
    "compile-cuda-graphs-cache": (
        [OVERHEAD | CUDA | FBCACHE, REGIONAL | CUDA | FBCACHE | {"compile.mode": "max-autotune"}],
        [OVERHEAD | CUDA, REGIONAL | CUDA | FBCACHE],
    ),
    "compile-cuda-graphs-regional": (
        [OVERHEAD | CUDA | {"compile.regional": True}],
        [OVERHEAD | CUDA, REGIONAL | CUDA],
    ),
    "compile-cuda-graphs-offload": (
        [OVERHEAD | CUDA | {"memory": "model_offload"}],
        [OVERHEAD | CUDA, WHOLE | CUDA | {"memory": "model_offload"}],
    ),
    "compile-cuda-graphs-dynamic": ([OVERHEAD | CUDA | {"compile.dynamic": True}], [OVERHEAD | CUDA]),
    "compile-hooks": (
        [REGIONAL | {"cache": "pab"}, WHOLE | {"cache": "fastercache"}, REGIONAL | {"cache": "pab", **ALL}],
        [REGIONAL | FBCACHE, {"cache": "pab"}, REGIONAL | {"cache": "pab", "compile.target": ["vae"]}],
    ),
    "compile-whole-cache": (
        [WHOLE | FBCACHE, WHOLE | FBCACHE | ALL],
        [REGIONAL | FBCACHE, WHOLE, WHOLE | FBCACHE | {"compile.target": ["vae"]}, WHOLE | FBCACHE | OFF],
    ),
    "compile-group-offload": (
        [WHOLE | GROUP, REGIONAL | LEAVES, REGIONAL | GROUP | ALL],
        [REGIONAL | GROUP, WHOLE | {"memory": "model_offload"}, LEAVES],
    ),
    "compile-casting": (
        [REGIONAL | {"memory": "layerwise_casting"}],
        [{"memory": "layerwise_casting"}, REGIONAL | {"memory": "layerwise_casting", "compile.target": ["vae"]}],
    ),
    "compile-breaks": (
        [],  # with a family that breaks, see below
        [REGIONAL | ALL, REGIONAL],
    ),
    "compile-vae-tiling": (
        [REGIONAL | ALL | {"memory": "vae_tiling"}],
        [REGIONAL | {"memory": "vae_tiling"}, REGIONAL | ALL],
    ),
    "compile-static-shapes": (
        [REGIONAL | {"graph": "hires_fix"}],
        [REGIONAL, REGIONAL | {"graph": "hires_fix", "compile.dynamic": True}],
    ),
}
MACHINE = ("compile-compiler", "compile-headers", "compile-triton")
"""Those that look at the machine; tested below."""
RULES = [rule for rule in COMPILING if rule.id not in MACHINE]


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_the_rule_applies_where_it_should(apply: Apply, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    applies, silent = CASES[rule.id]
    if rule.id == "compile-breaks":
        broken = {**compile.BREAKING, CompileTarget.vae: ("flux",)}
        with monkeypatch.context() as patched:
            patched.setattr(compile, "BREAKING", broken)
            check_rule(apply, rule, ([REGIONAL | ALL], [REGIONAL, REGIONAL | ALL | {"compile.fullgraph": False}]))
    check_rule(apply, rule, (applies, silent))


def test_every_rule_has_cases() -> None:
    assert set(CASES) | set(MACHINE) == {rule.id for rule in COMPILING}


def find(apply: Apply, rule: str, values: dict[str, Any]) -> list[Any]:
    return [finding for finding in apply(values) if finding.rule == rule]


def test_inductor_on_a_cpu_needs_the_compiler_that_torch_would_call(
    apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"clang++"}
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compile_needs.sys, "platform", "linux")
    monkeypatch.setattr(compile_needs, "which", lambda name: name if name in installed else None)
    (finding,) = find(apply, "compile-compiler", REGIONAL)
    assert "there is no g++" in finding.message and "CXX=clang++ in the environment" in finding.fix
    for values in (REGIONAL | {"compile.backend": "eager"}, REGIONAL | CUDA, REGIONAL | OFF, {}):
        assert not find(apply, "compile-compiler", values)
    monkeypatch.setenv("CXX", "clang++")
    assert not find(apply, "compile-compiler", REGIONAL)
    monkeypatch.setenv("CXX", "icpx")
    (finding,) = find(apply, "compile-compiler", REGIONAL)
    assert "there is no icpx" in finding.message
    monkeypatch.delenv("CXX")
    installed.clear()
    (finding,) = find(apply, "compile-compiler", REGIONAL)
    assert "apt install g++" in finding.fix and "compile=none" in finding.fix
    installed.add("g++")
    assert not find(apply, "compile-compiler", REGIONAL)


def test_the_compiler_is_the_one_that_torch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own search."""
    cpp_builder = pytest.importorskip("torch._inductor.cpp_builder")
    monkeypatch.delenv("CXX", raising=False)
    if compile_needs.has_compiler():
        assert cpp_builder.get_cpp_compiler() == compile_needs.find_compiler()


def test_headers_and_triton(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_needs, "has_compiler", lambda: True)
    monkeypatch.setattr(compile_needs, "has_headers", lambda: False)
    monkeypatch.setattr(compile_needs, "has_triton", lambda: False)
    assert not find(apply, "compile-triton", REGIONAL | CUDA), "on a machine without a GPU that says nothing"
    monkeypatch.setattr(compile_needs, "has_cuda", lambda: True)
    assert "Python.h" in find(apply, "compile-headers", REGIONAL)[0].message
    assert not find(apply, "compile-headers", REGIONAL | CUDA) and not find(apply, "compile-triton", REGIONAL)
    assert "needs triton" in find(apply, "compile-triton", REGIONAL | CUDA)[0].message
    monkeypatch.setattr(compile_needs, "has_headers", lambda: True)
    monkeypatch.setattr(compile_needs, "has_triton", lambda: True)
    assert not find(apply, "compile-headers", REGIONAL) and not find(apply, "compile-triton", REGIONAL | CUDA)


def test_torchs_own_backends_are_known() -> None:
    torch = pytest.importorskip("torch")
    names = set(torch.compiler.list_backends())
    assert names <= set(compile_needs.BACKENDS) and set(compile_needs.BACKENDS) <= set(
        torch.compiler.list_backends(exclude_tags=())
    )
