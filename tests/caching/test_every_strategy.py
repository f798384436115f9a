"""Every family with every shipped strategy, put together from the YAML as a user does: what the plan refuses it refuses
in one line, and all the rest runs, hits, and leaves the model as it was. docs/support.md says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.caching.tiny_models import families
from tests.models.shipped import TINY, compose_shipped
from tests.models.staged import encode_prompt
from tests.models.test_every_model import image
from wavespeed_runner.artifacts import Embeddings, Images, Latents, Pipeline
from wavespeed_runner.caching.calibration.data import build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.cli.support_check import CALIBRATION, Combinations
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.registry import find_implementation, list_names
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.samplers import count_denoiser_calls, resolve_sampler
from wavespeed_runner.stages.denoise import denoise_batch
from wavespeed_runner.tuning.calibrate import calibrate

CALLS = 6
"""Of the denoiser, in each guidance branch."""
GIVEN = {"prompt": "a red circle above a blue square", "seed": 3}
WHOLE = ("generic", "generic_video")
"""Families that stand for any pipeline: they have no shipped weights, and no tiny ones."""
OF_THE_STEPS = {"schedule-fits", "window-empty"}
"""Rules that refuse a strategy only for the number of steps."""

ACTING: dict[str, tuple[tuple[str, ...], list[int] | None]] = {
    "fbcache": (("cache.residual_diff_threshold=1e9",), [1]),
    "wavespeed": (("cache.residual_diff_threshold=1e9",), [1, 2, 6]),
    "dbcache": (("cache.residual_diff_threshold=1e9",), [1, 2, 3, 4]),
    "teacache": (("cache.rel_l1_thresh=1e9",), [1, 6]),
    "deepcache": ((), [1, 4]),
    "balanced": ((), [1, 4]),
    "max_speed": ((), [1, 6]),
    "max_quality": ((), [1, 3, 5]),
    "partial": ((), [1, 2, 3, 6]),
    "magcache": (("cache.threshold=1e9",), [1, 2, 6]),
    "easycache": (("cache.threshold=1e9",), [1, 2, 6]),
    "seacache": (("cache.threshold=1e9",), [1, 4, 6]),
    "dicache": (("cache.threshold=1e9",), [1, 2]),
    "taylorseer": ((), [1, 2, 3]),
    "step_mask": (("cache.criterion.mask=110101",), [1, 2, 4, 6]),
    "planned": (("cache.computed=3",), None),
    "custom": (("cache.criterion.threshold=1e9",), [1]),
    "fastercache": ((), None),
    "pab": ((), None),
}
"""Shipped strategy -> what makes it act in six calls, and the steps that are then computed, by what its makers publish
(thresholds that always allow reuse leave window, warm-up and limits). None: it depends on the model."""

UNETS = {"sd", "sdxl"}
EVERY = [*families(), *WHOLE]
OF_UNETS = ("deepcache", "balanced", "max_speed", "max_quality", "partial")
ONE_CALL_A_BRANCH = {
    *("chroma", "lumina2", "qwen_image", "hunyuan_video15", "hunyuan_video15_i2v"),
    *("wan", "wan_i2v", "wan22", "wan22_i2v", "wan22_5b"),
}
"""With guidance, which FLUX and HunyuanVideo do without as they come."""
REFUSED: dict[str, set[str]] = {
    **{strategy: set() for strategy in ACTING},
    **{strategy: set(families()) - UNETS for strategy in OF_UNETS},
    "teacache": UNETS,
    "pab": ONE_CALL_A_BRANCH,
    "fastercache": ONE_CALL_A_BRANCH
    | UNETS
    | {"hidream", "ltx2", "ltx_video", "pixart_sigma", "sana", "sd3", "z_image"},
}
"""Strategy -> families whose plan refuses it, beside those of `WHOLE`, which none can be put on."""
PUBLISHED = {
    "teacache": {"cogvideox", "cogvideox_i2v", "hidream", "hunyuan_video", "ltx_video", "lumina2", "wan", "wan_i2v"},
    "magcache": set(),
    "planned": set(),
}
"""Strategy that needs a calibration -> families for whose model here the numbers are published."""
COUNTS = {
    **dict.fromkeys(ACTING, (2, 0, 26)),
    **dict.fromkeys(OF_UNETS, (26, 0, 2)),
    "teacache": (4, 16, 8),
    "magcache": (2, 26, 0),
    "planned": (2, 26, 0),
    "pab": (12, 0, 16),
    "fastercache": (21, 0, 7),
}
"""Strategy -> how many families refuse it, need a calibration first, and run it."""


def expected(family: str, strategy: str) -> str:
    """`refused`, `calibration` or `runs`."""
    if family in WHOLE or family in REFUSED[strategy]:
        return "refused"
    return "runs" if family in PUBLISHED.get(strategy, EVERY) else "calibration"


def graph_name(name: str) -> str:
    """One that fits the family's first task."""
    if name in WHOLE:
        return "text_to_video" if name == "generic_video" else "text_to_image"
    _, family = families()[name]
    task = next(iter(family.tasks))
    return f"{task}_seen" if "image" in signature(family.encode).parameters else task


@lru_cache(maxsize=1)
def composed() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Family -> a composed config of one of its models, uncached; strategy -> its node of the config as it acts here.
    For looking at, not for changing."""
    shipped, graphs = compose_shipped()
    with composer(None):

        def one(*overrides: str) -> dict[str, Any]:
            return compose_job(list(overrides), list(overrides))

        models = {name: one(f"model={name}", "model.repo=a/b", "device=cpu") for name in WHOLE}
        strategies = {name: one(f"cache={name}", *given)["cache"] for name, (given, _) in ACTING.items()}
    models |= {name: shipped[model] for name, (model, _) in families().items()}
    return {name: {**one, "graph": graphs[graph_name(name)], **GIVEN} for name, one in models.items()}, strategies


@lru_cache
def steps_of(family: str) -> int:
    """How many make `CALLS`."""
    settled = resolve_config(composed()[0][family])
    sampler = resolve_sampler(find_implementation("model", settled.model), settled.model, settled.sampler)
    return next(steps for steps in range(1, CALLS + 1) if count_denoiser_calls(sampler, steps) == CALLS)


def config(family: str, cache: Any = None, folder: Path | None = None) -> dict[str, Any]:
    """Plain data as `build_plan` takes it."""
    data = deepcopy(composed()[0][family]) | {"steps": steps_of(family), "outputs": str(folder or "outputs")}
    return data | ({"cache": deepcopy(cache)} if cache else {})


def plan_of(data: dict[str, Any]) -> Plan | str:
    """A plan, or why there is none."""
    try:
        return build_plan(data)
    except ConfigError as error:
        return str(error)


def uncalibrated(plan: Plan | str) -> bool:
    return isinstance(plan, str) and "needs a calibration" in plan


class Model:
    """A tiny model, loaded, and its uncached latents."""

    def __init__(self, family: str) -> None:
        plan = build_plan(config(family))
        (sample,) = plan.samples
        model, self.options = plan.config.model, plan.graph.nodes["denoise"].options
        _, self.family = families()[family]
        pipe = load(self.family, model, "cpu")
        self.denoisers = [getattr(pipe, part) for part in (self.family.denoiser, self.family.denoiser_2) if part]
        start: dict[str, Any] = {}
        if next(iter(self.family.tasks)) == "image_to_video":
            start["image"] = Images(tensors={"images": np.asarray(image(self.options.width))[None]})
        first = start["image"].as_pil()[0] if start else None
        found = encode_prompt(self.family, pipe, model, sample, self.options.guidance_scale, first)
        if family.startswith("hunyuan_video15"):  # 1000 tokens, most of them padding: half a second a step
            found = {name: tensor[:, :64] for name, tensor in found.items()}
        pipeline = Pipeline(pipe=pipe, model=model, family=self.family, device="cpu")
        self.inputs = {"pipeline": pipeline, "sample": sample, "embeddings": Embeddings(tensors=found), **start}
        self.reference = self.denoised(self.options).tensors["latents"]

    def denoised(self, options: Any) -> Latents:
        (made,) = denoise_batch(options, [self.inputs])
        return made

    @contextmanager
    def calls(self) -> Iterator[list[int]]:
        """Which denoiser was called, call by call, in the meantime."""
        called: list[int] = []
        handles = [
            denoiser.register_forward_pre_hook(lambda *_, i=i: called.append(i))
            for i, denoiser in enumerate(self.denoisers)
        ]
        yield called
        for handle in handles:
            handle.remove()


@lru_cache(maxsize=1)
def loaded(family: str) -> Model:
    """One is kept, because the strategies of a family follow each other."""
    return Model(family)


def runs(family: str, strategy: str, plan: Plan) -> None:
    """It attaches, decides once a call, hits, gives finite latents, and is gone afterwards."""
    model, options = loaded(family), plan.graph.nodes["denoise"].options
    with model.calls() as called:
        made = model.denoised(options)
    evidence, steps = made.data["engaged"]["cache"], made.data["steps"]
    assert evidence["strategy"] == options.cache.name
    assert evidence["attached_to"] == type(model.denoisers[-1]).__name__
    assert [step["index"] for step in steps] == list(range(1, CALLS + 1))
    assert 0 < evidence["hits"] < evidence["calls"]
    assert bool(torch.isfinite(made.tensors["latents"]).all())
    if "modules" in evidence:
        assert evidence["calls"] * len(model.denoisers) == evidence["modules"] * len(called)
        assert evidence["module_share"] < 1
    else:
        listed = [branch for step in steps for branch in step.get("branches", {"": step}).values()]
        assert len(listed) == evidence["calls"] == len(called)
        assert sum(not branch["computed"] for branch in listed) == evidence["hits"]
        assert evidence["blocks"] > 0 and evidence["block_share"] < 1
        computed, known = [step["index"] for step in steps if step["computed"]], ACTING[strategy][1]
        if len(model.denoisers) > 1:  # the second one has nothing to reuse when it takes over
            assert {1, called.index(1) * CALLS // len(called) + 1} <= set(computed)
        elif known is not None:
            assert computed == known
    assert not torch.equal(made.tensors["latents"], model.reference), "else nothing was skipped"
    assert torch.equal(model.denoised(model.options).tensors["latents"], model.reference)


@pytest.mark.parametrize("strategy", ACTING)
@pytest.mark.parametrize("family", EVERY)
def test_a_strategy_is_refused_in_one_line_or_runs(family: str, strategy: str, tmp_path: Path) -> None:
    plan = plan_of(config(family, composed()[1][strategy], tmp_path))
    if isinstance(plan, str):
        assert expected(family, strategy) == ("calibration" if uncalibrated(plan) else "refused")
        assert "\n" not in plan and "cache" in plan and ";" in plan, "what is wrong, and a way out"
        assert not list(tmp_path.iterdir())
    else:
        assert expected(family, strategy) == "runs"
        runs(family, strategy, plan)


def test_no_pair_is_left_out() -> None:
    assert set(ACTING) == {path.stem for path in (CONF / "cache").glob("*.yaml")} - {"none"}
    assert set(EVERY) == set(list_names("model"))
    found = {strategy: Counter(expected(family, strategy) for family in EVERY) for strategy in ACTING}
    assert {name: (c["refused"], c["calibration"], c["runs"]) for name, c in found.items()} == COUNTS


def test_what_runs_and_what_is_refused_is_what_support_says() -> None:
    """With the models' own numbers of steps and strategies as they are shipped; and no `yes` needs a calibration."""
    models = {family: families()[family][0] if family in families() else family for family in EVERY}
    options = Combinations(models.values())
    for family, model in models.items():
        for strategy in ACTING:
            chosen = {"graph": graph_name(family), "cache": strategy}
            word, outcome = options.check_calibration(model, **chosen), expected(family, strategy)
            bad = {spoken.rule for spoken in apply_rules(options.config(model, **chosen)) if spoken.verdict == "bad"}
            pair = (family, strategy, word, outcome)
            assert (word.mark == "no") == (outcome == "refused" or (bool(bad) and bad <= OF_THE_STEPS)), pair
            comes_with_one = (SHIPPED / f"{model}.yaml").exists()  # of the trained weights, not of the tiny ones here
            needs = outcome == "calibration" and word.mark != "no" and not comes_with_one
            assert (CALIBRATION in word.reasons) == needs, pair


def test_nodes_put_together_are_what_hydra_composes() -> None:
    """For the sake of speed the tests above compose models and strategies once each."""
    model, _ = families()["wan"]
    for strategy in ("teacache", "partial", "pab"):
        overrides = [f"model={model}", f"graph={graph_name('wan')}", *TINY, f"cache={strategy}", f"steps={CALLS}"]
        overrides += [*ACTING[strategy][0], f"prompt='{GIVEN['prompt']}'", f"seed={GIVEN['seed']}"]
        with composer(None):
            assert compose_job(overrides, overrides) == config("wan", composed()[1][strategy])


CALIBRATED = [
    *((family, strategy) for family in ("flux", "sd3", "wan") for strategy in ("teacache", "magcache", "planned")),
    *(("sd", strategy) for strategy in ("magcache", "planned")),
    *((family, "fitted") for family in ("flux", "sd3", "wan", "sd")),
]
"""FLUX, a transformer that batches guidance, one with a call for each branch, a U-Net."""


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Family -> an `outputs` folder with its calibration, made by the real code on two prompts."""

    @lru_cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        plan = build_plan(config(family, folder=folder), ["a red circle", "two blue squares"])
        key = build_key(plan.config)
        save(calibrate(plan, key), folder / "calibrations" / build_file_name(key))
        return folder

    return made


@pytest.mark.parametrize(("family", "strategy"), CALIBRATED)
def test_with_a_calibration_of_the_run_it_runs(family: str, strategy: str, calibrations: Any, tmp_path: Path) -> None:
    cache = deepcopy(composed()[1]["fbcache" if strategy == "fitted" else strategy])
    if strategy == "fitted":
        cache["predictor"] = {"name": "fitted"}
    without = plan_of(config(family, cache, tmp_path))
    plan = plan_of(config(family, cache, calibrations(family)))
    assert isinstance(plan, Plan), plan
    filled = [change for change in plan.changes if change.key.startswith("cache.")]
    assert filled
    if isinstance(without, str):
        assert uncalibrated(without) and all("calibration" in change.why for change in filled)
    else:
        assert all("published" in change.why for change in filled)
    runs(family, "fbcache" if strategy == "fitted" else strategy, plan)
    if strategy == "planned":
        steps = plan.graph.nodes["denoise"].options.cache.criterion.schedule
        assert len(steps) == 3 and steps[0] == 1
