"""What the order of `accelerate.order.ORDER` rests on: shown with the libraries themselves, on a small transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from wavespeed_runner.accelerate.order import ORDER

LAYERS = ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_k", "single_transformer_blocks.0.attn.to_v")
CLASSES = 2
"""Of blocks: so many graphs are compiled where all blocks of a class are alike."""


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Nothing compiled before, nothing left behind; no gradients."""
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def model() -> Any:
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


def made(transformer: Any) -> torch.Tensor:
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


def with_lora(transformer: Any, weight: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name in LAYERS:
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(32, 2, generator=generator)
    transformer.load_lora_adapter(tensors, adapter_name="a", prefix=None)
    transformer.set_adapters(["a"], [weight])
    return transformer


def fused(transformer: Any) -> Any:
    transformer.fuse_lora()
    transformer.unload_lora()
    return transformer


def cast(transformer: Any) -> Any:
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return transformer


def offloaded(transformer: Any) -> Any:
    transformer.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    return transformer


def compiled(transformer: Any) -> Any:
    """Each block as one whole graph; returns a counter of graphs."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.forward = torch.compile(block.forward, backend=counter, fullgraph=True)
    return counter


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_the_order_is_of_known_groups() -> None:
    from wavespeed_runner.config.paths import list_groups

    assert [step.group for step in ORDER] == ["adapters", "quant", "compile", "memory"]
    assert {"adapters", "memory"} <= set(list_groups())


def test_adapters_before_compile_or_all_blocks_compile_again() -> None:
    expected = made(with_lora(model()))
    transformer = with_lora(model())
    counter = compiled(transformer)
    assert distance(made(transformer), expected) < 1e-6
    before = counter.frame_count
    assert distance(made(transformer), expected) < 1e-6 and counter.frame_count == before

    late = model()
    counter = compiled(late)
    made(late)
    assert counter.frame_count == CLASSES
    with_lora(late)
    assert distance(made(late), expected) < 1e-6  # compiled blocks do see it
    assert counter.frame_count == CLASSES + before


def test_weighing_after_compile_compiles_again() -> None:
    transformer = with_lora(model())
    counter = compiled(transformer)
    made(transformer)
    before = counter.frame_count
    transformer.set_adapters(["a"], [0.5])
    assert distance(made(transformer), made(with_lora(model(), 0.5))) < 1e-6
    assert counter.frame_count > before


def test_fused_before_compile_the_graphs_are_those_of_no_adapter() -> None:
    transformer = fused(with_lora(model()))
    counter = compiled(transformer)
    assert distance(made(transformer), made(with_lora(model()))) < 1e-5
    assert counter.frame_count == CLASSES


@pytest.mark.parametrize(
    ("late", "error"),
    [
        (lambda: made(with_lora(cast(model()))), NotImplementedError),
        (lambda: made(fused(cast(with_lora(model())))), RuntimeError),
    ],
    ids=["loaded", "fused"],
)
def test_adapters_after_casting_fail(late: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(?i)float8"):
        late()


@pytest.mark.parametrize("prepare", [lambda m: m, fused], ids=["beside", "fused"])
def test_adapters_before_casting_have_their_effect(prepare: Callable[[Any], Any]) -> None:
    """What is off is the rounding to 8 bits, which the model without the LoRA has as well."""
    expected, rounding = made(with_lora(model())), distance(made(cast(model())), made(model()))
    found = made(cast(prepare(with_lora(model()))))
    assert distance(found, expected) < 1.5 * rounding
    assert distance(found, made(cast(model()))) == pytest.approx(distance(expected, made(model())), rel=0.3)


def test_compile_before_group_offload_or_there_is_no_whole_graph() -> None:
    transformer = model()
    counter = compiled(transformer)
    assert distance(made(offloaded(transformer)), made(model())) < 1e-6 and counter.frame_count == CLASSES

    late = offloaded(model())
    compiled(late)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        made(late)


def test_adapters_are_offloaded_with_their_layers() -> None:
    assert distance(made(offloaded(with_lora(model()))), made(with_lora(model()))) < 1e-6


class TestQuant:
    """With torchao, where it is installed."""

    @pytest.fixture
    def quantized(self) -> Callable[[Any], Any]:
        quantization = pytest.importorskip("torchao.quantization")

        def quantize(transformer: Any) -> Any:
            quantization.quantize_(
                transformer,
                quantization.Int8WeightOnlyConfig(set_inductor_config=False),
                filter_fn=lambda m, name: isinstance(m, torch.nn.Linear) and "blocks" in name and "lora_" not in name,
            )
            return transformer

        return quantize

    def test_fused_before_quant(self, quantized: Callable[[Any], Any]) -> None:
        expected = made(with_lora(model()))
        assert (
            distance(made(quantized(fused(with_lora(model())))), expected)
            < 0.005
            < 0.02
            < distance(made(quantized(model())), expected)
        )
        with pytest.raises(NotImplementedError):
            fused(quantized(with_lora(model())))
        with pytest.raises(ValueError, match="re-quantize"):
            fused(with_lora(quantized(model())))

    def test_beside_quantized_weights_either_order_gives_the_same(self, quantized: Callable[[Any], Any]) -> None:
        first, late = made(quantized(with_lora(model()))), made(with_lora(quantized(model())))
        assert distance(first, late) < 1e-6 and distance(first, made(with_lora(model()))) < 0.005

    def test_quant_after_compile_compiles_again(self, quantized: Callable[[Any], Any]) -> None:
        transformer = model()
        counter = compiled(transformer)
        made(transformer)
        quantized(transformer)
        made(transformer)
        assert counter.frame_count == 2 * CLASSES

        early = quantized(model())
        counter = compiled(early)
        assert distance(made(early), made(quantized(model()))) < 1e-6 and counter.frame_count == CLASSES
