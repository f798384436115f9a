"""How long a sweep of a thousand settings takes before its first job: compose, check, plan, find what is done.

    OMP_NUM_THREADS=1 python -m benchmarks.planning [--jobs 1000] [--rounds 3]

Ours is a whole process of its own: its imports, every job's plan, and a look into every job's folder, where a record
lies. Beside it, what Hydra alone takes for composing: its sweeper composes each job twice, once to see whether it can
be, once to run it. That is measured on fifty jobs and scaled. Processor seconds stand beside those on the clock, which
another load on the machine lengthens.
Goal: 1,000 jobs in under 60 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

RESULTS = Path(__file__).parent / "results" / "planning.json"
MEASURED = 50
"""Jobs that Hydra composes; the rest is scaled."""
ONE = ["cache=fbcache", "prompt=a red circle above a blue square"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=["ours", "hydra"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        (ours if given.part == "ours" else hydra)(given.jobs, given.folder)
        return
    from wavespeed_runner.config.environment import describe_environment

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record_in_every_folder(given.jobs, folder)
        took = {part: [seconds(part, given.jobs, folder) for _ in range(given.rounds)] for part in ("ours", "hydra")}
    figures = {
        "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python -m benchmarks.planning",
        "environment": describe_environment("cpu"),
        "jobs": given.jobs,
        "wall and processor seconds": took["ours"],
        "hydra composing twice a job": {"measured_jobs": MEASURED, "seconds_scaled_to_all": took["hydra"]},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    for part, label in (("ours", "plan and find"), ("hydra", f"Hydra, scaled from {MEASURED}")):
        wall, processor = ([one[index] for one in took[part]] for index in (0, 1))
        spread = f"({min(wall):.1f} to {max(wall):.1f}), processor {median(processor):.1f} s"
        print(f"{given.jobs} jobs  {label:24} {median(wall):7.1f} s  {spread}")


def overrides(jobs: int, folder: Path) -> list[str]:
    values = f"cache.residual_diff_threshold=range(0.001,{0.001 * jobs + 0.0005:.4f},0.001)"
    return ["-m", *ONE, values, f"outputs={folder}", f"hydra.sweep.dir={folder}/sweep"]


def record_in_every_folder(jobs: int, folder: Path) -> None:
    """One real record, of the first job, in the folder of each."""
    values = [*ONE, "cache.residual_diff_threshold=0.001", f"outputs={folder}", f"hydra.run.dir={folder}/run"]
    run = [sys.executable, "-m", "wavespeed_runner", *values]
    subprocess.run(run, check=True, capture_output=True)
    record = (folder / "run" / "record.json").read_bytes()
    for number in range(jobs):
        (folder / "sweep" / str(number)).mkdir(parents=True)
        (folder / "sweep" / str(number) / "record.json").write_bytes(record)


def seconds(part: str, jobs: int, folder: Path) -> list[float]:
    """Wall and processor seconds of a part, in a process of its own; Hydra's as that process says."""
    command = [sys.executable, "-m", "benchmarks.planning", "--part", part, f"--jobs={jobs}", f"--folder={folder}"]
    began, used = perf_counter(), _children()
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [perf_counter() - began, _children() - used] if part == "ours" else json.loads(said)


def _children() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(jobs: int, folder: Path) -> None:
    """Plans all jobs and asks which are done: the first, whose record lies everywhere."""
    from wavespeed_runner.config.arguments import parse_arguments
    from wavespeed_runner.sweeps.folder import SweepFolder
    from wavespeed_runner.sweeps.jobs import plan_jobs

    planned = plan_jobs(parse_arguments(overrides(jobs, folder)))
    sweep = SweepFolder(path=folder / "sweep")
    done = [job.number for job in planned if sweep.is_done(job)]
    assert len(planned) == jobs and done == [0], done


def hydra(jobs: int, folder: Path) -> None:
    """Prints the wall and processor seconds that composing twice would take for all jobs."""
    from hydra import compose

    from wavespeed_runner.config.compose import CONFIG_NAME, composer

    with composer(None):
        began, used = perf_counter(), process_time()
        for number in range(MEASURED):
            for _ in range(2):
                compose(CONFIG_NAME, overrides=["cache=fbcache", f"cache.residual_diff_threshold={number / 1000}"])
        took = [perf_counter() - began, process_time() - used]
        print(json.dumps([one / MEASURED * jobs for one in took]))


if __name__ == "__main__":
    main()
