"""Runs a sweep: finds or makes its folder, passes the missing jobs to a launcher, and prints the results.

Hydra's own multirun stops at the first error outside a job, does not know what is done already, and composes each job
twice. A job's folder still looks like Hydra's: `worker.py` calls Hydra's `run_job`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..config.compose import CONFIG_NAME, composer, find_key
from ..errors import ConfigError, refuse_undecodable
from ..inputs.files import find_place
from ..storage.atomic import write_text
from .folder import SweepFolder, describe, refuse_long_overrides
from .folder_choice import open_sweep_folder
from .jobs import Job, is_sweep_command
from .progress import Progress
from .status import Outcome

LAUNCHERS = {
    "basic": "wavespeed_runner.sweeps.launchers.inprocess",
    "isolated": "wavespeed_runner.sweeps.launchers.subprocess",
    "slurm": "wavespeed_runner.sweeps.launchers.slurm.launcher",
}
"""Option of `hydra/launcher` -> the module whose `launch` runs the jobs. Other options are Hydra's plugins."""
WITHOUT_OPTIONS = ("basic", "isolated")
SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def run_sweep(args: Namespace, jobs: list[Job], *, progress: Callable[..., Any] | None = None) -> bool | None:
    """Runs the jobs that are not done yet.

    Args:
        args: the parsed arguments: `overrides`, `config_dir`, `multirun`.
        jobs: of the command.
        progress: makes what shows how far the sweep is, with the arguments and methods of `Progress`; None: that.

    Returns:
        Whether all jobs completed; None for a single run, and for a launcher of Hydra's plugins.

    Raises:
        ConfigError: a setting of Hydra would have no effect here; nothing was written.
        RunError: another process uses the folder, or it cannot be written.
        KeyboardInterrupt: after the record of the interrupted job is written and the table printed.
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
            return _run(sweep, config, jobs, launcher.launch, rerun, progress or Progress)


def check_sweep(args: Namespace, jobs: list[Job], *, cluster: bool = False) -> None:
    """Checks what `run_sweep` refuses before it begins: for a dry run, or before other work.

    Args:
        args: as of `run_sweep`.
        jobs: of the command.
        cluster: also whether this is a cluster, where the launcher needs one.

    Raises:
        ConfigError: as `run_sweep`.
    """
    with composer(args.config_dir):
        if is_sweep_command(args):
            launcher = _launcher(sweep_config(args.overrides), jobs)
            if cluster and (check_cluster := getattr(launcher, "check_cluster", None)):
                check_cluster()


def preview_sweep(args: Namespace, jobs: list[Job]) -> list[str]:
    """Lines for a dry run: what the launcher would hand on to others; none for one that runs the jobs here.

    Args:
        args: as of `run_sweep`.
        jobs: of the command.

    Raises:
        ConfigError: as `run_sweep`.
    """
    with composer(args.config_dir):
        if not is_sweep_command(args):
            return []
        config = sweep_config(args.overrides)
        launcher = _launcher(config, jobs)
        if (preview := getattr(launcher, "preview", None)) is None:
            return []
        typed = any(find_key(override) == "hydra.sweep.dir" for override in args.overrides)
        plan = next(job.plan for job in jobs if job.plan)
        folder = Path(str(config.hydra.sweep.dir)) if typed else Path(plan.config.outputs) / "sweeps" / "DATE" / "TIME"
        return list(preview(jobs, _read_options(config), folder))


def _read_options(config: Any) -> dict[str, Any]:
    """The options of the launcher, as they are in Hydra's node."""
    from omegaconf import OmegaConf

    options: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    return dict(options or {})


def _launcher(config: Any, jobs: list[Job]) -> Any:
    """The module that runs the jobs, after a check of its options; None for one of Hydra's plugins."""
    name = str(config.hydra.runtime.choices["hydra/launcher"])
    if not _is_ours(config, name, jobs):
        return None
    refuse_long_overrides(jobs)
    launcher = import_module(LAUNCHERS[name])
    options = _read_options(config)
    if check_options := getattr(launcher, "check_options", None):
        check_options(options)
    if check_jobs := getattr(launcher, "check_jobs", None):
        check_jobs(jobs, options)
    if check_folders := getattr(launcher, "check_folders", None):
        check_folders([str(config.hydra.sweep.dir), *{job.plan.config.outputs for job in jobs if job.plan}])
    return launcher


def sweep_config(overrides: list[str]) -> Any:
    """The sweep's own config: Hydra reads launcher, callbacks and folders from it. Inside `composer` only."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config(
        config_name=CONFIG_NAME, overrides=list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=True
    )


def _is_ours(config: Any, name: str, jobs: list[Job]) -> bool:
    """Whether one of our launchers runs this sweep. Refuses settings that would have no effect."""
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


def _folder(args: Namespace, config: Any, jobs: list[Job], rerun: bool) -> Any:
    """Opens the folder of this command's sweep."""
    typed = any(find_key(o) == "hydra.sweep.dir" for o in args.overrides)
    if whole := next((o for o in args.overrides if find_key(o) == "hydra.sweep"), None):
        raise ConfigError(f"{whole}: write hydra.sweep.dir=DIR")
    refuse_undecodable(f"the folder where the command runs, {os.getcwd()}", os.getcwd())
    plan = next(job.plan for job in jobs if job.plan)
    usual = Path(str(config.hydra.sweep.dir))
    flags = [f"--config-dir={args.config_dir}"] if args.config_dir is not None else []
    about = describe(
        command=["-m", *flags, *args.overrides],
        config_dir=str(find_place(args.config_dir)) if args.config_dir is not None else None,
        axes=find_axes(jobs),
        jobs=jobs,
    )
    return open_sweep_folder(usual if typed else None, usual, Path(plan.config.outputs) / "sweeps", about, anew=rerun)


def find_axes(jobs: list[Job]) -> list[str]:
    """The keys in which the jobs differ, in the order of the command."""
    keys = dict.fromkeys(find_key(override) for job in jobs for override in job.overrides)
    by_key = [{find_key(override): override for override in job.overrides} for job in jobs]
    return [key for key in keys if len({overrides.get(key) for overrides in by_key}) > 1]


def _run(
    sweep: SweepFolder,
    config: Any,
    jobs: list[Job],
    launch: Callable[..., dict[int, str]],
    rerun: bool,
    make_progress: Callable[..., Any],
) -> bool:
    from hydra._internal.callbacks import Callbacks
    from omegaconf import OmegaConf

    sweep = replace(sweep, callbacks=Callbacks(config))
    write_text(sweep.path / "multirun.yaml", OmegaConf.to_yaml(config))
    outcomes: dict[int, Outcome] = {}
    for job in jobs:
        if rerun:
            with sweep.working_on(job.number):
                sweep.clear(job.number)
        outcome = sweep.outcome_of(job)
        todo = Outcome(status="skipped" if job.plan is None else "missing")
        outcomes[job.number] = outcome if sweep.is_done(job) else todo
    waiting = [job for job in jobs if outcomes[job.number].status == "missing"]
    progress = make_progress(sweep.path, jobs, find_axes(jobs), outcomes)
    progress.begin(len(waiting))

    by_number = {job.number: job for job in jobs}

    def on_end(number: int, reason: str) -> None:
        outcome = sweep.outcome_of(by_number[number])
        # On a full disk even `lost.json` could not be written.
        noted = not reason or outcome.status not in ("missing", "unfinished")
        outcomes[number] = outcome if noted else Outcome(status="lost", reason=reason)
        progress.job(number)

    sweep.callbacks.on_multirun_start(config=config, config_name=CONFIG_NAME)
    try:
        if waiting:
            for number, reason in launch(sweep, waiting, _read_options(config), on_end).items():
                outcomes[number] = Outcome(status="lost", reason=reason)
    except BaseException:
        for job in waiting:
            outcomes[job.number] = sweep.outcome_of(job)
        raise
    finally:
        progress.end()
    sweep.callbacks.on_multirun_end(config=config, config_name=CONFIG_NAME)
    return all(outcome.status in ("completed", "skipped") for outcome in outcomes.values())
