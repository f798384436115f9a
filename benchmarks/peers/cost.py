"""What a cache itself costs in each call of the denoiser: its decision and its bookkeeping.

    OMP_NUM_THREADS=1 python -m benchmarks.peers.cost [--model demo | demo_unet | tiny_flux] [--rounds 5]

CPU time of a call less the CPU time inside the blocks, or inside the layers of a U-Net; median over all calls of a
kind. A rule that never allows reuse shows what a computed step costs, one that always does what a skipped step costs.
What remains without a cache (embeddings, last layers) is in every figure, and shown beside them. Writes
results/peers_cost_MODEL.json. The tiny FLUX has here as many blocks as the published one: hooks cost by the block.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from statistics import median
from time import thread_time
from typing import Any

from .__main__ import RESULTS, environment
from .deep_cache import deepcache
from .measure import references, weights
from .models import MODELS, Model, tiny_flux
from .ours import engine
from .prompts import judged
from .settings import Setting, reference
from .theirs import cache_dit, diffusers_cache, para_attn

NEVER, ALWAYS = 1e-9, 1e9
FLUX_BLOCKS = (19, 38)
IMAGES = 2
"""In a round, for each setting."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="demo")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    model = tiny_flux(FLUX_BLOCKS) if args.model == "tiny_flux" else MODELS[args.model]()
    parts = weights(model)
    known = references(model, judged()[:IMAGES], parts)
    todo = [reference(model), *rules(model)]
    found: dict[str, dict[str, list[float]]] = {setting.name: {} for setting in todo}
    cannot: dict[str, str] = {}
    for _ in range(args.rounds):
        for setting in todo:
            if setting.name in cannot:
                continue
            try:
                for kind, seconds in outside(model, setting, known, list(parts)).items():
                    found[setting.name].setdefault(kind, []).extend(seconds)
            except ImportError as error:
                cannot[setting.name] = str(error)
    figures = {
        "command": f"OMP_NUM_THREADS=1 python -m benchmarks.peers.cost --model {args.model}",
        "environment": environment(),
        "cannot": cannot,
        "seconds": {
            name: {kind: [round(value, 7) for value in values] for kind, values in kinds.items()}
            for name, kinds in found.items()
        },
    }
    (RESULTS / f"peers_cost_{args.model}.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
    for name, kinds in found.items():
        figure = "  ".join(f"{kind} {1e6 * median(values):6.0f} us" for kind, values in sorted(kinds.items()))
        print(f"{name:45} {cannot.get(name) or figure}")


def rules(model: Model) -> list[Setting]:
    """Every rule twice: never reusing, and always."""
    if model.family.denoiser == "unet":
        theirs = [_rule(f"DeepCache interval {n}", deepcache, cache_interval=n, cache_branch_id=0) for n in (2, 5)]
        return [*theirs, *(_ours(f"DeepCache interval {n}", "cache=deepcache", f"cache.interval={n}") for n in (2, 5))]
    found = []
    for word, threshold in (("never", NEVER), ("always", ALWAYS)):
        for fill in ("reuse", "Taylor-1"):
            given = {"fill": fill, "max_warmup_steps": 1, "residual_diff_threshold": threshold}
            found.append(_rule(f"cache-dit, {fill}, {word}", cache_dit, **given))
        for taylor in (False, True):
            given = {"residual_diff_threshold": threshold, "enable_taylorseer": taylor}
            found.append(_rule(f"ParaAttention, {'Taylor-2' if taylor else 'reuse'}, {word}", para_attn, **given))
        block = {"config": "FirstBlockCacheConfig", "threshold": threshold}
        found.append(_rule(f"diffusers First Block Cache, {word}", diffusers_cache, **block))
        magnitude = {"threshold": threshold, "max_skip_steps": model.steps, "num_inference_steps": model.steps}
        found.append(_rule(f"diffusers MagCache, {word}", diffusers_cache, config="MagCacheConfig", **magnitude))
    for word, threshold in (("never", NEVER), ("always", ALWAYS)):
        own = ["cache=fbcache", f"cache.residual_diff_threshold={threshold}"]
        for fill in ("reuse", "taylor"):
            found.append(_ours(f"First Block Cache, {fill}, {word}", *own, f"cache/predictor={fill}"))
    found.append(_ours("TaylorSeer N5", "cache=taylorseer", "cache.interval=5"))
    every_fifth = {"config": "TaylorSeerCacheConfig", "cache_interval": 5, "max_order": 1, "use_lite_mode": True}
    return [*found, _rule("diffusers TaylorSeer-lite N5", diffusers_cache, **every_fifth)]


def _ours(name: str, *overrides: str) -> Setting:
    return Setting(name=f"ours, {name}", group="ours", by="ours", on=engine, parameters={"overrides": list(overrides)})


def _rule(name: str, on: Any, **parameters: Any) -> Setting:
    return Setting(name=name, group=name, by="theirs", on=on, parameters=parameters)


def outside(model: Model, setting: Setting, known: list[Any], parts: list[str]) -> dict[str, list[float]]:
    """Seconds outside the parts, call by call: of calls that ran them all (`computed`) and of others (`skipped`). The
    first call of each generation is left out."""
    pipe = model.fresh()
    denoiser, found = model.denoiser(pipe), dict[str, list[float]]()
    with (
        timed([denoiser.get_submodule(name) for name in parts]) as inside,
        setting.on(pipe, model, **setting.parameters),
    ):
        calls: list[tuple[float, int]] = []

        def before(module: Any, *given: Any) -> None:
            inside.clear()
            calls.append((thread_time(), 0))

        def after(module: Any, *given: Any) -> None:
            ended = thread_time()
            calls[-1] = (ended - calls[-1][0] - sum(inside), len(inside))

        denoiser.register_forward_pre_hook(before)
        denoiser.register_forward_hook(after)
        for one in known:
            calls.clear()
            model.latents(pipe, one.prompt, one.embeddings, setting.steps or model.steps)
            for seconds, ran in calls[1:]:
                found.setdefault("computed" if ran == len(parts) else "skipped", []).append(seconds)
    return found


@contextmanager
def timed(modules: list[Any]) -> Iterator[list[float]]:
    """Collects the CPU seconds of every run of these modules' own forward. Peers that replace a forward keep the one
    that they find, so theirs lies around this."""
    inside: list[float] = []

    def around(forward: Any) -> Any:
        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = thread_time()
            result = forward(*args, **kwargs)
            inside.append(thread_time() - began)
            return result

        return run

    for module in modules:
        module.forward = around(module.forward)
    try:
        yield inside
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


if __name__ == "__main__":
    main()
