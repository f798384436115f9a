"""What hostile files and command lines are made of."""

from __future__ import annotations

import time

from tests.command_line import CommandLine

SECRET = "correct horse battery staple"
HEAD = "# @package _global_\n"
DEEP = "[" * 100_000
LONG = "9" * 5000
SOON = 3
"""Seconds of the processor's time. Each takes about one; what expands takes minutes, and what waits never ends."""


def refuse(cli: CommandLine, *arguments: str) -> str:
    """The error of a command that must be refused: soon, in one line, with nothing private in it."""
    began = time.process_time()
    said = cli(*arguments)
    assert time.process_time() - began < SOON
    assert said.status == 2, said
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("error: ") and len(said.err) < 2000
    assert said.err.isprintable() or said.err[:-1].isprintable()
    assert SECRET not in said.err
    return said.err


def refuse_experiment(cli: CommandLine, text: str, *arguments: str) -> str:
    """As `refuse`, of an experiment file with this text."""
    cli.experiment(text)
    return refuse(cli, "--config-dir", str(cli.configs), "experiment=mine", "dry_run=true", *arguments)
