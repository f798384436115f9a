"""What the runner costs over a bare diffusers script with the same model, steps and cache.

    OMP_NUM_THREADS=1 python -m benchmarks.overhead [--rounds 20]

Time: one process, the bare call and the runner's denoise stage (with its write to the store) in turn, on the demo
model, uncached and with First Block Cache (diffusers' hooks against our engine). The ratio is runner / bare, paired by
round: median and quartiles.
Memory: the peak resident size of whole processes, each in turn, generating the same four images.
Goal: time at most 1.02, memory at most 1.05.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

RESULTS = Path(__file__).parent / "results" / "overhead.json"
THRESHOLD = 0.08
PROMPT = "a red circle above a blue square"

BARE = """
import sys
from diffusers import FluxPipeline
from diffusers.hooks import FirstBlockCacheConfig
import torch
pipe = FluxPipeline.from_pretrained(sys.argv[1], use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=float(sys.argv[2])))
for index, prompt in enumerate(open(sys.argv[3]).read().split("\\n")):
    if prompt:
        image = pipe(prompt, width=64, height=64, num_inference_steps=28, max_sequence_length=20,
                     generator=torch.Generator().manual_seed(0)).images[0]
        image.save(f"{sys.argv[4]}/{index}.png")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    from wavespeed_runner.config.environment import describe_environment

    figures = {
        "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python -m benchmarks.overhead",
        "environment": describe_environment("cpu"),
        "time": {"no cache": time_ratio(None, rounds), "fbcache": time_ratio(THRESHOLD, rounds)},
        "memory": memory_ratio(max(3, rounds // 5)),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    for name, found in figures["time"].items():
        q = found["ratio_quartiles"]
        print(
            f"time, {name:9} bare {found['bare_median']:.3f} s, runner {found['runner_median']:.3f} s, "
            f"ratio {found['ratio_median']:.3f} (quartiles {q[0]:.3f} to {q[1]:.3f})"
        )
    m = figures["memory"]
    print(f"peak memory     bare {m['bare_mb']:.0f} MB, runner {m['runner_mb']:.0f} MB, ratio {m['ratio']:.3f}")


def time_ratio(threshold: float | None, rounds: int) -> dict[str, Any]:
    """Denoising seconds, bare and through the runner's stage, interleaved; the order alternates."""
    pipeline, options, embeddings, sample = demo(threshold)
    bare_call, runner_call = bare(pipeline, embeddings, threshold), runner(pipeline, options, embeddings, sample)
    bare_call(), runner_call()
    seconds: dict[str, list[float]] = {"bare": [], "runner": []}
    for index in range(rounds):
        pair = [("bare", bare_call), ("runner", runner_call)]
        for name, call in pair if index % 2 else reversed(pair):
            began = perf_counter()
            call()
            seconds[name].append(perf_counter() - began)
    ratios = [b / a for a, b in zip(seconds["bare"], seconds["runner"], strict=True)]
    q1, _, q3 = quantiles(ratios, n=4)
    return {
        "bare_median": median(seconds["bare"]),
        "runner_median": median(seconds["runner"]),
        "ratio_median": median(ratios),
        "ratio_quartiles": [q1, q3],
        "raw": seconds,
    }


def demo(threshold: float | None) -> tuple[Any, Any, dict[str, Any], Any]:
    """The loaded demo model, the denoise stage's options, embeddings and sample, as `cache=fbcache` makes them."""
    from wavespeed_runner.config.compose import compose_job, composer
    from wavespeed_runner.planning.plan import build_plan

    given = ["cache=none"] if threshold is None else ["cache=fbcache", f"cache.residual_diff_threshold={threshold}"]
    with composer(None):
        plan = build_plan(compose_job([*given, f"prompt={PROMPT}", "device=cpu"], []))
    nodes, sample = plan.graph.nodes, plan.samples[0]
    pipeline = nodes["load"].stage.function(nodes["load"].options)
    encoded = nodes["encode"].stage.function(nodes["encode"].options, pipeline=pipeline, sample=sample)
    return pipeline, nodes["denoise"].options, encoded.tensors, sample


def runner(pipeline: Any, options: Any, embeddings: dict[str, Any], sample: Any) -> Any:
    """The whole stage: strategy on and off, trace, checks of the latents, and the write to a store."""
    from dataclasses import replace

    from wavespeed_runner.artifacts import Embeddings
    from wavespeed_runner.stages.denoise import denoise
    from wavespeed_runner.storage.store import Store

    store, once = Store(Path(tempfile.mkdtemp()) / "store"), replace(options, warmup=0)

    def call() -> None:
        latents = denoise(once, pipeline=pipeline, embeddings=Embeddings(tensors=embeddings), sample=sample)
        store.write("0" * 64, latents.to_bytes(), stage="denoise")

    return call


def bare(pipeline: Any, embeddings: dict[str, Any], threshold: float | None) -> Any:
    """What a script would write around the same loaded pipeline."""
    import torch
    from diffusers.hooks import FirstBlockCacheConfig

    pipe = pipeline.pipe

    @contextmanager
    def cached() -> Any:
        if threshold is None:
            yield
            return
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        yield
        pipe.transformer.disable_cache()

    def call() -> None:
        pipe.set_progress_bar_config(disable=None)
        with cached():
            pipe(
                **embeddings,
                width=64,
                height=64,
                num_inference_steps=28,
                output_type="latent",
                generator=torch.Generator().manual_seed(0),
            )

    return call


def memory_ratio(rounds: int) -> dict[str, float]:
    """Peak resident megabytes of the bare script and of `python -m wavespeed_runner`, medians over rounds."""
    from wavespeed_runner.inputs.files import resolve_path

    weights, prompts = (
        resolve_path("pkg://wavespeed_runner/weights/demo"),
        resolve_path("pkg://wavespeed_runner/prompts/demo.txt"),
    )
    bare_mb, runner_mb = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            bare_mb.append(_peak_mb([sys.executable, "-c", BARE, str(weights), str(THRESHOLD), str(prompts), folder]))
            given = ["cache=fbcache", f"cache.residual_diff_threshold={THRESHOLD}", "measure=none", f"outputs={folder}"]
            runner_mb.append(_peak_mb([sys.executable, "-m", "wavespeed_runner", *given]))
    return {
        "bare_mb": median(bare_mb),
        "runner_mb": median(runner_mb),
        "ratio": median(runner_mb) / median(bare_mb),
        "rounds": rounds,
    }


def _peak_mb(command: list[str]) -> float:
    """Peak resident size of a child, in MB (10**6 bytes); measured in a process of its own."""
    measure = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    run = subprocess.run([sys.executable, "-c", measure, *command], check=True, capture_output=True, text=True)
    return int(run.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    main()
