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
from tests.models.staged import encoded
from tests.models.test_every_model import picture
from tests.test_support import shipped
from wavespeed_runner.calibrate import calibrated
from wavespeed_runner.caching.calibration import file_name, key_of
from wavespeed_runner.caching.calibration_file import save
from wavespeed_runner.compose import compose_job, composer
from wavespeed_runner.config import CONF, typed
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.pretrained import load
from wavespeed_runner.plan import Plan, build_plan
from wavespeed_runner.registry import names
from wavespeed_runner.rules import judge
from wavespeed_runner.stages.denoise import denoise_batch
from wavespeed_runner.values import Embeddings, Images, Latents, Pipeline

STEPS = 6
SMALL = ("model.init=tiny", "measure=none", "device=cpu", "prompt='a red circle above a blue square'", "seed=3")
WHOLE = ("generic", "generic_video")
"""Families that stand for any pipeline: they have no shipped weights, and no tiny ones."""
CALIBRATION = "needs a calibration"
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
    "partial": ((), [1, 2, 4, 6]),
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
"""Shipped strategy -> what makes it act in six steps, and the steps that are then computed, by what its makers publish
(thresholds that always allow reuse leave window, warm-up and limits). None: it depends on the model."""

COUNTS: dict[str, tuple[int, int, int]] = {}


def graph_of(family: Any) -> str:
    """One that fits the family's first task."""
    task = next(iter(family.tasks))
    return f"{task}_seen" if "image" in signature(family.encode).parameters else task


@lru_cache(maxsize=1)
def composed() -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Family -> a composed config of one of its models, uncached; strategy -> its node of the config as shipped, and as
    it acts here. For looking at, not for changing."""
    with composer(None):

        def one(*overrides: str) -> dict[str, Any]:
            return compose_job(list(overrides), list(overrides))

        models = {
            name: one(f"model={model}", f"graph={graph_of(family)}", *SMALL)
            for name, (model, family) in families().items()
        }
        models |= {
            name: one(f"model={name}", "model.repo=a/b", f"graph=text_to_{kind}", "device=cpu")
            for name, kind in zip(WHOLE, ("image", "video"), strict=True)
        }
        plain = {name: one(f"cache={name}")["cache"] for name in ACTING}
        acting = {name: one(f"cache={name}", *given)["cache"] for name, (given, _) in ACTING.items()}
        return models, plain, acting


def config(family: str, cache: Any = None, folder: Path | None = None, *, steps: int | None = STEPS) -> dict[str, Any]:
    """Plain data as `build_plan` takes it; steps None: the model's own."""
    data = deepcopy(composed()[0][family])
    return (
        data | {"steps": steps, "outputs": str(folder or "outputs")} | ({"cache": deepcopy(cache)} if cache else {})
    )


def plan_of(data: dict[str, Any]) -> Plan | str:
    """A plan, or why there is none."""
    try:
        return build_plan(data)
    except ConfigError as error:
        return str(error)


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
            start["image"] = Images(tensors={"images": np.asarray(picture(self.options.width))[None]})
        first = start["image"].as_pil()[0] if start else None
        found = encoded(self.family, pipe, model, sample, self.options.guidance_scale, first)
        if family.startswith("hunyuan_video15"):  # 1000 tokens, most of them padding: half a second a step
            found = {name: tensor[:, :64] for name, tensor in found.items()}
        pipeline = Pipeline(pipe=pipe, model=model, family=self.family, device="cpu")
        self.inputs = {"pipeline": pipeline, "sample": sample, "embeddings": Embeddings(tensors=found), **start}
        self.reference = self.denoised(self.options).tensors["latents"]

    def denoised(self, options: Any) -> Latents:
        (made,) = denoise_batch(options, [self.inputs])
        return made

    @contextmanager
    def calls(self) -> Iterator[Counter[str]]:
        """How often the denoisers are called in the meantime."""
        count: Counter[str] = Counter()
        hook = lambda *_: count.update(["calls"])  # noqa: E731
        handles = [denoiser.register_forward_pre_hook(hook) for denoiser in self.denoisers]
        yield count
        for handle in handles:
            handle.remove()


@lru_cache(maxsize=1)
def loaded(family: str) -> Model:
    """One is kept, because the strategies of a family follow each other."""
    return Model(family)


def runs(family: str, strategy: str, plan: Plan) -> None:
    """It attaches, decides once a call, hits, gives finite latents, and is gone afterwards."""
    model, options = loaded(family), plan.graph.nodes["denoise"].options
    with model.calls() as count:
        made = model.denoised(options)
    evidence, steps = made.data["engaged"]["cache"], made.data["steps"]
    assert evidence["strategy"] == options.cache.name
    assert evidence["attached_to"] == type(model.denoisers[-1]).__name__
    assert [step["index"] for step in steps] == list(range(1, STEPS + 1))
    assert 0 < evidence["hits"] < evidence["calls"]
    assert bool(torch.isfinite(made.tensors["latents"]).all())
    if "modules" in evidence:
        assert evidence["calls"] == evidence["modules"] * count["calls"] and evidence["module_share"] < 1
    else:
        listed = [branch for step in steps for branch in step.get("branches", {"": step}).values()]
        assert len(listed) == evidence["calls"] == count["calls"]
        assert sum(not branch["computed"] for branch in listed) == evidence["hits"]
        assert evidence["blocks"] > 0 and evidence["block_share"] < 1
        shows(model, strategy, [step["index"] for step in steps if step["computed"]])
    assert not torch.equal(made.tensors["latents"], model.reference), "else nothing was skipped"
    assert torch.equal(model.denoised(model.options).tensors["latents"], model.reference)


def shows(model: Model, strategy: str, computed: list[int]) -> None:
    """The computed steps are those of the table; a second denoiser computes the first of its steps too."""
    expected = ACTING[strategy][1]
    if len(model.denoisers) == 1 and expected is not None:
        assert computed == expected
    assert set(expected or [1]) <= set(computed)


@pytest.mark.parametrize("strategy", ACTING)
@pytest.mark.parametrize("family", [*families(), *WHOLE])
def test_a_strategy_is_refused_in_one_line_or_runs(family: str, strategy: str, tmp_path: Path) -> None:
    plan = plan_of(config(family, composed()[2][strategy], tmp_path))
    if isinstance(plan, str):
        assert "\n" not in plan and ("cache" in plan) and ";" in plan, "what is wrong, and a way out"
        assert not list(tmp_path.iterdir())
    else:
        runs(family, strategy, plan)


def said(family: str, strategy: str) -> tuple[str, set[str]]:
    """`refused`, `calibration` or `runs`, and the rules that refuse it; with the model's own number of steps, and the
    strategy as shipped."""
    data = config(family, composed()[1][strategy], steps=None)
    plan = plan_of(data)
    bad = {word.rule for word in judge(typed(data)) if word.verdict == "bad"}
    if isinstance(plan, str):
        assert bool(bad) != (CALIBRATION in plan), plan
        return ("refused" if bad else "calibration"), bad
    return "runs", bad


def test_no_pair_is_left_out_and_the_table_of_support_is_true() -> None:
    """Nothing that the table promises is refused by the plan, nothing that it refuses would run."""
    assert set(ACTING) == {path.stem for path in (CONF / "cache").glob("*.yaml")} - {"none"}
    every = [*families(), *WHOLE]
    assert set(every) == set(names("model"))
    found: dict[str, Counter[str]] = {strategy: Counter() for strategy in ACTING}
    for family in every:
        model = families()[family][0] if family not in WHOLE else family
        graph = graph_of(families()[family][1]) if family not in WHOLE else f"text_to_{'video' if 'video' in family else 'image'}"
        for strategy in ACTING:
            word = shipped().word(model, graph=graph, cache=strategy)
            plain, rules = said(family, strategy)
            assert (word.mark == "no") == (plain == "refused"), (family, strategy, word, plain)
            acting = plan_of(config(family, composed()[2][strategy]))
            refused = isinstance(acting, str) and CALIBRATION not in acting
            assert refused == bool(rules - OF_THE_STEPS), (family, strategy, acting, rules)
            found[strategy][
                "refused" if refused else "calibration" if isinstance(acting, str) else "runs"
            ] += 1
    assert {s: (c["refused"], c["calibration"], c["runs"]) for s, c in found.items()} == COUNTS
    assert all(sum(counts) == len(every) for counts in COUNTS.values())


@pytest.mark.parametrize("family", ["wan", "sd"])
def test_nodes_of_groups_are_those_of_the_whole_config(family: str) -> None:
    """What the tests above put together is what Hydra composes."""
    model, one = families()[family]
    for strategy in ("teacache", "partial", "pab"):
        overrides = [f"model={model}", f"graph={graph_of(one)}", *SMALL, f"cache={strategy}", *ACTING[strategy][0]]
        overrides.append(f"steps={STEPS}")
        with composer(None):
            assert compose_job(overrides, overrides) == config(family, composed()[2][strategy])


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
        key = key_of(plan.config)
        save(calibrated(plan, key), folder / "calibrations" / file_name(key))
        return folder

    return made


@pytest.mark.parametrize(("family", "strategy"), CALIBRATED)
def test_with_a_calibration_of_the_run_it_runs(
    family: str, strategy: str, calibrations: Any, tmp_path: Path
) -> None:
    cache = deepcopy(composed()[2]["fbcache" if strategy == "fitted" else strategy])
    if strategy == "fitted":
        cache["predictor"] = {"name": "fitted"}
    without = plan_of(config(family, cache, tmp_path))
    plan = plan_of(config(family, cache, calibrations(family)))
    assert isinstance(plan, Plan), plan
    filled = [change for change in plan.changes if change.key.startswith("cache.")]
    assert filled
    if isinstance(without, str):
        assert CALIBRATION in without and all("calibration" in change.why for change in filled)
    else:
        assert all("published" in change.why for change in filled)
    runs(family, "fbcache" if strategy == "fitted" else strategy, plan)
    if strategy == "planned":
        assert plan.config.cache.criterion.computed == 3  # type: ignore[union-attr]
