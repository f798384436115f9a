"""Entry point of the command line: finds out which command was typed and calls its module.

    python -m wavespeed_runner [COMMAND] ...        wavespeed-runner [COMMAND] ...

Without a command the arguments are overrides of a run. The module of a command is imported only when it is called,
so that `--help` and errors come at once.

Exit status: 0 done; 2 the configuration is wrong, nothing was loaded or written; 1 something failed while running;
130 interrupted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import import_module
from typing import NoReturn

from .. import __version__
from ..config.launched import find_launch
from ..errors import ConfigError, did_you_mean
from ..process.exit_status import DONE, exit_with, run_command
from .commands import COMMANDS, RUN

WORD = re.compile(r"[A-Za-z][\w-]*")
"""Could be meant as a command. Overrides hold a `=`, or start with `~`; flags start with `-`."""


def console() -> NoReturn:
    """Runs `wavespeed-runner` or `python -m wavespeed_runner` and ends the process."""
    exit_with(main)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns the exit status; an error is printed as one line on stderr."""
    launched = find_launch()
    follows = launched is not None and launched.by == "torchrun" and launched.rank > 0
    return run_command(lambda: _dispatch(arguments), lambda error: _explain(error, arguments), follows=follows)


def _dispatch(arguments: list[str]) -> int:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the folder where the command runs was removed; change to another one") from None
    name, rest = split_command(arguments)
    if name == RUN and "--version" in rest:
        print(f"wavespeed_runner {__version__}")
        return DONE
    command = import_module(f".{name}", __package__)
    if name == RUN:
        status: int = command.main(rest)
        return status
    parser = command.build_parser()
    if "--help" in rest or "-h" in rest:
        print(parser.format_help(), end="")
        return DONE
    status = command.main(parser.parse(rest))
    return status


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The command's name, `run` where none was typed, and its arguments.

    Raises:
        ConfigError: the first word is not a command.
    """
    if not arguments or not WORD.fullmatch(arguments[0]):
        return RUN, arguments
    name, *rest = arguments
    if name not in COMMANDS:
        from ..config.mistyped_words import describe_bare_word

        setting = f"a setting is written KEY=VALUE{describe_bare_word(name)}"
        raise ConfigError(f"{name}: no such command{did_you_mean(name, COMMANDS)}; {setting}")
    return name, rest


def _explain(error: Exception, arguments: list[str]) -> str | None:
    """As `explain_config_error`, and a path that no file can have; imported only here, for it imports Hydra."""
    from ..inputs.unreadable import explain_impossible

    if isinstance(error, OSError) and (told := explain_impossible(error, _list_given(arguments))):
        return told
    from .several import explain_words

    return explain_words(error, arguments)


def _list_given(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Keys and values as they were typed. The key of a flag's value is the flag; that of a bare word is empty."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        key, _, value = argument.rpartition("=")
        yield key or (before if before.startswith("-") and "=" not in before else ""), value
