"""A dry run with `hydra/launcher=slurm`: the arrays, the options of sbatch, the script. No Slurm is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sweeps.launchers.slurm import launcher
from wavespeed_runner.sweeps.launchers.slurm import options as slurm_options
from wavespeed_runner.sweeps.launchers.slurm.options import Options
from wavespeed_runner.sweeps.launchers.slurm.preview import describe_submission
from wavespeed_runner.sweeps.launchers.slurm.script import check_script
from wavespeed_runner.sweeps.launchers.slurm.submit import build_executor, build_parameters

pytest.importorskip("submitit")
SWEEP = ("-m", "hydra/launcher=slurm", *TINY, "steps=2,3,4", "measure=none", "dry_run=true")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv(slurm_options.VARIABLE, raising=False)
    monkeypatch.setattr(launcher.shutil, "which", lambda program: None)
    monkeypatch.setattr(launcher, "look_up_max_array_size", lambda: None)
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_without_slurm_the_submission_is_shown_and_what_is_missing_is_said(command: CommandLine) -> None:
    said = command(*SWEEP, "hydra.launcher.partition=gpu", "hydra.launcher.time=2:00:00", "hydra.launcher.gpus=1")
    assert (said.status, said.err) == (0, "")
    lines = said.out.partition("\n3 jobs\n")[2].splitlines()
    assert lines[0] == "Slurm      3 jobs in 1 array of at most 1000; options from hydra.launcher.*"
    assert lines[1] == (
        "  it would be refused here: no sbatch here; run it where Slurm's commands are, or use hydra/launcher=isolated"
    )
    assert "  sbatch: jobs 0 to 2" in lines and lines[lines.index("script for jobs 0 to 2") + 1] == "  #!/bin/bash"
    options = [line.removeprefix("  #SBATCH --") for line in lines if line.startswith("  #SBATCH")]
    assert {"array=0-2%3", "partition=gpu", "time=120", "gpus-per-node=1"} <= set(options)
    logs = command.folder / "outputs" / "sweeps" / "DATE" / "TIME" / "slurm"
    assert f"output={logs}/%A_%a_0_log.out" in options
    assert lines[-1].endswith(f"python -P -u -m submitit.core._submit {logs}") and sys.executable in lines[-1]
    assert command.left() == []


def test_the_sites_file_and_a_typed_folder_are_in_it(command: CommandLine) -> None:
    Path(slurm_options.LOCAL).write_text("account: mine\nextra: {constraint: a100}\n")
    out = command(*SWEEP, "hydra.sweep.dir=here", "hydra.launcher.array_parallelism=2").out
    assert "options from hydra.launcher.* and slurm.local.yaml" in out
    assert "#SBATCH --account=mine" in out and "#SBATCH --constraint=a100" in out and "--array=0-2%2" in out
    assert f"{command.folder}/here/slurm" in out and not Path("here").exists()


def test_where_slurm_answers_its_size_is_taken(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher.shutil, "which", lambda program: f"/bin/{program}")
    out = command(*SWEEP).out
    assert "Slurm does not answer here, so its MaxArraySize is not known; 1000 is usual" in out
    monkeypatch.setattr(launcher, "look_up_max_array_size", lambda: 2)
    out = command(*SWEEP).out
    assert "3 jobs in 2 arrays of at most 2" in out and "refused" not in out and "does not answer" not in out
    assert "  sbatch: jobs 0 to 1\n  sbatch: job 2\n" in out and out.count("#!/bin/bash") == 2
    assert "--array" not in out.partition("script for job 2")[2], "a single job is no array"


def test_skipped_jobs_are_not_submitted_and_other_launchers_hand_nothing_on(command: CommandLine) -> None:
    out = command(*[part.replace("2,3,4", "0,2,3") for part in SWEEP]).out
    assert "Slurm      2 jobs in 1 array" in out and "sbatch: jobs 1 to 2" in out
    for other in ("basic", "isolated"):
        assert "Slurm" not in command(*[part.replace("slurm", other) for part in SWEEP]).out


def test_without_submitit_the_script_is_not_shown(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavespeed_runner.sweeps.launchers.slurm import preview

    monkeypatch.setattr(preview, "find_spec", lambda name: None)
    out = command(*SWEEP).out
    assert "not shown: submitit writes it, and is not installed" in out and "sbatch: jobs 0 to 2" in out


def make_job(number: int, ranks: int) -> Any:
    parallel = SimpleNamespace(name="ulysses" if ranks > 1 else "none")
    return SimpleNamespace(number=number, plan=SimpleNamespace(config=SimpleNamespace(parallel=parallel)), ranks=ranks)


def test_jobs_of_other_ranks_are_another_array_with_its_own_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("arrays", "preview"):
        monkeypatch.setattr(f"wavespeed_runner.sweeps.launchers.slurm.{module}.count_ranks", lambda job: job.ranks)
    jobs = [make_job(0, 1), make_job(1, 2), make_job(2, 2), make_job(3, 1), make_job(4, 1)]
    lines = describe_submission(jobs, Options(cpus=8), tmp_path, 1000, [])
    assert [line for line in lines if line.startswith("  sbatch")] == [
        "  sbatch: job 0", "  sbatch: jobs 1 to 2, 2 ranks each", "  sbatch: jobs 3 to 4",
    ]  # fmt: skip
    text = "\n".join(lines)
    assert text.count("#!/bin/bash") == 3 and text.count("--ntasks-per-node=2") == 1
    assert build_parameters("x", Options(cpus=8), 2)["cpus_per_task"] == 4 and "--cpus-per-task=4" in text
    assert list(tmp_path.iterdir()) == []


HOSTILE = ("a\ntouch PWNED #", 'a\n#SBATCH --uid=0 --comment="', "a\rb", "a\x1b[2Jb", "a\u2028b")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_whose_name_would_be_a_line_of_the_script_is_refused(
    command: CommandLine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch reads line by line, and a shell runs what follows a line of options: quotes do not help."""
    written = name.encode("unicode_escape").decode().replace('"', "")
    for typed in (f'outputs="{written}"', f'hydra.sweep.dir="{written}"'):
        value = name.replace('"', "")
        said = command(*SWEEP, typed.replace(written, value))
        assert said.status == 2 and "PWNED #'" not in said.out and len(said.err.splitlines()) == 1, said
    (command.folder / name).mkdir()
    monkeypatch.chdir(command.folder / name)
    said = command(*SWEEP)
    assert (said.status, said.out) == (2, "") and "control character" in said.err and "hydra/launcher=slurm" in said.err


def test_every_line_of_a_script_is_one_of_ours(tmp_path: Path) -> None:
    """The one place that writes it: also where a name comes by another way, such as a link or an option."""
    good = build_executor(tmp_path / "a b's", "name", Options(extra={"constraint": "a|b"}), 1, anywhere=True)
    text = good._make_submission_file_text(good._submitit_command_str, "")
    assert "#SBATCH --constraint='a|b'" in text
    for folder, extra in ((tmp_path / HOSTILE[0], {}), (tmp_path, {"comment": "x\n#SBATCH --uid=0"})):
        executor = build_executor(folder, "name", Options(extra=dict(extra)), 1, anywhere=True)
        with pytest.raises(ConfigError, match="control character"):
            executor._make_submission_file_text(executor._submitit_command_str, "")
    for more in ("\ntouch x", "\n#SBATCH --time=1"):
        with pytest.raises(ConfigError, match="none of ours"):
            check_script(text + more, good._submitit_command_str, {})
