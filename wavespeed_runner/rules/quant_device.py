"""Rules on quantization: what a device can compute, by its compute capability and the packages that are installed."""

from __future__ import annotations

from importlib.util import find_spec

from ..accelerate.quant_options import SCHEMES, Scheme, list_schemes
from ..config.capability import read_capability
from ..config.schema import Config, Dtype
from .rule import Rule


def _is_cuda(c: Config) -> bool:
    return c.device.partition(":")[0] == "cuda"


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


QUANT_DEVICES: tuple[Rule, ...] = (
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
        source="torchao.float8.inference._check_hardware_support, torchao.utils.is_sm_at_least_89 (torchao 0.18)",
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
        when=lambda c, f: bool(list_schemes(c.quant)) and c.device == "mps",
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
        when=lambda c, f: bool(list_schemes(c.quant)) and c.model.dtype is Dtype.float16 and not _list_wrong_dtype(c),
        message="quant={c.quant.name} with model.dtype=float16: quantized layers can overflow its range",
        fix="model.dtype=bfloat16",
        source="https://github.com/sayakpaul/diffusers-torchao",
    ),
)
