"""`tune.html`: what a tuning has found, as one file that needs no network and no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from ..errors import ConfigError, RunError, make_printable
from ..metrics.values import is_less_better, read_values
from ..records.file import FILE, read_record
from ..records.names import model_name
from ..report.page.images import Album, album, still, within
from ..report.page.static import render
from .figure import draw
from .result import Result
from .tuning import Tuning

SHARES = {"the worst image": 0.0, "a tenth are no better": 0.1, "the median": 0.5, "the best": 1.0}
"""Which images of the answer are shown: what each is, and its place in the order of quality."""


def render_page(
    tuning: Tuning, data: dict[str, Any], experiment: str, commands: Sequence[tuple[str, str, str]]
) -> bytes:
    """Renders the page.

    Args:
        tuning: what was found.
        data: the same as `tune.json` has it.
        experiment: text of the answer's file; empty where there is none.
        commands: what each is for, what has to be done before, and itself.
    """
    shown = tuning.answer or tuning.nearest
    shown_images = album(2 * len(SHARES))
    rows = _list_shown(shown, tuning.aim.shown.metric, shown_images) if shown else []
    return render(
        __package__,
        "page.html.j2",
        data=data,
        plot=draw(tuning) if tuning.tuning.results else None,
        shown_images=rows,
        images=shown_images.uris,
        of="the answer" if tuning.answer else "what comes nearest",
        model=model_name({**asdict(tuning.plan.config.model), "init": tuning.plan.config.model.init.value}),
        experiment=experiment,
        commands=[tuple(map(make_printable, one)) for one in commands],
        metric=tuning.aim.shown.metric,
        bounded=bool(tuning.aim.bounds),
    ).encode()


def _list_shown(result: Result, metric: str, shown_images: Album) -> list[dict[str, Any]]:
    """A few images of a setting beside their references, bad and good ones; [] where they cannot be read."""
    name = "ssim" if metric == "forks" else metric
    try:
        record = read_record(result.folder / FILE)
        values = read_values(record, name)
    except (RunError, ConfigError):
        return []
    order = sorted(range(len(values)), key=values.__getitem__, reverse=is_less_better(name))
    chosen: dict[int, list[str]] = {}
    for what, share in SHARES.items():
        chosen.setdefault(order[round(share * (len(order) - 1))], []).append(what)
    rows = []
    for place, whats in chosen.items():
        sample = record.samples[place]
        files = (f"reference/{PurePosixPath(sample.file).name}", sample.file)
        reference, image = (shown_images.add(within(result.folder, still(file))) for file in files)
        if reference is not None and image is not None:
            prompt = make_printable(" ".join(sample.prompt.split()))
            figure = f"{name} {values[place]:.4g}"
            rows.append(
                {"what": ", ".join(whats), "prompt": f"{prompt} (seed {sample.seed})", "figure": figure}
                | {"reference": reference, "image": image}
            )
    return rows
