"""Evidence of kernels: what the profiler sees of one call, also when it is compiled, and leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.accelerate.denoiser_calls import call_family
from tests.accelerate.test_order import build_model, run_model
from wavespeed_runner.accelerate.attention import refuse_other_operators
from wavespeed_runner.accelerate.kernels import (
    _classify,
    _list_kernels,
    add_kernels,
    needs_kernels,
    profile_kernels,
    record_examples,
)
from wavespeed_runner.errors import RunError

FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"


@pytest.fixture(autouse=True)
def clean_compiler() -> Iterator[None]:
    """Discards compiled code before and after each test; tensors as in a generation."""
    torch._dynamo.reset()
    with torch.inference_mode():
        yield
    torch._dynamo.reset()


def test_self_and_cross_attention_and_matrix_products_are_told_apart() -> None:
    model = call_family("wan")
    seen = profile_kernels(model.examples)
    blocks = len(model.pipe.transformer.blocks)
    assert seen["self"] == {FLASH: blocks} and seen["cross"] == {FLASH: blocks}
    linear = sum(isinstance(module, torch.nn.Linear) for module in model.pipe.transformer.modules())
    assert sum(seen["matmul"].values()) >= linear - 2 and set(seen["matmul"]) <= {
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
    }
    assert seen["attention_kernels"] == seen["matmul_kernels"] == {}  # no GPU here


def test_joint_attention_counts_as_self_attention() -> None:
    seen = profile_kernels(call_family("flux").examples)
    assert seen["self"] == {FLASH: 6} and seen["cross"] == {}


class Event:
    """As the profiler gives them."""

    def __init__(self, name: str, shapes: Any = (), device: str = "CPU", start: int = 0, end: int = 1) -> None:
        self.name, self.shapes = (lambda: name), (lambda: shapes)
        self.start_ns, self.end_ns = (lambda: start), (lambda: end)
        self.device_type = lambda: type("Type", (), {"name": device})
        self.start_thread_id = lambda: 1


HEADS_FIRST, TOKENS_FIRST = [[1, 4, 9, 16], [1, 4, 77, 16]], [[1, 9, 4, 16], [1, 77, 4, 16]]


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        (Event("aten::_scaled_dot_product_cudnn_attention", HEADS_FIRST), ["cross"]),
        (Event("aten::_scaled_dot_product_flash_attention", [[1, 4, 9, 16]] * 2), ["self"]),
        (Event("aten::_flash_attention_forward", TOKENS_FIRST), []),  # inside of the one above
        (Event("aten::scaled_dot_product_attention", HEADS_FIRST), []),  # around it
        (Event("flash_attn::_flash_attn_forward", TOKENS_FIRST), ["cross"]),
        (Event("_diffusers_flash_attn_3::_flash_attn_forward", [[1, 9, 4, 16]] * 2), ["self"]),
        (Event("sageattention::qk_int8_sv_f16_accum_f32_attn", []), ["self"]),
        (Event("aten::_int_mm"), ["matmul"]),
        (Event("aten::_scaled_mm"), ["matmul"]),
        (Event("aten::linear"), []),  # calls addmm
        (Event("sm90_xmma_gemm_bf16bf16", device="CUDA"), ["matmul_kernels"]),
        (Event("flash_fwd_kernel_sm90", device="CUDA"), ["attention_kernels"]),
    ],
    ids=lambda value: value.name() if isinstance(value, Event) else "",
)
def test_events_of_other_devices_and_packages(event: Event, kinds: list[str]) -> None:
    assert _classify(event) == kinds


def test_an_operator_that_passes_on_to_itself_counts_once() -> None:
    """As one of a subclass of tensors does; on a GPU, kernels of one name run side by side."""
    outer, inner, later = (Event("aten::mm", start=start, end=end) for start, end in ((1, 9), (2, 8), (9, 10)))
    other = Event("aten::_int_mm", start=3, end=4)
    kernels = [Event("gemm", device="CUDA", start=1, end=9) for _ in range(2)]
    assert Counter(_list_kernels([later, inner, outer, other, *kernels])) == {
        ("matmul", "aten::mm"): 2,
        ("matmul", "aten::_int_mm"): 1,
        ("matmul_kernels", "gemm"): 2,
    }


def compile_blocks(model: Any, backend: str) -> None:
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        block.compile(backend=backend, fullgraph=True)


@pytest.mark.parametrize("whole", [False, True], ids=["blocks", "whole"])
def test_calls_of_compiled_denoisers_are_recorded_without_compiling_again(whole: bool) -> None:
    model = build_model()
    if whole:
        model.compile(backend="aot_eager", fullgraph=True)
    else:
        compile_blocks(model, "aot_eager")
    compiled = model._compiled_call_impl
    run_model(model)
    with torch._dynamo.config.patch(error_on_recompile=True):
        with record_examples([model]) as examples:
            run_model(model)
            run_model(model)
        assert len(examples) == 1
        assert profile_kernels(examples)["self"] == {FLASH: 3}
        run_model(model)
    assert model._compiled_call_impl is compiled and not model._forward_pre_hooks


@pytest.mark.slow
def test_the_compiler_replaces_plain_operations_by_its_own_kernel_and_that_is_found_out() -> None:
    """Why attention=math is refused with compile: inductor recognizes it and calls the fused kernel."""
    model = build_model()
    for module in model.modules():
        if hasattr(getattr(module, "processor", None), "_attention_backend"):
            module.processor._attention_backend = "_native_math"
    with record_examples([model]) as examples:
        run_model(model)
    assert profile_kernels(examples)["self"] == {MATH: 3}
    compile_blocks(model, "inductor")
    # Without the programs that find out what the compiler knows of the processor, and without more processes.
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True, "compile_threads": 1}):
        run_model(model)
    seen = profile_kernels(examples)["self"]
    assert seen == {FLASH: 3}
    with pytest.raises(RunError, match=f"attention=math: the denoiser ran {FLASH}"):
        refuse_other_operators("math", list(seen))


def test_the_profiler_writes_nothing_to_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    call_family("flux")
    capfd.readouterr()
    profile_kernels(call_family("flux").examples)
    assert capfd.readouterr() == ("", "")


def test_evidence_gets_the_kernels_that_concern_it() -> None:
    seen = {
        "self": {FLASH: 2},
        "cross": {},
        "matmul": {"aten::_int_mm": 4},
        "attention_kernels": {},
        "matmul_kernels": {},
    }
    engaged = {"attention": {"backend": "flash_native"}, "quant": {"layers": 4}, "memory": None}
    assert needs_kernels(engaged) and not needs_kernels({"attention": None, "quant": None})
    added = add_kernels(engaged, seen)
    assert added["attention"]["self"] == {FLASH: 2} and added["quant"] == {"layers": 4, "kernels": {"aten::_int_mm": 4}}
    assert add_kernels(engaged, None) is engaged and "kernels" not in engaged["quant"]
    with pytest.raises(RunError, match="attention=math"):
        add_kernels({"attention": {"backend": "math"}}, seen)
