"""What stands in `grid.png`: images as they are read, and what is said of jobs, references, prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ..inputs.files import InputError, read_file
from ..inputs.images import count_pixels, damage_as_input_error, decode_image
from ..inputs.limits import MAX_IMAGE_BYTES, MAX_PAGE_PIXELS
from ..media.contact_sheet import scale_to_cell
from ..records.reference import describe_reference
from ..records.sample import SampleRecord
from .page.images import still, within
from .page.samples import samples_of
from .page.texts import format_time, texts, unit
from .rows import Row, Sweep

if TYPE_CHECKING:
    from ..media.images import ImageArray


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Sheets that are to stand below one another."""

    sheets: list[ImageArray]
    jobs: set[str]
    """That are shown."""
    title: str = ""


class CellReader:
    """Reads images of records, which are strangers' files, up to the pixels that a report decodes."""

    pixels = 0

    def read(self, row: Row, sample: SampleRecord, *, reference: bool = False) -> ImageArray | None:
        """The image of a sample, or of its reference, as it stands in a cell; None where it cannot be had."""
        import numpy as np

        name = still(sample.file)
        path = within(row.folder, f"reference/{Path(name).name}" if reference else name)
        if path is None:
            return None
        try:
            raw = read_file(path, MAX_IMAGE_BYTES)
            self.pixels += count_pixels(raw)
            if self.pixels > MAX_PAGE_PIXELS:
                return None
            with damage_as_input_error():
                return np.asarray(scale_to_cell(np.asarray(decode_image(raw).convert("RGB"))))
        except (OSError, InputError):
            return None

    def read_all(
        self, cells: Sequence[tuple[Row, SampleRecord]], *, reference: bool = False
    ) -> list[ImageArray] | None:
        """All of these, or None."""
        found = [self.read(row, sample, reference=reference) for row, sample in cells]
        return [image for image in found if image is not None] if all(one is not None for one in found) else None


def describe_job(sweep: Sweep, row: Row) -> str:
    """`332 ms, 2.10x, SSIM 0.9974`; what is not known is left out."""
    text = texts(row, unit(sweep))
    parts = [text["time"] if row.seconds else "", text["speedup"] if row.speedup else ""]
    return ", ".join(part for part in [*parts, f"SSIM {text['ssim']}" if "ssim" in row.quality else ""] if part)


def rate_sample(sample: SampleRecord) -> str:
    """`SSIM 0.9974` of one image; empty without a reference."""
    ssim = sample.quality.ssim if sample.quality else None
    return "" if ssim is None else f"SSIM {ssim:.4f}"


def name_reference(rows: Sequence[Row]) -> str:
    """`reference: 28 steps of default`, as far as these jobs have the same."""
    names = {describe_reference(row.record) for row in rows if row.record}
    name = names.pop() if len(names) == 1 else None
    return f"reference: {name}" if name else "reference"


def time_reference(sweep: Sweep, rows: Sequence[Row]) -> str:
    """The median of what these jobs' references took; empty where nothing was timed."""
    times = [row.reference_seconds for row in rows if row.reference_seconds]
    return format_time(median(times), unit(sweep)) if times else ""


def list_subjects(row: Row) -> tuple[tuple[str, int], ...]:
    """Prompt and seed of each image of a job."""
    return tuple((sample.prompt, sample.seed) for sample in samples_of(row))


def caption_sample(sample: SampleRecord, *, with_seed: bool) -> str:
    """The prompt; with the seed before it, where a long prompt cannot push it out of the caption."""
    prompt = " ".join(sample.prompt.split())
    return f"seed {sample.seed}: {prompt}" if with_seed else prompt
