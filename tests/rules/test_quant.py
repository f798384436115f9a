"""Rules on quantization: when each applies, and when it does not. The device's capability is stated by each case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rules.cases import FBCACHE, LORA, TEACACHE, Apply, Cases, Values, check_rule
from wavespeed_runner.rules import Rule, quant_device
from wavespeed_runner.rules.check import Finding
from wavespeed_runner.rules.quant import EAGER_ON_CPU, QUANT
from wavespeed_runner.rules.quant_device import QUANT_DEVICES

RULES = (*QUANT_DEVICES, *QUANT)

BF16 = {"model.dtype": "bfloat16"}

AMPERE, ADA, HOPPER = ({"device": "cuda", "capability": c} for c in ((8, 0), (8, 9), (9, 0)))
KERNELS = {"packages": True}
COMPILED = {"compile": "regional"}
CUSTOM = {"quant": "custom", "quant.layers": [{"pattern": ".*to_q", "scheme": "fp8_dq"}]}
DEMO = {"model.init": "pretrained", "model.repo": "pkg://wavespeed_runner/weights/demo"}
GGUF = {"model.init": "pretrained", "model.repo": "flux.gguf"}
"""A file that is there, see `apply_stated`."""


def scheme(name: str) -> Values:
    return {"quant": name}


CASES: Cases = {
    "quant-empty": (
        [{"quant": "custom"}, {"quant": "custom", "quant.layers": [{"pattern": "x"}]}],
        [{}, CUSTOM, scheme("int8_dq")],
    ),
    "quant-component": (
        [
            scheme("int8_wo") | {"quant.components": ["unet"]},
            scheme("int8_wo") | {"quant.components": ["denoiser", "transformer_2"]},
            {"quant": "custom", "quant.layers": [{"pattern": "x", "scheme": "int8_wo", "component": "unet"}]},
            scheme("int8_wo") | DEMO | {"quant.components": ["text_encoder_9"]},
        ],
        [
            scheme("int8_wo") | {"quant.components": ["transformer", "text_encoder_2"]},
            scheme("int8_wo") | DEMO | {"quant.components": ["denoiser", "text_encoder_2"]},
            {},
        ],
    ),
    "quant-cuda-only": (
        [scheme("fp8_dq"), scheme("int4_wo"), scheme("fp8_dq_row") | {"device": "mps"}, CUSTOM],
        [scheme("fp8_dq") | ADA, scheme("int8_dq"), scheme("fp8_wo"), {}, scheme("fp8_dq") | {"device": "cuda"}],
    ),
    "quant-capability": (
        [scheme("fp8_dq") | AMPERE, scheme("fp8_dq_row") | AMPERE, CUSTOM | AMPERE, scheme("int4_wo") | ADA],
        [
            *(scheme("fp8_dq") | device for device in (ADA, {"device": "cuda"}, {})),
            *(scheme(name) | AMPERE for name in ("int8_dq", "fp8_wo")),
            scheme("int4_wo") | HOPPER,
            scheme("fp8_dq_row") | ADA,
        ],
    ),
    "quant-kernels": (
        [scheme("int4_wo") | HOPPER],
        [scheme("int4_wo") | HOPPER | KERNELS, scheme("fp8_dq") | ADA, scheme("int4_wo") | {"device": "cuda"}],
    ),
    "quant-unknown-device": (
        [scheme("fp8_dq") | {"device": "cuda"}, scheme("int4_wo") | {"device": "cuda:3"}],
        [scheme("fp8_dq") | ADA, scheme("int8_dq") | {"device": "cuda"}, scheme("fp8_dq"), {"device": "cuda"}],
    ),
    "quant-mps": ([scheme("int8_wo") | {"device": "mps"}], [{"device": "mps"}, scheme("int8_wo")]),
    "quant-dtype": (
        [scheme("fp8_dq_row") | HOPPER, scheme("int4_wo") | HOPPER | {"model.dtype": "float16"}],
        [scheme("fp8_dq_row") | HOPPER | BF16, scheme("fp8_dq") | ADA, scheme("int8_dq")],
    ),
    "quant-float16": (
        [scheme("int8_dq") | {"model.dtype": "float16"}],
        [scheme("int8_dq") | BF16, {"model.dtype": "float16"}, scheme("int4_wo") | {"model.dtype": "float16"}],
    ),
    "quant-checkpoint": ([scheme("int8_wo") | GGUF], [GGUF, scheme("int8_wo")]),
    "quant-eager": (
        [
            *(scheme("int8_dq"), scheme("int8_dq") | COMPILED | {"compile.disable": True}, CUSTOM),
            scheme("int8_dq") | COMPILED | {"compile.target": ["vae"]},
        ],
        [scheme("int8_dq") | COMPILED, scheme("int8_wo"), {}],
    ),
    "quant-weight-only": (
        [scheme("int8_wo") | ADA, scheme("fp8_wo") | COMPILED],
        [scheme("int8_dq"), {}, CUSTOM, scheme("int8_wo")],
    ),
    "quant-weight-only-cpu": (
        [scheme("int8_wo"), scheme("fp8_wo")],
        [scheme("int8_wo") | ADA, scheme("fp8_wo") | COMPILED, scheme("int8_dq"), {}],
    ),
    "quant-lora": (
        [LORA | scheme("int8_wo")],
        [LORA, LORA | scheme("int8_wo") | {"adapters.fuse": True}, scheme("int8_wo")],
    ),
    "quant-fuse": (
        [LORA | GGUF | {"adapters.fuse": True}],
        [LORA | GGUF, LORA | {"adapters.fuse": True}, LORA | scheme("int8_wo") | {"adapters.fuse": True}],
    ),
    "quant-casting": (
        [scheme("int8_wo") | {"memory": "layerwise_casting"}, GGUF | {"memory": "layerwise_casting"}],
        [{"memory": "layerwise_casting"}, scheme("int8_wo") | {"memory": "group_offload"}],
    ),
    "quant-stream": (
        [scheme("int8_wo") | {"memory": "group_offload", "memory.use_stream": True}],
        [scheme("int8_wo") | {"memory": "group_offload"}, {"memory": "group_offload", "memory.use_stream": True}],
    ),
    "quant-threshold": (
        [FBCACHE | scheme("int8_dq"), TEACACHE | scheme("fp8_wo")],
        [FBCACHE, scheme("int8_dq"), {"cache": "step_mask"} | scheme("int8_dq"), {"cache": "pab"} | scheme("int8_dq")],
    ),
    "quant-reference": (
        [scheme("int8_dq") | {"measure": "default"}],
        [scheme("int8_dq"), {"measure": "default"}],
    ),
}


@pytest.fixture
def apply_stated(apply: Apply, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Apply:
    """`apply` with a stated `capability` (none: unknown), and with all `packages` of kernels or none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flux.gguf").write_bytes(b"GGUF")

    def apply_to(values: Values) -> list[Finding]:
        values = dict(values)
        capability, packages = values.pop("capability", None), values.pop("packages", False)
        monkeypatch.setattr(quant_device, "read_capability", lambda device: capability)
        monkeypatch.setattr(quant_device, "find_spec", lambda name: packages or None)
        return apply(values)

    return apply_to


def test_every_rule_has_cases() -> None:
    assert sorted(CASES) == sorted(rule.id for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply_stated: Apply, rule: Rule) -> None:
    check_rule(apply_stated, rule, CASES[rule.id])


def find(apply: Apply, values: Values, rule: str) -> Finding:
    (finding,) = [finding for finding in apply(values) if finding.rule == rule]
    return finding


def test_the_way_out_is_what_the_device_can_do(apply_stated: Apply) -> None:
    here = "quant=int8_dq, quant=int8_wo"
    assert (
        find(apply_stated, scheme("fp8_dq"), "quant-cuda-only").fix
        == f"works here: {here}, quant=fp8_wo; or device=cuda"
    )
    too_old = find(apply_stated, scheme("fp8_dq") | AMPERE, "quant-capability")
    assert too_old.message == (
        "quant=fp8_dq on device=cuda: it has compute capability 8.0, and fp8_dq needs compute capability 8.9"
    )
    assert too_old.fix == f"works here: {here}, quant=fp8_wo"
    row = find(apply_stated, scheme("int4_wo") | ADA, "quant-capability")
    assert row.fix.endswith("quant=fp8_dq, quant=fp8_dq_row, quant=fp8_wo")
    kernels = find(apply_stated, scheme("int4_wo") | HOPPER, "quant-kernels")
    assert "the package mslk, which is not installed" in kernels.message
    assert "quant=int4_wo" not in kernels.fix and "quant=fp8_dq_row" in kernels.fix


@pytest.mark.parametrize("config", [{"quant_method": "torchao"}, {"load_in_8bit": True}, {"quant_method": "odd"}])
def test_a_folder_that_is_stored_quantized_is_recognised(
    apply_stated: Apply, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    (folder / "transformer").mkdir(parents=True)
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    file = folder / "transformer" / "config.json"
    values = scheme("int8_wo") | {"model.init": "pretrained", "model.repo": str(folder)}
    file.write_text("{}")
    assert "quant-checkpoint" not in [finding.rule for finding in apply_stated(values)]
    file.write_text(json.dumps({"quantization_config": config}))
    method = {"torchao": "torchao", "odd": "odd"}.get(str(config.get("quant_method")), "bitsandbytes")
    assert f"transformer ({method})" in find(apply_stated, values, "quant-checkpoint").message


def test_rules_quote_what_was_measured() -> None:
    """`python -m benchmarks.compile_cpu` on the demo models, at batch 1 and 8."""
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    measured = [json.loads(file.read_text(encoding="utf-8")) for file in results.glob("compile_cpu*.json")]
    settings = [run[model]["settings"] for run in measured for model in ("demo", "demo_unet") if model in run]
    assert len(settings) == 3
    for scheme_name, quoted in EAGER_ON_CPU.items():
        speedups = [setting[scheme_name]["speedup"] for setting in settings]
        assert quoted == f"{min(speedups):.2f} to {max(speedups):.2f}"
