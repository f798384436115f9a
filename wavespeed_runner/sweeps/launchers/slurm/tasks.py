"""Notes which job of a sweep was submitted to Slurm as which task: `slurm.json` in its folder."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import RunError, format_error
from ....inputs.documents import read_json
from ....inputs.files import find_place
from ....storage.atomic import write_text

if TYPE_CHECKING:
    from ...folder import SweepFolder

FILE = "slurm.json"

log = logging.getLogger("wavespeed_runner")


class Tasks:
    """The submitted jobs of a sweep, and which of them are not over yet."""

    def __init__(self, sweep: SweepFolder) -> None:
        """Reads `slurm.json`, where there is one. Raises RunError for one that cannot be read."""
        self.file = sweep.path / FILE
        known = self._read() or {"name": _build_name(sweep.path), "tasks": {}}
        self.name: str = known["name"]
        """Name of the sweep's jobs in Slurm. It also finds jobs that a killed process submitted and did not note."""
        self.ids: dict[int, str] = {int(number): task["id"] for number, task in known["tasks"].items()}
        self.before: dict[int, int] = {int(number): task["before"] for number, task in known["tasks"].items()}
        """When the record that was there at the submission was written: it belongs to an earlier attempt."""
        self.identities: dict[int, str] = {int(n): str(task.get("identity")) for n, task in known["tasks"].items()}
        """Identity of the run that each task makes. A folder may be given to another sweep while old tasks go on."""
        self.open: set[int] = set()
        """Jobs that are not over yet."""
        self._warned: set[str] = set()

    def _read(self) -> dict[str, Any] | None:
        """What the file says; None where there is none."""
        try:
            known = read_json(self.file)
            for number, task in known["tasks"].items():
                where = int(number)
                if not (isinstance(task["id"], str) and isinstance(task["before"], int)):
                    raise ValueError(f"task {where} has no id, or no time")
            if not isinstance(known["name"], str):
                raise ValueError("name is no text")
            return dict(known)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunError(
                f"{self.file}: cannot be read: {format_error(error)}; scancel its jobs and remove it"
            ) from None

    def add(self, ids: dict[int, str], before: dict[int, int], identities: dict[int, str]) -> None:
        """Notes submitted jobs, in memory and on the disk; by number, as in the attributes of the same names."""
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
        """Logs a warning, once."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message)

    def arrays(self) -> str:
        """Ids of the arrays that are not over yet, as arguments of `scancel`."""
        arrays = {self.ids[number].partition("_")[0] for number in self.open}
        return " ".join(sorted(arrays, key=int))


def _build_name(folder: Path) -> str:
    return f"wavespeed-{sha256(str(find_place(folder)).encode()).hexdigest()[:12]}"
