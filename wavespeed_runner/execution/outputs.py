"""What a run leaves of each sample: image or video, its reference, their difference, and the sheet of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..artifacts import Videos
from ..config.lossy import remove_lossy, remove_lossy_data
from ..config.schema import Config
from ..errors import RunError
from ..planning.graph import Graph
from ..planning.plan import Plan
from ..records.record import PIXELS, image_data

if TYPE_CHECKING:
    from ..media.images import ImageArray


class Shown(NamedTuple):
    """One column of the overview; of a video, its middle frame."""

    prompt: str
    note: str
    image: Any
    reference: Any = None
    reference_note: str = ""
    difference: Any = None


def save_sample(
    plan: Plan,
    folder: Path,
    index: int,
    entry: dict[str, Any],
    values: dict[str, Any],
    reference: dict[str, Any] | None,
) -> Shown:
    """Writes the sample's result and, where there is a reference, that and the difference; adds figures to `entry`.

    A stage may give several images for one sample; the first is the one that is compared.

    Raises:
        RunError: the graph gave none.
    """
    from ..media.images import build_file_name

    made, fps = _result(plan.graph, values)
    name = build_file_name(index, entry["prompt"], entry["seed"], ".png" if fps is None else ".mp4")
    entry["file"] = f"{'images' if fps is None else 'videos'}/{name}"
    entry["pixels_sha256"] = _digest(made)
    about = image_data(plan.config, entry["prompt"], entry["seed"], plan.images[index])
    entry["sha256"] = _write(folder / entry["file"], made, fps, about)
    if fps is not None:
        entry |= {"frames": len(made), "fps": fps}
    note = f"{entry['seconds']:.2f} s"
    if reference is None or plan.reference is None:
        return Shown(entry["prompt"], note, _still(made))

    original, _ = _result(plan.reference, reference)
    about = image_data(_lossless(plan.config), entry["prompt"], entry["seed"], plan.reference_images[index])
    _write(folder / "reference" / name, original, fps, about)
    gain = plan.config.measure.difference_gain
    map_ = _difference(made, original, gain)
    about_map = {"Description": f"{gain:g} * |result - reference|", "Source": entry["file"]}
    _write(folder / "difference" / name, map_, fps, about_map)
    _compare(entry, made, original)
    note = f"{note}, SSIM {entry['quality']['ssim']:.3f}"
    return Shown(
        entry["prompt"], note, _still(made), _still(original), f"{entry['reference_seconds']:.2f} s", _still(map_)
    )


def _result(graph: Graph, values: dict[str, Any]) -> tuple[Any, int | None]:
    """The first image of a graph's output, and None; or its first video, and the frames a second."""
    value = values[graph.output]
    video = isinstance(value, Videos)
    made = value.tensors["frames" if video else "images"]
    if not len(made):
        raise RunError(f"graph.output={graph.output}: the stage gave nothing for this prompt")
    return made[0], value.data["fps"] if video else None


def _write(path: Path, made: Any, fps: int | None, about: dict[str, str]) -> str:
    """An image, or a video with the sheet of its frames beside it; the sha256 of the file."""
    from ..media.images import write_png
    from ..media.videos import write_frame_sheet, write_mp4

    if fps is None:
        return write_png(path, made, metadata=about)
    write_frame_sheet(path.with_suffix(".png"), made, fps=fps, metadata={"Description": "frames", "Source": path.name})
    return write_mp4(path, made, fps=fps, metadata={**about, PIXELS: _digest(made)})


def _digest(made: Any) -> str:
    from ..media.images import hash_image
    from ..media.videos import hash_frames

    return hash_image(made) if made.ndim == 3 else hash_frames(made)


def _still(made: Any) -> ImageArray:
    from ..media.videos import middle_frame

    return made if made.ndim == 3 else middle_frame(made)


def _difference(made: Any, original: Any, gain: float) -> Any:
    import numpy as np

    from ..media.images import compute_difference

    if made.ndim == 3:
        return compute_difference(made, original, gain)
    return np.stack([compute_difference(one, other, gain) for one, other in zip(made, original, strict=True)])


def likeness(graph: Graph, values: dict[str, Any], reference: dict[str, Any]) -> dict[str, float | None]:
    """The metrics between two results of a graph; of videos the means over their frames."""
    entry: dict[str, Any] = {}
    _compare(entry, _result(graph, values)[0], _result(graph, reference)[0])
    return dict(entry["quality"])


def _compare(entry: dict[str, Any], made: Any, original: Any) -> None:
    """Adds `quality`; of a video the means over its frames, and the worst frame's values as `quality_worst_frame`."""
    from ..metrics.quality import compare_images, compare_videos

    if made.ndim == 3:
        entry["quality"] = compare_images(made, original)
    else:
        entry["quality"], entry["quality_worst_frame"] = compare_videos(made, original)


def _lossless(config: Config) -> Config:
    """The config that makes the reference: its own steps, and nothing lossy, for all stages or for one."""
    stages = {
        name: replace(given, options=remove_lossy_data(given.options)) for name, given in config.graph.stages.items()
    }
    if config.measure.reference_steps is not None:
        measure = replace(config.measure, reference_steps=None)
        config = replace(config, steps=config.measure.reference_steps, measure=measure)
    return replace(remove_lossy(config), graph=replace(config.graph, stages=stages))


def save_overview(plan: Plan, folder: Path, shown: list[Shown]) -> None:
    """One sheet to look at: a column a prompt, a row each for reference, result and difference."""
    from ..media.contact_sheet import draw_contact_sheet
    from ..media.images import write_png

    video = issubclass(plan.graph.nodes[plan.graph.output].stage.output, Videos)
    alone = "middle frames" if video else "images"
    fewer = plan.config.cache.name == "none" and plan.config.measure.reference_steps is not None
    setting = f"{plan.config.steps} steps" if fewer else plan.config.cache.name
    rows = [(setting if plan.reference else alone, [s.image for s in shown])]
    notes = [[s.note for s in shown]]
    if plan.reference:
        gain = f"difference x{plan.config.measure.difference_gain:g}"
        rows = [("reference", [s.reference for s in shown]), *rows, (gain, [s.difference for s in shown])]
        notes = [[s.reference_note for s in shown], *notes, []]
    sheet = draw_contact_sheet(rows, [s.prompt for s in shown], notes=notes)
    write_png(folder / "overview.png", sheet, metadata={"Description": f"fingerprint {plan.fingerprint}"})


def save_trace(folder: Path, record: dict[str, Any], *, plot: bool = True) -> None:
    """What the cache strategies of a run decided: `trace.csv` and `trace.png`; nothing without a strategy."""
    from .trace_files import write

    write(folder, record, plot=plot)
