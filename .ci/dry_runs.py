"""Runs every shipped option of every config group, and every experiment, with `dry_run=true`.

Prints each command. The exit status is 1 if one of them fails, or is not refused where it must be. Options that need
others get them here.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

REPO = Path(__file__).resolve().parents[1]
CONF = REPO / "conf"

OF_DIFFUSION = ("dpm2", "dpm2_karras", "dpm2_ancestral", "dpm2_ancestral_karras", "lms", "lms_karras")
OF_DIFFUSION += ("ddim", "ddpm", "pndm", "tcd")
"""Samplers that do not fit the default model, which is a flow model."""

OF_UNETS = ("deepcache", "balanced", "max_speed", "max_quality", "partial")
SWEEPS = ("rdt_sweep", "rdt_sweep_window", "deepcache_presets", "samplers_x_cache", "flux_ladder", "flux_ladder_int8")
ON_CUDA = ["device=cuda", "model.dtype=bfloat16"]
"""What runs on another device is planned for it."""
REFUSED = ("attention=aiter_hub", "attention=npu", "attention=xla")
"""What diffusers has for devices that nothing else here runs on: said to be so, with exit status 2."""
COMPANIONS: dict[str, list[str]] = {
    **{f"sampler={name}": ["model=sd15"] for name in OF_DIFFUSION},
    "sampler=cogvideox_dpm": ["model=cogvideox"],
    "sampler=fitted": ["steps=6"],
    "graph=text_to_video": ["model=wan21"],
    "graph=image_to_video": ["model=wan21_i2v_480p"],
    "graph=image_to_video_seen": ["model=hunyuan_video_i2v"],
    "cache/signal": ["cache=custom"],
    "cache/criterion": ["cache=custom"],
    "cache/predictor": ["cache=custom"],
    "cache/signal=none": ["cache=custom", "cache/criterion=interval"],
    "cache/criterion=predicted_change": ["cache=custom", "cache/signal=model_change"],
    "cache/criterion=accumulated_polynomial": ["cache=custom", "cache/signal=modulated_input"],
    "cache/predictor=step_weights": ["cache=fitted"],
    "cache/criterion=steps": ["cache=custom", "cache.criterion.computed=[1,2,4]"],
    **{f"cache={name}": ["model=demo_unet"] for name in OF_UNETS},
    "adapters=lora": ["adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"],
    "adapters=textual_inversion": [
        "model=demo_unet",
        "adapters.path=pkg://wavespeed_runner/weights/demo_embedding/sunset.safetensors",
        "prompt='a <sunset>'",
    ],
    "adapters=qwen_lightning": ["model=qwen_image"],
    "adapters=sd15_lcm": ["model=sd15"],
    **{f"adapters=sdxl_{name}": ["model=sdxl"] for name in ("hyper", "lcm", "lightning")},
    "adapters=wan22_lightning": ["model=wan22"],
    "cache=lemica": ["steps=50"],
    "cache=whole_reuse": ["model=demo_unet"],
    "graph=image_to_image_seen": ["model=qwen_image_edit", "model.init=tiny"],
    "memory=vae_tiling": ["model=flux"],
    # Without torchvision, which their weights alone need.
    **{f"model=qwen_image_edit{version}": ["model.init=tiny"] for version in ("", "_2509", "_2511")},
    "model=generic": ["model.repo=pkg://wavespeed_runner/weights/demo_unet"],
    "model=generic_video": ["model.repo=a/b"],
    **{f"experiment={name}": ["-m"] for name in SWEEPS},
    "hydra/launcher": ["-m"],
    "accelerate=channels_last": ["model=demo_unet"],
    "accelerate=fp16_accumulation": ["device=cuda", "model.dtype=float16"],
    "accelerate=tf32": ["device=cuda"],
    "accelerate=tiny_vae": ["model=flux"],
    "attention": ON_CUDA,
    "attention=flex": ["compile=regional"],
    "compile=max_autotune": ON_CUDA,
    "compile=reduce_overhead": ON_CUDA,
    "parallel=cfg": ["model=wan21", "model.init=tiny"],
    "quant=custom": ["quant.layers=[{pattern:'.*blocks.*',scheme:int8_wo}]"],
    "quant=fp8_dq": ON_CUDA,
    "quant=fp8_dq_row": ON_CUDA,
    "quant=int4_wo": ON_CUDA,
    "prompts=listed": ["prompts.texts=['a red circle','a blue square']"],
    "prompts=file": ["prompts.path=pkg://wavespeed_runner/prompts/demo.txt"],
    "metrics=temporal": ["model=ltx_video"],
}
"""`group` or `group=option` -> further overrides."""
WITHOUT_FILE = {
    "metrics=lpips": "metrics.lpips.weights",
    "metrics=dists": "metrics.dists.weights",
    "metrics=clip_score": "metrics.clip_score.folder",
    "metrics=pick_score": "metrics.pick_score.folder",
}
"""Options that need a file which nobody ships -> the key that they ask for."""


def options() -> list[tuple[str, str]]:
    """(group, option) of every YAML file below `conf/` that is in a group."""
    paths = sorted(
        path.relative_to(CONF).with_suffix("") for path in CONF.rglob("*.yaml") if path.parent.name != "tune"
    )
    return [
        (path.parent.as_posix(), path.name)
        for path in paths
        if path.parent != Path() and path.parts[0] != "local" and not path.name.startswith("_")
    ]


def has_default(group: str) -> bool:
    """Whether the main config names the group in its defaults; one that it does not name is added with `+`."""
    if "/" in group:
        return True
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    named = [key for entry in defaults if isinstance(entry, dict) for key in entry]
    return any(key.removeprefix("optional ").removeprefix("override ").lstrip("/") == group for key in named)


def command(group: str, option: str) -> list[str]:
    chosen = f"{group}={option}"
    companions = COMPANIONS.get(chosen, COMPANIONS.get(group, []))
    return ["wavespeed_runner", *companions, chosen if has_default(group) else f"+{chosen}", "dry_run=true"]


def dry_run(arguments: list[str], folder: str) -> tuple[str, str]:
    """The command as one would type it, and what went wrong; empty if nothing did."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    refused = next((f"error: {option} runs on" for option in REFUSED if option in arguments), "")
    refused = refused or next(
        (f"error: {key}=null: " for option, key in WITHOUT_FILE.items() if option in arguments), ""
    )
    expected = done.returncode == 2 and refused in done.stderr if refused else done.returncode == 0
    problem = "" if expected else f"exit {done.returncode}: {done.stderr.strip()}"
    if left := os.listdir(folder):
        problem += f" left behind: {left}"
    return shlex.join(["python", "-m", *arguments]), problem


def main() -> int:
    commands = [command(group, option) for group, option in options()]
    failed = 0
    with TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        for typed, problem in pool.map(lambda arguments: dry_run(arguments, folder), commands):
            print(f"{'FAIL' if problem else 'ok  '} {typed}", flush=True)
            if problem:
                failed += 1
                print(f"     {problem}", flush=True)
    print(f"{len(commands)} options, {failed} failed")
    return 1 if failed or not commands else 0


if __name__ == "__main__":
    sys.exit(main())
