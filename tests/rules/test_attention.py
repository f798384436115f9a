"""Rules on attention backends: when each applies, and when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.accelerate.attention_options import BACKENDS
from wavespeed_runner.rules import Rule, attention_needs
from wavespeed_runner.rules.attention import ATTENTION_BACKENDS

BF16 = {"model.dtype": "bfloat16"}
A100, H100, T4, B5090, B200 = ({**BF16, "device": f"cuda:{capability}"} for capability in (80, 90, 75, 120, 100))
ELSEWHERE = {**BF16, "device": "cuda"}
SD = {"name": "sd", "repo": "a/b", "steps": 4, "width": 64, "height": 64}
NONE = {"attention": "none", "device": "cuda"}
INSTALLED = ("flash_attn", "sageattention", "xformers", "kernels")
"""As if these packages were installed, and no others."""


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_needs, "find_spec", lambda name: name if name in INSTALLED else None)


def use(backend: str, *values: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {"attention": backend}
    for more in values:
        merged |= more
    return merged


def of(family: str) -> dict[str, Any]:
    return {"model.name": family}


CASES: Cases = {
    "attention-device": (
        [use("flash3"), use("cudnn", {"device": "cpu"}), use("npu", H100), use("aiter_hub", H100)],
        [use("flash_native"), use("math"), use("cudnn", H100), NONE],
    ),
    "attention-package": (
        [use("flash3", H100)],
        [use("flash", H100), use("flash3", ELSEWHERE), use("cudnn", H100), use("math")],
    ),
    "attention-capability": (
        [
            use("flash", T4),
            use("flash3", A100),
            use("flash3", B5090),
            use("sage_blackwell_hub", H100),
            use("sage", B200),
        ],
        [
            use("flash", A100),
            use("sage", A100),
            use("sage", B5090),
            use("sage_varlen", B200),
            use("flash3", H100),
            use("flash4_hub", B5090),
            use("efficient", T4),
            use("math"),
        ],
    ),
    "attention-dtype": (
        [use("flash", {"device": "cuda:90"}), use("flash_native", {"device": "cuda"}), use("efficient", T4)],
        [
            *(use("flash", H100), use("flash_native"), use("efficient", {"device": "cuda:90"})),
            *(use("efficient", A100), use("efficient", T4, {"model.dtype": "float16"})),
        ],
    ),
    "attention-masks": (
        [
            use("flash_native", of("z_image")),
            use("sage", H100, of("hunyuan_video")),
            use("flash_varlen", H100, of("ltx_video")),
            use("xformers", H100, of("hunyuan_video")),
            use("flash_varlen", H100, of("qwen_image"), {"batch_size": 2}),
        ],
        [
            use("flash_native"),
            use("math", of("z_image")),
            use("cudnn", H100, of("hunyuan_video")),
            use("flash_varlen", H100, of("z_image")),
            use("xformers", H100, of("ltx_video")),
            use("flash", H100, of("qwen_image")),
        ],
    ),
    "attention-heads": (
        [
            use("sage", A100, {"model": SD}),
            use("cudnn", A100, {"model": SD}),
            use("sage_blackwell_hub", B5090),  # init=tiny
            use("sage_blackwell_hub", B5090, of("pixart_sigma"), {"model.init": "random"}),
        ],
        [
            use("sage", A100),
            use("sage", A100, {"model": {**SD, "repo": "pkg://wavespeed_runner/weights/demo_unet"}}),
            use("sage_blackwell_hub", B5090, {"model.init": "random"}),
            use("flash", A100, {"model": SD}),
            use("cudnn", H100, {"model": SD}),
            use("cudnn", ELSEWHERE, {"model": SD}),
        ],
    ),
    "attention-replaced": (
        [use("math", {"compile": "regional"})],
        [use("math"), use("flash_native", {"compile": "regional"}), use("math", {"compile": "none"})],
    ),
    "attention-flex-eager": ([use("flex")], [use("flex", {"compile": "regional"}), use("math")]),
    "attention-sage-fullgraph": (
        [use("sage", A100, {"compile": "regional"})],
        [use("sage", A100), use("sage", A100, {"compile": "regional", "compile.fullgraph": False}), use("flash", A100)],
    ),
    "attention-elsewhere": ([use("flash3", ELSEWHERE)], [use("flash3", H100), NONE, use("math")]),
    "attention-hub": ([use("flash_hub", A100)], [use("flash", A100), NONE]),
    "attention-linear": ([use("math", of("sana"))], [use("math"), {"model.name": "sana"}]),
    "attention-unknown": (
        [use("math", {"model": {"name": "generic", "repo": "a/b", "steps": 4, "width": 64, "height": 64}})],
        [use("math"), NONE],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in ATTENTION_BACKENDS]


@pytest.mark.parametrize("rule", ATTENTION_BACKENDS, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def refuses(apply: Apply, values: dict[str, Any]) -> list[str]:
    return [f.rule for f in apply(values) if f.verdict == "bad" and f.rule.startswith("attention-")]


@pytest.mark.parametrize("values", [{}, H100, {**H100, "compile": "regional"}], ids=["cpu", "h100", "compiled"])
def test_what_a_refusal_suggests_is_not_refused_itself(apply: Apply, values: dict[str, Any]) -> None:
    (finding,) = [f for f in apply(use("npu", values)) if f.rule == "attention-device"]
    suggested = [part.partition("=")[2] for part in finding.fix.split("fit: ")[1].split(", ")]
    assert "native" in suggested
    for name in BACKENDS:
        assert bool(refuses(apply, use(name, values))) == (name not in suggested), name
