"""The size of a run that starts from an image file, and what of the files is cut away at that size."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ..config.schema import Config, Init, StageConfig
from ..errors import Unfit
from ..models.family import Family, infer_task
from ..registry import find_implementation
from ..rules.check import Finding
from ..rules.graph import find_denoise_stages
from ..stages.read_image import BACKGROUNDS, ReadImageOptions, count_frames, inspect_image, measure_image
from .graph import Graph
from .image_shapes import choose_size, find_least_cut, measure_cut

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

    It is scaled down to the pixels of the model's own size, and to that size among those that the model can generate
    at which the least is cut away. With one side given, the other follows the image's shape. The scene that ships with
    the package has no size of its own to follow: it stands for any image.

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
    if own := family.choose_size(config.model, (own_width, own_height)):
        why = f"the makers' size for an image of {own_width} x {own_height}"
        return Size(width=own[0], height=own[1], why=why)
    pixels = family.tiny_size**2 if config.model.init is Init.tiny else config.model.width * config.model.height
    sides = choose_size((own_width, own_height), pixels, multiple)
    bound = _describe_scale(own_width * own_height, sides, pixels)
    why = f"the size of the image, {own_width} x {own_height}{bound}, in multiples of {multiple}"
    return Size(width=sides[0], height=sides[1], why=why)


def _describe_scale(own: int, sides: tuple[int, int], pixels: int) -> str:
    """How an image of `own` pixels was scaled to these sides. pixels: those of the model's own size."""
    count = sides[0] * sides[1]
    if count > min(own, pixels):  # a narrow one
        way = "up" if count > own else "down"
        model = f": {count} pixels, more than the {pixels} of the model's own size" if count > pixels else ""
        return f", scaled {way} to the {min(sides)} pixels that its short side has at least{model}"
    return f", scaled down to at most {pixels} pixels" if pixels < own else ""


def _find_start(config: Config, family: Family) -> str | None:
    """The file that all of a graph's generations start from, at the size of the run; None if there is no such file."""
    stages = find_denoise_stages(config)
    sources = [config.graph.stages.get(stage.inputs.get("image", "")) for stage in stages]
    tasks = [infer_task(family.kind, stage.inputs) for stage in stages]
    if not all(task in family.tasks for task in tasks):
        return None  # a rule says so
    paths = {_get_path(config, source) for stage, source in zip(stages, sources, strict=True) if source}
    starts = [task in ("image_to_image", "inpaint") for task in tasks]
    return paths.pop() if len(paths) == 1 and starts and all(starts) and sources[0] else None


def _get_path(config: Config, source: StageConfig) -> str | None:
    """The file that a stage reads at the size of the run; None where it reads none, or has a size of its own."""
    options: Any = source.options or {}
    if source.stage != "read_image" or not isinstance(options, dict) or {"width", "height"} & options.keys():
        return None
    path = options.get("path", config.image)
    return path if isinstance(path, str) else None


def judge_crops(graph: Graph, config: Config, chosen: Collection[str]) -> list[Finding]:
    """What is to be said of the files that a graph reads: other images in them, and how much of each is cut away.

    Args:
        graph: of the run.
        config: with the run's size.
        chosen: the keys that were set automatically.

    Raises:
        Unfit: image and mask have other shapes, so that the mask would cover another place than it was painted on.
    """
    _refuse_other_shapes(graph)
    family: Family = find_implementation("model", config.model)
    start = _find_start(config, family)
    findings = []
    for options, key in _list_files(graph):
        findings += _judge_content(key, options.path)
        size = measure_image(key, options.path)
        lost, _ = measure_cut(size, (options.width, options.height))
        if lost:
            # Image and mask have one shape, and one size has to do for both: the image's.
            shape = measure_image("image", start) if key == "mask" and start else size
            follows = start is not None and (key == "mask" or start == options.path)
            findings.append(
                _warn(
                    "image-cut",
                    f"{key}={options.path}: {size[0]} x {size[1]}, scaled to cover {options.width} x "
                    f"{options.height}; {lost}",
                    _find_better_size(
                        config, family, key, options, shape, follows and not {"width", "height"} <= {*chosen}
                    ),
                )
            )
    return findings


def _judge_content(key: str, path: str) -> list[Finding]:
    """What of a file is left out or changed, whatever the size: other images in it, transparent parts."""
    found, findings = inspect_image(key, path), []
    if (count := count_frames(path)) > 1:
        message = f"{key}={path}: it holds {count} images, and the first is used alone"
        findings.append(_warn("image-frames", message, "the image that is meant, saved as a file of its own"))
    if found.is_transparent:
        message = f"{key}={path}: its transparent parts are taken as {BACKGROUNDS[key]}"
        ways = {"image": "an image without any; what is to be repainted is graph=inpaint mask=FILE"}
        findings.append(_warn("image-transparent", message, ways.get(key, "white where the image is to be repainted")))
    if key == "mask" and found.is_dark:
        message = f"mask={path}: it is nowhere brighter than half of white, so nothing is repainted"
        findings.append(_warn("mask-dark", message, "white where the image is to be repainted"))
    return findings


def _warn(rule: str, message: str, fix: str) -> Finding:
    return Finding(rule=rule, verdict="unverified", message=message, fix=fix, source="")


def _find_better_size(
    config: Config, family: Family, key: str, options: ReadImageOptions, size: tuple[int, int], follows: bool
) -> str:
    """A size at which less of an image is cut away, or what else helps. follows: it is what a run without any has."""
    wanted = (options.width, options.height)
    width, height = find_least_cut(size, wanted, family.size_multiple)
    is_better = measure_cut(size, (width, height))[1] < measure_cut(size, wanted)[1]
    if family.fixed_size or wanted != (config.width, config.height) or not is_better:
        what = {"image": "an image", "mask": "image and mask"}[key]
        return f"{what} of the shape of {options.width} x {options.height}"
    return f"width={width} height={height}" + (", or neither: the run then follows the image" if follows else "")


def _list_files(graph: Graph) -> Iterator[tuple[ReadImageOptions, str]]:
    for node in graph.nodes.values():
        if node.stage.name in KEYS:
            yield node.options, KEYS[node.stage.name]


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
