"""The size of a run that starts from an image file, and what of the files is cut away at that size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, sqrt
from typing import Any

from ..config.schema import Config, Init, StageConfig
from ..errors import Unfit
from ..models.family import Family, infer_task
from ..rules.check import Finding
from ..rules.graph import find_denoise_stages, takes_strength
from ..stages.read_image import ReadImageOptions, measure_image
from .graph import Graph

KEYS = {"read_image": "image", "read_mask": "mask"}
"""Stage that reads a file -> the key that names it."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size that was decided, and why."""

    width: int
    height: int
    why: str


def follow_image(config: Config, family: Family, *, width: int | None, height: int | None) -> Size | None:
    """The size of image-to-image and inpainting where it is not given: that of the image.

    It is scaled down to the pixels of the model's own size, and rounded down to what the model can generate, as
    diffusers' `VaeImageProcessor.get_default_height_width` rounds. With one side given, the other follows the image's
    shape. The scene that ships with the package has no size of its own to follow: it stands for any image.

    Args:
        config: typed, with the model's own size where none is given.
        family: of its model.
        width: as it was given.
        height: as it was given.

    Returns:
        None where both are given, or the run does not start from an image file of the user's.

    Raises:
        ConfigError: the image cannot be read.
    """
    path = _find_start(config, family)
    if path is None or path == Config.image or family.fixed_size or (width is not None and height is not None):
        return None
    own_width, own_height = measure_image("image", path)
    multiple = family.size_multiple
    if width is not None or height is not None:
        scale = width / own_width if width is not None else (height or 1) / own_height
        free = round((own_height if width is not None else own_width) * scale / multiple) * multiple
        why = f"the shape of the image, {own_width} x {own_height}"
        return Size(width=width or max(free, multiple), height=height or max(free, multiple), why=why)
    pixels = family.tiny_size**2 if config.model.init is Init.tiny else config.model.width * config.model.height
    scale = min(1.0, sqrt(pixels / (own_width * own_height)))
    sides = [max(floor(side * scale / multiple), 1) * multiple for side in (own_width, own_height)]
    bound = f", scaled down to at most {pixels} pixels" if scale < 1 else ""
    why = f"the size of the image, {own_width} x {own_height}{bound}, in multiples of {multiple}"
    return Size(width=sides[0], height=sides[1], why=why)


def _find_start(config: Config, family: Family) -> str | None:
    """The file that all of a graph's generations start from, at the size of the run; None if there is no such file."""
    stages = find_denoise_stages(config)
    sources = [config.graph.stages.get(stage.inputs.get("image", "")) for stage in stages]
    if not all(infer_task(family.kind, stage.inputs) in family.tasks for stage in stages):
        return None  # a rule says so
    paths = {_get_path(config, source) for stage, source in zip(stages, sources, strict=True) if source}
    starts = [takes_strength(stage, family) for stage in stages]
    return paths.pop() if len(paths) == 1 and starts and all(starts) and sources[0] else None


def _get_path(config: Config, source: StageConfig) -> str | None:
    """The file that a stage reads at the size of the run; None where it reads none, or has a size of its own."""
    options: Any = source.options or {}
    if source.stage != "read_image" or not isinstance(options, dict) or {"width", "height"} & options.keys():
        return None
    path = options.get("path", config.image)
    return path if isinstance(path, str) else None


def judge_crops(graph: Graph) -> list[Finding]:
    """What is to be said of the files that a graph reads: how much of each is cut away.

    Raises:
        Unfit: image and mask have other shapes, so that the mask would cover another place than it was painted on.
    """
    _refuse_other_shapes(graph)
    findings = []
    for options, key in _list_files(graph):
        size = measure_image(key, options.path)
        if cut := _describe_cut(size, (options.width, options.height)):
            findings.append(
                Finding(
                    rule="image-cut",
                    verdict="unverified",
                    message=f"{key}={options.path}: {size[0]} x {size[1]}, scaled to cover {options.width} x "
                    f"{options.height}; {cut}",
                    fix="a width and height of its shape, or neither: image-to-image and inpainting then follow the "
                    "image",
                    source="",
                )
            )
    return findings


def _list_files(graph: Graph) -> Iterator[tuple[ReadImageOptions, str]]:
    for node in graph.nodes.values():
        if node.stage.name in KEYS:
            yield node.options, KEYS[node.stage.name]


def _describe_cut(size: tuple[int, int], wanted: tuple[int, int]) -> str:
    """What a scaled image of this size loses at the wanted size; empty for less than a pixel."""
    width, height = size
    kept_width, kept_height = min(width, height * wanted[0] / wanted[1]), min(height, width * wanted[1] / wanted[0])
    for lost, whole, what, sides in (
        (width - kept_width, width, "columns", "left and right"),
        (height - kept_height, height, "rows", "top and bottom"),
    ):
        if lost >= 1:
            return f"{lost:.0f} of its {whole} {what} ({lost / whole:.1%}) are cut away, half each at {sides}"
    return ""


def _refuse_other_shapes(graph: Graph) -> None:
    """Refuses a mask whose shape is not that of the image, but for one pixel of rounding."""
    for node in graph.nodes.values():
        image, mask = (graph.nodes.get(node.inputs.get(name, "")) for name in ("image", "mask"))
        if not image or not mask or (image.stage.name, mask.stage.name) != ("read_image", "read_mask"):
            continue
        size, other = measure_image("image", image.options.path), measure_image("mask", mask.options.path)
        alike = abs(other[0] - size[0] * other[1] / size[1]) <= 1 or abs(other[1] - size[1] * other[0] / size[0]) <= 1
        if not alike:
            raise Unfit(
                f"mask={mask.options.path}: {other[0]} x {other[1]}, another shape than image={image.options.path} "
                f"({size[0]} x {size[1]}), so it would cover another place than it was painted on; paint it on the "
                "image, at any scale"
            )
