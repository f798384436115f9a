"""A sweep that is killed at any moment, again and again, ends as one that nobody disturbed.

python -m pytest tests/sweeps/test_kills.py -s      prints the seed and each kill; KILLS_SEED=N repeats one
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.children import CONTEXT
from wavespeed_runner.media.images import hash_image, read_png
from wavespeed_runner.storage.store import STALE_S, Store

KILLS = 12
LONG = 120
"""Seconds; far more than any of this takes."""
THRESHOLDS = ("0.05", "0.9")
WRITES = ("replace", "fsync", "unlink")
"""Before which of the system's calls a process kills itself, when it is to die while it writes."""
FEW = 2
"""Files that a sweep removes which goes on where another was killed; one that nobody disturbed removes hardly any."""


def sweep(outputs: Path) -> list[str]:
    """Two jobs of two images, each with its reference."""
    prompts = outputs.parent / "prompts.txt"
    prompts.write_text("a red circle\na blue square\n")
    return [
        "-m", "model.init=tiny", "device=cpu", "width=32", "height=32", "steps=4", "cache=fbcache",
        f"cache.residual_diff_threshold={','.join(THRESHOLDS)}", "prompts=file", f"prompts.path={prompts}",
        f"outputs={outputs}",
    ]  # fmt: skip


def command(said: Path, arguments: list[str], call: str, number: int) -> None:
    """Runs in a process of its own: the command, which kills itself before the `number`th `os.CALL`.

    The last line of what it says tells how often it called each of `WRITES`.
    """
    from wavespeed_runner.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = dict.fromkeys(WRITES, 0)

    def counted(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **options: Any) -> Any:
            if (name, made[name]) == (call, number):
                os.kill(os.getpid(), signal.SIGKILL)
            made[name] += 1
            return usual(*args, **options)

        return function

    for name in WRITES:
        setattr(os, name, counted(name, getattr(os, name)))
    with open(said, "w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        status = main(arguments)
        print(json.dumps(made))
        sys.exit(status)


def run(outputs: Path, *, seconds: float | None = None, call: str = "", number: int = 0) -> int | None:
    """The sweep's command, killed after some seconds or before a call; its exit status."""
    said = outputs.with_name(f"{outputs.name}.txt")
    process = CONTEXT.Process(target=command, args=(said, sweep(outputs), call, number))
    process.start()
    process.join(LONG if seconds is None else seconds)
    if seconds is not None:
        process.kill()
        process.join(LONG)
    assert process.exitcode in (0, -signal.SIGKILL), said.read_text()
    return process.exitcode


def check_files(outputs: Path) -> None:
    """Whatever has its final name is whole."""
    for path in outputs.glob("sweeps/**/*"):
        if path.is_dir() or path.name.startswith(".") or ".hydra" in path.parts:
            continue
        if path.suffix == ".png":
            read_png(path)
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())
    assert Store(outputs / "store").verify() == 0


def check_complete(outputs: Path) -> dict[str, list[str]]:
    """Exactly the wanted jobs, done, with every file that their records tell of and no other; identity -> pixels."""
    check_files(outputs)
    (folder,) = outputs.glob("sweeps/*/*")
    about = json.loads((folder / "sweep.json").read_text())
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"0", "1"}
    pixels = {}
    for job in about["jobs"]:
        place = folder / str(job["number"])
        record = json.loads((place / "record.json").read_text())
        assert record["status"] == "completed" and record["identity"] == job["identity"]
        assert not (place / "lost.json").exists()
        files = [sample["file"] for sample in record["samples"]]
        assert {str(p.relative_to(place)) for p in place.glob("images/*")} == set(files) and len(files) == 2
        for of in ("reference", "difference"):
            assert {p.name for p in place.glob(f"{of}/*")} == {Path(file).name for file in files}
        for sample in record["samples"]:
            assert hash_image(read_png(place / sample["file"])[0]) == sample["pixels_sha256"]
        for name in ("config", "hydra", "overrides"):
            assert yaml.safe_load((place / ".hydra" / f"{name}.yaml").read_text())
        pixels[job["identity"]] = [sample["pixels_sha256"] for sample in record["samples"]]
    temporary = [path for path in folder.rglob(".*") if path.name not in (".lock", ".hydra")]
    assert not temporary, "parts of files that a killed process left"
    return pixels


def check_store_is_swept(outputs: Path) -> None:
    """What killed writers left in the store goes with the next pruning, once it is old."""
    for path in outputs.glob("store/??/.*.tmp"):
        os.utime(path, (0, time.time() - STALE_S - 10))
    Store(outputs / "store").prune()
    assert not list(outputs.glob("store/??/.*"))


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILLS_SEED", random.randrange(10**6)))
    dice = random.Random(seed)
    print(f"\nKILLS_SEED={seed}")
    warm_up = CONTEXT.Process(target=os.getpid)  # waits for what the others are forked from
    warm_up.start()
    warm_up.join(LONG)
    began = time.monotonic()
    assert run(tmp_path / "undisturbed") == 0
    whole = time.monotonic() - began
    calls: dict[str, int] = json.loads((tmp_path / "undisturbed.txt").read_text().splitlines()[-1])
    calls["unlink"] = max(calls["unlink"], FEW)
    assert all(calls.values()), calls
    wanted = check_complete(tmp_path / "undisturbed")
    assert len(wanted) == len(THRESHOLDS)
    kills = rounds = completed = 0
    while kills < KILLS:
        rounds += 1
        outputs, status = tmp_path / f"round{rounds}", None
        for attempt in range(6):  # then it may end
            if kills == KILLS:
                break
            if dice.random() < 0.5:
                how: dict[str, Any] = {"seconds": round(dice.uniform(0, whole), 3)}
            else:
                (call,) = dice.choices(WRITES, (2, 2, 1 if attempt else 0))
                how = {"call": call, "number": dice.randrange(calls[call])}
            status = run(outputs, **how)
            check_files(outputs)
            done = sum("completed" in p.read_text() for p in outputs.glob("sweeps/*/*/*/record.json"))
            completed += status == 0
            kills += status != 0
            print(f"round {rounds}, kill {kills:2}: {how}: {'ended by itself' if status == 0 else f'{done} jobs done'}")
            if status == 0:
                break
        if status != 0:
            assert run(outputs) == 0, outputs.with_name(f"{outputs.name}.txt").read_text()
        assert check_complete(outputs) == wanted
        check_store_is_swept(outputs)
    print(f"{kills} kills in {rounds} sweeps, {completed} of which ended before; {time.monotonic() - began:.0f} s")
