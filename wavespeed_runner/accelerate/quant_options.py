"""Typed options of the config group `quant`, and the schemes that it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from omegaconf import MISSING

from ..config.schema import QuantConfig
from ..errors import ConfigError, did_you_mean
from ..registry import register
from .layer_patterns import check_patterns


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way of quantizing a linear layer, as torchao implements it."""

    config: str
    """Name of the configuration class in `torchao.quantization`."""
    granularity: str | None = None
    """`PerTensor` or `PerRow`: how many values share a scale, where the class takes it."""
    activations: bool = False
    """True if activations are quantized too, anew at each call."""
    capability: tuple[int, int] | None = None
    """Lowest CUDA compute capability; None: no GPU is needed."""
    cpu: bool = True
    """True if it runs on a CPU."""
    packages: tuple[str, ...] = ()
    """Packages that hold its kernels and do not come with torchao."""
    multiples: tuple[int, int] = (1, 1)
    """What the numbers of input and output features must be multiples of; torchao silently leaves other layers."""
    cuda_multiples: tuple[int, int] = (1, 1)
    """The same on CUDA, where torchao computes other layers on the CPU at every call."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    """Number formats of the weights that it starts from."""


SCHEMES = {
    "int8_dq": Scheme(config="Int8DynamicActivationInt8WeightConfig", activations=True, cuda_multiples=(8, 8)),
    "int8_wo": Scheme(config="Int8WeightOnlyConfig"),
    "int4_wo": Scheme(
        config="Int4WeightOnlyConfig",
        capability=(9, 0),
        cpu=False,
        packages=("mslk",),
        multiples=(128, 1),
        dtypes=("bfloat16",),
    ),
    "fp8_dq": Scheme(
        config="Float8DynamicActivationFloat8WeightConfig",
        granularity="PerTensor",
        activations=True,
        capability=(8, 9),
        cpu=False,
        multiples=(16, 16),
    ),
    "fp8_dq_row": Scheme(
        config="Float8DynamicActivationFloat8WeightConfig",
        granularity="PerRow",
        activations=True,
        capability=(8, 9),
        cpu=False,
        multiples=(16, 16),
        dtypes=("bfloat16",),
    ),
    "fp8_wo": Scheme(config="Float8WeightOnlyConfig"),
}
"""Name in a config -> scheme. `dq`: dynamic quantization of activations; `wo`: weights only; `row`: a scale a row."""

DENOISER = "denoiser"
"""In `quant.components`: whatever the pipeline calls in every step, both where it has two."""


@dataclass(kw_only=True)
class NoQuant(QuantConfig):
    """The weights as they are."""

    name: str = "none"


@dataclass(kw_only=True)
class QuantOptions(QuantConfig):
    """Options of every scheme. Layers are linear layers; patterns are regular expressions that match a whole name."""

    components: list[str] = field(default_factory=lambda: [DENOISER])
    """`denoiser`, or names of other components with linear layers, such as `text_encoder_2`."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers inside the repeated blocks that stay as they are."""
    also: list[str] = field(default_factory=list)
    """Patterns of layers outside of the repeated blocks, and of modulation layers, to quantize as well."""
    keep: bool = True
    """Keep the quantized weights in the store, from which the next process loads them."""

    def __post_init__(self) -> None:
        """Raises ConfigError for no component, or a pattern that is no regular expression."""
        _check_components(self.components)
        check_patterns("quant.skip", self.skip)
        check_patterns("quant.also", self.also)


@dataclass(kw_only=True)
class LayerScheme:
    """The scheme of the layers that a pattern matches."""

    pattern: str = MISSING
    """A regular expression that matches a layer's whole name."""
    scheme: str | None = None
    """Null: these layers stay as they are."""
    component: str = DENOISER
    """`denoiser`, or the name of another component, such as `text_encoder_2`."""


@dataclass(kw_only=True)
class CustomQuant(QuantConfig):
    """A scheme for each pattern of layers."""

    name: str = "custom"
    layers: list[LayerScheme] = field(default_factory=list)
    """The first entry of a component whose pattern matches a layer decides about it; layers that none matches stay as
    they are."""
    keep: bool = True
    """Keep the quantized weights in the store, from which the next process loads them."""

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown scheme, or a pattern that is no regular expression."""
        for index, entry in enumerate(self.layers):
            check_patterns(f"quant.layers[{index}].pattern", [entry.pattern])
        check_patterns("quant.layers", [entry.pattern for entry in self.layers])
        for index, entry in enumerate(self.layers):
            if entry.scheme is not None and entry.scheme not in SCHEMES:
                raise ConfigError(
                    f"quant.layers[{index}].scheme={entry.scheme}: no such scheme; null or one of "
                    f"{', '.join(SCHEMES)} is needed{did_you_mean(entry.scheme, SCHEMES)}"
                )


def _check_components(components: Iterable[str]) -> None:
    if not list(components):
        raise ConfigError(
            "quant.components=[]: nothing would be quantized; quant=none for none, quant.components=[denoiser] for the "
            "model that is called in each step"
        )


def list_schemes(quant: QuantConfig) -> dict[str, Scheme]:
    """The schemes that options ask for, by name."""
    if isinstance(quant, CustomQuant):
        return {entry.scheme: SCHEMES[entry.scheme] for entry in quant.layers if entry.scheme}
    return {quant.name: SCHEMES[quant.name]} if quant.name in SCHEMES else {}


TORCHAO_BLOCK = 128
"""Weights of this shape with one scale are computed as if they were one block of many, and fail (torchao 0.18)."""


def find_misfit(name: str, inputs: int, outputs: int, dtype: str, device: str) -> str:
    """Why a scheme cannot take a layer of this shape; empty if it can."""
    scheme = SCHEMES[name]
    if dtype not in scheme.dtypes:
        return f"{name} needs {' or '.join(scheme.dtypes)} weights"
    multiples = scheme.multiples
    if device.startswith("cuda"):
        multiples = (max(multiples[0], scheme.cuda_multiples[0]), max(multiples[1], scheme.cuda_multiples[1]))
    if inputs % multiples[0] or outputs % multiples[1]:
        return f"{name} needs multiples of {multiples[0]} inputs and {multiples[1]} outputs"
    if scheme.granularity == "PerTensor" and inputs == outputs == TORCHAO_BLOCK:
        return f"torchao takes one scale of {TORCHAO_BLOCK} x {TORCHAO_BLOCK} weights for that of a block"
    return ""


register("quant", "none", NoQuant)(None)
register("quant", "custom", CustomQuant)(None)
for _name, _scheme in SCHEMES.items():
    register("quant", _name, QuantOptions)(_scheme)
