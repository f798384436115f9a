"""What compilation and 8-bit weights give on a CPU, alone, together, and under two cache strategies.

    OMP_NUM_THREADS=1 python -m benchmarks.compile_cpu [--models demo,demo_unet] [--rounds 7] [--batch 1] [--steps N]

Time: one process; the denoise stage of every setting in turn, on one model whose weights all settings share. Every
setting is warmed up first; a round in which anything was compiled would be void, and stops the benchmark. Medians with
their median absolute deviation over rounds, and speedups over eager paired by round. Error: relative difference of the
latents from those of eager blocks with the same cache, L2.
`never`: First Block Cache with a threshold of 0, which computes every step: what the engine costs. `product`: the
speedup with a cache over the product of both alone.
Compiling: seconds in a new process with an empty compiler cache (cold), and in another one with what the first left.

Goals: int8_dq with compile at least 1.35 times as fast as eager on demo; with a cache on top, the product of both gains
to within 10 %; the engine costs no more with compilation than without; a second process compiles in at most a quarter
of the cold seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

RESULTS = Path(__file__).parent / "results"
PROMPT = "a red circle above a blue square"
KINDS = {
    "eager": [],
    "compile": ["compile=regional"],
    "int8_wo": ["quant=int8_wo"],
    "int8_wo + compile": ["quant=int8_wo", "compile=regional"],
    "int8_dq": ["quant=int8_dq"],
    "int8_dq + compile": ["quant=int8_dq", "compile=regional"],
}
CACHES = {
    "": [],
    " + fbcache": ["cache=fbcache"],
    " + planned": ["cache=planned"],
    " + never": ["cache=fbcache", "cache.residual_diff_threshold=0"],
}
SETTINGS = {
    f"{kind}{cache}": [*KINDS[kind], *CACHES[cache]]
    for kind, cache in product(KINDS, CACHES)
    if not (cache and kind.startswith("int8_wo")) and not (cache == " + never" and "int8" in kind)
}
COMPILED = [name for name in KINDS if "compile" in name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="demo,demo_unet")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="a part of them; eager is always measured")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, help="the model's own number if left out")
    parser.add_argument("--no-compiling", action="store_true", help="leave out cold and second process")
    parser.add_argument("--init", default="pretrained", help="tiny: to try the benchmark out")
    parser.add_argument(
        "--out", type=Path, help="where to write; benchmarks/results/compile_cpu[_batchN].json if left out"
    )
    parser.add_argument("--child", nargs=2, metavar=("SETTING", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(compile_once(args, *args.child)))
        return
    from wavespeed_runner.config.environment import describe_environment

    names = [name for name in SETTINGS if name in {"eager", *args.settings.split(",")}]
    names += [f"eager{cache}" for cache in CACHES if cache and any(cache in name for name in names)]
    names = list(dict.fromkeys(names))
    figures: dict[str, Any] = {
        "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python -m benchmarks.compile_cpu "
        + " ".join(sys.argv[1:]),
        "environment": describe_environment("cpu"),
        "load_average": os.getloadavg(),
    }
    for model in args.models.split(","):
        args.models = model
        figures[model] = {"settings": measure(args, names)}
        figures[model]["compiling"] = {} if args.no_compiling else measure_compiling(args, names)
        show(model, figures[model])
    out = args.out or RESULTS / f"compile_cpu{f'_batch{args.batch}' if args.batch > 1 else ''}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")


class Setting:
    """One setting: its pipeline, and the denoise stage with its options."""

    def __init__(self, args: argparse.Namespace, name: str, outputs: str) -> None:
        from wavespeed_runner.config.compose import compose_job, composer
        from wavespeed_runner.planning.plan import build_plan

        given = [*SETTINGS[name], f"model={args.models}", f"model.init={args.init}"]
        given += [f"steps={args.steps}"] if args.steps else []
        given += [f"prompt={PROMPT}", "device=cpu", "measure=default", "measure.reference=false"]
        given += [f"batch_size={args.batch}", f"num_images_per_prompt={args.batch}", f"outputs={outputs}"]
        with composer(None):
            plan = build_plan(compose_job(given, given))
        nodes, self.samples = plan.graph.nodes, plan.samples
        self.pipeline = nodes["load"].stage.function(nodes["load"].options)
        for group in ("quant", "compile"):
            if any(override.startswith(f"{group}=") for override in given) and not self.pipeline.engaged.get(group):
                raise SystemExit(f"{name}: {group} has not engaged")
        encode = nodes["encode"]
        self.embeddings = [
            encode.stage.function(encode.options, pipeline=self.pipeline, sample=sample) for sample in self.samples
        ]
        self.options = replace(nodes["denoise"].options, warmup=0)

    def denoise(self) -> tuple[float, Any]:
        """Seconds of a batch, and its latents."""
        import torch

        from wavespeed_runner.stages.denoise import denoise_batch

        pairs = zip(self.samples, self.embeddings, strict=True)
        inputs = [{"pipeline": self.pipeline, "sample": sample, "embeddings": value} for sample, value in pairs]
        began = perf_counter()
        found = denoise_batch(self.options, inputs)
        seconds = perf_counter() - began
        self.void = next((latents.data["timing_void"] for latents in found if latents.data["timing_void"]), None)
        self.evidence = found[0].data["engaged"]
        return seconds, torch.cat([latents.tensors["latents"] for latents in found])


def measure(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Every setting in turn; the order is reversed in every other round."""
    with tempfile.TemporaryDirectory() as outputs:
        settings = {name: Setting(args, name, outputs) for name in names}
        first_calls = {name: setting.denoise()[0] for name, setting in settings.items()}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        latents: dict[str, Any] = {}
        for number in range(args.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                took, latents[name] = settings[name].denoise()
                if settings[name].void:
                    raise SystemExit(f"{name}: {settings[name].void}")
                seconds[name].append(took)
    found = {name: summarize(name, settings[name], seconds, latents, first_calls[name]) for name in names}
    for name, cache in product(KINDS, CACHES):
        parts = [found.get(part, {}).get("speedup") for part in (f"{name}{cache}", name, f"eager{cache}")]
        if cache and name != "eager" and all(parts):
            found[f"{name}{cache}"]["product"] = parts[0] / (parts[1] * parts[2])
    return found


def summarize(
    name: str, setting: Setting, seconds: dict[str, list[float]], latents: dict[str, Any], first_call: float
) -> dict[str, Any]:
    own, eager = seconds[name], seconds["eager"]
    ratios = [other / mine for other, mine in zip(eager, own, strict=True)]
    base = latents["eager" + "".join(cache for cache in CACHES if cache and name.endswith(cache))].double()
    cache = setting.evidence["cache"]
    return {
        "seconds": median(own),
        "mad": median(abs(value - median(own)) for value in own),
        "speedup": median(ratios),
        "speedup_mad": median(abs(value - median(ratios)) for value in ratios),
        "error": float((latents[name].double() - base).norm() / base.norm()),
        "first_call": first_call,
        "hits": cache["hits"] if cache else None,
        "compile": setting.evidence["compile"],
        "quant": setting.evidence["quant"],
        "raw": own,
    }


def measure_compiling(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Cold and second process for every setting that is compiled."""
    found = {}
    for name in (name for name in COMPILED if name in names):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.compile_cpu", "--models", args.models, "--init", args.init]
            command += ["--batch", str(args.batch), "--steps", "4", "--child", name, folder]
            runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)]
        cold, second = (json.loads(run.splitlines()[-1]) for run in runs)
        found[name] = {"cold": cold, "second": second, "share": second["seconds"] / cold["seconds"]}
    return found


def compile_once(args: argparse.Namespace, name: str, folder: str) -> dict[str, Any]:
    """In a process of its own: compiles, and says what the compiler did and for how long."""
    setting = Setting(args, name, folder)
    seconds, _ = setting.denoise()
    return {"first_call": seconds, **setting.pipeline.compiler.build_evidence()}


def show(model: str, figures: dict[str, Any]) -> None:
    print(f"{model}\n{'':30}{'seconds':>9}{'± MAD':>8}{'speedup':>9}{'error':>10}{'hits':>6}{'product':>9}")
    for name, found in figures["settings"].items():
        hits = "" if found["hits"] is None else found["hits"]
        gain = f"{found['product']:9.2f}" if "product" in found else ""
        figures_of_time = f"{found['seconds']:9.3f}{found['mad']:8.3f}{found['speedup']:9.2f}"
        print(f"{name:30}{figures_of_time}{found['error']:10.1e}{hits:>6}{gain}")
    for name, found in figures["compiling"].items():
        cold, second = found["cold"], found["second"]
        print(
            f"compiling {name:20} cold {cold['seconds']:.1f} s ({cold['graphs']} graphs), second process "
            f"{second['seconds']:.1f} s ({second['cache_hits']} from the cache), share {found['share']:.2f}"
        )


if __name__ == "__main__":
    main()
