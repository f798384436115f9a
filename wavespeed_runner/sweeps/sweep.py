"""Runs a sweep: finds or makes its folder, hands what is missing to a launcher, says what came of it.

Hydra's own multirun stops at the first thing that goes wrong outside of a job, forgets what was done, and composes
each job twice. What a job leaves is Hydra's all the same: `worker.py` calls Hydra's `run_job`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..config.compose import CONFIG_NAME, composer, find_key
from ..errors import ConfigError
from ..storage.atomic import write_text
from .folder import SweepFolder, describe
from .folder_choice import open_sweep_folder
from .jobs import Job, is_sweep_command
from .progress import Progress
from .status import Outcome

LAUNCHERS = {
    "basic": "wavespeed_runner.sweeps.launchers.inprocess",
    "isolated": "wavespeed_runner.sweeps.launchers.subprocess",
    "slurm": "wavespeed_runner.sweeps.launchers.slurm.launcher",
}
"""Option of `hydra/launcher` -> the module whose `launch` runs the jobs. Others are Hydra's plugins, for Hydra's own
main."""
WITHOUT_OPTIONS = ("basic", "isolated")
SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def run_sweep(args: Any, jobs: list[Job]) -> bool | None:
    """Runs the jobs that are not done yet; whether all jobs completed. None: no sweep, or its launcher is none of ours.

    Raises:
        ConfigError: something of Hydra's that would have no effect here. Nothing was written.
        RunError: another process is at the folder, or it cannot be written.
        KeyboardInterrupt: after the record of the interrupted job is written, and the table printed.
    """
    with composer(args.config_dir):
        if not is_sweep_command(args):
            return None
        config = sweep_config(args.overrides)
        launcher = _launcher(config, jobs)
        if launcher is None:
            return None
        if check_cluster := getattr(launcher, "check_cluster", None):
            check_cluster()
        rerun = any(job.plan.config.rerun for job in jobs if job.plan)
        with _folder(args, config, jobs, rerun) as sweep:
            return _run(sweep, config, jobs, launcher.launch, rerun)


def check_sweep(args: Any, jobs: list[Job]) -> None:
    """What `run_sweep` refuses before it begins, for a rehearsal. Not whether there is a cluster here.

    Raises:
        ConfigError
    """
    with composer(args.config_dir):
        if is_sweep_command(args):
            _launcher(sweep_config(args.overrides), jobs)


def _launcher(config: Any, jobs: list[Job]) -> Any:
    """The module that runs the jobs, its options checked; None where that is a plugin of Hydra's."""
    from omegaconf import OmegaConf

    name = str(config.hydra.runtime.choices["hydra/launcher"])
    if not _is_ours(config, name, jobs):
        return None
    launcher = import_module(LAUNCHERS[name])
    if check_options := getattr(launcher, "check_options", None):
        check_options(OmegaConf.to_container(config.hydra.launcher, resolve=True) or {})
    return launcher


def sweep_config(overrides: list[str]) -> Any:
    """The sweep's own config, of which Hydra takes launcher, callbacks and folders. Inside `composer` only."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config(
        config_name=CONFIG_NAME, overrides=list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=True
    )


def _is_ours(config: Any, name: str, jobs: list[Job]) -> bool:
    """Whether we run this sweep. What would then have no effect is refused, and so is what only we can do."""
    from omegaconf import OmegaConf

    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)
    choice = config.hydra.runtime.choices["hydra/sweeper"]
    basic = hydra["sweeper"].get("_target_") == SWEEPER
    if name in LAUNCHERS and (basic or name != "basic"):
        if not basic:
            raise ConfigError(f"hydra/sweeper={choice}: it chooses its jobs as it goes; only with hydra/launcher=basic")
        if (size := hydra["sweeper"].get("max_batch_size")) is not None:
            raise ConfigError(
                f"hydra.sweeper.max_batch_size={size}: of no effect with hydra/launcher={name}; leave it out"
            )
        if name in WITHOUT_OPTIONS and (unknown := hydra["launcher"].keys() - {"_target_"}):
            raise ConfigError(f"hydra.launcher.{min(unknown)}: no such key; hydra/launcher={name} has none")
        if (subdir := hydra["sweep"]["subdir"]) != "${hydra.job.num}":
            raise ConfigError(
                f"hydra.sweep.subdir={subdir}: folders of jobs are named by their numbers; leave it out "
                "(hydra.sweep.dir=DIR chooses the folder of the sweep)"
            )
        return True
    if not (hydra["launcher"] or {}).get("_target_"):
        raise ConfigError(f"hydra/launcher={name}: not a launcher; {', '.join(LAUNCHERS)}, or one of Hydra's plugins")
    if skipped := next((job for job in jobs if job.plan is None), None):
        raise ConfigError(
            f"hydra/launcher={name} hydra/sweeper={choice}: it would run every job, and job {skipped.number} cannot: "
            f"{skipped.skipped}; {', '.join(LAUNCHERS)} leave such jobs out"
        )
    if config.get("points") is not None:
        raise ConfigError(f"points: only with hydra/launcher={', '.join(LAUNCHERS)}, and Hydra's own sweeper")
    return False


def _folder(args: Any, config: Any, jobs: list[Job], rerun: bool) -> Any:
    """Opens the folder of this command's sweep."""
    typed = any(find_key(o) == "hydra.sweep.dir" for o in args.overrides)
    if whole := next((o for o in args.overrides if find_key(o) == "hydra.sweep"), None):
        raise ConfigError(f"{whole}: write hydra.sweep.dir=DIR")
    plan = next(job.plan for job in jobs if job.plan)
    usual = Path(str(config.hydra.sweep.dir))
    flags = [f"--config-dir={args.config_dir}"] if args.config_dir is not None else []
    about = describe(
        command=["-m", *flags, *args.overrides],
        config_dir=str(Path(args.config_dir).resolve()) if args.config_dir is not None else None,
        axes=axes_of(jobs),
        jobs=jobs,
    )
    return open_sweep_folder(usual if typed else None, usual, Path(plan.config.outputs) / "sweeps", about, anew=rerun)


def axes_of(jobs: list[Job]) -> list[str]:
    """The keys in which the jobs differ, in the order of the command."""
    keys = dict.fromkeys(find_key(override) for job in jobs for override in job.overrides)
    given = [{find_key(override): override for override in job.overrides} for job in jobs]
    return [key for key in keys if len({one.get(key) for one in given}) > 1]


def _run(sweep: SweepFolder, config: Any, jobs: list[Job], launch: Callable[..., dict[int, str]], rerun: bool) -> bool:
    from hydra._internal.callbacks import Callbacks
    from omegaconf import OmegaConf

    sweep = replace(sweep, callbacks=Callbacks(config))
    write_text(sweep.path / "multirun.yaml", OmegaConf.to_yaml(config))
    outcomes: dict[int, Outcome] = {}
    for job in jobs:
        if rerun:
            with sweep.working_on(job.number):
                sweep.clear(job.number)
        found = sweep.outcome_of(job)
        outcomes[job.number] = (
            found if sweep.is_done(job) else Outcome(status="skipped" if job.plan is None else "missing")
        )
    waiting = [job for job in jobs if outcomes[job.number].status == "missing"]
    progress = Progress(sweep.path, jobs, axes_of(jobs), outcomes)
    progress.begin(len(waiting))

    by_number = {job.number: job for job in jobs}

    def on_end(number: int, reason: str) -> None:
        found = sweep.outcome_of(by_number[number])
        # A full disk does not even take the note of it.
        noted = not reason or found.status not in ("missing", "unfinished")
        outcomes[number] = found if noted else Outcome(status="lost", reason=reason)
        progress.job(number)

    sweep.callbacks.on_multirun_start(config=config, config_name=CONFIG_NAME)
    try:
        if waiting:
            options: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
            for number, reason in launch(sweep, waiting, options or {}, on_end).items():
                outcomes[number] = Outcome(status="lost", reason=reason)
    except BaseException:
        for job in waiting:
            outcomes[job.number] = sweep.outcome_of(job)
        raise
    finally:
        progress.end()
    sweep.callbacks.on_multirun_end(config=config, config_name=CONFIG_NAME)
    return all(one.status in ("completed", "skipped") for one in outcomes.values())
