"""The jobs of a command, each with its plan, or the rule's reason why it is left out. Nothing runs, no torch.

What is wrong with the command itself (a key, an option, a type, a missing file, something that a config may not set)
is an error before anything runs. What a rule refuses of one combination is no reason to give up the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..config.compose import compose_whole, composer, drop_hydra_keys, find_key, is_sweep, read_sweep
from ..config.error_messages import EXPLAINED, explain
from ..errors import ConfigError, Unfit
from ..planning.plan import Plan, build_plan
from . import points

OF_SWEEPS = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")
"""Overrides that mean nothing to a single run."""


@dataclass(frozen=True, kw_only=True)
class Job:
    number: int
    """Position in the sweep as written, from 0; also the name of its folder."""
    overrides: list[str]
    """As Hydra would hand them to the job."""
    plan: Plan | None
    """None: skipped, a rule refuses this combination."""
    skipped: str = ""
    """The rule's reason, one line."""
    composed: dict[str, Any] | None = None
    """The whole config, Hydra's node included, as it was checked. Jobs share what is the same in them."""


def jobs_of(args: Any) -> list[Job]:
    """All jobs of a command, one for a single run.

    Args:
        args: Hydra's parsed arguments, as `cli.parse` gives them.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException, YAMLError: the command is wrong, or no job is left; one of
            `messages.EXPLAINED`.
    """
    with composer(args.config_dir):
        if not asks_for_sweep(args):
            return [Job(number=0, overrides=list(args.overrides), plan=_single(list(args.overrides)))]
        lists, given = _overrides(args.overrides)
        jobs = [_job(number, lists, args.overrides, given) for number in range(len(lists))]
    if all(job.plan is None for job in jobs):
        which = f" (of {len(jobs)} jobs none is left; this is what refuses the first)" if len(jobs) > 1 else ""
        raise ConfigError(f"{jobs[0].skipped}{which}")
    return jobs


def asks_for_sweep(args: Any) -> bool:
    """Whether there are several jobs: `-m`, or the config's own `hydra.mode`. Inside `composer` only."""
    return bool(args.multirun) or (any("hydra.mode" in o for o in args.overrides) and is_sweep(args.overrides))


def plan_again(number: int, config_dir: str | None, overrides: list[str], command: Iterable[str]) -> Job:
    """One job of a sweep, planned anew, for example in another process.

    Args:
        overrides: the job's.
        command: the overrides of the sweep's command, of which some are the job's: those may name any file.

    Raises:
        as `jobs_of`.
    """
    with composer(config_dir):
        whole = compose_whole(overrides, typed_among(overrides, command))
        plan = build_plan(drop_hydra_keys(whole))
    return Job(number=number, overrides=overrides, plan=plan, composed=whole)


def typed_among(job: list[str], command: Iterable[str]) -> list[str]:
    """Those overrides of a job whose key stood on the command line; the others came from a file."""
    keys = {find_key(override) for override in command}
    return [override for override in job if find_key(override) in keys]


def _overrides(command: list[str]) -> tuple[list[list[str]], Any]:
    """The overrides of each job, points varying slowest, then `hydra.sweeper.params`, then what was typed; and the
    `points` that files gave."""
    swept_by_file, jobs, given = read_sweep(command)
    typed = {find_key(override) for override in command}
    paired = points.checked(given, {find_key(key) for key in swept_by_file}, typed)
    return [[*point, *job] for point in map(points.as_overrides, paired) for job in jobs], given


def _single(overrides: list[str]) -> Plan:
    whole = compose_whole(overrides, overrides)
    if alone := next((o for o in overrides if find_key(o).startswith(OF_SWEEPS)), None):
        raise ConfigError(f"{alone}: only for a sweep; add -m, or leave it out")
    if params := (whole["hydra"]["sweeper"].get("params") or {}):
        raise ConfigError(f"hydra.sweeper.params: several jobs ({', '.join(params)}); add -m to run each")
    if whole.get("points") is not None:
        count = len(points.checked(whole["points"], (), ()))
        raise ConfigError(f"points: {count} jobs; add -m to run each, or points=null for none of them")
    return build_plan(drop_hydra_keys(whole))


def _job(number: int, lists: list[list[str]], command: list[str], given: Any) -> Job:
    overrides = lists[number]
    try:
        whole = compose_whole(overrides, typed_among(overrides, command))
        if whole.get("points") not in (None, given) and not any(find_key(override) == "points" for override in command):
            raise ConfigError("points: they cannot come from an option that is swept over; sweep without it, or alone")
        return Job(number=number, overrides=overrides, plan=build_plan(drop_hydra_keys(whole)), composed=whole)
    except Unfit as error:
        return Job(number=number, overrides=overrides, plan=None, skipped=explain(error))
    except EXPLAINED as error:
        if len(lists) == 1:
            raise
        where = f"job {number + 1} of {len(lists)}: {' '.join(overrides)}"
        raise ConfigError(f"{explain(error)} ({where})") from None
