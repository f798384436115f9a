"""The script of a Slurm job: each of its lines is one of ours, whatever the names of folders and options hold.

submitit quotes a value for the shell, which keeps a line end inside the quotes. But `sbatch` reads a script line by
line, and to the shell a line of options is a comment, after which the rest of such a value would be a command.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ....errors import ConfigError, make_printable

FIXED = ("#!/bin/bash", "", "# Parameters", "# command", "export SUBMITIT_EXECUTOR=slurm")
"""The lines of a script besides those of its options and the command."""
OPTION = "#SBATCH --"
NOT_IN_LINES = ("Cc", "Cs", "Zl", "Zp")
"""Categories of Unicode: control characters, halves of a character (a name that is not UTF-8), ends of lines."""


def refuse_controls(what: str, texts: Iterable[str]) -> None:
    """Refuses what would not stay in its line of the script.

    Raises:
        ConfigError: a text has a control character, an end of a line, or is not UTF-8. `what` is to be changed.
    """
    for text in texts:
        if any(unicodedata.category(c) in NOT_IN_LINES for c in text):
            raise ConfigError(
                make_printable(f"hydra/launcher=slurm: {what} {text[:200]}")
                + ": a control character, or a name that is not UTF-8, cannot stand in the script of a job; rename it, "
                "or use hydra/launcher=isolated"
            )


def check_script(text: str, command: str, values: Mapping[str, Any]) -> str:
    """The script, if it consists of the lines that it is made to have.

    Args:
        text: of the script, as submitit made it.
        command: its last line.
        values: of its options, and other texts in it; mappings are looked into.

    Raises:
        ConfigError: it has another line, an option twice, or a value that would not stay in its line.
    """
    refuse_controls("the folder or option", [command, *_list_texts(values)])
    names = set[str]()
    for line in text.split("\n"):
        name = line.removeprefix(OPTION).partition("=")[0] if line.startswith(OPTION) else ""
        if name in names or not (name or line in FIXED or line == command):
            raise ConfigError(make_printable(f"hydra/launcher=slurm: a line of the script is none of ours: {line:.80}"))
        names.update([name] if name else [])
    return text


def _list_texts(values: Mapping[str, Any]) -> list[str]:
    """Names and values, as text."""
    texts = list(map(str, values))
    for value in values.values():
        texts += _list_texts(value) if isinstance(value, Mapping) else [str(value)]
    return texts


@lru_cache(maxsize=2)
def build_executor_class(*, anywhere: bool) -> type[Any]:
    """Makes submitit's executor, which writes no script that was not checked.

    anywhere: also where Slurm is missing, to see what would be submitted.
    """
    from submitit import SlurmExecutor as Unchecked

    class SlurmExecutor(Unchecked):  # submitit goes by the name of the class
        @classmethod
        def affinity(cls) -> int:
            return 1 if anywhere else int(super().affinity())

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            text = super()._make_submission_file_text(command, uid)
            return check_script(text, command, {"folder": str(self.folder), **self.parameters})

    return SlurmExecutor
