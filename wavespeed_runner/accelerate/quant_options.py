"""Typed options of the config group `quant`, and the schemes that it names."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.schema import QuantConfig
from ..registry import register


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


SCHEMES = {
    "int8_dq": Scheme(config="Int8DynamicActivationInt8WeightConfig", activations=True),
    "int8_wo": Scheme(config="Int8WeightOnlyConfig"),
    "int4_wo": Scheme(config="Int4WeightOnlyConfig", capability=(8, 0), cpu=False, packages=("mslk",)),
    "fp8_dq": Scheme(
        config="Float8DynamicActivationFloat8WeightConfig",
        granularity="PerTensor",
        activations=True,
        capability=(8, 9),
        cpu=False,
    ),
    "fp8_dq_row": Scheme(
        config="Float8DynamicActivationFloat8WeightConfig",
        granularity="PerRow",
        activations=True,
        capability=(9, 0),
        cpu=False,
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


@dataclass(kw_only=True)
class CustomQuant(QuantConfig):
    """A scheme for each pattern of layers, by component."""

    name: str = "custom"
    components: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """Component -> pattern -> scheme, or null for layers that stay as they are. The first pattern that matches a
    layer's whole name decides; layers that no pattern matches stay as they are."""


register("quant", "none", NoQuant)(None)
register("quant", "custom", CustomQuant)(None)
for _name, _scheme in SCHEMES.items():
    register("quant", _name, QuantOptions)(_scheme)
