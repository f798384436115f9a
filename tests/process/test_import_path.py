"""Code in the folder where a command runs is never imported: not by the command, nor by processes that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavespeed_runner.process.import_path import HOME, build_python_command
from wavespeed_runner.sweeps.launchers.slurm.submit import find_python
from wavespeed_runner.sweeps.worker import WORKER

REPO = Path(__file__).parents[2]
TINY = ("model.init=tiny", "device=cpu", "width=32", "height=32", "steps=2", "measure=none", "prompt='a red circle'")
NAMES = (
    "__future__", "evil", "yaml", "hydra", "omegaconf", "torch", "torchvision", "sentencepiece", "msgspec", "submitit",
    "numpy", "json", "logging", "dataclasses", "multiprocessing", "cloudpickle", "sitecustomize_later", "ftfy",
)  # fmt: skip
CONSOLE = "import sys; sys.path[:0] = [{bin!r}]; from wavespeed_runner.cli.main import console; console()"
"""As the script that is installed: what lies first is the script's own folder."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where each module, once imported, writes its name beside the folder, which is a plugin of ours as well."""
    home = tmp_path / "here"
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n')\n"
    plugin = home / "hydra_plugins" / "package"
    plugin.mkdir(parents=True)
    for file in (plugin / "__init__.py", home / "hydra_plugins" / "module.py", *(home / f"{n}.py" for n in NAMES)):
        file.write_text(code)
    package = home / "sent"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "prompts.txt").write_text("a blue square\n")
    about = home / "evil-1.dist-info"
    about.mkdir()
    os.mkfifo(home / "matplotlibrc")  # opening it would wait for ever
    (about / "METADATA").write_text("Name: evil\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[wavespeed_runner.plugins]\nevil = evil\n[torch.backends]\nevil = evil:run\n"
    )
    return home


def call(folder: Path, command: list[str], **environment: str) -> tuple[int, str]:
    """Status and output of a command in the folder, none of whose modules may have been imported."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**known, "PYTHONPATH": str(REPO), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    ran = folder.parent / "ran"
    assert not ran.exists(), ran.read_text()
    return done.returncode, done.stdout + done.stderr


def run(folder: Path, *arguments: str) -> str:
    status, said = call(folder, [sys.executable, "-m", "wavespeed_runner", *arguments])
    assert status == 0, said
    return said


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("dry_run=true",), ("estimate", "--help")])
def test_quick_commands(folder: Path, arguments: tuple[str, ...]) -> None:
    run(folder, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "hydra/launcher=isolated", "seed=1,2"),
        ("parallel=data", "parallel.degree=2", "num_images_per_prompt=2"),
    ],
    ids=["run", "isolated", "ranks"],
)
def test_runs_and_what_they_start(folder: Path, arguments: tuple[str, ...]) -> None:
    run(folder, *TINY, *arguments)


@pytest.mark.slow
def test_matplotlib_reads_no_settings_beside_the_command(folder: Path) -> None:
    run(folder, *TINY[:-2], TINY[-1], "cache=fbcache", "steps=4")
    assert list(folder.glob("outputs/runs/*/*/trace.png"))
    run(folder, "report", "outputs/runs")


def test_settings_of_matplotlib_that_are_named_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "matplotlibrc").write_text("savefig.dpi: 77\n")
    code = (
        "from wavespeed_runner.media.plotting import new_figure; new_figure()\n"
        "import matplotlib; print(matplotlib.rcParams['savefig.dpi'], matplotlib.get_configdir())"
    )
    known = {**os.environ, "PYTHONPATH": str(REPO), "MATPLOTLIBRC": "mine/matplotlibrc", "MPLCONFIGDIR": "config"}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=known, capture_output=True, text=True)
    assert done.stdout.split() == ["77.0", str(tmp_path / "config")], done.stderr


@pytest.mark.slow
def test_jobs_of_the_installed_script(folder: Path) -> None:
    script = [sys.executable, "-P", "-c", CONSOLE.format(bin=str(folder.parent))]
    status, said = call(folder, [*script, *TINY, "-m", "hydra/launcher=isolated"])
    assert status == 0, said


def test_a_folder_beside_which_the_command_runs_is_no_installed_package(folder: Path) -> None:
    arguments = ["prompts=file", "prompts.path=pkg://sent/prompts.txt", "dry_run=true"]
    status, said = call(folder, [sys.executable, "-m", "wavespeed_runner", *arguments])
    assert status == 2 and "package 'sent' is not installed" in said


def test_what_pythonpath_names_stays(folder: Path) -> None:
    for name in (*NAMES, "hydra_plugins/module"):
        (folder / f"{name}.py").unlink()
    (folder / "hydra_plugins" / "package" / "__init__.py").unlink()
    (folder / "evil-1.dist-info" / "entry_points.txt").unlink()
    (folder / "sent" / "__init__.py").write_text("")
    paths = os.pathsep.join([str(folder), str(REPO)])
    arguments = ["prompts=file", "prompts.path=pkg://sent/prompts.txt", "dry_run=true"]
    status, said = call(folder, [sys.executable, "-m", "wavespeed_runner", *arguments], PYTHONPATH=paths)
    assert status == 0, said


def test_a_checkout_that_is_not_installed_runs_in_its_own_folder() -> None:
    known = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    probe = (
        "import runpy, sys, wavespeed_runner\n"
        "from wavespeed_runner.process.import_path import leave_current_folder\n"
        "leave_current_folder()\n"
        "from wavespeed_runner.process.import_path import build_python_command\n"
        f"import json; print(json.dumps([sys.path, build_python_command({WORKER!r}, '/none', '0')]))\n"
    )
    found = subprocess.run([sys.executable, "-c", probe], cwd=REPO, env=known, capture_output=True, text=True)
    path, command = json.loads(found.stdout)
    # An editable installation has the checkout in its own place, behind the standard library.
    assert path[0] not in ("", str(REPO)) and "" not in path
    done = subprocess.run(command, cwd="/", env=known, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: /none: no sweep with a job 0"), done.stderr


def test_another_version_that_is_installed_is_not_imported(tmp_path: Path) -> None:
    other = tmp_path / "wavespeed_runner"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('the other one')")
    code = (
        f"import sys; sys.path[:0] = [{HOME!r}]; from wavespeed_runner.process.import_path "
        "import build_python_command\n"
        f"import json; sys.path[:] = [{str(tmp_path)!r}, *sys.path[1:]]\n"
        f"print(json.dumps(build_python_command({WORKER!r}, '/none', '0')))"
    )
    known = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    found = subprocess.run([sys.executable, "-P", "-c", code], env=known, capture_output=True, text=True)
    done = subprocess.run(json.loads(found.stdout), cwd="/", env=known, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: /none: no sweep with a job 0"), done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("dry_run=true",)])
def test_a_folder_that_was_removed_is_no_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "wavespeed_runner", *arguments]
    known = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(command, cwd=gone, env=known, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and (done.returncode == 0 or done.stderr.startswith("error: ")), done.stderr


def test_a_process_of_ours_finds_our_modules_and_imports_nothing_beside_it(folder: Path) -> None:
    status, said = call(folder, build_python_command(WORKER, "/none", "0"), PYTHONPATH="")
    assert status == 2 and said.startswith("error: /none: no sweep with a job 0")


@pytest.mark.parametrize("module", [WORKER, "wavespeed_runner.execution.ranks.worker"])
def test_a_worker_that_is_started_by_hand_imports_nothing_beside_it(folder: Path, module: str) -> None:
    """Python itself imports `__future__` before, as it does `warnings`; so `-P` is how they are started."""
    (folder / "__future__.py").unlink()
    status, said = call(folder, [sys.executable, "-m", module, "/none", "0"])
    assert status == 2 or (status and "Error" in said), said


def test_a_python_that_a_library_starts_imports_nothing_beside_it(folder: Path) -> None:
    code = (
        "import subprocess, sys\nfrom wavespeed_runner.process.exit_status import exit_with\n"
        "exit_with(lambda _: subprocess.run([sys.executable, '-c', 'import json, yaml']).returncode)"
    )
    assert call(folder, [sys.executable, "-P", "-c", code]) == (0, "")


def test_a_task_on_slurm_starts_the_same_way(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, HOME])
    assert find_python() == f"{sys.executable} -P"
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != HOME])
    monkeypatch.setenv("PYTHONPATH", "/a b")
    assert find_python() == f"env PYTHONPATH='{HOME}:/a b' {sys.executable} -P"
    command = f"{find_python()} -u -c 'import json, wavespeed_runner; print(wavespeed_runner.__file__)'"
    status, said = call(folder, ["sh", "-c", command], PYTHONPATH="")
    assert status == 0 and said.startswith(HOME), said


def test_the_script_of_a_task_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from submitit import SlurmExecutor

    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    executor = SlurmExecutor(tmp_path, python=find_python())
    assert f"{sys.executable} -P -u -m submitit" in executor._submitit_command_str
