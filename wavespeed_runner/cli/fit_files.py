"""The calibration files that `fit` writes into: which they are, and what of them is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, Unfit

if TYPE_CHECKING:
    from ..caching.calibration.data import Calibration, Key
    from ..planning.plan import Plan
    from ..tuning.fit import Found

Places = dict[str, Path]
"""`samplers` and `caches` -> the file."""


def find_places(plan: Plan, out: Path | None, *, samplers: bool, caches: bool) -> Places:
    """The files that are written: one, unless the model starts from an image, whose samplers are those from noise.

    Raises:
        ConfigError: `out` is another run's, or no calibration, or would have to be both files.
    """
    from ..caching.calibration.data import build_file_name, compare_keys
    from ..caching.calibration.file import load_key

    keys = {kind: key for kind, key in _build_keys(plan).items() if {"samplers": samplers, "caches": caches}[kind]}
    folder = Path(plan.config.outputs) / "calibrations"
    places = {kind: out or folder / build_file_name(key) for kind, key in keys.items()}
    if out is None:
        return places
    if len({str(key) for key in keys.values()}) > 1:
        raise ConfigError(
            f"out={out}: samplers and caches of this model are in two files; fit them one after the other"
        )
    if out.exists() and compare_keys(next(iter(keys.values())), load_key(out)):
        raise ConfigError(f"out={out}: it is the calibration of another run; choose another file")
    return places


def keep(
    plan: Plan,
    places: Places,
    calibration: Calibration | None,
    count: int,
    found: Found,
    tell: Callable[[str], None] | None,
) -> None:
    """Adds what was fitted to the calibration in its file, which is made where there is none.

    Args:
        plan: of the full runs.
        places: from `find_places`.
        calibration: of the full runs, which a cache's weights go into where the file has none.
        count: evaluations or computed steps.
        found: what was fitted.
        tell: of a fit that was interrupted; it replaces none that was made with more iterations, and that is told.
    """
    from ..caching.calibration.data import FittedSolver
    from ..caching.calibration.file import save

    kind = "samplers" if isinstance(found, FittedSolver) else "caches"
    base = _load_base(plan, places[kind], _build_keys(plan)[kind], calibration if kind == "caches" else None)
    earlier = getattr(base, kind).get(count)
    if tell and earlier and earlier.made.get("iterations", 0) > found.made["iterations"]:
        tell(f"{count}: the earlier fit with {earlier.made['iterations']} iterations is kept")
        return
    entries = {**getattr(base, kind), count: found}
    save(replace(base, samplers=entries) if kind == "samplers" else replace(base, caches=entries), places[kind])


def find_or_make_calibration(plan: Plan, path: Path, tell: Callable[[str], None]) -> Calibration:
    """The calibration of the full runs, whose residuals tell which steps to compute; a new one where there is none."""
    from ..caching.calibration.find import find_calibration
    from ..tuning.calibrate import summary, write_calibration

    try:
        return find_calibration(plan.config, "computed=N: needs a calibration", exact=True)[1]
    except Unfit:
        tell("no calibration fits this run; making one first")
    calibration = write_calibration(plan, path)
    tell(summary(calibration))
    return calibration


def _build_keys(plan: Plan) -> dict[str, Key]:
    """What samplers and caches belong to: a solver is that from noise, wherever in the schedule a run begins."""
    from ..caching.calibration.data import build_key
    from ..planning.sampler_numbers import build_start_key

    return {"samplers": build_start_key(plan.config), "caches": build_key(plan.config)}


def _load_base(plan: Plan, path: Path, key: Key, calibration: Calibration | None) -> Calibration:
    """What the file has; else a copy of a calibration that fits the full run, or a new one without traces."""
    from ..caching.calibration.data import Calibration, compare_keys
    from ..caching.calibration.file import load, load_key
    from ..caching.calibration.find import find_by_key

    there = load(path) if path.exists() and not compare_keys(key, load_key(path)) else None
    if there and (there.sigmas or not calibration):
        return there
    if calibration:
        return replace(calibration, samplers={**calibration.samplers, **(there.samplers if there else {})})
    try:
        return find_by_key(plan.config, key, "", exact=True)[1]
    except Unfit:
        return Calibration(key=key, made={"prompts": [sample.prompt for sample in plan.samples]})
