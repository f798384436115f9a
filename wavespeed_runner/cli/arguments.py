"""Parses the arguments that a command has of its own, and writes its `--help`: positionals, KEY=VALUE pairs, flags."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigError, did_you_mean

PROGRAM = "python -m wavespeed_runner"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A KEY=VALUE argument of a command, as opposed to an override of the configuration."""

    name: str
    metavar: str
    help: str
    read: Callable[[str], Any]
    default: Any
    required: bool


class CommandParser(argparse.ArgumentParser):
    """An argparse parser that also knows KEY=VALUE arguments and overrides, and raises `ConfigError` on misuse."""

    def __init__(self, command: str, usage: str, about: str) -> None:
        """Prepares the parser of one command.

        Args:
            command: its name on the command line.
            usage: the arguments as the first line of `--help` shows them.
            about: what the command does; the rest of `--help` is made from the declared arguments.
        """
        super().__init__(
            prog=f"{PROGRAM} {command}",
            usage=f"%(prog)s {usage}",
            description=about.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._keys: dict[str, Key] = {}
        self._takes_overrides = False

    def add_key(
        self,
        name: str,
        metavar: str,
        *,
        help: str,
        read: Callable[[str], Any] = str,
        default: Any = None,
        required: bool = False,
    ) -> None:
        """Declares `name=VALUE`.

        Args:
            name: the key; also the attribute of the parsed namespace.
            metavar: stands for the value in `--help`.
            help: one line.
            read: turns the text into the value; raises ValueError with what is allowed.
            default: the value where the key is not given.
            required: whether the command needs the key.
        """
        self._keys[name] = Key(name=name, metavar=metavar, help=help, read=read, default=default, required=required)

    def add_overrides(self) -> None:
        """Lets the command take the runner's overrides, and `--config-dir`. Parsed like the runner's own command line.

        The namespace then has `overrides`, `config_dir` and `multirun` (always False).
        """
        self._takes_overrides = True
        self.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="GROUP=OPTION or KEY=VALUE, as for a run")
        self.add_argument("--config-dir", "-cd", metavar="DIR", help="add a folder of your own options")
        self.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """The arguments, by name.

        Raises:
            ConfigError: an argument is unknown, missing, given twice, or has a wrong value.
        """
        values, rest = self._split(arguments)
        parsed, unknown = self.parse_known_intermixed_args(rest)
        if unknown:
            self._refuse(unknown[0])
        if self._takes_overrides and (recipe := next((o for o in parsed.overrides if o.startswith("from=")), None)):
            raise ConfigError(f"{recipe}: only for a run or a sweep, {PROGRAM} {recipe}; {self.prog} takes none")
        if self._takes_overrides and parsed.multirun:
            raise ConfigError(f"-m: not here; {self.prog} takes one model and one setting at a time")
        if self._takes_overrides:
            from ..config.typed_text import keep_typed_texts

            parsed.overrides = keep_typed_texts(list(parsed.overrides))
        for key in self._keys.values():
            setattr(parsed, key.name, values.get(key.name, key.default))
            if key.required and key.name not in values:
                raise ConfigError(f"{key.name}=: needed; {key.name}={key.metavar}: {key.help}")
        return parsed

    def format_help(self) -> str:
        """What `--help` prints."""
        text = super().format_help()
        if not self._keys:
            return text
        width = max(len(f"{key.name}={key.metavar}") for key in self._keys.values())
        rows = [f"  {f'{key.name}={key.metavar}':{max(width, 21)}} {key.help}" for key in self._keys.values()]
        return "\n".join([text, "keys:", *rows, ""])

    def error(self, message: str) -> NoReturn:
        """Raises argparse's complaint as a ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _split(self, arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
        """Values of the command's own keys, and all other arguments."""
        values: dict[str, Any] = {}
        rest = []
        for argument in arguments:
            if not argument:  # most likely a shell variable that is not set; as a path it would be the current folder
                raise ConfigError(f"'': an argument is empty; see {self.prog} --help")
            name, equals, text = argument.partition("=")
            if not equals or name not in self._keys:
                self._refuse_unknown_key(argument)
                rest.append(argument)
                continue
            if name in values:
                raise ConfigError(f"{argument}: {name} is given twice; give one {name}={self._keys[name].metavar}")
            values[name] = _read(self._keys[name], text)
        return values, rest

    def _refuse_unknown_key(self, argument: str) -> None:
        """`ot=x` is no file, unless there is one of that name: Hydra may be told to make such folders."""
        name, equals, _ = argument.partition("=")
        if not equals or not name.replace(".", "").isidentifier():
            return
        if self._takes_overrides:  # the configuration knows its own keys
            wrong = bool(get_close_matches(name, self._keys, cutoff=0.8))
        else:
            wrong = not Path(argument).exists()
        if wrong:
            raise ConfigError(f"{argument}: no such key{did_you_mean(name, self._keys)}; see {self.prog} --help")

    def _refuse(self, argument: str) -> NoReturn:
        if argument.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = did_you_mean(argument.partition("=")[0], flags)
            raise ConfigError(f"{argument}: no such flag{near}; see {self.prog} --help")
        raise ConfigError(f"{argument}: one argument too many; {self.format_usage().strip()}")


def _read(key: Key, text: str) -> Any:
    if not text:
        raise ConfigError(f"{key.name}=: a value is needed: {key.name}={key.metavar}")
    try:
        return key.read(text)
    except ValueError as error:
        raise ConfigError(f"{key.name}={text}: {error}") from None


def read_target(text: str) -> Path:
    """The file that a command will write after long work. Raises ValueError where it could not."""
    from ..storage.folders import explain_unwritable

    file = Path(text)
    if os.path.isdir(file):
        raise ValueError("a folder; give a file")
    if reason := explain_unwritable(file.parent if os.path.exists(file) else file):
        raise ValueError(f"{reason}; give another file")
    return file


def parse_size(text: str) -> int:
    """Bytes from `2GB`, `500 MB`, `1.5GiB`, `1000`; powers of 1000, with an `i` of 1024."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not match or (match[3] and not match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 500MB or 2GB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))
