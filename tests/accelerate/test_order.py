"""The facts behind `accelerate.order.ORDER`, shown with the libraries themselves on a small transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from wavespeed_runner.accelerate.order import ORDER

LAYERS = ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_k", "single_transformer_blocks.0.attn.to_v")
CLASSES = 2
"""Classes of blocks. One graph is compiled for each, because all blocks of a class are alike."""


@pytest.fixture(autouse=True)
def clean_compiler() -> Iterator[None]:
    """Discards compiled code before and after each test; no gradients."""
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def build_model() -> Any:
    """A tiny Flux transformer with seeded weights."""
    from diffusers import FluxTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (
            FluxTransformer2DModel(
                in_channels=4,
                num_layers=2,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                axes_dims_rope=(4, 4, 8),
            )
            .eval()
            .requires_grad_(False)
        )


def run_model(transformer: Any) -> torch.Tensor:
    """The output for fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"hidden_states": (1, 16, 4), "encoder_hidden_states": (1, 4, 32), "pooled_projections": (1, 32)}
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return transformer(
        **inputs,
        timestep=torch.tensor([0.5]),
        img_ids=torch.zeros(16, 3),
        txt_ids=torch.zeros(4, 3),
        return_dict=False,
    )[0]


def add_lora(transformer: Any, weight: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name in LAYERS:
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(32, 2, generator=generator)
    transformer.load_lora_adapter(tensors, adapter_name="a", prefix=None)
    transformer.set_adapters(["a"], [weight])
    return transformer


def fuse(transformer: Any) -> Any:
    transformer.fuse_lora()
    transformer.unload_lora()
    return transformer


def cast_to_float8(transformer: Any) -> Any:
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return transformer


def offload(transformer: Any) -> Any:
    transformer.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    return transformer


def compile_blocks(transformer: Any) -> Any:
    """Compiles each block as one full graph; returns a counter of compiled graphs."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.forward = torch.compile(block.forward, backend=counter, fullgraph=True)
    return counter


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative error in the L2 norm."""
    return float((actual - expected).norm() / expected.norm())


def test_the_order_names_the_groups_that_exist() -> None:
    from wavespeed_runner.config.paths import list_groups

    groups = ["adapters", "accelerate", "quant", "attention", "compile", "memory"]
    assert [applied.group for applied in ORDER] == groups
    assert set(groups) <= set(list_groups())


def test_adapters_after_compile_recompile_all_blocks() -> None:
    expected = run_model(add_lora(build_model()))
    transformer = add_lora(build_model())
    counter = compile_blocks(transformer)
    assert distance(run_model(transformer), expected) < 1e-6
    before = counter.frame_count
    assert distance(run_model(transformer), expected) < 1e-6 and counter.frame_count == before

    late = build_model()
    counter = compile_blocks(late)
    run_model(late)
    assert counter.frame_count == CLASSES
    add_lora(late)
    assert distance(run_model(late), expected) < 1e-6  # compiled blocks do use the adapter
    assert counter.frame_count == CLASSES + before


def test_weighting_after_compile_recompiles() -> None:
    transformer = add_lora(build_model())
    counter = compile_blocks(transformer)
    run_model(transformer)
    before = counter.frame_count
    transformer.set_adapters(["a"], [0.5])
    assert distance(run_model(transformer), run_model(add_lora(build_model(), 0.5))) < 1e-6
    assert counter.frame_count > before


def test_adapters_fused_before_compile_need_no_more_graphs() -> None:
    transformer = fuse(add_lora(build_model()))
    counter = compile_blocks(transformer)
    assert distance(run_model(transformer), run_model(add_lora(build_model()))) < 1e-5
    assert counter.frame_count == CLASSES


@pytest.mark.parametrize(
    ("late", "error"),
    [
        (lambda: run_model(add_lora(cast_to_float8(build_model()))), NotImplementedError),
        (lambda: run_model(fuse(cast_to_float8(add_lora(build_model())))), RuntimeError),
    ],
    ids=["loaded", "fused"],
)
def test_adapters_after_casting_fail(late: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(?i)float8"):
        late()


@pytest.mark.parametrize("prepare", [lambda m: m, fuse], ids=["beside", "fused"])
def test_adapters_before_casting_take_effect(prepare: Callable[[Any], Any]) -> None:
    """The only error is the rounding to 8 bits, which the model without the LoRA has too."""
    plain, plain_cast = run_model(build_model()), run_model(cast_to_float8(build_model()))
    expected = run_model(add_lora(build_model()))
    actual = run_model(cast_to_float8(prepare(add_lora(build_model()))))
    assert distance(actual, expected) < 1.5 * distance(plain_cast, plain)
    assert distance(actual, plain_cast) == pytest.approx(distance(expected, plain), rel=0.3)


def test_compile_after_group_offload_breaks_the_full_graph() -> None:
    transformer = build_model()
    counter = compile_blocks(transformer)
    assert distance(run_model(offload(transformer)), run_model(build_model())) < 1e-6 and counter.frame_count == CLASSES

    late = offload(build_model())
    compile_blocks(late)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        run_model(late)


def test_adapters_are_offloaded_with_their_layers() -> None:
    assert distance(run_model(offload(add_lora(build_model()))), run_model(add_lora(build_model()))) < 1e-6


class TestQuantization:
    """Quantization with torchao, if it is installed."""

    @pytest.fixture
    def quantize(self) -> Callable[[Any], Any]:
        quantization = pytest.importorskip("torchao.quantization")

        def apply(transformer: Any) -> Any:
            quantization.quantize_(
                transformer,
                quantization.Int8WeightOnlyConfig(set_inductor_config=False),
                filter_fn=lambda m, name: isinstance(m, torch.nn.Linear) and "blocks" in name and "lora_" not in name,
            )
            return transformer

        return apply

    def test_adapters_must_be_fused_before_quantization(self, quantize: Callable[[Any], Any]) -> None:
        expected = run_model(add_lora(build_model()))
        assert (
            distance(run_model(quantize(fuse(add_lora(build_model())))), expected)
            < 0.005
            < 0.02
            < distance(run_model(quantize(build_model())), expected)
        )
        with pytest.raises(NotImplementedError):
            fuse(quantize(add_lora(build_model())))
        with pytest.raises(ValueError, match="re-quantize"):
            fuse(add_lora(quantize(build_model())))

    def test_unfused_adapters_work_in_either_order(self, quantize: Callable[[Any], Any]) -> None:
        first, late = run_model(quantize(add_lora(build_model()))), run_model(add_lora(quantize(build_model())))
        assert distance(first, late) < 1e-6 and distance(first, run_model(add_lora(build_model()))) < 0.005

    def test_quantization_after_compile_recompiles(self, quantize: Callable[[Any], Any]) -> None:
        transformer = build_model()
        counter = compile_blocks(transformer)
        run_model(transformer)
        quantize(transformer)
        run_model(transformer)
        assert counter.frame_count == 2 * CLASSES

        early = quantize(build_model())
        counter = compile_blocks(early)
        assert distance(run_model(early), run_model(quantize(build_model()))) < 1e-6 and counter.frame_count == CLASSES
