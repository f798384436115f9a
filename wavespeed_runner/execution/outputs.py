"""What a run leaves of each sample: image or video, its reference, their difference, and the sheet of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..artifacts import Videos
from ..config.lossy import remove_lossy, remove_lossy_data
from ..config.schema import Config, to_data
from ..errors import RunError
from ..planning.graph import Graph
from ..planning.plan import Plan
from ..planning.reference import list_reference_values
from ..records.a1111 import A1111_KEY, describe_as_a1111
from ..records.new import PIXELS, image_data
from ..records.reference import describe_sampler, name_steps
from ..records.sample import Metrics, SampleRecord
from .judging import Opened, judge_sample

if TYPE_CHECKING:
    from ..media.images import ImageArray


INPUTS = {"read_image": "start", "read_mask": "mask"}
"""Stage -> the field of a column that shows what it reads."""


class Column(NamedTuple):
    """One column of the overview; of a video, its middle frame."""

    prompt: str
    note: str
    image: Any
    reference: Any = None
    reference_note: str = ""
    difference: Any = None
    start: Any = None
    """The image that it was made from."""
    mask: Any = None
    """Where that was repainted: white."""
    seed: int | None = None


def save_sample(
    plan: Plan,
    folder: Path,
    index: int,
    sample: SampleRecord,
    values: dict[str, Any],
    reference: dict[str, Any] | None,
    judges: Sequence[Opened] = (),
) -> Column:
    """Writes an image and, where there is a reference, that and the difference; compares the two.

    A stage may return several images for one sample; the first one is compared.

    Args:
        plan: of the run.
        folder: of the run.
        index: of the image, counted from 0.
        sample: its record, to which files, digests and quality are added.
        values: node -> value, of the graph that made the image.
        reference: the same of the reference.
        judges: of the run.

    Raises:
        RunError: the graph returned no image, or a judge failed.
    """
    from ..media.images import build_file_name

    image, fps = _first_image(plan.graph, values)
    name = build_file_name(index, sample.prompt, sample.seed, ".png" if fps is None else ".mp4")
    sample.file = f"{'images' if fps is None else 'videos'}/{name}"
    sample.pixels_sha256 = _digest(image)
    metadata = _describe(plan.config, sample, plan.images[index], fps)
    sample.sha256 = _write(folder / sample.file, image, fps, metadata)
    if fps is not None:
        sample.frames, sample.fps = len(image), fps
    note = f"{sample.seconds:.2f} s"
    if reference is None or plan.reference is None:
        judge_sample(judges, sample, image, None)
        return Column(sample.prompt, note, _still(image), seed=sample.seed, **_find_inputs(plan.graph, values))

    original, _ = _first_image(plan.reference, reference)
    metadata = _describe(_reference_config(plan.config), sample, plan.reference_images[index], fps)
    _write(folder / "reference" / name, original, fps, metadata)
    gain = plan.config.measure.difference_gain
    map_ = _difference(image, original, gain)
    metadata = {"Description": f"{gain:g} * |result - reference|", "Source": sample.file}
    _write(folder / "difference" / name, map_, fps, metadata)
    sample.quality, sample.quality_worst_frame = _compare(image, original)
    judge_sample(judges, sample, image, original)
    return Column(
        sample.prompt,
        f"{note}, SSIM {sample.quality.ssim:.3f}",
        _still(image),
        _still(original),
        f"{sample.reference_seconds:.2f} s",
        _still(map_),
        seed=sample.seed,
        **_find_inputs(plan.graph, values),
    )


def _find_inputs(graph: Graph, values: dict[str, Any]) -> dict[str, Any]:
    """The first image and the first mask that the graph reads from a file; without those that it does not."""
    found: dict[str, ImageArray] = {}
    for name, node in graph.nodes.items():
        if node.stage.name in INPUTS and name in values:
            found.setdefault(INPUTS[node.stage.name], values[name].tensors["images"][0])
    return found


def _describe(config: Config, sample: SampleRecord, fingerprint: str, fps: int | None) -> dict[str, str]:
    """What an image or a video says of itself; an image also in the form of A1111's web UI."""
    ours = image_data(config, sample.prompt, sample.seed, fingerprint)
    return ours if fps is not None else {**ours, A1111_KEY: describe_as_a1111(config, sample.prompt, sample.seed)}


def _first_image(graph: Graph, values: dict[str, Any]) -> tuple[Any, int | None]:
    """The first image of a graph's output, and None; or its first video, and its frames per second."""
    value = values[graph.output]
    is_video = isinstance(value, Videos)
    images = value.tensors["frames" if is_video else "images"]
    if not len(images):
        raise RunError(f"graph.output={graph.output}: the stage returned nothing for this prompt")
    return images[0], value.data["fps"] if is_video else None


def _write(path: Path, image: Any, fps: int | None, metadata: dict[str, str]) -> str:
    """Writes an image, or a video with a contact sheet of its frames beside it; returns the file's sha256."""
    from ..media.images import write_png
    from ..media.videos import write_frame_sheet, write_mp4

    if fps is None:
        return write_png(path, image, metadata=metadata, simple=[A1111_KEY])
    write_frame_sheet(path.with_suffix(".png"), image, fps=fps, metadata={"Description": "frames", "Source": path.name})
    return write_mp4(path, image, fps=fps, metadata={**metadata, PIXELS: _digest(image)})


def _digest(image: Any) -> str:
    from ..media.images import hash_image
    from ..media.videos import hash_frames

    return hash_image(image) if image.ndim == 3 else hash_frames(image)


def _still(image: Any) -> ImageArray:
    from ..media.videos import middle_frame

    return image if image.ndim == 3 else middle_frame(image)


def _difference(image: Any, original: Any, gain: float) -> Any:
    import numpy as np

    from ..media.images import compute_difference

    if image.ndim == 3:
        return compute_difference(image, original, gain)
    return np.stack([compute_difference(frame, other, gain) for frame, other in zip(image, original, strict=True)])


def compare_values(graph: Graph, values: dict[str, Any], reference: dict[str, Any]) -> Metrics:
    """Compares two results of a graph; of videos the means over their frames."""
    return _compare(_first_image(graph, values)[0], _first_image(graph, reference)[0])[0]


def _compare(image: Any, original: Any) -> tuple[Metrics, Metrics | None]:
    """The metrics, of a video the means over its frames; and of a video each metric's worst frame."""
    from ..metrics.quality import compare_images, compare_videos

    if image.ndim == 3:
        return Metrics(**compare_images(image, original)), None
    means, worst = compare_videos(image, original)
    return Metrics(**means), Metrics(**worst)


def _reference_config(config: Config) -> Config:
    """The config that makes the reference: its own sampler and steps, and nothing lossy, for all stages or for one."""
    stages = {
        name: replace(given, options=remove_lossy_data(given.options)) for name, given in config.graph.stages.items()
    }
    measure = replace(config.measure, reference_steps=None, reference_sampler=None)
    config = replace(config, measure=measure, **list_reference_values(config))
    return replace(remove_lossy(config), graph=replace(config.graph, stages=stages))


def _name_setting(config: Config) -> str:
    """The cache; without one, and with a reference of its own sampler or steps, the run's."""
    own = list_reference_values(config)
    if config.cache.name != "none" or not own:
        return config.cache.title
    is_other = own.get("sampler", config.sampler) != config.sampler
    return name_steps(describe_sampler(to_data(config.sampler)) if is_other else "", config.steps or 0)


def save_overview(plan: Plan, folder: Path, columns: list[Column]) -> None:
    """Writes `overview.png`: a column for each prompt, a row each for reference, result and difference.

    Images that were made from another one stand below that, and below the mask. Columns of one prompt say their seeds.
    """
    from ..media.contact_sheet import draw_contact_sheet
    from ..media.images import write_png

    is_video = issubclass(plan.graph.nodes[plan.graph.output].stage.output, Videos)
    setting = _name_setting(plan.config)
    alone = "middle frames" if is_video else "images"
    rows = [(setting if plan.reference else alone, [column.image for column in columns])]
    notes = [[column.note for column in columns]]
    if plan.reference:
        gain = f"difference x{plan.config.measure.difference_gain:g}"
        references, differences = [c.reference for c in columns], [c.difference for c in columns]
        rows = [("reference", references), *rows, (gain, differences)]
        notes = [[column.reference_note for column in columns], *notes, []]
    for label, inputs in (("mask", [c.mask for c in columns]), ("starts from", [c.start for c in columns])):
        if all(one is not None for one in inputs):
            rows, notes = [(label, inputs), *rows], [[], *notes]
    sheet = draw_contact_sheet(rows, _name_columns(columns), notes=notes)
    write_png(folder / "overview.png", sheet, metadata={"Description": f"fingerprint {plan.fingerprint}"})


def _name_columns(columns: Sequence[Column]) -> list[str]:
    """The prompts; with the seeds, first so that no long prompt cuts them off, where a prompt is there twice."""
    prompts = [column.prompt for column in columns]
    if len(set(prompts)) == len(prompts):
        return prompts
    return [f"seed {column.seed}: {column.prompt}" for column in columns]
