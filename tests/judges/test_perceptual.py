"""LPIPS and DISTS against the same networks put together of torch's own layers, with random weights in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.judges import perceptual
from wavespeed_runner.judges.perceptual import DistsOptions, LpipsOptions, Net, make_dists, make_lpips

RNG = np.random.default_rng(0)
REFERENCE = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)
IMAGE = np.clip(REFERENCE + RNG.integers(-40, 41, REFERENCE.shape), 0, 255).astype(np.uint8)
SMALL = (4, 6, 8, 10, 12)
"""Channels of a VGG16 that is drawn in no time."""


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(perceptual.CHANNELS, "vgg", SMALL)


def draw(
    path: Path, shapes: dict[str, tuple[int, ...]], fixed: dict[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Writes random weights, of a size that keeps the features alive; returns them."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, shape in shapes.items():
        fan = max(1, int(np.prod(shape[1:])))
        drawn = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        positive = "lin" in name or name in ("alpha", "beta", "std", "scaling_layer.scale")
        weights[name] = (fixed or {}).get(name, drawn.abs() if positive else drawn)
    save_file(weights, path)
    return weights


def list_layers(net: str) -> list[Any]:
    """torchvision's `features`, as its documentation of the two networks lists them."""
    if net == "alex":
        sizes = [(3, 64, 11, 4, 2), "M", (64, 192, 5, 1, 2), "M", (192, 384, 3, 1, 1), (384, 256, 3, 1, 1)]
        sizes += [(256, 256, 3, 1, 1)]
        pool = nn.MaxPool2d(3, 2)
    else:
        sizes, before = [], 3
        for count, repeats in zip(SMALL, (2, 2, 3, 3, 3), strict=True):
            for _ in range(repeats):
                sizes.append((before, count, 3, 1, 1))
                before = count
            sizes.append("M")
        pool = nn.MaxPool2d(2, 2)
    layers: list[Any] = []
    for size in sizes:
        layers += [pool] if size == "M" else [nn.Conv2d(*size), nn.ReLU()]
    return layers


LAST = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""The layer after which each stage ends."""


@torch.no_grad()
def compute_features(net: str, prefix: str, weights: dict[str, torch.Tensor], values: torch.Tensor) -> list[Any]:
    outputs, stage = [], 1
    for place, layer in enumerate(list_layers(net)):
        if isinstance(layer, nn.Conv2d):
            layer.load_state_dict({key: weights[f"{prefix}{stage}.{place}.{key}"] for key in ("weight", "bias")})
        if isinstance(layer, nn.MaxPool2d) and f"{prefix}{stage}.{place}.filter" in weights:
            kernel = weights[f"{prefix}{stage}.{place}.filter"]
            padded = nn.functional.conv2d(values**2, kernel, stride=2, padding=1, groups=len(kernel))
            values = torch.sqrt(padded + 1e-12)
        else:
            values = layer(values)
        if place in LAST[net]:
            outputs.append(values)
            stage += 1
    return outputs


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float32)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_weighted_distance_of_unit_features(tmp_path: Path, net: str) -> None:
    file = tmp_path / "weights.safetensors"
    shift, scale = (torch.tensor(each).view(1, 3, 1, 1) for each in ([-0.1, 0.0, 0.1], [0.5, 0.4, 0.6]))
    weights = draw(file, perceptual._lpips_shapes(net), {"scaling_layer.shift": shift, "scaling_layer.scale": scale})
    features = []
    for image in (IMAGE, REFERENCE):
        values = (2 * to_tensor(image) / 255 - 1 - shift) / scale
        features.append(compute_features(net, "net.slice", weights, values))
    expected = 0.0
    for stage, (one, two) in enumerate(zip(*features, strict=True)):
        one, two = (each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in (one, two))
        weighted = nn.functional.conv2d((one - two) ** 2, weights[f"lin{stage}.model.1.weight"])
        expected += weighted.mean().item()
    judge = make_lpips(LpipsOptions(net=Net(net), weights=str(file)))
    value = judge(IMAGE, REFERENCE, "")
    assert value == pytest.approx(expected, rel=1e-4) and value > 1e-3
    assert judge(IMAGE, IMAGE, "") == 0


def test_dists_weighs_means_and_covariances(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    shapes = perceptual._dists_shapes()
    filters = {name: kernel.expand(shape).clone() for name, shape in shapes.items() if name.endswith("filter")}
    weights = draw(file, shapes, {"mean": torch.full((1, 3, 1, 1), 0.4), "std": torch.full((1, 3, 1, 1), 0.2)})
    weights |= filters
    save_file(weights, file)
    layers: list[list[torch.Tensor]] = []
    for image in (IMAGE, REFERENCE):
        pixels = to_tensor(image) / 255
        layers.append([pixels, *compute_features("vgg", "stage", weights, (pixels - 0.4) / 0.2)])
    alpha, beta = (weights[name].flatten().double() for name in ("alpha", "beta"))
    similarity, place = 0.0, 0
    for one, two in zip(*layers, strict=True):
        for x, y in zip(one[0].double(), two[0].double(), strict=True):  # channel by channel
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            means = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            variances = x.var(correction=0) + y.var(correction=0)
            similarity += float(alpha[place] * means + beta[place] * (2 * covariance + 1e-6) / (variances + 1e-6))
            place += 1
    expected = 1 - similarity / float(alpha.sum() + beta.sum())
    judge = make_dists(DistsOptions(weights=str(file)))
    value = judge(IMAGE, REFERENCE, "")
    assert value == pytest.approx(expected, rel=1e-3) and value > 1e-3
    assert judge(IMAGE, IMAGE, "") == pytest.approx(0, abs=1e-5)


def check(options: LpipsOptions) -> None:
    perceptual._check_lpips(options, "metrics.lpips")


def test_a_file_is_needed_and_none_is_fetched() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.lpips\.weights=null: .* none are fetched; .*=FILE"):
        check(LpipsOptions())


@pytest.mark.parametrize("name", ["absent.safetensors", "weights.pth", "."])
def test_what_is_no_weight_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^metrics\.lpips\.weights="):
        check(LpipsOptions(weights=str(tmp_path / name)))


def test_every_tensor_has_its_place_and_its_shape(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    whole = draw(file, perceptual._lpips_shapes("vgg"))
    check(LpipsOptions(net=Net.vgg, weights=str(file)))

    def refuse(tensors: dict[str, torch.Tensor], match: str) -> None:
        save_file(tensors, file)
        with pytest.raises(ConfigError, match=match):
            check(LpipsOptions(net=Net.vgg, weights=str(file)))

    refuse({name: tensor for name, tensor in whole.items() if name != "lin4.model.1.weight"}, "no tensor 'lin4")
    refuse({**whole, "lin5.model.1.weight": torch.zeros(1)}, r"'lin5\.model\.1\.weight' has no place")
    refuse({**whole, "lin0.model.1.weight": torch.zeros(1, 9, 1, 1)}, r"shape \(1, 9, 1, 1\), and \(1, 4, 1, 1\)")
    refuse({**whole, "lin0.model.1.weight": torch.zeros(1, 4, 1, 1, dtype=torch.int8)}, "stored as I8")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ConfigError, match="damaged"):
        check(LpipsOptions(net=Net.vgg, weights=str(file)))


def spoil(file: Path, weights: dict[str, torch.Tensor], name: str, number: float, kind: torch.dtype) -> None:
    spoiled = weights[name].clone()
    spoiled.view(-1)[-1] = number
    save_file({**weights, name: spoiled.to(kind)}, file)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_a_sum_are_not_negative(tmp_path: Path, kind: torch.dtype) -> None:
    """A worse image would be a better one: all bounds would be kept."""
    file = tmp_path / "weights.safetensors"
    lpips, dists = (draw(file, shapes) for shapes in (perceptual._lpips_shapes("vgg"), perceptual._dists_shapes()))
    for name, number, says in (
        ("lin3.model.1.weight", -0.5, "holds -0.5; its numbers weigh the parts of a sum and are at least 0"),
        ("lin0.model.1.weight", float("nan"), "holds nan"),
        ("scaling_layer.scale", 0.0, "holds 0; something is divided by its numbers, which are above 0"),
    ):
        spoil(file, lpips, name, number, kind)
        with pytest.raises(ConfigError, match=rf"^metrics\.lpips\.weights=\S+: '{name}' {says}"):
            check(LpipsOptions(net=Net.vgg, weights=str(file)))
    spoil(file, lpips, "lin3.model.1.weight", 0.0, kind)
    check(LpipsOptions(net=Net.vgg, weights=str(file)))
    for name, number in (("alpha", -1.0), ("beta", float("inf")), ("std", -0.25)):
        spoil(file, dists, name, number, kind)
        with pytest.raises(ConfigError, match=rf"^metrics\.dists\.weights=\S+: '{name}' holds {number:g}; "):
            perceptual._check_dists(DistsOptions(weights=str(file)), "metrics.dists")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    draw(file, perceptual._lpips_shapes("vgg"))
    with pytest.raises(ConfigError, match="has the shape"):
        check(LpipsOptions(net=Net.alex, weights=str(file)))


def test_the_smallest_image_that_is_let_in_can_be_judged(tmp_path: Path) -> None:
    file, side = tmp_path / "weights.safetensors", perceptual.SMALLEST
    draw(file, perceptual._lpips_shapes("alex"))
    image = IMAGE[:side, :side]
    assert make_lpips(LpipsOptions(weights=str(file)))(image, REFERENCE[:side, :side], "") > 0
