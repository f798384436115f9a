"""Sweeps on a real Slurm: arrays, failures, cancelling, preemption, a lost node, Ctrl-C, and the same command again.

eval "$(.ci/slurm start DIR)" && pytest tests/sweeps/test_slurm.py; .ci/slurm stop DIR
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps.slurm_sweep import FOLDER, ONCE, PROMPTS, Sweep, ended, processes_of, slurm, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason='needs a Slurm of its own: eval "$(.ci/slurm start DIR)"'),
]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """The only one on the node; when it is over, nothing of it is left there."""
    monkeypatch.delenv("WAVESPEED_SLURM", raising=False)
    with open(Path(FOLDER) / "tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep = Sweep(tmp_path)
        try:
            yield sweep
            name = sweep.submitted().get("name", "none")
            until(lambda: not slurm("squeue", "--noheader", f"--name={name}").strip())
            until(lambda: not processes_of(tmp_path))
        finally:
            for partition in ("low", "high"):
                slurm("scancel", f"--partition={partition}")


def test_one_job_fails_one_is_cancelled_the_third_is_done_and_the_same_command_runs_the_two_again(sweep: Sweep) -> None:
    # Where the second job wants a folder there is a file; the third takes long.
    (sweep.folder / "1").mkdir(parents=True)
    (sweep.folder / "sweep.json").write_text("{}")  # else it is not a sweep's folder, and refused
    (sweep.folder / "1" / "images").write_text("in the way")
    given = ("measure=none", "measure.repeats=1,2,100")
    process = sweep.start(*given)
    until(sweep.has_images(2))
    until(lambda: sweep.status(1) == "failed")
    first = sweep.task(2)
    slurm("scancel", first)
    status, output = ended(process)
    assert status == 1, output
    assert (sweep.status(0), sweep.status(1)) == ("completed", "failed")
    assert re.search(r"job 1 .*stage images: .*images", output), output
    assert f"Slurm job {first}: CANCELLED" in output and "scancel" in output
    assert json.loads((sweep.folder / "2" / "lost.json").read_text())["reason"].startswith(f"Slurm job {first}: CANC")
    # Slurm's own books agree.
    assert "JobState=FAILED" in slurm("scontrol", "-o", "show", "job", first.replace("_2", "_1"))

    (sweep.folder / "1" / "images").unlink()
    done, before = sweep.record(0), sweep.task(0)
    status, output = sweep.run(*given)
    assert status == 0, output
    assert "submitted 2 jobs" in output and sweep.task(0) == before and sweep.task(1) != before
    assert [sweep.status(number) for number in range(3)] == ["completed"] * 3
    assert sweep.record(0) == done
    # What the cancelled task had finished was not computed again.
    sources = [sample["source"] for sample in sweep.record(2)["samples"]]
    assert sources[0] == "store" and len(sources) == len(PROMPTS)
    assert not (sweep.folder / "2" / "lost.json").exists()

    status, output = sweep.run(*given)
    assert status == 0 and "submitted" not in output and "3 done before" in output


def test_a_job_with_two_ranks_is_two_tasks_and_an_array_of_its_own(sweep: Sweep) -> None:
    (sweep.home / "prompts.txt").write_text("a red circle\n")
    status, output = sweep.run(*ONCE, "parallel=none,ulysses")
    assert status == 0, output
    assert [sweep.status(number) for number in (0, 1)] == ["completed"] * 2
    assert output.count("Slurm: submitted 1 job as") == 2
    parallel = sweep.record(1)["engaged"]["parallel"]
    assert [rank["rank"] for rank in parallel["ranks"]] == [0, 1] and sweep.record(0)["engaged"]["parallel"] is None
    assert (sweep.folder / "1" / "ranks" / "rank1.log").exists()
    # The other rank ended in order, so for Slurm the job did, too.
    job = slurm("scontrol", "-o", "show", "job", sweep.task(1))
    assert "ExitCode=0:0" in job and "NumTasks=2" in job


def test_what_is_preempted_goes_on_by_itself_and_the_same_command_attaches_to_what_is_there(sweep: Sweep) -> None:
    given = ("measure=none", "measure.repeats=1,100")
    process = sweep.start(*given)
    until(sweep.has_images(1))
    process.send_signal(signal.SIGINT)
    status, output = ended(process)
    task = sweep.task(1)
    assert status == 130 and f"scancel {task.partition('_')[0]}" in output, output
    assert sweep.task(1) in slurm("squeue", "--noheader", "--array", "--format=%i")

    slurm("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 1")
    until(lambda: "Restarts=1" in slurm("scontrol", "-o", "show", "job", task))
    status, output = sweep.run(*given)
    assert status == 0, output
    assert "attached to 1 job" in output and "submitted" not in output
    assert sweep.task(1) == task and [sweep.status(number) for number in (0, 1)] == ["completed"] * 2
    sources = [sample["source"] for sample in sweep.record(1)["samples"]]
    assert sources[0] == "store" and "computed" in sources


def test_a_job_whose_node_is_lost_goes_on_when_there_is_one_again(sweep: Sweep) -> None:
    process = sweep.start("measure=none", "measure.repeats=100")
    until(sweep.has_images(0))
    node = slurm("sinfo", "--noheader", "--format=%n").split()[0]
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    until(lambda: "Restarts=1" in slurm("scontrol", "-o", "show", "job", sweep.task(0)))
    status, output = ended(process)  # the node registers again at once, and Slurm lets the job wait some seconds
    assert status == 0, output
    assert sweep.record(0)["samples"][0]["source"] == "store"


def test_more_jobs_than_an_array_may_have_while_slurm_now_and_then_does_not_answer(sweep: Sweep) -> None:
    """MaxArraySize is 5. A `squeue` of ours, first on the path, fails every other time."""
    shim = sweep.home / "bin" / "squeue"
    shim.parent.mkdir()
    real = slurm("which", "squeue").strip()
    shim.write_text(
        f'#!/bin/sh\nif [ -e {shim}.up ]; then rm {shim}.up; exec {real} "$@"; fi\ntouch {shim}.up\n'
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    shim.chmod(0o755)
    given = ("measure=none", "measure.difference_gain=1,2,3,4,5,6")
    (sweep.home / "slurm.local.yaml").write_text(
        "partition: low\ngpus: 1\ntime: 0:30:00\nextra: {comment: of the site}\n"
    )
    status, output = sweep.run(*given, "hydra.launcher.time=7", PATH=f"{shim.parent}:{os.environ['PATH']}")
    assert status == 0, output
    assert "submitted 5 jobs" in output and "submitted 1 job" in output and "out of reach" in output
    shown = slurm("scontrol", "-o", "show", "job", sweep.task(5))
    assert all(part in shown for part in ("TimeLimit=00:07:00", "gres:gpu:1", "Comment=of the site", "Partition=low"))
    assert {sweep.status(number) for number in range(6)} == {"completed"}


def test_where_a_user_may_have_only_so_many_jobs_the_others_follow(sweep: Sweep) -> None:
    """Such limits need Slurm's accounting. An `sbatch` of ours, first on the path, refuses as the real one would."""
    shim = sweep.home / "bin" / "sbatch"
    shim.parent.mkdir()
    real = slurm("which", "sbatch").strip()
    shim.write_text(
        f"""#!/bin/sh
        for script; do :; done
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
        if [ $(( ${{last:-0}} + 1 + $(squeue -h -r | wc -l) )) -le 3 ]; then exec {real} "$@"; fi
        echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2
        echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)' >&2
        exit 1
        """
    )
    shim.chmod(0o755)
    given = ("measure=none", "measure.difference_gain=1,2,3,4,5")
    status, output = sweep.run(*given, PATH=f"{shim.parent}:{os.environ['PATH']}")
    assert status == 0, output
    sizes = [int(count) for count in re.findall(r"submitted (\d) jobs? as", output)]
    assert sizes[:2] == [2, 1], "three, which is all that there is room for; of five half are tried, then what is left"
    assert sum(sizes) == 5 and "QOSMaxSubmitJobPerUserLimit: Batch job submission failed" in output
    assert {sweep.status(number) for number in range(5)} == {"completed"}


def test_what_was_submitted_by_a_process_that_was_killed_before_it_could_note_it_is_cancelled(sweep: Sweep) -> None:
    status, output = sweep.run(*ONCE)
    assert status == 0, output
    name = sweep.submitted()["name"]
    until(lambda: not slurm("squeue", "--noheader", f"--name={name}").strip())
    stray = slurm("sbatch", "--parsable", "--hold", f"--job-name={name}", "--output=/dev/null", "--wrap=true").strip()
    (sweep.folder / "0" / "record.json").unlink()
    status, output = sweep.run(*ONCE)
    assert status == 0 and sweep.status(0) == "completed", output
    assert "JobState=CANCELLED" in slurm("scontrol", "-o", "show", "job", stray)


@pytest.mark.parametrize(
    ("override", "environment", "message"),
    [
        ("hydra.launcher.partition=nowhere", {}, r"Slurm refuses the jobs: .*partition.*hydra\.launcher\.\*"),
        ("+hydra.launcher.extra.nodelist=nowhere", {}, r"Slurm refuses the jobs: .*node.*hydra\.launcher\.\*"),
        (
            "hydra.launcher.poll=0.1",
            {"SLURM_CONF": f"{FOLDER}/nobody.conf"},
            r"squeue fails \(.*Unable to contact slurm controller.*sinfo",
        ),
    ],
)
def test_what_slurm_refuses_is_one_line(sweep: Sweep, override: str, environment: dict[str, str], message: str) -> None:
    # Of a controller that nobody is: nothing listens at port 1.
    lines = re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=1", (Path(FOLDER) / "slurm.conf").read_text())
    (Path(FOLDER) / "nobody.conf").write_text(f"{lines}MessageTimeout=2\n")
    overrides = [*ONCE, override]
    status, output = sweep.run(*overrides, **environment)
    assert status == 1
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0]), output
    assert "Traceback" not in output


def test_a_node_may_be_another_machine_than_the_one_that_planned(sweep: Sweep) -> None:
    """A login node has other processors, and no GPU. Here: another number of threads, which is part of the device."""
    given = (*ONCE, "+hydra.launcher.extra.export='ALL,OMP_NUM_THREADS=3'")
    for words in ("submitted 1 job", "1 done before"):
        status, output = sweep.run(*given, OMP_NUM_THREADS="1")
        assert status == 0 and words in output, output
    assert sweep.record(0)["environment"]["threads"] == 3
