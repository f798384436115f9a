"""Typed options of the config group `attention`, and what each backend needs.

The backends are those of diffusers' dispatcher (`diffusers/models/attention_dispatch.py`), under names that people use:
`flash3` instead of `_flash_3`. What the dispatcher itself demands (dtypes, masks, some compute capabilities) is read
there; what the packages demand is read in their own documentation, named in `Backend.source`. A plugin adds a backend
with `register("attention", name, options)(Backend(build=...))`, as `plugins/sparge` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..config.schema import AttentionConfig
from ..registry import register


class Masks(Enum):
    """Which attention masks a backend takes, from all to none."""

    any = "any"
    additive = "additive"
    """Masks of numbers that are added to the scores; boolean ones would be taken for zeros and ones."""
    boolean = "boolean"
    """Masks that say which keys a query sees."""
    padding = "padding"
    """Boolean masks that leave out keys at the end of a sequence, the same for all queries."""
    none = "none"


HALF = ("float16", "bfloat16")
ALL_DTYPES = ("float32", *HALF)
DISPATCHER = "diffusers/models/attention_dispatch.py of diffusers 0.42.1"
FLASH = "https://github.com/Dao-AILab/flash-attention README"
SAGE = "https://github.com/thu-ml/SageAttention sageattention/core.py"
SDPA = "pytorch aten/src/ATen/native/transformers/cuda/sdp_utils.cpp"


HOPPER: dict[str, Any] = {"capability": (9, 0), "newest": (9, 0), "largest_head": 256, "source": FLASH}
AMPERE: dict[str, Any] = {"capability": (8, 0), "largest_head": 256, "source": FLASH}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One attention backend, and what it needs."""

    dispatch: str = "native"
    """Its name in diffusers, `AttentionBackendName`."""
    build: Callable[[Any], Callable[..., Any]] | None = None
    """(options) -> a function with the parameters of `torch.nn.functional.scaled_dot_product_attention`; for backends
    that diffusers does not have."""
    package: str = ""
    """The module that holds its kernels; empty: torch has them."""
    install: str = ""
    """What to install for it."""
    hub: str = ""
    """The Hugging Face repository whose compiled code is downloaded and run."""
    devices: tuple[str, ...] = ("cuda",)
    """Kinds of torch devices that it runs on."""
    capability: tuple[int, int] | None = None
    """Lowest CUDA compute capability."""
    newest: tuple[int, int] | None = None
    """Highest CUDA compute capability, where kernels are made for one generation of GPUs."""
    generations: tuple[tuple[int, int], ...] = ()
    """The only CUDA compute capabilities; empty: any from the lowest to the highest."""
    dtypes: tuple[str, ...] = HALF
    """On a GPU; torch's kernels for CPUs take all."""
    bfloat16: tuple[int, int] | None = None
    """Lowest CUDA compute capability for bfloat16, where others take the other number formats."""
    masks: Masks = Masks.none
    largest_head: int | None = None
    """The largest size of a head."""
    largest_heads: tuple[tuple[tuple[int, int], int], ...] = ()
    """(CUDA compute capability, largest size) for GPUs that take larger ones."""
    head_sizes: tuple[int, ...] = ()
    """The only sizes of a head; empty: any up to `largest_head`."""
    operators: str = r"^(?!aten::_scaled_dot_product)"
    """Regular expression of the attention operators that may run. The default: none of torch's own, so that a layer
    that went past the backend is found out."""
    survives_compile: bool = True
    """False: torch.compile replaces it by another kernel."""
    source: str = DISPATCHER


@dataclass(kw_only=True)
class NoAttention(AttentionConfig):
    """The model's own attention: what diffusers chooses, normally torch's `scaled_dot_product_attention`."""

    name: str = "none"


@dataclass(kw_only=True)
class AttentionOptions(AttentionConfig):
    """A backend has no options of its own."""


def _torch_kernel(dispatch: str, operator: str, **needs: Any) -> Backend:
    """A kernel of torch's own `scaled_dot_product_attention`, alone, without a way to fall back."""
    return Backend(dispatch=dispatch, operators=rf"^aten::_scaled_dot_product_{operator}", source=SDPA, **needs)


def _flash(dispatch: str, **needs: Any) -> Backend:
    """FlashAttention-2 as an installed package."""
    return Backend(dispatch=dispatch, package="flash_attn", install="flash-attn>=2.6.3", **AMPERE, **needs)


def _flash3(dispatch: str, **needs: Any) -> Backend:
    """FlashAttention-3 as an installed package."""
    install = "FlashAttention-3 from its source"
    return Backend(dispatch=dispatch, package="flash_attn_interface", install=install, **HOPPER, **needs)


def _hub(dispatch: str, hub: str, **needs: Any) -> Backend:
    """Kernels that the package `kernels` downloads from the Hugging Face Hub."""
    return Backend(dispatch=dispatch, hub=hub, package="kernels", install="kernels>=0.12.3", **needs)


def _sage(dispatch: str, **needs: Any) -> Backend:
    """SageAttention as an installed package: 8-bit integers for the scores."""
    needs = {"capability": (8, 0), "source": SAGE, **needs}
    return Backend(
        dispatch=dispatch, package="sageattention", install="sageattention>=2.1.1", largest_head=128, **needs
    )


BACKENDS = {
    "native": Backend(
        devices=("cpu", "cuda", "mps"), dtypes=ALL_DTYPES, masks=Masks.any, operators=r"^aten::_scaled_dot_product"
    ),
    "cudnn": _torch_kernel(
        "_native_cudnn",
        "cudnn",
        capability=(8, 0),
        masks=Masks.any,
        largest_head=128,
        largest_heads=(((9, 0), 256),),
    ),
    "efficient": _torch_kernel(
        "_native_efficient",
        "efficient",
        capability=(5, 0),
        dtypes=ALL_DTYPES,
        bfloat16=(8, 0),
        masks=Masks.any,
    ),
    "flash_native": _torch_kernel(
        "_native_flash", "flash", devices=("cpu", "cuda"), capability=(8, 0), largest_head=256
    ),
    "math": _torch_kernel(
        "_native_math",
        "attention_math",
        devices=("cpu", "cuda", "mps"),
        dtypes=ALL_DTYPES,
        masks=Masks.any,
        survives_compile=False,
    ),
    "flex": Backend(dispatch="flex", devices=("cpu", "cuda"), dtypes=ALL_DTYPES, masks=Masks.any),
    "flash": _flash("flash"),
    "flash_hub": _hub("flash_hub", "kernels-community/flash-attn2", **AMPERE),
    "flash_varlen": _flash("flash_varlen", masks=Masks.padding),
    "flash_varlen_hub": _hub("flash_varlen_hub", "kernels-community/flash-attn2", masks=Masks.padding, **AMPERE),
    "flash3": _flash3("_flash_3"),
    "flash3_hub": _hub("_flash_3_hub", "kernels-community/flash-attn3", **HOPPER),
    "flash3_varlen": _flash3("_flash_varlen_3", masks=Masks.padding),
    "flash3_varlen_hub": _hub("_flash_3_varlen_hub", "kernels-community/flash-attn3", masks=Masks.padding, **HOPPER),
    "flash4_hub": _hub(
        "flash_4_hub",
        "kernels-community/flash-attn4",
        capability=(9, 0),
        source="https://github.com/Dao-AILab/flash-attention flash_attn/cute/README.md",
    ),
    "aiter_hub": _hub(
        "aiter_fa2_hub", "kernels-community/aiter-flash-attn-ck", devices=("rocm",), dtypes=("bfloat16",)
    ),
    # `sageattn` chooses a kernel for these, and raises an error for any other GPU.
    "sage": _sage("sage", generations=((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))),
    "sage_hub": _hub("sage_hub", "SageAttention/sage-attention", capability=(8, 0), largest_head=128, source=SAGE),
    "sage_blackwell_hub": _hub(
        "sage_blackwell_hub", "SageAttention/sage-blackwell", capability=(12, 0), head_sizes=(64, 128)
    ),
    "sage_varlen": _sage("sage_varlen", masks=Masks.padding),
    "sage_int8_fp16": _sage("_sage_qk_int8_pv_fp16_cuda"),
    "sage_int8_fp16_triton": _sage("_sage_qk_int8_pv_fp16_triton"),
    "sage_int8_fp8": _sage("_sage_qk_int8_pv_fp8_cuda", capability=(9, 0), source=DISPATCHER),
    "sage_int8_fp8_sm90": _sage("_sage_qk_int8_pv_fp8_cuda_sm90", capability=(9, 0), newest=(9, 0)),
    "xformers": Backend(
        dispatch="xformers",
        package="xformers",
        install="xformers>=0.0.29",
        dtypes=ALL_DTYPES,
        masks=Masks.additive,
    ),
    "npu": Backend(
        dispatch="_native_npu", package="torch_npu", install="torch_npu", devices=("npu",), masks=Masks.boolean
    ),
    "xla": Backend(
        dispatch="_native_xla", package="torch_xla", install="torch_xla>=2.2", devices=("xla",), dtypes=ALL_DTYPES
    ),
}
"""Name in a config -> backend."""

register("attention", "none", NoAttention)(None)
for _name, _backend in BACKENDS.items():
    register("attention", _name, AttentionOptions)(_backend)
