"""The command line: the only place that knows Hydra's main. One-line errors, exit status, nothing loaded in vain.

    overrides -> compose, trust, types, plan (here, no torch) -> Hydra's main -> run_plan, once a job

Exit status: 0 done; 2 the configuration is wrong, nothing was loaded or written; 1 something failed while running;
130 interrupted.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..config.arguments import parse_arguments
from ..errors import ConfigError, one_line, printable
from ..process.exit_status import DONE, FAILED, exit_with, run_command

if TYPE_CHECKING:
    from ..sweeps.jobs import Job

REFUSED_FLAGS = {
    "experimental_rerun": "it loads a pickle; use python -m wavespeed_runner replay",
    "config_path": "add options with --config-dir instead",
    "config_name": "add options with --config-dir instead",
}
SHOW_ONLY = ("hydra_help", "cfg", "info", "shell_completion")
"""Flags that make Hydra show something and run nothing."""
ONE_OF = ("run", "multirun", *SHOW_ONLY)


def console() -> NoReturn:
    """Entry point of `wavespeed-runner` and `python -m wavespeed_runner`."""
    exit_with(main)


def main(arguments: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    from ..config.error_messages import explain_config_error

    return run_command(lambda: _main(arguments), explain_config_error)


def _main(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        from .usage import usage

        print(usage(_config_dir_of(arguments)))
        return DONE
    if "--version" in arguments:
        print(f"wavespeed_runner {__version__}")
        return DONE
    args = parse_arguments(arguments)
    _refuse_flags(args)
    if any(getattr(args, flag) for flag in SHOW_ONLY):
        return _show(args)

    from ..sweeps.jobs import jobs_of

    jobs = jobs_of(args)
    if any(job.plan.config.dry_run for job in jobs if job.plan is not None):
        from ..sweeps.sweep import check_sweep
        from .plan_text import plans_text

        check_sweep(args, jobs)
        print(plans_text(jobs))
        return DONE
    return _execute(args, jobs)


def _refuse_flags(args: Any) -> None:
    for flag, why in REFUSED_FLAGS.items():
        if getattr(args, flag) is not None:
            raise ConfigError(f"{_flag(flag)}: refused; {why}")
    given = [_flag(flag) for flag in ONE_OF if getattr(args, flag)]
    if len(given) > 1:
        raise ConfigError(f"{' '.join(given)}: one of them at a time")
    if (args.resolve or args.package) and not args.cfg:
        raise ConfigError("--resolve, --package: only with --cfg")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _config_dir_of(arguments: list[str]) -> str | None:
    return parse_arguments([a for a in arguments if a not in ("--help", "-h")]).config_dir


def _execute(args: Any, jobs: list[Job]) -> int:
    """Runs the jobs: those of a sweep in our own loop, unless its launcher is one of Hydra's plugins."""
    from ..sweeps.sweep import run_sweep

    completed = run_sweep(args, jobs)
    if completed is not None:
        return DONE if completed else FAILED
    return _execute_by_hydra(args)


def _execute_by_hydra(args: Any) -> int:
    """Hands over to Hydra, which makes folders and logs and calls the task once a job."""
    from omegaconf import OmegaConf

    statuses: list[str] = []

    def task(composed: Any) -> None:
        # Never raises but KeyboardInterrupt: with Hydra's basic launcher an exception would keep its frames, and with
        # them the loaded model, alive for the rest of a sweep.
        from hydra.core.hydra_config import HydraConfig

        from ..config.compose import drop_hydra_keys
        from ..execution.runner import run_plan
        from ..planning.plan import build_plan
        from ..report.console import show, show_failure

        runtime = HydraConfig.get()
        data: Any = OmegaConf.to_container(composed, resolve=False)
        overrides: Any = OmegaConf.to_container(runtime.overrides.task, resolve=False)
        record = run_plan(build_plan(drop_hydra_keys(data)), Path(runtime.runtime.output_dir), overrides)
        statuses.append(record["status"])
        if args.multirun:
            print(f"\njob: {printable(' '.join(overrides))}")
        (show if record["status"] == "completed" else show_failure)(record)

    _hydra_main(args, task)
    return DONE if statuses and all(status == "completed" for status in statuses) else FAILED


def _show(args: Any) -> int:
    """Hydra shows something; what it says when it then gives up becomes our one line."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            _hydra_main(args, lambda composed: None)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--shell-completion: {one_line(error)}") from error
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(said.getvalue()) from None
    return DONE


def _hydra_main(args: Any, task: Any) -> None:
    import hydra

    from ..config.compose import CONFIG_NAME, VERSION_BASE, search_path
    from ..config.schema import CONF

    # Without --config-dir: `search_path` adds it, to the same place as in `plan_jobs`.
    flags = [_flag(flag) for flag in ("resolve", *ONE_OF) if getattr(args, flag) is True]
    flags += [f"{_flag(flag)}={value}" for flag in ("cfg", "info", "package") if (value := getattr(args, flag))]
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *args.overrides]
    try:
        with search_path(args.config_dir):
            hydra.main(config_path=str(CONF), config_name=CONFIG_NAME, version_base=VERSION_BASE)(task)()
    finally:
        sys.argv = before
