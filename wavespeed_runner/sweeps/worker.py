"""Runs one job of a sweep in this process.

Launchers that use other processes call it as a command:

    python -P -m wavespeed_runner.sweeps.worker SWEEP_FOLDER NUMBER

The exit status is that of a run. A finished job is left as it is.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before any other import: see there.
    from ..process.import_path import leave_current_folder

    leave_current_folder()

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ..config.arguments import parse_arguments
from ..config.compose import drop_hydra_keys
from ..config.environment import digest_software
from ..errors import ConfigError, format_error
from ..execution.process_cache import ProcessCache
from ..execution.ranks.adopted import take_part
from ..planning.plan import Change
from ..process.exit_status import DONE, FAILED, exit_with, run_command
from ..process.parent import end_with_parent
from .folder import SweepFolder
from .jobs import Job, add_changes, plan_job_again

WORKER = "wavespeed_runner.sweeps.worker"
"""This module, for whoever starts it."""

PARENT = "WAVESPEED_RUNNER_PARENT"
"""Environment variable: id of the launcher's process; the worker ends when that process ends."""

ELSEWHERE = "WAVESPEED_RUNNER_ELSEWHERE"
"""Environment variable: set when jobs run on other machines than planned them. A login node has no GPU."""


def perform(sweep: SweepFolder, job: Job, cache: ProcessCache) -> str:
    """Runs a job as Hydra would, into its folder: `.hydra/`, log, environment and callbacks. Inside `composer` only.

    Returns:
        Why the disk has no final record of the job; "" where it has one.

    Raises:
        KeyboardInterrupt: after the record of the interrupted job is written.
    """
    reason = "it ended without a record"
    try:
        with sweep.working_on(job.number):
            if sweep.is_done(job):
                return ""
            sweep.clear(job.number)
            reason = _run_by_hydra(sweep, job, cache).get("message") or reason
    except Exception as error:  # from writing beside the record: a full disk, a folder that went away
        reason = format_error(error)
    if sweep.is_final(job):
        return ""
    cache.clear()
    return reason


def _run_by_hydra(sweep: SweepFolder, job: Job, cache: ProcessCache) -> dict[str, Any]:
    """Runs the job; returns the record's `error`, even if it could not be written; empty for none."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import JobStatus, run_job
    from hydra.types import HydraContext
    from omegaconf import OmegaConf, open_dict

    from ..execution.runner import run_plan

    failure: dict[str, Any] = {}

    def task(_: Any) -> None:
        assert job.plan is not None
        runtime = HydraConfig.get()
        overrides: Any = OmegaConf.to_container(runtime.overrides.task, resolve=False)
        record = run_plan(job.plan, Path(runtime.runtime.output_dir), overrides, cache=cache)
        failure.update(to_builtins(record.error) if record.error else {})

    assert job.composed is not None
    config = typed_node(job.composed)
    with open_dict(config):
        config.hydra.sweep.dir = str(sweep.path)
        config.hydra.job.num = job.number
        config.hydra.job.id = os.environ.get("SLURM_JOB_ID", str(job.number))
    callbacks = sweep.callbacks or Callbacks(config)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
    done = run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    if done.status is JobStatus.FAILED:
        failure["message"] = format_error(done._return_value)
    return failure


def typed_node(data: dict[str, Any]) -> Any:
    """The job's checked config with Hydra's own node, as Hydra passes it to a job. Config files are not read again."""
    from hydra.conf import HydraConf
    from omegaconf import OmegaConf

    config = OmegaConf.create(drop_hydra_keys(data))
    # Hydra needs its own node typed, though that node has keys that its type lacks.
    config.hydra = OmegaConf.structured(HydraConf, flags={"struct": False})
    config.hydra.merge_with(data["hydra"])
    del config.hydra.defaults
    return config


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit status. An error that no record holds goes into the job's `lost.json`."""
    # The process that started this one sets it for itself; here an error stays one line.
    os.environ.pop("HYDRA_FULL_ERROR", None)
    _end_with_parent()
    from ..config.error_messages import explain_config_error

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not arguments[1].isdigit():
        raise ConfigError("python -P -m wavespeed_runner.sweeps.worker SWEEP_FOLDER NUMBER")
    sweep, number = SweepFolder(path=Path(arguments[0]).absolute()), int(arguments[1])
    try:
        about = sweep.description()
        wanted = about["jobs"][number]
    except (OSError, ValueError, LookupError) as error:
        raise ConfigError(f"{arguments[0]}: no sweep with a job {number}: {format_error(error)}") from None
    try:
        return _run_listed_job(sweep, about, wanted)
    except Exception as error:
        from ..config.error_messages import explain_config_error

        outcome = sweep.outcome(number)
        if outcome.status in ("missing", "unfinished") or outcome.identity != wanted["identity"]:
            sweep.mark_lost(number, explain_config_error(error) or format_error(error))
        raise


def _run_listed_job(sweep: SweepFolder, about: dict[str, Any], wanted: dict[str, Any]) -> int:
    from ..config.compose import composer

    number, overrides = wanted["number"], wanted["overrides"]
    outcome = sweep.outcome(number)
    if outcome.status == "completed" and outcome.identity == wanted["identity"]:
        return DONE
    os.chdir(about["cwd"])  # paths in overrides are relative to where the command was typed
    job = plan_job_again(number, about["config_dir"], overrides, parse_arguments(about["command"]).overrides)
    plan, elsewhere = job.plan, os.environ.pop(ELSEWHERE, "")
    assert plan is not None
    plan = add_changes(plan, [Change(**change) for change in wanted.get("decided", ())])
    if elsewhere and digest_software() == about["software"] and plan.asked == wanted["asked"]:
        plan = replace(plan, planned_as=wanted["identity"])
    if plan.identity != wanted["identity"]:
        raise ConfigError(
            f"job {number} is not what it was when the sweep began: code, configs, versions or the machine have "
            "changed; run the sweep's command again"
        )
    cache = ProcessCache()
    with composer(about["config_dir"]), take_part([plan]):
        try:
            reason = perform(sweep, replace(job, plan=plan), cache)
        finally:
            cache.clear()  # ends ranks
    if reason:
        sweep.mark_lost(number, reason)
    return DONE if sweep.is_done(replace(job, plan=plan)) else FAILED


def _end_with_parent() -> None:
    """On Linux, ends this process when its launcher is killed. Elsewhere the next worker waits for this one."""
    parent = os.environ.pop(PARENT, "")
    if parent:
        end_with_parent(int(parent))


if __name__ == "__main__":
    exit_with(main)
