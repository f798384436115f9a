"""`report.html`: a self-contained page about a sweep or a run, which needs no network and no server.

The templates `*.html.j2` hold the text and the tables, `page.css` and `tables.css` the style, the scripts everything
interactive.
plotly.js draws the plots: its bundle with the basic trace types is in this folder, unmodified, with its licence
(version 4.1.1 of the npm package plotly.js-basic-dist-min). To update it:

    npm pack plotly.js-basic-dist-min@VERSION && tar xzf plotly.js-basic-dist-min-VERSION.tgz
    cp package/plotly-basic.min.js wavespeed_runner/report/page/
    cp package/LICENSE wavespeed_runner/report/page/plotly-basic.LICENSE

All text from records is untrusted: the template escapes it, the scripts insert it as text and never as markup, and the
page's content security policy allows only these scripts and no requests.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...errors import make_printable
from ...inputs.limits import MAX_PAGE_PIXELS
from ...metrics.forks import FORK
from ..judges import PREFIX, list_judges
from ..published_text import BESIDE, HEAD, list_cells
from ..ranking import is_nothing_faster
from ..remarks import (
    NOTHING_FASTER,
    SCALED,
    describe_apart,
    describe_compiling,
    describe_forks,
    describe_never_hit,
    enumerate_names,
)
from ..rows import Row, Sweep
from .axes import named_axes
from .breaks import breakable
from .clean import clean_data, clean_value
from .data import MOST, page_data
from .head import STATUSES, describe_state, list_facts, list_statuses
from .images import Album, album
from .samples import samples_of
from .static import STYLES, read_asset
from .texts import METRICS, NOTHING, texts, unit

if TYPE_CHECKING:
    from jinja2 import Template

LIBRARY = "plotly-basic.min.js"
SCRIPTS = ("copy.js", "page.js", "table.js", "bands.js", "plots.js", "grid.js", "viewer.js", "job.js", "start.js")
"""In the order in which they run: each uses definitions of earlier ones."""


def page(sweep: Sweep, *, folder: Path | None = None) -> str:
    """Renders the report of a sweep as one HTML file.

    Args:
        sweep: what to report.
        folder: the folder that the file is for, to which links to images are relative; by default the sweep's own.

    Returns:
        The content of the file.
    """
    count = _shown_samples(sweep)
    images = album(_expected_images(sweep, count))
    data = page_data(sweep, images, count, folder or sweep.folder)
    scripts = [read_asset(__name__, LIBRARY), "\n".join(read_asset(__name__, name) for name in SCRIPTS)]
    return _template().render(
        sweep=sweep,
        command=make_printable(sweep.command),
        version=__version__,
        scripts=scripts,
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        style="\n".join(read_asset(__name__, name) for name in STYLES),
        data=clean_data(data),
        images=images.uris,
        remarks=_remarks(sweep, images, count),
        axes=named_axes(sweep),
        metrics=METRICS,
        judges=list_judges(sweep.rows),
        prefix=PREFIX,
        rows=[(row, texts(row, unit(sweep))) for row in sweep.rows],
        kind="run" if len(sweep.rows) == 1 and not sweep.axes else "sweep",
        rivals=any(row.rival for row in sweep.rows),
        compared=any(row.forks for row in sweep.rows),
        floors=any(quality.noise_floor is not None for row in sweep.rows for quality in row.quality.values()),
        intervals=_has_intervals(sweep),
        front=any(metrics for job in data["jobs"] for metrics in job["fronts"].values()),
        apart="".join(describe_apart(sweep.rows)),
        paced=SCALED if data["paced"] else "",
        findings=[
            *([NOTHING_FASTER] if is_nothing_faster(sweep.rows) else []),
            *describe_forks(sweep.rows),
            *describe_never_hit(sweep.rows),
            *describe_compiling(sweep.rows),
        ],
        statuses=list_statuses(sweep),
        state=describe_state(sweep),
        facts=list_facts(sweep),
        problems=_problems(sweep),
        problems_title=_problems_title(sweep),
        environment=_environment(sweep.environment),
        nothing=NOTHING,
        fork=FORK,
        published_head=HEAD,
        published_cells=list_cells,
        beside=BESIDE,
    )


@lru_cache
def _template() -> Template:
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=clean_value,
        loader=DictLoader({name: read_asset(__name__, name) for name in ("page.html.j2", "published.html.j2")}),
    )
    environment.filters["breakable"] = breakable
    return environment.get_template("page.html.j2")


def _shown_samples(sweep: Sweep) -> int:
    """Number of samples of each job whose images are shown."""
    most = max((len(samples_of(row)) for row in sweep.rows), default=0)
    finished = sum(row.status == "completed" for row in sweep.rows)
    return min(most, max(1, MOST // finished)) if finished else 0


def _expected_images(sweep: Sweep, count: int) -> int:
    """Number of results and difference maps; references are few because jobs share them."""
    return 2 * sum(min(count, len(samples_of(row))) for row in sweep.rows)


def _has_intervals(sweep: Sweep) -> bool:
    """Whether any point of the plots has error bars."""
    means = [quality.mean for row in sweep.rows for quality in row.quality.values()]
    times = [row.seconds for row in sweep.rows if row.seconds is not None]
    return any(interval.low < interval.high for interval in [*means, *times])


def _problems(sweep: Sweep) -> list[tuple[str, str, list[Row]]]:
    """Failed and skipped jobs grouped by status and reason, the most frequent reason first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sweep.rows:
        if row.status not in ("completed", "running", "missing"):
            groups.setdefault((row.status, row.reason), []).append(row)
    order = sorted(groups.items(), key=lambda item: (STATUSES.index(item[0][0]), -len(item[1])))
    return [(status, reason, rows) for (status, reason), rows in order]


def _problems_title(sweep: Sweep) -> str:
    """`Failed and skipped`, or only the one that there is."""
    kinds = {row.status for row in sweep.rows}
    failed = bool(kinds & {"failed", "lost", "interrupted"})
    return " and ".join(["failed"] * failed + ["skipped"] * ("skipped" in kinds)).capitalize()


def _environment(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values, nested ones under their full name, without empty ones."""
    flat: list[tuple[str, str]] = []
    for key, value in environment.items():
        if isinstance(value, dict):
            flat += [(name if key == "versions" else f"{key}.{name}", text) for name, text in _environment(value)]
        elif value not in (None, "", []):
            flat.append((key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return flat


def _remarks(sweep: Sweep, images: Album, count: int) -> list[str]:
    """Sentences about images that the page does not show, or shows smaller."""
    most = max((len(samples_of(row)) for row in sweep.rows), default=0)
    sentences = []
    if count < most:
        sentences.append(f"This page has images and step traces of the first {count} of {most} images of each job.")
    if images.shrunk:
        sentences.append(f"Larger images are shown at up to {images.side} pixels; the enlarged view links to files.")
    if images.left_out:
        sentences.append(f"{images.left_out} images were left out: the page would be too large for a browser.")
    if images.too_large:
        names = enumerate_names(images.too_large)
        sentences.append(f"Left out, because a page decodes at most {MAX_PAGE_PIXELS} pixels: {names}.")
    if images.unreadable:
        sentences.append(f"{images.unreadable} files could not be read as images.")
    return sentences
