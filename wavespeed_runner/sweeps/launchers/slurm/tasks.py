"""Which job of a sweep was submitted to Slurm as which task: `slurm.json` in its folder."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import RunError, one_line
from ....storage.atomic import write_text

if TYPE_CHECKING:
    from ...folder import SweepFolder

FILE = "slurm.json"

log = logging.getLogger("wavespeed_runner")


class Tasks:
    """Which job was submitted as which task, in `slurm.json`; which are not over yet; what was said of them."""

    def __init__(self, sweep: SweepFolder) -> None:
        self.file = sweep.path / FILE
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = {"schema_version": 1, "name": _name(sweep.path), "tasks": {}}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.file}: cannot be read: {one_line(error)}; scancel its jobs and remove it") from None
        self.name: str = known["name"]
        """Of all its jobs in Slurm: finds also those whose submission was killed before they could be noted."""
        self.ids: dict[int, str] = {int(number): task["id"] for number, task in known["tasks"].items()}
        self.before: dict[int, int] = {int(number): task["before"] for number, task in known["tasks"].items()}
        """When what was there at the submission was written: it is of an earlier attempt."""
        self.identities: dict[int, str] = {n: str(t.get("identity")) for n, t in _numbered(known["tasks"])}
        """What each task is to run: a folder may be given to another sweep while tasks of the one before go on."""
        self.open: set[int] = set()
        self._said: set[str] = set()

    def add(self, ids: dict[int, str], before: dict[int, int], identities: dict[int, str]) -> None:
        self.ids |= ids
        self.before |= before
        self.identities |= identities
        self.open |= ids.keys()
        tasks = {
            str(number): {"id": task, "before": self.before[number], "identity": self.identities[number]}
            for number, task in sorted(self.ids.items())
        }
        write_text(self.file, json.dumps({"schema_version": 1, "name": self.name, "tasks": tasks}, indent=1) + "\n")

    def warn(self, message: str) -> None:
        """Says it once."""
        if message not in self._said:
            self._said.add(message)
            log.warning(message)

    def arrays(self) -> str:
        """Ids of what is not over yet, as `scancel` takes them."""
        found = {self.ids[number].partition("_")[0] for number in self.open}
        return " ".join(sorted(found, key=int))


def _numbered(tasks: dict[str, Any]) -> list[tuple[int, Any]]:
    return [(int(number), task) for number, task in tasks.items()]


def _name(folder: Path) -> str:
    return f"wavespeed-{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
