"""Rules on quantization: what a device can compute, and what it means beside adapters, memory savers and caches."""

from __future__ import annotations

from importlib.util import find_spec

from ..accelerate.adapter_options import Lora
from ..accelerate.memory import MemorySettings, Offload
from ..accelerate.quant_options import SCHEMES, Scheme, list_schemes
from ..caching.criteria import thresholds
from ..config.capability import read_capability
from ..config.schema import Config, Dtype
from ..models.family import Family
from ..models.weights.quantized import find_quantized
from ..registry import find_implementation
from .cache import has_all_parts
from .rule import Rule

TABLE = "https://github.com/sayakpaul/diffusers-torchao, CogVideoX benchmarks"


def _is_cuda(c: Config) -> bool:
    return c.device.partition(":")[0] == "cuda"


def _get_memory(c: Config) -> MemorySettings:
    assert isinstance(c.memory, MemorySettings)
    return c.memory


def _is_quantized(c: Config) -> bool:
    return bool(list_schemes(c.quant))


def _has_kernels(scheme: Scheme) -> bool:
    return all(find_spec(package) is not None for package in scheme.packages)


def _list_too_new(c: Config) -> dict[str, Scheme]:
    """The schemes that a device of known capability is too old for."""
    capability = read_capability(c.device) if _is_cuda(c) else None
    return {
        name: scheme
        for name, scheme in list_schemes(c.quant).items()
        if capability is not None and scheme.capability is not None and capability < scheme.capability
    }


def _list_without_kernels(c: Config) -> dict[str, Scheme]:
    """The schemes whose packages are not on this machine, if the device is."""
    if not _is_cuda(c) or read_capability(c.device) is None:
        return {}
    return {name: scheme for name, scheme in list_schemes(c.quant).items() if not _has_kernels(scheme)}


def _list_unknown(c: Config) -> dict[str, Scheme]:
    """The schemes that need a GPU of which nothing is known on this machine."""
    if not _is_cuda(c) or read_capability(c.device) is not None:
        return {}
    return {name: scheme for name, scheme in list_schemes(c.quant).items() if scheme.capability is not None}


def _list_cuda_only(c: Config) -> list[str]:
    return [name for name, scheme in list_schemes(c.quant).items() if not scheme.cpu and not _is_cuda(c)]


def _list_wrong_dtype(c: Config) -> dict[str, Scheme]:
    schemes = list_schemes(c.quant).items()
    return {name: scheme for name, scheme in schemes if c.model.dtype.value not in scheme.dtypes}


def _suggest(c: Config) -> str:
    """The schemes that this device can compute, as overrides."""
    capability = read_capability(c.device) if _is_cuda(c) else None
    fit = [
        name
        for name, scheme in SCHEMES.items()
        if (scheme.cpu or capability is not None)
        and (scheme.capability is None or (capability is not None and capability >= scheme.capability))
        and _has_kernels(scheme)
    ]
    return "works here: " + ", ".join(f"quant={name}" for name in fit)


def _needs(scheme: Scheme) -> str:
    """What a scheme needs of a GPU."""
    major, minor = scheme.capability or (0, 0)
    packages = f" and the package {', '.join(scheme.packages)}" if scheme.packages else ""
    return f"compute capability {major}.{minor}{packages}"


def _describe_needs(schemes: dict[str, Scheme]) -> str:
    return "; ".join(f"{name} needs {_needs(scheme)}" for name, scheme in schemes.items())


def _describe_capability(c: Config) -> str:
    major, minor = read_capability(c.device) or (0, 0)
    return f"quant={c.quant.name} on device={c.device}: it has compute capability {major}.{minor}, and "


def _runs_eagerly(c: Config) -> bool:
    return c.compile.name == "none" or bool(getattr(c.compile, "disable", False))


def _watches_change(c: Config) -> bool:
    """True if a cache strategy compares a change of the model's features with a threshold."""
    if not has_all_parts(c) or c.cache.criterion is None:
        return False
    criterion = find_implementation("cache/criterion", c.cache.criterion)
    return criterion.__module__ == thresholds.__name__ and criterion.watches != "nothing"


def _is_quantized_already(c: Config, f: Family) -> bool:
    return _is_quantized(c) and bool(find_quantized(c.model, f))


def _has_quantized_weights(c: Config, f: Family) -> bool:
    """True if the options or the checkpoint quantize."""
    return _is_quantized(c) or bool(find_quantized(c.model, f))


def _name_source(c: Config, f: Family) -> str:
    """Where quantized weights come from, as an override."""
    return f"quant={c.quant.name}" if _is_quantized(c) else f"model.repo={c.model.repo}, which is stored quantized,"


QUANT: tuple[Rule, ...] = (
    Rule(
        id="quant-empty",
        verdict="bad",
        when=lambda c, f: c.quant.name != "none" and not _is_quantized(c),
        message="quant.layers: no entry has a scheme, so nothing would be quantized",
        fix="give an entry a scheme such as int8_dq, or quant=none",
    ),
    Rule(
        id="quant-cuda-only",
        verdict="bad",
        when=lambda c, f: bool(_list_cuda_only(c)),
        message=lambda c, f: (
            f"quant={c.quant.name} on device={c.device}: {', '.join(_list_cuda_only(c))} has kernels for CUDA only"
        ),
        fix=lambda c, f: f"{_suggest(c)}; or device=cuda",
        source="tests/accelerate/test_quant.py",
    ),
    Rule(
        id="quant-capability",
        verdict="bad",
        when=lambda c, f: bool(_list_too_new(c)),
        message=lambda c, f: _describe_capability(c) + _describe_needs(_list_too_new(c)),
        fix=lambda c, f: _suggest(c),
        source="torchao.quantization.utils._check_hardware_support, torchao.utils.is_sm_at_least_89",
    ),
    Rule(
        id="quant-kernels",
        verdict="bad",
        when=lambda c, f: bool(_list_without_kernels(c)),
        message=lambda c, f: (
            f"quant={c.quant.name}: {_describe_needs(_list_without_kernels(c))}, which is not installed"
        ),
        fix=lambda c, f: f"install it; {_suggest(c)}",
        source="torchao.quantization.Int4Tensor",
    ),
    Rule(
        id="quant-unknown-device",
        verdict="unverified",
        when=lambda c, f: bool(_list_unknown(c)),
        message=lambda c, f: (
            f"quant={c.quant.name} on device={c.device}, of which nothing is known on this machine: "
            f"{_describe_needs(_list_unknown(c))}"
        ),
        fix="plan it on the machine that has the device",
    ),
    Rule(
        id="quant-mps",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and c.device == "mps",
        message="quant={c.quant.name} on device=mps: it was reported not to work there",
        fix="quant=none",
        source="https://github.com/sayakpaul/diffusers-torchao",
    ),
    Rule(
        id="quant-dtype",
        verdict="bad",
        when=lambda c, f: bool(_list_wrong_dtype(c)),
        message=lambda c, f: (
            f"quant={c.quant.name} with model.dtype={c.model.dtype.value}: {', '.join(_list_wrong_dtype(c))} starts "
            "from bfloat16 weights only"
        ),
        fix="model.dtype=bfloat16",
        source="torchao.quantization.quant_api, _float8_dynamic_activation_float8_weight_quantize_tensor",
    ),
    Rule(
        id="quant-float16",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and c.model.dtype is Dtype.float16 and not _list_wrong_dtype(c),
        message="quant={c.quant.name} with model.dtype=float16: quantized layers can overflow its range",
        fix="model.dtype=bfloat16",
        source="https://github.com/sayakpaul/diffusers-torchao",
    ),
    Rule(
        id="quant-checkpoint",
        verdict="bad",
        when=_is_quantized_already,
        message=lambda c, f: (
            f"quant={c.quant.name}: model.repo={c.model.repo} is quantized already: "
            + ", ".join(f"{name} ({method})" for name, method in find_quantized(c.model, f).items())
        ),
        fix="quant=none, or the original checkpoint",
        source="tests/models/test_quantized_checkpoints.py",
    ),
    Rule(
        id="quant-eager",
        verdict="unverified",
        when=lambda c, f: any(scheme.activations for scheme in list_schemes(c.quant).values()) and _runs_eagerly(c),
        message="quant={c.quant.name} without compilation: activations are quantized by kernels of their own at each "
        "call, which makes it slower than no quantization",
        fix="compile=regional, or a scheme for weights only (quant=int8_wo)",
        source=TABLE,
    ),
    Rule(
        id="quant-weight-only",
        verdict="good",
        when=lambda c, f: _is_quantized(c) and not any(scheme.activations for scheme in list_schemes(c.quant).values()),
        message="quant={c.quant.name} saves memory and not time: weights are converted back at each call",
        source=TABLE,
    ),
    Rule(
        id="quant-lora",
        verdict="good",
        when=lambda c, f: _is_quantized(c) and isinstance(c.adapters, Lora) and not c.adapters.fuse,
        message="quant={c.quant.name} beside a LoRA that is not fused: its two small matrices stay as they are and "
        "are computed beside each quantized one; adapters.fuse=true quantizes their sum",
        source="tests/accelerate/test_order.py",
    ),
    Rule(
        id="quant-fuse",
        verdict="bad",
        when=lambda c, f: isinstance(c.adapters, Lora) and c.adapters.fuse and bool(find_quantized(c.model, f)),
        message="adapters.fuse=true: no LoRA can be fused into model.repo={c.model.repo}, which is stored quantized",
        fix="adapters.fuse=false",
        source="tests/accelerate/test_order.py",
    ),
    Rule(
        id="quant-casting",
        verdict="bad",
        when=lambda c, f: _get_memory(c).layerwise_casting is not None and _has_quantized_weights(c, f),
        message=lambda c, f: f"{_name_source(c, f)} and memory.layerwise_casting: both decide how weights are stored",
        fix="memory.layerwise_casting=null",
        source="tests/accelerate/test_quant_combinations.py",
    ),
    Rule(
        id="quant-stream",
        verdict="bad",
        when=lambda c, f: _is_quantized(c) and _get_memory(c).offload is Offload.group and _get_memory(c).use_stream,
        message="memory.use_stream=true with quant={c.quant.name}: diffusers cannot pin and fetch quantized weights in "
        "a stream of their own",
        fix="memory.use_stream=false",
        source="https://github.com/huggingface/diffusers/issues/14433, "
        "https://github.com/huggingface/diffusers/issues/13281",
    ),
    Rule(
        id="quant-threshold",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and _watches_change(c),
        message="cache={c.cache.name} with quant={c.quant.name}: rounding adds to the changes that its threshold is "
        "compared with, so a threshold that was found without it computes more steps; ParaAttention has 0.08 for "
        "FLUX.1-dev, and 0.12 with 8-bit floats",
        fix="compare some thresholds with quantization on",
        source="https://huggingface.co/docs/diffusers/optimization/para_attn",
    ),
    Rule(
        id="quant-reference",
        verdict="unverified",
        when=lambda c, f: _is_quantized(c) and c.measure.reference,
        message="quant={c.quant.name} is lossy, so the reference runs without it: the model is loaded twice",
        fix="measure.reference=false where memory does not suffice for both",
    ),
)
