"""The rules: each speaks where it should, keeps silent where it should not, and its bad word stops the run."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner import rulebook
from wavespeed_runner.config import Config, typed
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.rulebook import RULES, Rule
from wavespeed_runner.rules import Spoken, judge, refuse_bad

Composed = Callable[..., dict[str, Any]]
Values = dict[str, Any]

FBCACHE = {"cache": "fbcache"}
EMBEDDED = {"model.guidance": "embedded"}
NO_GUIDANCE = {"model.guidance": "none", "model.guidance_scale": None, "guidance_scale": None}

CASES: dict[str, tuple[list[Values], list[Values]]] = {
    "steps-positive": ([{"steps": 0}, {"steps": -3}], [{"steps": 1}]),
    "size": ([{"width": 40}, {"height": 0}, {"height": -16}], [{"width": 16, "height": 1024}]),
    "too-much": ([{"steps": 1001}, {"width": 16400}, {"height": 10**8}], [{"steps": 1000, "width": 16384}]),
    "seed": ([{"seed": -1}, {"seed": 2**63}], [{"seed": 0}, {"seed": 2**63 - 1}]),
    "repeats": ([{"measure.repeats": 0}, {"measure.warmup": -1}], [{"measure.repeats": 1, "measure.warmup": 0}]),
    "difference-gain": ([{"measure.difference_gain": 0.0}, {"measure.difference_gain": -1.0}], [{}]),
    "device": (
        [{"device": "gpu"}, {"device": "cuda:x"}, {"device": ""}, {"device": "CPU"}],
        [{"device": device} for device in ("auto", "cpu", "cuda", "cuda:1", "mps")],
    ),
    "device-present": ([{"device": "cuda"}, {"device": "cuda:1"}], [{"device": "cpu"}, {"device": "auto"}]),
    "device-mps": ([{"device": "mps"}], [{"device": "cpu"}]),
    "num-frames": ([{"num_frames": 5}], [{"num_frames": None}]),
    "guidance-negative": ([{"guidance_scale": -0.5}], [{"guidance_scale": 0.0}, NO_GUIDANCE]),
    "guidance-below-one": (
        [{"guidance_scale": 0.5}, {"guidance_scale": 0.0}],
        [{"guidance_scale": 1.0}, EMBEDDED | {"guidance_scale": 0.5}],
    ),
    "guidance-none": ([NO_GUIDANCE | {"guidance_scale": 3.5}], [NO_GUIDANCE, EMBEDDED | {"guidance_scale": 3.5}]),
    "negative-prompt": (
        [{"negative_prompt": "x"}, {"negative_prompt": "x", "guidance_scale": 3.5} | EMBEDDED],
        [{"negative_prompt": "x", "guidance_scale": 3.5}, {"negative_prompt": ""}],
    ),
    "sampler-fits": ([{"family.samplers": ()}], [{"family.samplers": ("default",)}]),
    "stochastic-sampler-cache": (
        [FBCACHE | {"sampler": "euler_stochastic"}],
        [FBCACHE | {"sampler": "euler"}, {"sampler": "euler_stochastic"}],
    ),
    "cache-off": (
        [{"cache.start": 0.1}, {"cache.max_consecutive_cache_hits": 3}],
        [{}, FBCACHE | {"cache.start": 0.1}],
    ),
    "cache-attaches": ([FBCACHE | {"family.blocks": None}], [FBCACHE, {"family.blocks": None}]),
    "cache-parts": ([FBCACHE | {"cache.signal": None}], [FBCACHE, {"cache.signal": None}]),
    "cache-head": ([FBCACHE | {"cache.signal.blocks": 0}], [FBCACHE | {"cache.signal.blocks": 2}]),
    "cache-one": ([FBCACHE], [{}, FBCACHE | {"family.blocks": None}]),
    "threshold": ([FBCACHE | {"cache.criterion.threshold": -0.1}], [FBCACHE | {"cache.criterion.threshold": 0.0}]),
    "threshold-twice": ([FBCACHE | {"cache.criterion.threshold": 0.5}], [FBCACHE, {}]),
    "threshold-zero": ([FBCACHE | {"cache.criterion.threshold": 0.0}], [FBCACHE]),
    "window-order": (
        [
            FBCACHE | {"cache.start": start, "cache.end": end}
            for start, end in ((0.8, 0.2), (0.5, 0.5), (-0.1, 1), (0, 2))
        ],
        [FBCACHE, {"cache.start": 0.8, "cache.end": 0.2}],
    ),
    "window-empty": (
        [FBCACHE | {"cache.start": 0.99}, FBCACHE | {"cache.end": 0.01}, FBCACHE | {"steps": 1}],
        [FBCACHE, FBCACHE | {"cache.start": 0.8, "cache.end": 0.2}, FBCACHE | {"steps": 0}],
    ),
    "hit-limit": (
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (0, -2)],
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (-1, 1)],
    ),
    "few-steps": ([FBCACHE | {"steps": 8}], [FBCACHE | {"steps": 9}, {"steps": 8}]),
    "half-on-cpu": ([{"model.dtype": "bfloat16"}], [{"model.dtype": "float32"}]),
    "tiny-quality": ([{"model.init": "tiny"}, {"model.init": "random"}], [{"model.init": "pretrained"}]),
}
"""Rule -> configurations of which it speaks, and others of which it does not."""


@pytest.fixture
def judged(composed: Composed, own_registry: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Values], list[Spoken]]:
    """What is said of the tiny model with these values, on a Linux machine without a GPU."""
    monkeypatch.setattr(rulebook, "has_cuda", lambda: False)
    monkeypatch.setattr(rulebook, "platform", "linux")
    monkeypatch.setattr(rulebook, "resolve_device", lambda device: "cpu" if device == "auto" else device)

    entry = own_registry["model", "flux"]

    def said(values: Values) -> list[Spoken]:
        data = composed(*(f"{group}={values[group]}" for group in ("cache", "sampler") if group in values))
        data["steps"] = 30
        family = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("family.")}
        own_registry["model", "flux"] = replace(entry, implementation=replace(entry.implementation, **family))
        for key, value in values.items():
            if key not in ("cache", "sampler") and not key.startswith("family."):
                put(data, key, value)
        return judge(typed(data))

    return said


def put(data: Values, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        data = data[name]
    data[last] = value


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_speaks_where_it_should_and_only_there(judged: Callable[[Values], list[Spoken]], rule: Rule) -> None:
    assert rule.id in CASES, f"give the rule {rule.id} a case"
    speaks, silent = CASES[rule.id]
    for values in speaks:
        words = [word for word in judged(values) if word.rule == rule.id]
        assert len(words) == 1, values
        assert words[0].verdict == rule.verdict and "{" not in words[0].message + words[0].fix
    for values in silent:
        assert rule.id not in [word.rule for word in judged(values)], values


def test_every_case_is_of_a_rule() -> None:
    assert set(CASES) == {rule.id for rule in RULES} and len(RULES) == len(CASES)


def test_every_bad_rule_gives_a_way_out() -> None:
    assert [rule.id for rule in RULES if rule.verdict != "good" and not rule.fix] == []


def test_a_bad_word_stops_with_its_fix(judged: Callable[[Values], list[Spoken]]) -> None:
    with pytest.raises(ConfigError, match="steps=0: at least 1 is needed; steps=28 is the model's own"):
        refuse_bad(judged({"steps": 0, "model.steps": 28}))


def test_good_and_unverified_words_do_not_stop(judged: Callable[[Values], list[Spoken]]) -> None:
    spoken = judged(FBCACHE | {"steps": 8})
    assert {word.verdict for word in spoken} == {"good", "unverified"}
    refuse_bad(spoken)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "key", ["cache.criterion.threshold", "cache.start", "guidance_scale", "measure.difference_gain"]
)
def test_no_number_may_be_infinite_or_none(judged: Callable[[Values], list[Spoken]], key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key}=.*: a finite number is needed"):
        judged(FBCACHE | {key: value})


@pytest.fixture(scope="module")
def plain(composed: Composed) -> Config:
    return typed(composed("cache=fbcache"))


@given(st.integers(-10, 100), st.integers(-32, 200), st.floats(), st.floats(), st.floats(), st.integers(-3, 50))
def test_judging_never_fails(
    plain: Config, steps: int, width: int, start: float, end: float, threshold: float, limit: int
) -> None:
    config = deepcopy(plain)
    config.steps, config.width = steps, width
    config.cache.start, config.cache.end, config.cache.max_consecutive_cache_hits = start, end, limit
    config.cache.criterion.threshold = threshold  # type: ignore[union-attr]
    config.cache.residual_diff_threshold = threshold  # type: ignore[attr-defined]
    try:
        spoken = judge(config)
        refuse_bad(spoken)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert steps >= 1 and width % 16 == 0 and 0 <= start < end <= 1 and threshold >= 0
