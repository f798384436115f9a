"""What quantizing a pipeline leaves: the evidence, the bytes, and a process whose settings are as before."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest
import torch

from tests.accelerate.quantized import quantize, swapped
from tests.accelerate.random_adapters import write_lora
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate import quant
from wavespeed_runner.accelerate.adapter_options import Lora
from wavespeed_runner.accelerate.adapters import apply_adapters
from wavespeed_runner.accelerate.quant_options import CustomQuant, LayerScheme, NoQuant, QuantOptions
from wavespeed_runner.accelerate.quant_targets import layers_of, list_layers
from wavespeed_runner.errors import RunError


@pytest.mark.parametrize("scheme", ["fp8_dq", "int4_wo"])
def test_schemes_for_cuda_fail_on_a_cpu(scheme: str) -> None:
    """Why the plan refuses them."""
    layer = torch.nn.Linear(128, 128, dtype=torch.bfloat16).requires_grad_(False)
    with pytest.raises(RunError, match=f"quant={scheme}: torchao cannot quantize transformer.x: "):
        quant.quantize_layer(layer, scheme, "transformer.x", "cpu")


def test_bytes_are_those_of_codes_and_scales() -> None:
    pipe, evidence = quantize("flux", QuantOptions(name="int8_wo"))
    weights = [layers_of(pipe, "transformer")[name].weight for name in swapped(pipe)]
    before = sum(weight.numel() * 4 for weight in weights)
    # One byte a weight; for each row a scale in float32 and a zero point in int8.
    after = sum(weight.numel() + 5 * len(weight) for weight in weights)
    assert evidence["transformer"]["swapped"]["bytes"] == {"before": before, "after": after}
    whole = evidence["transformer"]["bytes"]
    assert whole["before"] == sum(p.numel() * 4 for p in tiny("flux")[2].transformer.parameters())
    assert whole["before"] - whole["after"] == before - after


def read_settings() -> dict[str, Any]:
    """What torchao's recommended settings change, and what its older releases changed."""
    import torch._inductor.config as inductor

    matmul = {"matmul": torch.get_float32_matmul_precision(), "tf32": torch.backends.cuda.matmul.allow_tf32}
    return {**copy.deepcopy(inductor.get_config_copy()), **matmul}


def test_process_wide_settings_stay_as_they_are() -> None:
    import torch._inductor.config as inductor
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    before = read_settings()
    for scheme in ("int8_dq", "int8_wo", "fp8_wo"):
        quantize("flux", QuantOptions(name=scheme))
    assert read_settings() == before
    names = ("coordinate_descent_tuning", "coordinate_descent_check_all_directions", "force_fuse_int_mm_with_mul")
    with inductor.patch(dict.fromkeys(names, False)):
        unset = read_settings()
        quantize_(torch.nn.Linear(8, 8), Int8WeightOnlyConfig())
        assert read_settings() != unset, "torchao's own default"
    assert read_settings() == before


def test_quantized_layers_compute_close_to_the_originals() -> None:
    plain = tiny("flux")[2]
    pipe, _ = quantize("flux", QuantOptions(name="int8_dq"))
    inputs = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    name = "transformer_blocks.0.attn.to_q"
    inputs = inputs[..., : layers_of(plain, "transformer")[name].in_features]
    exact, actual = (dict(list_layers(p.transformer))[name](inputs) for p in (plain, pipe))
    assert 1e-4 < (actual - exact).norm() / exact.norm() < 0.03


def test_nothing_asked_nothing_done() -> None:
    family, _, pipe = tiny("flux")
    assert quant.apply_quant(pipe, family, NoQuant(), "cpu") is pipe and not swapped(pipe)
    assert quant.collect_evidence(pipe, family, NoQuant(), "cpu", {}) is None


@pytest.mark.parametrize("fuse", [False, True])
def test_a_lora_is_fused_before_or_stays_beside(fuse: bool, tmp_path: Any) -> None:
    family, _, pipe = tiny("flux")
    pipe = copy.deepcopy(pipe)
    file = write_lora(pipe.transformer, tmp_path / "lora.safetensors", "transformer")
    apply_adapters(pipe, Lora(path=str(file), fuse=fuse))
    options = QuantOptions(name="int8_wo")
    quant.apply_quant(pipe, family, options, "cpu")
    evidence = quant.collect_evidence(pipe, family, options, "cpu", {})
    assert evidence is not None
    found = evidence["components"]["transformer"]
    assert found["swapped"]["layers"] == 44
    assert ("a LoRA's own" in found["left"]["names"]) is not fuse
    assert "base_layer" not in str(evidence)


def test_options_survive_the_record() -> None:
    options = CustomQuant(layers=[LayerScheme(pattern="x", scheme="int8_wo")])
    assert asdict(options)["layers"] == [{"pattern": "x", "scheme": "int8_wo", "component": "denoiser"}]
