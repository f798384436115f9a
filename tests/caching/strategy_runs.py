"""Runs a plan with a strategy on a tiny model of any family, and checks what the strategy did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from tests.caching.strategy_outcomes import ACTING, CALLS, build_config
from tests.caching.tiny_models import families
from tests.models.staged import encode_prompt
from tests.models.test_every_model import start_of
from wavespeed_runner.artifacts import Embeddings, Images, Latents, Pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.stages.denoise import denoise_batch


class Model:
    """A tiny model, loaded, and its uncached latents."""

    def __init__(self, family: str) -> None:
        plan = build_plan(build_config(family))
        (sample,) = plan.samples
        model, self.options = plan.config.model, plan.graph.nodes["denoise"].options
        _, self.family = families()[family]
        pipe = load(self.family, model, "cpu")
        self.denoisers = [getattr(pipe, part) for part in (self.family.denoiser, self.family.denoiser_2) if part]
        given = start_of(next(iter(self.family.tasks)), self.options.width)
        start = {
            name: Images(tensors={"images": np.asarray(each.convert("RGB"))[None]}) for name, each in given.items()
        }
        first = start["image"].as_pil()[0] if start else None
        embeddings = encode_prompt(self.family, pipe, model, sample, self.options.guidance_scale, first)
        if family.startswith("hunyuan_video15"):  # 256 tokens, most of them padding
            embeddings = {name: tensor[:, :64] for name, tensor in embeddings.items()}
        pipeline = Pipeline(pipe=pipe, model=model, family=self.family, device="cpu")
        self.inputs = {"pipeline": pipeline, "sample": sample, "embeddings": Embeddings(tensors=embeddings), **start}
        self.reference = self.denoise(self.options).tensors["latents"]

    def denoise(self, options: Any) -> Latents:
        (latents,) = denoise_batch(options, [self.inputs])
        return latents

    @contextmanager
    def record_calls(self) -> Iterator[list[int]]:
        """The index of the denoiser of each call while the context is open."""
        called: list[int] = []
        handles = [
            denoiser.register_forward_pre_hook(lambda *_, i=i: called.append(i))
            for i, denoiser in enumerate(self.denoisers)
        ]
        yield called
        for handle in handles:
            handle.remove()


@lru_cache(maxsize=1)
def load_model(family: str) -> Model:
    """One model is kept, because the tests of a family follow each other."""
    return Model(family)


def check_run(family: str, strategy: str, plan: Plan) -> None:
    """Runs a plan: the strategy attaches, decides once a call, hits, and gives finite latents."""
    model, options = load_model(family), plan.graph.nodes["denoise"].options
    with model.record_calls() as called:
        latents = model.denoise(options)
    evidence, steps = latents.data["engaged"]["cache"], latents.data["steps"]
    assert evidence["strategy"] == options.cache.title
    assert evidence["attached_to"] == type(model.denoisers[-1]).__name__
    assert [step["index"] for step in steps] == list(range(1, CALLS + 1))
    assert 0 < evidence["hits"] < evidence["calls"]
    assert bool(torch.isfinite(latents.tensors["latents"]).all())
    if "modules" in evidence:
        assert evidence["calls"] * len(model.denoisers) == evidence["modules"] * len(called)
        assert evidence["module_share"] < 1
    else:
        decisions = [branch for step in steps for branch in step.get("branches", {"": step}).values()]
        assert len(decisions) == evidence["calls"] == len(called)
        assert sum(not branch["computed"] for branch in decisions) == evidence["hits"]
        assert evidence["blocks"] > 0 and evidence["block_share"] < 1
        computed, published = [step["index"] for step in steps if step["computed"]], ACTING[strategy][1]
        if len(model.denoisers) > 1:  # the second one has nothing to reuse when it takes over
            assert {1, called.index(1) * CALLS // len(called) + 1} <= set(computed)
        elif published is not None:
            assert computed == published
    assert not torch.equal(latents.tensors["latents"], model.reference), "nothing was skipped"


def check_clean(family: str) -> None:
    """Whatever ran on the model has left nothing behind: without a strategy it makes what it made before them."""
    model = load_model(family)
    assert torch.equal(model.denoise(model.options).tensors["latents"], model.reference)
