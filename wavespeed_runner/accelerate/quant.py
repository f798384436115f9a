"""Quantization: linear layers of a loaded pipeline get weights, and for some schemes activations, in 8 or 4 bits.

torchao computes them, https://docs.pytorch.org/ao/stable/. Added here: which layers are meant (`quant_targets`), the
evidence that they were changed, and that torchao's recommended settings of the compiler, which are process-wide, stay
unset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..config.schema import QuantConfig
from ..errors import RunError, format_error
from ..models.family import Family
from ..models.weights.quantized import read_method
from ..models.weights.size import list_plain_tensors
from ..process.torchao_import import import_torchao
from .quant_options import SCHEMES
from .quant_targets import Choice, choose_layers, compact_name, layers_of

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


def quantize_layer(layer: nn.Linear, scheme: str, where: str, device: str) -> None:
    """Quantizes one layer on the device that will run it, because some kernels prepare their weights only there.

    Args:
        layer: goes back to where it was.
        scheme: a name in `SCHEMES`.
        where: the layer's name, for messages.
        device: that will run it.

    Raises:
        RunError: torchao cannot quantize it.
    """
    from torchao.quantization import quantize_

    home = layer.weight.device
    # Not moved where it is there: the fake weights of an estimate cannot be.
    moves = home.type != device.partition(":")[0]
    try:
        if moves:
            layer.to(device)
        quantize_(layer, build_config(scheme), filter_fn=lambda *_: True)
    except (AssertionError, ValueError, NotImplementedError, ImportError, RuntimeError) as error:
        raise RunError(
            f"quant={scheme}: torchao cannot quantize {where}: {format_error(error)}; choose another"
        ) from error
    finally:
        if moves:
            layer.to(home)


def apply_quant(
    pipe: DiffusionPipeline,
    family: Family,
    quant: QuantConfig,
    device: str,
    quantize: Callable[[nn.Linear, str, str, str], None] = quantize_layer,
) -> DiffusionPipeline:
    """Quantizes the layers that the options name, one after the other; those that are quantized already stay.

    Args:
        pipe: has the layers.
        family: of the model.
        quant: the options.
        device: that will run it.
        quantize: as `quantize_layer`.

    Raises:
        RunError: nothing was quantized, a pattern matches no layer, or torchao cannot quantize a layer.
    """
    if quant.name == "none":
        return pipe
    import_torchao()
    for component, choices in choose_layers(pipe, family, quant, device).items():
        if method := _find_method(getattr(pipe, component)):
            raise RunError(
                f"quant={quant.name}: {component} is stored quantized already ({method}); use quant=none, or the "
                "original checkpoint"
            )
        layers = layers_of(pipe, component)
        for name, choice in choices.items():
            if choice.scheme is not None and not is_quantized(layers[name].weight):
                quantize(layers[name], choice.scheme, f"{component}.{name}", device)
        if not any(is_quantized(layer.weight) for layer in layers.values()):
            raise RunError(_explain_nothing(quant, component, choices))
    return pipe


def build_config(name: str) -> Any:
    """The torchao configuration of a scheme, which leaves the compiler's process-wide settings as they are."""
    import torchao.quantization

    scheme = SCHEMES[name]
    options: dict[str, Any] = {"set_inductor_config": False}
    if scheme.granularity:
        options["granularity"] = getattr(torchao.quantization, scheme.granularity)()
    return getattr(torchao.quantization, scheme.config)(**options)


def _explain_nothing(quant: QuantConfig, component: str, choices: dict[str, Choice]) -> str:
    """The message for a component none of whose layers was quantized."""
    reasons = Counter(choice.reason for choice in choices.values())
    counts = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(3))
    return (
        f"quant={quant.name}: none of the {len(choices)} linear layers of {component} was quantized ({counts}); "
        "choose another scheme, or name layers with quant.also"
    )


def is_quantized(tensor: torch.Tensor) -> bool:
    """True for a weight of torchao, integers or 8-bit floats with their scales, or packed ones of an estimate."""
    import torch

    return hasattr(tensor, "tensor_data_names") or getattr(tensor, "dtype", None) == torch.uint8


def count_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a weight as it is kept, with the scales of a quantized one."""
    return sum(part.numel() * part.element_size() for part in list_plain_tensors(tensor))


def collect_evidence(
    pipe: DiffusionPipeline, family: Family, quant: QuantConfig, device: str, kept: dict[str, str]
) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.quant`, read from the pipeline's modules. None without quantization.

    kept: component -> what the store did for it.
    """
    if quant.name == "none":
        return _describe_checkpoint(pipe)
    return {
        "scheme": quant.name,
        "components": {
            component: {
                **_describe(pipe, component, choices),
                **({"store": kept[component]} if component in kept else {}),
            }
            for component, choices in choose_layers(pipe, family, quant, device).items()
        },
    }


def _find_method(module: Any) -> str:
    """How a module was quantized before it was loaded; empty if it was not."""
    quantizer = getattr(module, "hf_quantizer", None)
    return read_method(quantizer.quantization_config.to_dict()) if quantizer is not None else ""


def _describe_checkpoint(pipe: DiffusionPipeline) -> dict[str, Any] | None:
    """What of the checkpoint is quantized as it is stored; None if nothing is."""
    found = {}
    for component, module in pipe.components.items():
        if method := _find_method(module):
            parameters = dict(module.named_parameters())
            special = {n: type(p).__name__ for n, p in parameters.items() if type(p).__name__ != "Parameter"}
            found[component] = {
                "method": method,
                "weights": len(special),
                "names": _group({name.removesuffix(".weight"): kind for name, kind in special.items()}),
                "bytes": sum(map(count_bytes, parameters.values())),
            }
    return {"scheme": "as stored", "components": found} if found else None


def _describe(pipe: DiffusionPipeline, component: str, choices: dict[str, Choice]) -> dict[str, Any]:
    """What is quantized in one component, and what is not and why."""
    layers = layers_of(pipe, component)
    swapped = {name: layer.weight for name, layer in layers.items() if is_quantized(layer.weight)}
    left = {name: choices[name].reason or "torchao left it" for name in layers if name not in swapped}
    return {
        "swapped": {
            "layers": len(swapped),
            "names": _group({name: str(choices[name].scheme) for name in swapped}),
            "tensors": dict(Counter(type(weight).__name__ for weight in swapped.values())),
            "bytes": _count_both(swapped.values()),
        },
        "left": {"layers": len(left), "names": _group(left)},
        "bytes": _count_both(getattr(pipe, component).parameters()),
    }


def _group(layers: dict[str, str]) -> dict[str, dict[str, int]]:
    """Value -> name of layers with `*` for numbers -> how many of them have that value."""
    groups: dict[str, Counter[str]] = {}
    for name, value in layers.items():
        groups.setdefault(value, Counter())[compact_name(name)] += 1
    return {value: dict(names) for value, names in groups.items()}


def _count_both(weights: Iterable[torch.Tensor]) -> dict[str, int]:
    """Bytes before and after quantization; a quantized weight still has the shape and the format that it had."""
    listed = list(weights)
    before = sum(weight.numel() * weight.dtype.itemsize for weight in listed)
    return {"before": before, "after": sum(map(count_bytes, listed))}
