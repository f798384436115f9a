"""Describes for a dry run what a sweep would submit to Slurm: the arrays, the options of `sbatch`, the script."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .arrays import count_jobs, take_alike
from .endings import LOGS
from .options import Options, read_local
from .submit import build_executor, count_ranks

if TYPE_CHECKING:
    from ...jobs import Job

NAME = "wavespeed-ID"
"""Stands for the name of the jobs in Slurm, which follows from the sweep's folder."""


def describe_submission(jobs: list[Job], options: Options, folder: Path, size: int, notes: list[str]) -> list[str]:
    """Lines that say which jobs become which array, and the script of each kind of array.

    Args:
        jobs: that would be submitted.
        options: of the launcher.
        folder: that the sweep would have.
        size: jobs of one array, at most.
        notes: what else is to be said.
    """
    arrays, (file, local) = _divide(jobs, size), read_local()
    count = f"{count_jobs(jobs)} in {len(arrays)} array{'s' * (len(arrays) != 1)} of at most {size}"
    lines = [f"Slurm      {count}; options from hydra.launcher.*{f' and {file}' * bool(local)}"]
    lines += [f"  {note}" for note in notes]
    lines += ["  what an earlier command has finished is left out; each task runs one job in the sweep's folder"]
    lines += [f"  sbatch: {_name(array)}" for array in arrays]
    kinds = {(count_ranks(array[0]), len(array)): array for array in reversed(arrays)}
    for array in reversed(kinds.values()):
        lines += [f"script for {_name(array)}", *_write_script(array, options, folder)]
    return lines


def _divide(jobs: list[Job], size: int) -> list[list[Job]]:
    """The jobs in arrays, as they would be submitted to an idle Slurm."""
    arrays: list[list[Job]] = []
    while jobs:
        arrays.append(take_alike(jobs, size))
        jobs = jobs[len(arrays[-1]) :]
    return arrays


def _name(array: list[Job]) -> str:
    """`jobs 0 to 3`, `job 4, 2 ranks`."""
    which = f"jobs {array[0].number} to {array[-1].number}" if len(array) > 1 else f"job {array[0].number}"
    ranks = count_ranks(array[0])
    return f"{which}, {ranks} ranks each" if ranks > 1 else which


def _write_script(array: list[Job], options: Options, folder: Path) -> list[str]:
    """The lines of the script that submitit would hand to `sbatch`."""
    if find_spec("submitit") is None:
        return ["  not shown: submitit writes it, and is not installed"]
    executor = build_executor(folder.absolute() / LOGS, NAME, options, count_ranks(array[0]), anywhere=True)
    if len(array) > 1:
        executor.parameters["map_count"] = len(array)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    return [f"  {line}".rstrip() for line in text.strip().splitlines()]
