"""Plans the jobs of a command: each with its plan, or with the reason why it is skipped. Nothing runs, no torch.

A wrong command (a key, an option, a type, a missing file, something that a config may not set) is an error before
anything runs. A combination that a rule refuses is skipped, and the others run.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config.compose import compose_whole, composer, drop_hydra_keys, find_key, parse_override
from ..config.error_messages import EXPLAINED, explain
from ..config.limits import Total
from ..config.sweep_overrides import is_sweep, read_sweep
from ..config.wanted import refuse_wanted
from ..errors import ConfigError, Unfit
from ..planning.plan import Change, Plan, build_plan
from ..planning.seeds import DRAW
from ..registry import find_implementation
from ..rules.graph import list_unused_values, suggest_graph
from .own_model import add_facts, name_option
from .points import resolve_points, to_overrides

SWEEPS_ONLY = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")
"""Overrides without a meaning for a single run."""

COUNTS = ("num_images_per_prompt", "prompt", "experiment")
"""Beginnings of the overrides that may decide how many images a job has."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep, or the only one of a command."""

    number: int
    """Position in the sweep as written, from 0; also the name of its folder."""
    overrides: list[str]
    """As Hydra would hand them to the job."""
    plan: Plan | None
    """None: skipped, a rule refuses this combination."""
    skipped: str = ""
    """The rule's reason, one line."""
    decided: list[Change] = field(default_factory=list)
    """What was set automatically and is an override of the job now: another process would not know why."""
    composed: dict[str, Any] | None = None
    """The whole config, Hydra's node included, as it was checked. Jobs share what is the same in them."""


def plan_jobs(args: Namespace, taken: Sequence[Change] = ()) -> list[Job]:
    """Plans all jobs of a command; a single run is one job.

    Args:
        args: the parsed arguments: `overrides`, `config_dir`, `multirun`.
        taken: what of the overrides was not typed but taken from a file, to be said in each plan.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException, YAMLError: the command is wrong, or a rule refuses every
            job; any of `error_messages.EXPLAINED`.
    """
    jobs = plan_even_refused(args, taken)
    if all(job.plan is None for job in jobs):
        which = f" (all {len(jobs)} jobs are refused; this is the reason for the first)" if len(jobs) > 1 else ""
        raise ConfigError(f"{jobs[0].skipped}{which}")
    return jobs


def plan_even_refused(args: Namespace, taken: Sequence[Change] = ()) -> list[Job]:
    """As `plan_jobs`, also where a rule refuses every job of a sweep."""
    _refuse_other_folder(args.overrides)
    args.overrides = name_option(args.overrides)
    with composer(args.config_dir):
        args.overrides, facts = add_facts(args.overrides)
        facts = [*taken, *facts]
        if not is_sweep_command(args):
            overrides = list(args.overrides)
            plan = add_changes(_plan_whole(compose_single_run(overrides), overrides), facts)
            return [Job(number=0, overrides=list(args.overrides), plan=plan, decided=_list_decided(plan, facts))]
        lists, points = _read_job_overrides(args.overrides)
        jobs: list[Job] = []
        total = Total(len(lists), equal=len(set(map(_keep_counts, lists))) == 1)
        for number in range(len(lists)):
            jobs.append(_plan_job(number, lists, args.overrides, points))
            if (made := jobs[-1].plan) is not None:
                jobs[-1] = replace(jobs[-1], plan=add_changes(made, facts), decided=_list_decided(made, facts))
                total.add(made.config, len(made.samples), jobs[-1].composed)
    return jobs


def add_changes(plan: Plan, decided: list[Change]) -> Plan:
    """The plan with what was decided before it was made: by the model's own folder, or by a draw."""
    return replace(plan, changes=[*decided, *(change for change in plan.changes if change not in decided)])


def _list_decided(plan: Plan, facts: list[Change]) -> list[Change]:
    return [*facts, *(change for change in plan.changes if change.key == "seed")]


def _refuse_other_folder(overrides: Iterable[str]) -> None:
    """Refuses `hydra.job.chdir=true`: the run would look for its files and its store below its own folder."""
    for override in overrides:
        if find_key(override) == "hydra.job.chdir" and parse_override(override).value() is not False:
            raise ConfigError(
                f"{override}: not here; paths on a command line are relative to where it is typed, and a run that "
                "changes the folder would not find them; leave it out, outputs=FOLDER says where results go"
            )


def _keep_counts(job: list[str]) -> tuple[str, ...]:
    """The overrides of a job that may decide how many images it has."""
    return tuple(override for override in job if find_key(override).startswith(COUNTS))


def is_sweep_command(args: Namespace) -> bool:
    """Whether the command has several jobs: by `-m`, or by `hydra.mode` in the config. Inside `composer` only."""
    return bool(args.multirun) or (any("hydra.mode" in o for o in args.overrides) and is_sweep(args.overrides))


def plan_job_again(number: int, config_dir: str | None, overrides: list[str], command: Iterable[str]) -> Job:
    """Plans one job of a sweep anew, as another process does.

    Args:
        number: of the job.
        config_dir: the command's `--config-dir`.
        overrides: of the job.
        command: the overrides of the sweep's command. Those of them that are the job's may name any file.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException, YAMLError: as `plan_jobs`.
    """
    with composer(config_dir):
        whole = compose_whole(overrides, keep_typed(overrides, command))
        plan = _plan_whole(whole, overrides)
    return Job(number=number, overrides=overrides, plan=plan, composed=whole)


def keep_typed(job: list[str], command: Iterable[str]) -> list[str]:
    """The overrides of a job that were typed on the command line; the others come from a file.

    A file may sweep over a key that was typed too. What was typed comes after it.
    """
    left = Counter(find_key(override) for override in command)
    kept = []
    for override in reversed(job):
        if left[find_key(override)] > 0:
            left[find_key(override)] -= 1
            kept.append(override)
    return kept[::-1]


def _read_job_overrides(command: list[str]) -> tuple[list[list[str]], Any]:
    """The overrides of each job, and the `points` from files.

    Points vary slowest, then `hydra.sweeper.params`, then what was typed.
    """
    swept_by_file, jobs, points = read_sweep(command)
    typed = {find_key(override) for override in command}
    resolved = resolve_points(points, {find_key(key) for key in swept_by_file}, typed)
    return [[*point, *job] for point in map(to_overrides, resolved) for job in jobs], points


def compose_single_run(overrides: list[str]) -> dict[str, Any]:
    """The whole config of a command that has one job. Inside `composer` only.

    Raises:
        ConfigError: something that only a sweep has.
    """
    whole = compose_whole(overrides, overrides)
    if override := next((o for o in overrides if find_key(o).startswith(SWEEPS_ONLY)), None):
        raise ConfigError(f"{override}: only for a sweep; add -m, or leave it out")
    if params := (whole["hydra"]["sweeper"].get("params") or {}):
        raise ConfigError(f"hydra.sweeper.params: several jobs ({', '.join(params)}); add -m to run each")
    if whole.get("points") is not None:
        count = len(resolve_points(whole["points"], (), ()))
        raise ConfigError(f"points: {count} jobs; add -m to run each, or points=null to disable them")
    return whole


def _plan_whole(whole: dict[str, Any], overrides: list[str]) -> Plan:
    """Plans a job. Refuses a value that was given and that no stage reads, also one that equals the default."""
    plan = build_plan(drop_hydra_keys(refuse_wanted(whole, overrides)))
    given = {find_key(override) for override in overrides if not override.endswith("=null")}
    if "prompts.texts" in given and plan.config.prompts.path is not None:
        raise Unfit(
            f"prompts.texts: the prompts of prompts.path={plan.config.prompts.path} are taken instead; add "
            "prompts=listed, or leave prompts.texts out"
        )
    refuse_unused(plan, given | ({"strength"} if whole.get("strength") is not None else set()))
    return plan


def refuse_unused(plan: Plan, given: Collection[str]) -> None:
    """Refuses a value that was given and that no stage reads, also one that equals the default.

    Args:
        plan: of the run.
        given: top-level keys that were set.

    Raises:
        Unfit: names the key.
    """
    family = find_implementation("model", plan.config.model)
    for key in (key for key in list_unused_values(plan.config, family) if key in given):
        raise Unfit(
            f"{key}={getattr(plan.config, key)}: no stage of the graph reads it, so it could not take effect; "
            f"{suggest_graph(family, key)}"
        )


def _plan_job(number: int, lists: list[list[str]], command: list[str], points: Any) -> Job:
    overrides = lists[number]
    try:
        whole = compose_whole(overrides, keep_typed(overrides, command))
        if whole.get("points") not in (None, points) and not any(find_key(o) == "points" for o in command):
            raise ConfigError("points: they cannot come from an option that is swept over; sweep without it, or alone")
        plan = _plan_whole(whole, overrides)
        if whole["seed"] == DRAW:  # another process that runs the job would draw another one
            overrides = _set_seed(overrides, plan.config.seed)
            whole = compose_whole(overrides, keep_typed(overrides, command))
        return Job(number=number, overrides=overrides, plan=plan, composed=whole)
    except Unfit as error:
        return Job(number=number, overrides=overrides, plan=None, skipped=explain(error))
    except EXPLAINED as error:
        if len(lists) == 1:
            raise
        error.add_note(f"(job {number + 1} of {len(lists)}: {' '.join(overrides)})")
        raise


def _set_seed(overrides: list[str], seed: int) -> list[str]:
    """The overrides with this seed, at the place of the one that is there."""
    given = [override for override in overrides if find_key(override) == "seed"]
    set_ = [f"seed={seed}" if override in given else override for override in overrides]
    return set_ if given else [*set_, f"seed={seed}"]
