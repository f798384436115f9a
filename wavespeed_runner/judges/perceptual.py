"""LPIPS and DISTS: how far two images are apart in the features of a network that was trained to see.

Both take the published weights from one file, under the names that the published implementations give them (`lpips`
0.1.4, `torchmetrics` 1.9). The networks are written out here as functions of those tensors: nothing is downloaded, and
torchvision is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from .metric import Judge, metric
from .weight_file import check_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Places of the convolutions in torchvision's VGG16, by stage; pooling comes before each stage but the first."""
ALEX = ((0,), (3,), (6,), (8,), (10,))
CHANNELS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
KERNELS = {"vgg": (3, 3, 3, 3, 3), "alex": (11, 5, 3, 3, 3)}
ALEX_POOLED = (1, 2)
"""Stages of AlexNet that begin with pooling."""
SMALLEST = 32
"""Pixels of the shorter side from which on every stage of both networks has an output."""
EPSILON = 1e-10
"""In the norm of LPIPS, as in its implementation."""
STABLE = 1e-6
"""c1 and c2 of DISTS, as in its implementation."""


class Net(Enum):
    """The network whose features LPIPS compares."""

    alex = "alex"
    """The one that its authors recommend for comparing images."""
    vgg = "vgg"


@dataclass(kw_only=True)
class LpipsOptions:
    """Options of the metric `lpips`."""

    net: Net = Net.alex
    """The network: `alex` or `vgg`. Values of one are not those of the other."""
    weights: str | None = None
    """A .safetensors file with its published weights; docs/metrics.md says how to make it."""


@dataclass(kw_only=True)
class DistsOptions:
    """Options of the metric `dists`."""

    weights: str | None = None
    """A .safetensors file with its published weights; docs/metrics.md says how to make it."""


def _list_convolutions(net: str, prefix: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights and biases of a network's convolutions."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    for stage, places in enumerate(ALEX if net == "alex" else VGG):
        after, kernel = CHANNELS[net][stage], KERNELS[net][stage]
        for place in places:
            name = f"{prefix}{stage + 1}.{place}"
            shapes |= {f"{name}.weight": (after, before, kernel, kernel), f"{name}.bias": (after,)}
            before = after
    return shapes


def _lpips_shapes(net: str) -> dict[str, tuple[int, ...]]:
    lines: dict[str, tuple[int, ...]] = {
        f"lin{stage}.model.1.weight": (1, count, 1, 1) for stage, count in enumerate(CHANNELS[net])
    }
    scaling: dict[str, tuple[int, ...]] = dict.fromkeys(("scaling_layer.shift", "scaling_layer.scale"), (1, 3, 1, 1))
    return {**_list_convolutions(net, "net.slice"), **lines, **scaling}


def _dists_shapes() -> dict[str, tuple[int, ...]]:
    total = 3 + sum(CHANNELS["vgg"])
    fixed: dict[str, tuple[int, ...]] = {"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1)}
    fixed |= {"alpha": (1, total, 1, 1), "beta": (1, total, 1, 1)}
    pools = zip((4, 9, 16, 23), CHANNELS["vgg"], strict=False)
    filters = {f"stage{n}.{place}.filter": (count, 1, 3, 3) for n, (place, count) in enumerate(pools, start=2)}
    return {**_list_convolutions("vgg", "stage"), **fixed, **filters}


def _check_lpips(options: LpipsOptions, key: str) -> None:
    shapes = _lpips_shapes(options.net.value)
    lines = [name for name in shapes if name.startswith("lin")]
    check_weights(f"{key}.weights", options.weights, shapes, lines, ["scaling_layer.scale"])


def _check_dists(options: DistsOptions, key: str) -> None:
    check_weights(f"{key}.weights", options.weights, _dists_shapes(), ["alpha", "beta"], ["std"])


def _list_files(options: Any) -> list[str]:
    return [options.weights] if options.weights else []


@metric(
    "lpips",
    less_is_better=True,
    needs_reference=True,
    options=LpipsOptions,
    smallest=SMALLEST,
    check=_check_lpips,
    list_files=_list_files,
)
def make_lpips(options: LpipsOptions) -> Judge:
    """LPIPS, version 0.1: weighted squared distances of unit-length features, mean over pixels, summed over layers.

    Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR
    2018, https://arxiv.org/abs/1801.03924; https://github.com/richzhang/PerceptualSimilarity.
    """
    net = options.net.value
    _check_lpips(options, "metrics.lpips")  # again, for the file may have changed since
    weights = read_weights(options.weights)

    def judge(image: Any, reference: Any, prompt: str) -> float:
        import torch

        with torch.inference_mode():
            pixels = _stack(image, reference) / 127.5 - 1
            scaled = (pixels - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
            total = 0.0
            for stage, features in enumerate(_compute_features(net, "net.slice", weights, scaled)):
                unit = features / (features.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)
                line = weights[f"lin{stage}.model.1.weight"]
                total += float(((unit[:1] - unit[1:]).square() * line).sum(dim=1).mean())
        return total

    return judge


@metric(
    "dists",
    less_is_better=True,
    needs_reference=True,
    options=DistsOptions,
    smallest=SMALLEST,
    check=_check_dists,
    list_files=_list_files,
)
def make_dists(options: DistsOptions) -> Judge:
    """DISTS: 1 - weighted similarities of the means (texture) and covariances (structure) of VGG16's features.

    Ding, Ma, Wang, Simoncelli: Image Quality Assessment: Unifying Structure and Texture Similarity, IEEE Transactions
    on Pattern Analysis and Machine Intelligence, 2020, https://arxiv.org/abs/2004.07728.
    """
    _check_dists(options, "metrics.dists")
    weights = read_weights(options.weights)

    def judge(image: Any, reference: Any, prompt: str) -> float:
        import torch

        with torch.inference_mode():
            pixels = _stack(image, reference) / 255
            scaled = (pixels - weights["mean"]) / weights["std"]
            layers = [pixels, *_compute_features("vgg", "stage", weights, scaled)]
            return 1 - _weigh_similarities(layers, weights["alpha"], weights["beta"])

    return judge


def _weigh_similarities(layers: Sequence[Tensor], alpha: Tensor, beta: Tensor) -> float:
    """The weighted similarity of the two images in all layers; 1: the same."""
    import torch

    total = alpha.sum() + beta.sum()
    counts = [layer.shape[1] for layer in layers]
    parts = zip(
        layers, torch.split(alpha / total, counts, dim=1), torch.split(beta / total, counts, dim=1), strict=True
    )
    similarity = 0.0
    for layer, of_means, of_covariances in parts:
        x, y = layer[:1], layer[1:]
        x_mean, y_mean = (one.mean((2, 3), keepdim=True) for one in (x, y))
        x_variance, y_variance = (
            (one - one.mean((2, 3), keepdim=True)).square().mean((2, 3), keepdim=True) for one in (x, y)
        )
        covariance = (x * y).mean((2, 3), keepdim=True) - x_mean * y_mean
        means = (2 * x_mean * y_mean + STABLE) / (x_mean.square() + y_mean.square() + STABLE)
        covariances = (2 * covariance + STABLE) / (x_variance + y_variance + STABLE)
        similarity += float((of_means * means + of_covariances * covariances).sum())
    return similarity


def _stack(image: Any, reference: Any) -> Tensor:
    """Both images as float32 (2, 3, height, width)."""
    import torch

    return torch.stack([torch.from_numpy(one.copy()) for one in (image, reference)]).permute(0, 3, 1, 2).float()


def _compute_features(net: str, prefix: str, weights: Mapping[str, Tensor], values: Tensor) -> list[Tensor]:
    """The output of each stage, after its last ReLU."""
    from torch.nn import functional

    outputs = []
    for stage, places in enumerate(ALEX if net == "alex" else VGG):
        values = _pool(net, stage, f"{prefix}{stage + 1}", weights, values)
        for place in places:
            name = f"{prefix}{stage + 1}.{place}"
            stride, padding = (4, 2) if net == "alex" and stage == 0 else (1, KERNELS[net][stage] // 2)
            values = functional.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)
            values = functional.relu(values)
        outputs.append(values)
    return outputs


def _pool(net: str, stage: int, prefix: str, weights: Mapping[str, Tensor], values: Tensor) -> Tensor:
    """What comes between two stages: the largest of each window; in DISTS the root of their weighted squares."""
    from torch.nn import functional

    if net == "alex":
        return functional.max_pool2d(values, 3, 2) if stage in ALEX_POOLED else values
    if stage == 0:
        return values
    kernel = weights.get(f"{prefix}.{VGG[stage][0] - 1}.filter")
    if kernel is None:
        return functional.max_pool2d(values, 2, 2)
    sums = functional.conv2d(values.square(), kernel, stride=2, padding=1, groups=values.shape[1])
    return (sums + 1e-12).sqrt()
