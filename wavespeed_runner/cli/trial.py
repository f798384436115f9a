"""Plans a command line with other overrides in the place of a wrong one, to see whether it would be refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..config.suggestions import Trial
from ..errors import Unfit
from .commands import COMMANDS, RUN


def make_trial(arguments: Sequence[str]) -> Trial:
    """Makes the trial of a run's command line; nothing is loaded or written. Other commands are not tried."""
    given = _drop_command(arguments)

    def find_refusal(typed: str, instead: list[str]) -> str:
        from ..config.arguments import parse_arguments
        from ..config.compose import find_key
        from ..config.error_messages import EXPLAINED, explain
        from ..sweeps.jobs import plan_jobs

        if given[:1] and given[0] in COMMANDS:
            return ""
        wrong = sys.exception()
        try:
            args = parse_arguments(given)
            replaced = {find_key(override) for override in (typed, *instead)}
            # One job of a sweep is enough, and another mistake in the command is no fault of the suggestion.
            kept = [o for o in args.overrides if find_key(o) not in replaced]
            args.overrides, args.multirun = [first for o in (*kept, *instead) if (first := _take_first(o))], False
            plan_jobs(args)
        except Unfit as error:
            return str(error)
        except EXPLAINED as error:
            detach(error, wrong)
            text = explain(error)
            return text if any(text.startswith(find_key(override)) for override in instead) else ""
        return ""

    return find_refusal


def find_error(arguments: Sequence[str]) -> Exception | None:
    """What is wrong with a run's command line, of a sweep with its first job; None where a rule alone refuses it."""
    from ..config.arguments import parse_arguments
    from ..config.error_messages import EXPLAINED
    from ..sweeps.jobs import plan_jobs

    wrong = sys.exception()
    try:
        args = parse_arguments(_drop_command(arguments))
        args.overrides, args.multirun = [first for o in args.overrides if (first := _take_first(o))], False
        plan_jobs(args)
    except EXPLAINED as error:
        detach(error, wrong)
        return None if isinstance(error, Unfit) else error
    return None


def _drop_command(arguments: Sequence[str]) -> list[str]:
    return list(arguments[1:] if arguments[:1] == [RUN] else arguments)


def _take_first(override: str) -> str:
    """The override with the first of its values, as a sweep's first job has it; empty where Hydra has to seek it."""
    from ..config.compose import find_key, parse_override

    parsed = parse_override(override)
    if not parsed.is_sweep_override():
        return override
    return f"{find_key(override)}={next(parsed.sweep_string_iterator())}" if parsed.is_discrete_sweep() else ""


def detach(error: BaseException, wrong: BaseException | None) -> None:
    """Takes from an error what was being handled when it was raised: the mistake that the suggestion is for."""
    todo = [error]
    while todo:
        one = todo.pop()
        if one.__context__ is wrong:
            one.__context__ = None
        todo += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
