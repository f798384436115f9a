"""`run`: makes what the overrides say, once or as a sweep. The only module that calls Hydra's main.

overrides -> compose, trust, types, plan (no torch so far) -> our own loop, or Hydra's main -> run_plan for each job
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.arguments import parse_arguments
from ..errors import ConfigError, format_error, hide_controls, make_printable
from ..process.exit_status import DONE, FAILED

if TYPE_CHECKING:
    from ..planning.automatic import Change
    from ..records.record import Record
    from ..sweeps.jobs import Job

REFUSED_FLAGS = {
    "experimental_rerun": "it loads a pickle; use python -m wavespeed_runner replay",
    "config_path": "add options with --config-dir instead",
    "config_name": "add options with --config-dir instead",
}
SHOW_ONLY = ("hydra_help", "cfg", "info", "shell_completion")
"""Flags that make Hydra print something and run nothing."""
EXCLUSIVE = ("run", "multirun", *SHOW_ONLY)
"""Flags of which only one may be given."""


def main(arguments: list[str]) -> int:
    """Runs the jobs that the overrides describe; with `dry_run=true`, prints their plans instead."""
    if "--help" in arguments or "-h" in arguments:
        return _print_help(parse_arguments([a for a in arguments if a not in ("--help", "-h")]))
    args = parse_arguments(arguments)
    _refuse_flags(args)
    args.overrides, taken = _take_recipe(args.overrides)
    if any(getattr(args, flag) for flag in SHOW_ONLY):
        return _show_by_hydra(args)

    from ..sweeps.jobs import plan_jobs

    jobs = plan_jobs(args, taken)
    plans = [job.plan for job in jobs if job.plan is not None]
    if any(plan.config.dry_run for plan in plans):
        return _print_plans(args, jobs)

    from ..execution.ranks.adopted import take_part

    with take_part(plans):
        from ..sweeps.sweep import run_sweep

        completed = run_sweep(args, jobs)
        if completed is None:  # a single run, or the launcher is one of Hydra's plugins
            completed = _run_by_hydra(args, jobs)
    return DONE if completed else FAILED


def _take_recipe(overrides: list[str]) -> tuple[list[str], list[Change]]:
    """The overrides with those of a recipe, `from=FILE`, in its place; and what the plan says of it."""
    if not any(override.startswith("from=") for override in overrides):
        return overrides, []
    from ..sharing.recipe import take_recipe

    return take_recipe(overrides)


def _print_help(args: Namespace) -> int:
    """Prints the help of the options that were given, such as `cache=fbcache --help`; without any, the whole."""
    from ..sweeps.own_model import name_option
    from .option_help import describe_option, is_option
    from .usage import usage

    texts = []
    for override in filter(is_option, args.overrides):
        option, *more = name_option([override])  # a folder of a model is an option and its repo
        head = f"{make_printable(override)} is {make_printable(' '.join([option, *more]))}\n\n" if more else ""
        texts.append(head + describe_option(option, args.config_dir))
    print("\n\n".join(texts) if texts else usage(args.config_dir))
    return DONE


def _refuse_flags(args: Namespace) -> None:
    for flag, why in REFUSED_FLAGS.items():
        if getattr(args, flag) is not None:
            raise ConfigError(f"{_flag(flag)}: refused; {why}")
    given = [_flag(flag) for flag in EXCLUSIVE if getattr(args, flag)]
    if len(given) > 1:
        raise ConfigError(f"{' '.join(given)}: give only one of these")
    if (args.resolve or args.package) and not args.cfg:
        flag = "--resolve" if args.resolve else f"--package={args.package}"
        short = "" if args.resolve else "; -p is short for --package, a prompt is prompt='...'"
        raise ConfigError(f"{flag}: only with --cfg, such as --cfg job{short}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _print_plans(args: Namespace, jobs: list[Job]) -> int:
    from ..execution.ranks.adopted import find_own_launch
    from ..sweeps.sweep import check_sweep, preview_sweep
    from .plan_text import plans_text

    check_sweep(args, jobs)
    launched = find_own_launch([job.plan for job in jobs if job.plan is not None])
    if launched is None or launched.rank == 0:
        print(plans_text(jobs))
        print("".join(f"{hide_controls(line)}\n" for line in preview_sweep(args, jobs)), end="")
    return DONE


def _run_by_hydra(args: Namespace, jobs: list[Job]) -> bool:
    """Lets Hydra make the folders and logs and call the task for each job; True when every job completed."""
    from omegaconf import OmegaConf

    from ..execution.refusals import is_refused, raise_refusal, refuse_unbuildable_models

    if not args.multirun:
        for plan in (job.plan for job in jobs if job.plan is not None):
            refuse_unbuildable_models(plan)
    ended: list[tuple[Record, Path]] = []

    def task(composed: Any) -> None:
        # Raises nothing but KeyboardInterrupt. Hydra's basic launcher would keep an exception with its frames, and
        # with them the loaded model, for the rest of a sweep.
        from hydra.core.hydra_config import HydraConfig

        from ..config.compose import drop_hydra_keys
        from ..execution.runner import run_plan
        from ..planning.plan import build_plan
        from ..report.console import show, show_failure
        from ..sweeps.jobs import add_changes

        runtime = HydraConfig.get()
        data: Any = OmegaConf.to_container(composed, resolve=False)
        overrides: Any = OmegaConf.to_container(runtime.overrides.task, resolve=False)
        data["hydra"] = {"runtime": {"choices": OmegaConf.to_container(runtime.runtime.choices)}}
        folder = Path(runtime.runtime.output_dir)
        number = runtime.job.num if args.multirun else 0
        record = run_plan(add_changes(build_plan(drop_hydra_keys(data)), jobs[number].decided), folder, overrides)
        ended.append((record, folder))
        if args.multirun:
            print(f"\njob: {make_printable(' '.join(overrides))}")
        if args.multirun or not is_refused(record):
            (show if record.status == "completed" else show_failure)(record, folder)

    _call_hydra(args, task)
    if ended and not args.multirun:
        raise_refusal(*ended[-1])
    return bool(ended) and all(record.status == "completed" for record, _ in ended)


def _show_by_hydra(args: Namespace) -> int:
    """Lets Hydra print what a flag such as `--cfg` asks for; its complaints become our one line."""
    from ..config.compose import check_shown, composer
    from ..sweeps.own_model import name_option

    args.overrides = name_option(args.overrides)
    if not args.shell_completion:  # Hydra resolves values, and sets up its logging, without asking
        with composer(args.config_dir):
            check_shown(list(args.overrides), resolve=bool(args.resolve))
    shown, complaint = StringIO(), StringIO()
    try:
        with redirect_stdout(shown), redirect_stderr(complaint):
            _call_hydra(args, lambda composed: None)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--shell-completion: {format_error(error)}") from error
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(complaint.getvalue()) from None
    # YAML escapes what would move the terminal's cursor, but not what turns the direction of writing round.
    print("".join(c if c.isprintable() or c in "\n\t" else "?" for c in shown.getvalue()), end="")
    return DONE


def _call_hydra(args: Namespace, task: Callable[[Any], None]) -> None:
    import hydra

    from ..config.compose import CONFIG_NAME, VERSION_BASE, search_path
    from ..config.paths import CONF

    # Without --config-dir: `search_path` adds that folder, at the same position as when the jobs were planned.
    flags = [_flag(flag) for flag in ("resolve", *EXCLUSIVE) if getattr(args, flag) is True]
    flags += [f"{_flag(flag)}={value}" for flag in ("cfg", "info", "package") if (value := getattr(args, flag))]
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *args.overrides]
    try:
        with search_path(args.config_dir):
            hydra.main(config_path=str(CONF), config_name=CONFIG_NAME, version_base=VERSION_BASE)(task)()
    finally:
        sys.argv = before
