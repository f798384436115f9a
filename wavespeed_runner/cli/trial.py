"""Plans a command line with other overrides in the place of a wrong one, to see whether it would be refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..config.suggestions import Trial
from ..errors import Unfit
from .commands import COMMANDS, RUN


def make_trial(arguments: Sequence[str]) -> Trial:
    """Makes the trial of a run's command line; nothing is loaded or written. Other commands are not tried."""
    given = list(arguments[1:] if arguments[:1] == [RUN] else arguments)

    def find_refusal(typed: str, instead: list[str]) -> str:
        from ..config.arguments import parse_arguments
        from ..config.compose import find_key
        from ..config.error_messages import EXPLAINED, explain
        from ..sweeps.jobs import plan_jobs
        from ..sweeps.own_model import swept

        if given[:1] and given[0] in COMMANDS:
            return ""
        wrong = sys.exception()
        try:
            args = parse_arguments(given)
            chosen = {find_key(override) for override in instead}
            # One job of a sweep is enough, and another mistake in the command is no fault of the suggestion.
            kept = [o for o in args.overrides if o != typed and find_key(o) not in chosen and not swept([o])]
            args.overrides, args.multirun = [*kept, *instead], False
            plan_jobs(args)
        except Unfit as error:
            return str(error)
        except EXPLAINED as error:
            _detach(error, wrong)
            text = explain(error)
            return text if any(text.startswith(find_key(override)) for override in instead) else ""
        return ""

    return find_refusal


def _detach(error: BaseException, wrong: BaseException | None) -> None:
    """Takes from an error what was being handled when it was raised: the mistake that the suggestion is for."""
    todo = [error]
    while todo:
        one = todo.pop()
        if one.__context__ is wrong:
            one.__context__ = None
        todo += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
