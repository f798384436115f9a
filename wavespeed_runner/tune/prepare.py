"""Reads and checks what a tuning is given, before anything runs; and makes a calibration where one is missing."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from ..caching.calibration.find import find_calibration
from ..config.compose import find_key, parse_override
from ..config.measure import ReferenceSampler
from ..errors import ConfigError, Unfit, did_you_mean
from ..metrics.values import FOUR, list_metrics
from ..planning.plan import Plan
from ..planning.seeds import DRAW
from ..records.names import model_name
from ..registry import find_implementation
from ..sharing.export import check_name
from ..storage.folders import find_link, leads_out
from ..sweeps.jobs import plan_jobs
from ..sweeps.sweep import check_sweep
from ..tuning.calibrate import default_path, plan_uncached_runs, write_calibration
from .aim import Aim, parse_time
from .bounds import FORKS, parse_bounds
from .budget import Budget
from .halves import split_prompts
from .propose import list_combined
from .rounds import Rounds, strip_sweep_keys
from .settings import noting, plan_settings
from .shared import add_shared
from .space import IMAGES, Space, read_space
from .tuning import Tuning

PROMPTS = ("prompts", "prompts.path", "prompts.texts", "prompt")
FIXED = ("steps", "measure.reference", "measure.reference_sampler", "measure.reference_steps")
"""Overrides that decide what is compared with what."""
FULL_RUN = "settings are compared with the model's own sampler and steps"
WITHOUT_EFFECT = {
    "rerun": "to begin anew, remove the folder of the tuning",
    "prompt": "many prompts are needed: prompts=file prompts.path=FILE",
    "hydra.sweep.dir": "a tuning has a folder of its own, below outputs=FOLDER",
}
"""Overrides that cannot be followed -> the way out."""
CALIBRATED = 16
"""Prompts of the tuning half that a calibration is made on."""


def prepare(args: Namespace, tell: Callable[[str], None]) -> Tuning:
    """Checks everything that is given; nothing runs.

    Args:
        args: of the command, as parsed.
        tell: prints a line.

    Raises:
        ConfigError: something is wrong, or there are too few prompts.
    """
    aim = _read_aim(args)
    if args.name is not None:
        check_name(args.name)
    args.overrides = [*_choose_judges(aim, args.overrides), *args.overrides]
    plan = _plan_reference(args)
    space = read_space(args.space, args.config_dir, plan.config.model.steps)
    prompts = _choose_prompts(plan, args, aim)
    first, second = split_prompts(prompts, plan.config.seed)
    rest = Namespace(overrides=_fix_reference(args.overrides), config_dir=args.config_dir)
    space, shared, cuts = add_shared(space, args.gallery, plan, rest)
    folder = _find_folder(plan, space, aim, prompts)
    for option in list_combined(space.also):  # a wrong one is told before anything runs, as those of ladders are
        with noting(f"(space={space.name}, also)"):
            plan_settings(rest, [option])
    halves = [
        Rounds(
            folder=folder,
            args=rest,
            prompts=half,
            seed=plan.config.seed + offset,
            name=name,
            bounds=aim.bounds or [aim.shown],
            images_each=plan.config.num_images_per_prompt,
            tell=tell,
        )
        for half, name, offset in (
            (first, "tuning", 0),
            (second, "judging", len(first) * plan.config.num_images_per_prompt),
        )
    ]
    jobs, seconds = args.budget or (None, None)
    return Tuning(
        plan=plan,
        planner=partial(plan_settings, rest),
        space=space,
        aim=aim,
        tuning=halves[0],
        judging=halves[1],
        seed=plan.config.seed,
        budget=Budget(jobs=jobs, seconds=seconds),
        tell=tell,
        folder=folder,
        cuts=cuts,
        shared=shared,
    )


def _read_aim(args: Namespace) -> Aim:
    if args.quality is None and args.time is None:
        raise ConfigError("quality=: what is accepted? quality='ssim>=0.97', for example, or time='<=3s', or both")
    known = list_metrics()
    if args.by is not None and args.quality is not None:
        raise ConfigError(f"by={args.by}: only where a time alone is given; quality= says what is wanted")
    args.by = args.by or "ssim"
    if args.by not in known:
        raise ConfigError(f"by={args.by}: no such metric{did_you_mean(args.by, known)}")
    values = {}
    for name, read in (("quality", lambda text: parse_bounds(text, known)), ("time", parse_time)):
        try:
            values[name] = read(getattr(args, name)) if getattr(args, name) is not None else None
        except ValueError as error:
            raise ConfigError(f"{name}={getattr(args, name)}: {error}") from None
    bounds, seconds = values["quality"] or [], values["time"]
    assert isinstance(bounds, list) and (seconds is None or isinstance(seconds, float))
    typed = "" if args.time is None else re.sub(r"\s|<=", "", args.time)
    return Aim(bounds=bounds, seconds=seconds, typed=typed, by=args.by)


def _choose_judges(aim: Aim, overrides: list[str]) -> list[str]:
    """The override that turns on the judges which the bounds need, unless the user has chosen some."""
    needed = list(
        dict.fromkeys(bound.metric for bound in (*aim.bounds, aim.shown) if bound.metric not in (*FOUR, FORKS))
    )
    typed = next((override for override in overrides if find_key(override) == "metrics"), None)
    if typed is None:
        return [f"metrics=[{','.join(needed)}]"] if needed else []
    value = parse_override(typed).value()
    chosen = [str(name) for name in (value if isinstance(value, list) else [value])]
    for name in (name for name in needed if name not in chosen):
        raise ConfigError(f"{typed}: {name} is bounded; add it, or leave metrics out: what is bounded is chosen then")
    return []


def _plan_reference(args: Namespace) -> Plan:
    """The plan of the full run: the model as its users run it, with what was typed."""
    keys = {find_key(override): override for override in args.overrides}
    for key in (key for key in FIXED if key in keys):
        raise ConfigError(f"{keys[key]}: not here; {FULL_RUN}")
    for key, way_out in WITHOUT_EFFECT.items():
        if key in keys:
            raise ConfigError(f"{keys[key]}: not here; {way_out}")
    if keys.get("seed", "").partition("=")[2] == str(DRAW):
        raise ConfigError(f"{keys['seed']}: the same command would not go on with another seed; give one")
    typed = strip_sweep_keys(args.overrides)
    chosen = [] if {*PROMPTS, "experiment"} & keys.keys() else ["prompts=tuning"]
    (job,) = plan_jobs(Namespace(overrides=[*chosen, *typed], config_dir=args.config_dir, multirun=False))
    assert job.plan
    _check_reference(job.plan)
    check_sweep(Namespace(overrides=args.overrides, config_dir=args.config_dir, multirun=True), [job], cluster=True)
    return job.plan


def _check_reference(plan: Plan) -> None:
    """Refuses an experiment, or an option of `measure`, that would compare with anything but the model's full run."""
    config, measure = plan.config, plan.config.measure
    given = {"measure.reference": not measure.reference, "measure.reference_steps": measure.reference_steps is not None}
    given |= {"measure.reference_sampler": measure.reference_sampler is ReferenceSampler.same}
    given |= {"steps": config.steps != config.model.steps}
    for key in (key for key, is_other in given.items() if is_other):
        raise ConfigError(f"{key}: set by the experiment or the option of measure; {FULL_RUN}")


def _choose_prompts(plan: Plan, args: Namespace, aim: Aim) -> list[str]:
    """The prompts that are used. Raises ConfigError where they are too few."""
    different = list(dict.fromkeys(sample.prompt for sample in plan.samples))
    if args.images is not None and args.images > len(different):
        raise ConfigError(
            f"images={args.images}: there are {len(different)} different prompts; fewer images, or more prompts with "
            "prompts=file prompts.path=FILE"
        )
    prompts = different[: min(args.images or IMAGES, len(different) - len(different) % 2)]
    if len(prompts) < 4:
        raise ConfigError(
            f"{len(different)} prompts: half of them are for judging, so 4 or more are needed, better 64; "
            "prompts=file prompts.path=FILE"
        )
    for bound in aim.bounds:
        if (needed := 2 * bound.count_needed()) > len(prompts):
            raise ConfigError(
                f"quality={bound}: {needed} prompts are needed to know it with 95 % confidence, half of them for "
                f"judging, even if no image forks; there are {len(prompts)}: give more, and images={needed}"
            )
    return prompts


def _fix_reference(overrides: list[str]) -> list[str]:
    """The overrides of all rounds: those typed, without prompts and seed, and what is the reference."""
    kept = [override for override in overrides if find_key(override) not in (*PROMPTS, "seed", "dry_run")]
    return [*kept, "measure.reference_sampler=own"]


def _find_folder(plan: Plan, space: Space, aim: Aim, prompts: list[str]) -> Path:
    """Where the tuning keeps its rounds: the same for the same question.

    Raises:
        ConfigError: a folder of its own is a link.
    """
    # 60ms and 0.06s are the same question.
    asked = [plan.asked, str(replace(aim, typed="")), str(space), prompts]
    identity = sha256(json.dumps(asked, default=str).encode()).hexdigest()[:12]
    name = re.sub(
        r"[^a-z0-9]+", "_", model_name({"name": plan.config.model.name, "repo": plan.config.model.repo}).lower()
    )
    folder = Path(plan.config.outputs) / "tune" / f"{name.strip('_')}_{space.name}_{identity}"
    if link := folder.parent if leads_out(folder.parent) else find_link(folder):
        raise ConfigError(f"{link}: a link, which leads out of the folder; nothing is read or written there; remove it")
    return folder


def calibrate(tuning: Tuning) -> None:
    """Makes the calibration of the full run where it has none, on the prompts for tuning."""
    config = tuning.plan.config
    if find_implementation("model", config.model).blocks is None or config.cache.name != "none":
        return
    try:
        where, found = find_calibration(config, "")
        seen = set(found.made["prompts"]) & set(tuning.judging.prompts)
        also = f"; it has seen {len(seen)} of the prompts for judging" if seen else ""
        tuning.tell(f"calibration {where}{also}")
        return
    except Unfit:
        pass
    file = tuning.tuning.write_prompts(min(CALIBRATED, len(tuning.tuning.prompts)))
    given = [
        *strip_sweep_keys(tuning.tuning.args.overrides),
        "prompts=file",
        f"prompts.path={file}",
        f"seed={tuning.seed}",
    ]
    overrides = [override for override in given if not override.startswith("measure.reference_sampler")]
    plan = plan_uncached_runs(Namespace(overrides=overrides, config_dir=tuning.tuning.args.config_dir, multirun=False))
    path = default_path(plan)
    tuning.tell(f"no calibration fits this run; making one here, on {len(plan.samples)} prompts: {path}")
    write_calibration(plan, path)
