"""A sweep over 18 thresholds of First Block Cache, against 18 runs of a plain diffusers script with the same settings.

    OMP_NUM_THREADS=1 python -m benchmarks.sweep [--prompts 4] [--rounds 3]

The script is what one writes without the runner: a process a setting, which loads the model, makes every image
without the cache and with it, saves both, and computes SSIM and MAE. It makes no warm-up; the sweep makes one for each
setting, as usual. The two take turns; each sweep begins with an empty store.

Goals: the sweep at least 5 times as fast; and its wall time at most 1.05 times the denoising in it. The first holds for
few prompts, of which the script's starting weighs more: both make the images with the cache, so with many prompts
the ratio tends to (reference + cached) / cached. The second is missed here, where an image takes a fifth of a second:
imports, loading, decoding, comparing and saving come on top of that. `cpu` are the seconds of processor that the
processes used: on a busy machine the steadier figure.
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
from time import perf_counter
from typing import Any

RESULTS = Path(__file__).parent / "results"
THRESHOLDS = "0,.01,.02,.04,.06,.08,.1,.12,.14,.16,.18,.2,.3,.4,.5,.6,.8,1.0"
"""Those of the published study."""

PLAIN = """
import json, sys
from time import perf_counter
import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.hooks import FirstBlockCacheConfig
from skimage.metrics import structural_similarity

weights, threshold, prompts, folder = sys.argv[1:]
pipe = FluxPipeline.from_pretrained(weights, use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
prompts = [line for line in open(prompts).read().split("\\n") if line]
def images(name):
    made = []
    for index, prompt in enumerate(prompts):
        image = pipe(prompt, width=64, height=64, num_inference_steps=28, max_sequence_length=20,
                     generator=torch.Generator().manual_seed(0)).images[0]
        image.save(f"{folder}/{name}-{threshold}-{index}.png")
        made.append(np.asarray(image, dtype=np.float64))
    return made
began = perf_counter()
pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=float(threshold)))
cached = images("cached")
pipe.transformer.disable_cache()
references = images("reference")
seconds = perf_counter() - began
ssim = [structural_similarity(a, b, win_size=7, channel_axis=2, data_range=255) for a, b in zip(cached, references)]
mae = [float(np.abs(a - b).mean()) for a, b in zip(cached, references)]
print(json.dumps({"seconds": seconds, "ssim": float(np.mean(ssim)), "mae": float(np.mean(mae))}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="at most 16")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from wavespeed_runner.config.environment import describe_environment

    rounds = [one_round(args.prompts, number) for number in range(args.rounds)]
    figures = {
        "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python -m benchmarks.sweep "
        f"--prompts {args.prompts} --rounds {args.rounds}",
        "environment": describe_environment("cpu"),
        "prompts": args.prompts,
        "load_average": os.getloadavg(),
        "rounds": rounds,
        "ratio": spread([r["plain"]["wall"] / r["sweep"]["wall"] for r in rounds]),
        "ratio_cpu": spread([r["plain"]["cpu"] / r["sweep"]["cpu"] for r in rounds]),
        "over_denoising": spread([r["sweep"]["wall"] / r["sweep"]["denoising"] for r in rounds]),
        "over_denoising_without_start": spread(
            [(r["sweep"]["wall"] - r["sweep"]["start"]) / r["sweep"]["denoising"] for r in rounds]
        ),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"sweep_{args.prompts}_prompts.json").write_text(json.dumps(figures, indent=1) + "\n")
    for name in ("ratio", "ratio_cpu", "over_denoising", "over_denoising_without_start"):
        found = figures[name]
        print(f"{name:30} {found['median']:.2f}  ({found['min']:.2f} to {found['max']:.2f})")


def one_round(prompts: int, number: int) -> dict[str, Any]:
    """Both, in an order that alternates."""
    with tempfile.TemporaryDirectory() as home:
        given = Path(home) / "prompts.txt"
        lines = (Path(__file__).parents[1] / "wavespeed_runner" / "prompts" / "study.txt").read_text().splitlines()
        given.write_text("\n".join([line for line in lines if line.strip()][:prompts]) + "\n")
        both = {"plain": plain, "sweep": sweep}
        names = ["plain", "sweep"] if number % 2 == 0 else ["sweep", "plain"]
        found = {name: both[name](Path(home), given) for name in names}
    apart = max(abs(a - b) for a, b in zip(found["plain"]["ssim"], found["sweep"]["ssim"], strict=True))
    print(f"round {number + 1}: plain {found['plain']['wall']:.0f} s, sweep {found['sweep']['wall']:.0f} s; "
          f"SSIM of a setting differs by at most {apart:.4f}", flush=True)  # fmt: skip
    return {**found, "ssim_apart": apart}


def plain(home: Path, prompts: Path) -> dict[str, Any]:
    from wavespeed_runner.inputs.files import resolve_path

    weights = str(resolve_path("pkg://wavespeed_runner/weights/demo"))
    said, began = [], usage()
    for threshold in THRESHOLDS.split(","):
        done = run([sys.executable, "-c", PLAIN, weights, threshold, str(prompts), str(home)])
        said.append(json.loads(done.splitlines()[-1]))
    return {
        **since(began),
        "pictures": sum(one["seconds"] for one in said),
        "ssim": [one["ssim"] for one in said],
        "mae": [one["mae"] for one in said],
    }


def sweep(home: Path, prompts: Path) -> dict[str, Any]:
    began = usage()
    command = [sys.executable, "-m", "wavespeed_runner", "-m", "cache=fbcache", "prompts=file"]
    given = [f"cache.residual_diff_threshold={THRESHOLDS}", f"prompts.path={prompts}", f"outputs={home / 'outputs'}"]
    run([*command, *given])
    took = since(began)
    files = sorted(home.glob("outputs/sweeps/*/*/*/record.json"), key=lambda path: int(path.parent.name))
    records = [json.loads(path.read_text()) for path in files]
    stages = [stage for record in records for stage in record["stages"] if stage["source"] == "computed"]
    by_stage = {
        name: sum(stage["seconds"] for stage in stages if stage["name"] == name)
        for name in ("load", "encode", "denoise", "decode")
    }
    # Reference and candidate alike; the warm-ups are denoising that was asked for, and are told apart.
    timed = sum(sum(sample["raw_seconds"]) for record in records for sample in record["samples"])
    timed += sum(
        sum(sample["reference_raw_seconds"])
        for record in records
        for sample in record["samples"]
        if sample["reference_source"] == "computed"
    )
    return {
        **took,
        "denoising": by_stage["denoise"],
        "denoising_timed": timed,
        # Until the first job has its folder, and after the last one's record.
        "start": took["wall"] - (files[-1].stat().st_mtime - (files[0].parent / "config.yaml").stat().st_mtime),
        "stages": by_stage,
        "ssim": [record["quality"]["ssim"]["mean"] for record in records],
        "mae": [record["quality"]["mae"]["mean"] for record in records],
    }


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def usage() -> tuple[float, float]:
    """Wall seconds, and processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return perf_counter(), used.ru_utime + used.ru_stime


def since(before: tuple[float, float]) -> dict[str, float]:
    now = usage()
    return {"wall": now[0] - before[0], "cpu": now[1] - before[1]}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
