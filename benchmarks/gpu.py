"""FLUX, SDXL and Wan 1.3B at full size on one GPU: eager, and each acceleration on top of the last.

    python -m benchmarks.gpu                                    at most 8 minutes on an H100 or H200
    python -m benchmarks.gpu --tiny --device cpu                tiny models, to try the command anywhere

Weights are random (`model.init=random`): times and memory are those of the published architecture, images are noise. So
the cache has a fixed pattern, every second step, instead of a threshold. All settings run in one process, one after the
other; `eager` runs again at the end, and `drift` says how many times as fast it was then.

TFLOP/s are the FLOPs of the denoiser as torch counts them, of the steps that were computed, divided by the time.
`matmul_tflops` is what one large bfloat16 matrix product reaches on the same card, the peak that can be had. Energy is
the difference of NVML's counter over as many images again, for some settings. Times are of denoising one image or
video: median, all values.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from .card import describe_card, measure_matmul, read_energy

RESULTS = Path(__file__).parent / "results"
FASTEST = (("flash3", "flash_attn_interface"), ("flash", "flash_attn"), ("cudnn", ""))
"""Attention backends, fastest first, and the package of each."""
MODELS: dict[str, list[str]] = {
    "flux": ["model=flux", "steps=28"],
    "sdxl": ["model=sdxl", "model.dtype=bfloat16", "steps=28"],
    "wan21": ["model=wan21", "steps=20", "num_frames=33"],
}
SHORT = ("eager", "compile", "cache", "all")
"""The settings of the models after the first."""
WITH_ENERGY = ("eager", "all")
"""The settings whose energy is measured, which takes as many images again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models and few steps")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=480.0, help="then ends with what is measured (%(default)s)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu_CARD.json")
    args = parser.parse_args()
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML numbers the cards
    import torch

    from wavespeed_runner.config.environment import describe_environment

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch finds no CUDA device; --tiny --device cpu tries the command out")
    began = perf_counter()
    results: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]),
        "environment": describe_environment(args.device),
        "card": describe_card(args.device),
        "matmul_tflops": measure_matmul(args.device),
        "models": {},
    }
    out = args.out or RESULTS / f"gpu_{results['environment']['device_name'].replace(' ', '_')}.json"
    out.parent.mkdir(exist_ok=True)
    watch = threading.Timer(args.seconds - (perf_counter() - began), give_up, [results, out, args.seconds])
    watch.daemon = True
    watch.start()
    with tempfile.TemporaryDirectory() as outputs:
        for name in args.models.split(","):
            results["models"][name] = {}
            measure_model(name, args, outputs, results["models"][name])
    watch.cancel()
    write(results, out)


def write(results: dict[str, Any], out: Path) -> None:
    """Writes the results, and prints them as a table."""
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results), flush=True)


def give_up(results: dict[str, Any], out: Path, seconds: float) -> None:
    """Writes what was measured, and ends the process in the midst of what it measures."""
    results["error"] = f"{seconds:.0f} s were over before everything was measured"
    write(results, out)
    print(results["error"], file=sys.stderr)
    os._exit(1)


def list_settings(name: str, attention: str, quant: str, steps: int) -> dict[str, list[str]]:
    """Name of a setting -> overrides, each on top of the one before."""
    computed = f"[{','.join(str(step) for step in range(1, steps + 1, 2))}]"
    cache = ["cache=step_mask", "cache.criterion.mask=null", f"cache.criterion.computed={computed}"]
    compiled = ["compile=regional"]
    faster = [*compiled, f"attention={attention}"]
    quantized = [f"quant={quant}", "quant.keep=false"]
    settings = {
        "eager": [],
        "compile": compiled,
        "attention": faster,
        "quantization": [*faster, *quantized],
        "cache": cache,
        "all": [*faster, *quantized, *cache],
    }
    chosen = settings if name == next(iter(MODELS)) else {key: settings[key] for key in SHORT}
    return {**chosen, "eager again": []}


def find_attention(shared: list[str], device: str) -> str:
    """The fastest attention backend that is installed and that the rules let run."""
    if device == "cpu":
        return "native"
    for backend, package in FASTEST:
        if (not package or find_spec(package)) and not isinstance(make_plan([*shared, f"attention={backend}"]), str):
            return backend
    return "native"


def make_plan(overrides: list[str]) -> Any:
    """The plan of a run, or as text why there is none."""
    from wavespeed_runner.errors import ConfigError
    from wavespeed_runner.sweeps.jobs import plan_jobs

    try:
        job = plan_jobs(Namespace(overrides=[*overrides, "rerun=true"], config_dir=None, multirun=False))[0]
    except ConfigError as error:
        return str(error)
    return job.plan or job.skipped


def measure_model(name: str, args: Namespace, outputs: str, found: dict[str, Any]) -> None:
    """Every setting of one model, in this process, into `found`, with its speedup as soon as it is known."""
    from wavespeed_runner.execution.process_cache import ProcessCache

    shared = [*MODELS[name], f"model.init={'tiny' if args.tiny else 'random'}", f"device={args.device}"]
    shared += ["prompt=a photo of a cat", "measure=none", "measure.warmup=1", f"measure.repeats={args.repeats}"]
    shared += [f"outputs={outputs}", *(["steps=4"] if args.tiny else [])]
    steps = [int(override[6:]) for override in shared if override.startswith("steps=")][-1]
    attention, quant = find_attention(shared, args.device), "int8_dq" if args.device == "cpu" else "fp8_dq"
    cache = ProcessCache()
    for setting, overrides in list_settings(name, attention, quant, steps).items():
        cache.fresh.clear()  # what this process has computed is computed again
        found[setting] = result = measure_setting([*shared, *overrides], Path(outputs), cache, setting in WITH_ENERGY)
        if found["eager"].get("seconds") and result.get("seconds"):
            result["speedup"] = found["eager"]["seconds"] / result["seconds"]
        print(f"{name:6} {setting:14} {found[setting].get('seconds') or found[setting]['error']}", flush=True)
    cache.clear()
    found["eager again"]["drift"] = found["eager again"].get("speedup")
    add_flops(found)


def measure_setting(overrides: list[str], outputs: Path, cache: Any, energy: bool) -> dict[str, Any]:
    """One setting: warm-up, compilation, and the timed images; then, for the energy, as many again."""
    from wavespeed_runner.execution.runner import run_plan

    plan = make_plan(overrides)
    if isinstance(plan, str):
        return {"error": plan}
    start = perf_counter()
    record = run_plan(plan, outputs / f"runs/{start}", overrides, cache=cache)
    if record.status != "completed" or record.timing is None:
        return {"error": record.error.message if record.error else record.status}
    evidence, compiled = record.engaged.cache, record.engaged.compile or {}
    return {
        "overrides": overrides,
        "seconds": record.timing.median,
        "raw": record.timing.raw,
        "void": record.timing.void,
        "first_call": record.timing.first_call,
        "compile_seconds": compiled.get("seconds"),
        "graph_breaks": compiled.get("graph_breaks"),
        "weight_bytes": record.memory.weight_bytes if record.memory else None,
        "peak_bytes": record.memory.peak_bytes if record.memory else None,
        "wall_seconds": perf_counter() - start,
        "energy_joules": measure_energy(plan, outputs, overrides, cache) if energy else None,
        "denoiser_flops": evidence.denoiser_flops if evidence else None,
        "flop_share": evidence.denoiser_flop_share if evidence else None,
        "warnings": record.warnings,
    }


def measure_energy(plan: Any, outputs: Path, overrides: list[str], cache: Any) -> float | None:
    """Joules of one image with its share of encoding and decoding, over a second, warm run; None without a counter."""
    from wavespeed_runner.execution.runner import run_plan

    before = read_energy(plan.config.device)
    if before is None:
        return None
    cache.fresh.clear()
    record = run_plan(plan, outputs / f"runs/{perf_counter()}", overrides, cache=cache)
    after = read_energy(plan.config.device)
    images = plan.config.measure.repeats * len(record.samples)
    return (after - before) / images if after is not None and images else None


def add_flops(found: dict[str, Any]) -> None:
    """TFLOP/s of every setting: the whole denoiser's FLOPs are counted where a cache is on, and hold for all."""
    total = next((r["denoiser_flops"] for r in found.values() if r.get("denoiser_flops")), None)
    for result in found.values():
        if total and result.get("seconds"):
            share = result["flop_share"] if result["flop_share"] is not None else 1.0
            result["tflops"] = total * share / result["seconds"] / 1e12


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| model | setting | s | speedup | TFLOP/s | peak GB | compile s | J |", "|---" * 8 + "|"]
    for model, settings in results["models"].items():
        for name, r in settings.items():
            if "error" in r:
                lines.append(f"| {model} | {name} | {r['error']} |||||| ".rstrip())
                continue
            peak = f"{r['peak_bytes'] / 1e9:.1f}" if r["peak_bytes"] else ""
            figures = [f"{r['seconds']:.3f}", f"{r.get('speedup', 1):.2f}", _format(r.get("tflops"), 0), peak]
            figures += [_format(r["compile_seconds"], 0), _format(r["energy_joules"], 0)]
            lines.append(f"| {model} | {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _format(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
