"""The settings of a ladder: planned, cut by the rules, with the share of the work that is foreseen. Nothing runs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.compose import find_key
from ..errors import ConfigError
from ..sweeps.jobs import Job, plan_even_refused
from ..sweeps.points import quote, to_overrides

if TYPE_CHECKING:
    from ..planning.plan import Plan

Point = dict[str, Any]
"""Overrides of a setting, as `points` of a sweep have them."""
SAME_WORK = 0.97
"""A setting that is foreseen to compute a larger share of the reference's work is not worth a try."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting that can be tried."""

    point: Point
    identity: str
    """Equal for settings that run the same."""
    work: float | None
    """The share of the reference's denoiser calls that is foreseen; None where only a run can tell."""

    @property
    def name(self) -> str:
        """As it would be typed."""
        return " ".join(to_overrides(self.point)) or "what was typed, alone"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A setting that a rule refuses."""

    name: str
    reason: str


@contextmanager
def noting(place: str) -> Iterator[None]:
    """Adds where it was asked for to the message of whatever is wrong. place: in a space."""
    try:
        yield
    except Exception as error:
        error.add_note(place)
        raise


def plan_settings(args: Namespace, points: Sequence[Point]) -> tuple[list[Setting], list[Cut]]:
    """Plans settings.

    Args:
        args: `overrides` and `config_dir` of the command; what is typed wins over a point.
        points: in any order.

    Returns:
        Those that can run, in their order, each once; and those that a rule refuses.

    Raises:
        ConfigError: a key, an option or a value of a point is wrong.
    """
    typed = {find_key(override): override for override in args.overrides}
    different = drop_typed(points, typed)
    settings: dict[str, Setting] = {}
    cuts = []
    for point, job in zip(different, plan_points(args, different), strict=True):
        if job.plan is None:
            cuts.append(Cut(name=" ".join(to_overrides(point)), reason=job.skipped))
        elif job.plan.reference_kind == "run":
            found = Setting(point=point, identity=job.plan.identity, work=foresee_work(job.plan))
            settings.setdefault(found.identity, found)
    return list(settings.values()), cuts


def drop_typed(points: Iterable[Point], typed: Mapping[str, str]) -> list[Point]:
    """The points without what was typed, which wins; those that are the same then once.

    What belongs to an option (`cache.computed` of `cache: planned`) goes with it, unless the same option was typed.

    Args:
        points: of a ladder.
        typed: key -> override.
    """
    kept: dict[str, Point] = {}
    for point in points:
        other = [key for key in point if key in typed and typed[key] not in to_overrides({key: point[key]})]
        gone = tuple(f"{key}{mark}" for key in other for mark in "./")
        left = {key: value for key, value in point.items() if key not in typed and not key.startswith(gone or "\0")}
        kept.setdefault(repr(left), left)
    return list(kept.values())


def plan_points(args: Namespace, points: Sequence[Point]) -> list[Job]:
    """The jobs of a sweep over these points, in their order. A job that a rule refuses has no plan."""
    return plan_even_refused(write_command(args, points)) if points else []


def write_command(args: Namespace, points: Sequence[Point], more: Sequence[str] = ()) -> Namespace:
    """The command of a sweep over points, as `plan_jobs` and `run_sweep` take it."""
    # A point without keys is the reference itself, which an empty mapping cannot say.
    listed = [point or {"cache": "none"} for point in points]
    overrides = [*args.overrides, *more, f"points={quote(listed)}"]
    return Namespace(overrides=overrides, config_dir=args.config_dir, multirun=True)


def foresee_work(plan: Plan) -> float | None:
    """The share of the reference's denoiser calls that a run will make; None where a cache decides as it goes."""
    from ..caching.calibration.find import find_calibration
    from ..caching.calibration.simulate import simulate
    from ..config.measure import find_reference_steps

    config = plan.config
    share = (config.steps or config.model.steps) / (find_reference_steps(config) or config.model.steps)
    if config.cache.name == "none":
        return share
    try:
        _, calibration = find_calibration(config, "")
        predicted = simulate(calibration, config.cache)
    except (ConfigError, ValueError, LookupError):
        return None
    return share * len(predicted.computed) / predicted.steps
