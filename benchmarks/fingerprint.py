"""Fingerprint of what a user gets, to compare two versions of the code: images, decisions, plans, a results table.

    python benchmarks/fingerprint.py take FILE.json [REPO]           # REPO: a checkout, by default the current folder
    python benchmarks/fingerprint.py compare OLD.json NEW.json       # exit status 1 when they differ

Only the command line is used, so the versions may be laid out differently inside. On the CPU, with one thread, a
repetition gives the same. FILE.json holds

- `plans`: what `dry_run=true` prints for every option of every group, and what some wrong commands print;
- `jobs`: status, computed steps, hashes of pixels and trace, or `refused`: `models` (each with random weights and each
  of CACHES), `caches` (the demo models with every option of the cache groups, at their own number of steps), `others`
  (every graph, sampler, adapter, memory, prompts and measure option), `sweep` (three thresholds);
- `report`: the files of that sweep, and its results.csv without what depends on time, machine or commit.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ONE = ["prompt='a red circle above a blue square'", "measure=none"]
CACHES = {
    "none": [],
    "fbcache": ["cache=fbcache", "cache.residual_diff_threshold=1.1", "cache.max_consecutive_cache_hits=2"],
    "taylorseer": ["cache=taylorseer", "cache.interval=2", "cache.warmup_steps=1"],
    "deepcache": ["cache=deepcache", "cache.interval=2"],
}
"""For 4 steps of random weights, which change more from step to step than trained ones."""
OTHERS = ("graph", "sampler", "adapters", "memory", "prompts", "measure")
EXTRA = ("stepz=3", "cache=fbcach", "steps=many", "model=sdxl cache=teacache", "--cfg=job")
"""Wrong commands, and the whole config."""
VOLATILE = re.compile("seconds|speedup|same_run|_with|front|beaten|device|torch|diffusers|commit|fingerprint")
"""Columns of results.csv that are left out."""
REPEATEDLY = """
import contextlib, io, json, runpy, sys
for line in sys.stdin:
    said, status = io.StringIO(), 0
    sys.argv = ["wavespeed_runner", *json.loads(line)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_module("wavespeed_runner", run_name="__main__")
        except SystemExit as stop:
            status = stop.code
    print(json.dumps({"exit": status, "text": said.getvalue().splitlines()}))
"""
"""Many commands in one process, which imports once: half the time of a process each."""


def python(repo: Path, folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Runs Python on a checkout's code in a folder, offline and with one thread."""
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, input=given, capture_output=True, text=True)


def take(repo: Path) -> dict[str, Any]:
    """The fingerprint of a checkout."""
    shipped = runpy.run_path(str(repo / ".ci" / "dry_runs.py"))
    chosen = {f"{group}={option}": shipped["command"](group, option)[1:-1] for group, option in shipped["options"]()}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        (folder / "two.txt").write_text("a red circle above a blue square\na green triangle\n")
        (demo,) = (path.parent for path in (repo / "wavespeed_runner").rglob("demo_unet/model_index.json"))
        jobs = jobs_of(chosen, {"model=generic": demo, "model=generic_video": animated(demo, folder / "animated")})
        made = {name: run_all(repo, folder, name, some) for name, some in jobs.items()}
        swept = {threshold: [f"cache.residual_diff_threshold={threshold}"] for threshold in ("0.05", "0.1", "0.3")}
        made["sweep"] = run_all(repo, folder, "sweep", swept, "cache=fbcache", "prompts=file", "prompts.path=two.txt")
        return {"plans": plans(repo, folder, chosen), "jobs": made, "report": report(repo, folder)}


def plans(repo: Path, folder: Path, chosen: dict[str, list[str]]) -> dict[str, Any]:
    """Exit status and output of each dry run and of the extra commands."""
    commands = {**chosen, **{extra: extra.split() for extra in EXTRA}}
    lines = [json.dumps([*told, "device=cpu", "dry_run=true", "outputs=empty"]) for told in commands.values()]
    printed = python(repo, folder, "-c", REPEATEDLY, given="\n".join(lines)).stdout.replace(str(folder), "FOLDER")
    printed = re.sub(r"fingerprint \w+|(?<= on cpu): [^\"]*", "", printed)
    return dict(zip(commands, map(json.loads, printed.splitlines()), strict=True))


def jobs_of(chosen: dict[str, list[str]], repos: dict[str, Path]) -> dict[str, dict[str, list[str]]]:
    """The jobs that the module's docstring names, as overrides; repos: of models that have no random weights."""
    weights = {name: [f"model.repo={path}", "width=64", "height=64"] for name, path in repos.items()}
    weights["model=generic_video"] += ["num_frames=5"]
    jobs: dict[str, dict[str, list[str]]] = {"models": {}, "caches": {}, "others": {}}
    for name, overrides in chosen.items():
        if name.startswith("model="):
            small = [*ONE, "steps=4", name, *weights.get(name, ["model.init=tiny"])]
            jobs["models"] |= {f"{name} {cache}": [*small, *keys] for cache, keys in CACHES.items()}
        elif name.startswith("cache"):
            jobs["caches"] |= {f"{demo} {name}": [*ONE, *overrides, f"model={demo}"] for demo in ("demo", "demo_unet")}
        elif name.startswith(OTHERS) and name != "prompts=file":  # its path may not stand in a point; in the sweep
            tiny = any(one.startswith("model=") and "demo" not in one for one in overrides)
            last = ["prompt=null"] * name.startswith("prompts") + ["model.init=tiny"] * tiny
            jobs["others"][name] = [*ONE, "steps=4", *overrides, *last]
    return jobs


def animated(demo: Path, folder: Path) -> Path:
    """A small video pipeline: the demo U-Net with random motion modules, saved by diffusers alone."""
    import torch
    from diffusers import AnimateDiffPipeline, MotionAdapter

    unet = json.loads((demo / "unet" / "config.json").read_text())
    torch.manual_seed(0)
    sizes = {"block_out_channels": unet["block_out_channels"], "motion_layers_per_block": unet["layers_per_block"]}
    adapter = MotionAdapter(**sizes, motion_num_attention_heads=4, motion_norm_num_groups=unet["norm_num_groups"])
    AnimateDiffPipeline.from_pretrained(demo, motion_adapter=adapter).save_pretrained(folder)
    return folder


def run_all(repo: Path, folder: Path, name: str, jobs: dict[str, list[str]], *common: str) -> dict[str, Any]:
    """What each job leaves; one command runs them all, so that a model is loaded once. The last of a key counts."""
    unique = [{one.partition("=")[0]: one.partition("=")[2] for one in job} for job in jobs.values()]
    points = ",".join("{" + ",".join(f"{key}:{value}" for key, value in job.items()) + "}" for job in unique)
    told = ("-m", f"points=[{points}]", f"hydra.sweep.dir={name}", f"outputs=out_{name}", "device=cpu", *common)
    done = python(repo, folder, "-m", "wavespeed_runner", *told)
    print(f"{name}: {len(jobs)} jobs, exit status {done.returncode}\n{done.stdout[-1000:] or done.stderr}", flush=True)
    return {"exit": done.returncode, **{job: left_by(folder / name / str(n)) for n, job in enumerate(jobs)}}


def left_by(folder: Path) -> Any:
    """Status, pixels and decisions of one job, from the files it left."""
    if not (folder / "record.json").exists():
        return "refused"
    record = json.loads((folder / "record.json").read_text())
    steps = [[step["index"] for step in sample["steps"] if step["computed"]] for sample in record["samples"]]
    files = sorted(path for kind in ("png", "mp4", "csv") for path in folder.rglob(f"*.{kind}"))
    hashes = {path.relative_to(folder).as_posix(): hash_of(path) for path in files}
    return {"status": record["status"], "computed": steps, **hashes}


def hash_of(path: Path) -> str:
    """Of an image's pixels; of a video's frames, by its tag, since the encoder varies; of a trace but its times."""
    if path.suffix == ".mp4":
        import av

        with av.open(str(path)) as container:
            return f"{container.streams.video[0].frames} frames {container.metadata['pixels_sha256']}"
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = [[value for key, value in row.items() if key != "seconds"] for row in csv.DictReader(file)]
        return f"{len(rows)} rows {hashlib.sha256(json.dumps(rows).encode()).hexdigest()}"
    from PIL import Image

    with Image.open(path) as image:
        return f"{image.height}x{image.width} {hashlib.sha256(image.convert('RGB').tobytes()).hexdigest()}"


def report(repo: Path, folder: Path) -> dict[str, Any]:
    """The report of the sweep, by either of the command's two forms, and the files that are then there."""
    forms = ("wavespeed_runner report sweep", "wavespeed_runner.report sweep")
    status = min(python(repo, folder, "-m", *form.split()).returncode for form in forms)
    table = (folder / "sweep" / "results.csv").read_text() if status == 0 else ""
    rows = [{key: row[key] for key in row if not VOLATILE.search(key)} for row in csv.DictReader(table.splitlines())]
    files = {path.relative_to(folder).as_posix(): True for path in sorted(folder.glob("sweep/**/*"))}
    return {"exit": status, "results.csv": {row["job"]: row for row in rows}, "files": files}


def compare(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Prints every difference and returns how many; of printed texts each change of words with how many have it."""
    values, found = [leaves(one) for one in (old, new)], Counter[str]()
    for path in dict.fromkeys([*values[0], *values[1]]):
        before, after = (one.get(path, "(absent)") for one in values)
        if path.endswith(" / text") and "(absent)" not in (before, after):
            a, b = (" \n ".join(text).split(" ") for text in (before, after))
            for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
                found.update([f"{' '.join(a[i:j])!r} -> {' '.join(b[k:m])!r}"] if kind != "equal" else [])
        elif before != after:
            found[f"{path}: {before} -> {after}"] += 1
    print(*(f"{count}x {change}" for change, count in found.most_common()), f"{len(found)} differences", sep="\n")
    return len(found)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Path -> value of everything in nested mappings."""
    if not isinstance(value, dict):
        return {path: value}
    return {name: one for key in value for name, one in leaves(value[key], f"{path} / {key}").items()}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["take", file, *repo] if len(repo) <= 1:
            Path(file).write_text(json.dumps(take(Path(*repo).resolve()), indent=1) + "\n")
        case ["compare", old, new]:
            sys.exit(1 if compare(*(json.loads(Path(file).read_text()) for file in (old, new))) else 0)
        case ["--help" | "-h"]:
            print(__doc__)
        case _:
            sys.exit(__doc__)
