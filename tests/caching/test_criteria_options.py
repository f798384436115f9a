"""Options of criteria: wrong values are refused with their key, and YAML files hold the defaults of the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio, MagnitudeRatioCriterion
from wavespeed_runner.caching.criteria.schedules import Budget, Interval, Never, Spacing
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import (
    AccumulatedChange,
    AccumulatedPolynomial,
    AccumulatedPolynomialCriterion,
    PredictedChange,
)
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import PartConfig
from wavespeed_runner.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (Interval, {"interval": 0}, "cache.criterion.interval=0: 1 or more"),
        (Interval, {"power": 1.0}, "cache.criterion.power=1.0: above 1"),
        (Interval, {"center": -1}, "cache.criterion.center=-1"),
        (Interval, {"center": 20}, "cache.criterion.center=20 cache.criterion.power=1.4: they could not take effect"),
        (Steps, {"computed": []}, "cache.criterion.computed=[]"),
        (Steps, {"computed": [2, 3]}, "cache.criterion.computed=[2, 3]: steps in order, each once, from 1 on"),
        (Steps, {"computed": [1, 3, 3]}, "cache.criterion.computed=[1, 3, 3]"),
        (Steps, {"computed": [1, 3], "mask": "101"}, "only one of the two"),
        (Steps, {"computed": [1, 9], "of": 8}, "cache.criterion.of=8: the list goes on to step 9"),
        (Steps, {"mask": "101", "of": 3}, "cache.criterion.of=3: only with cache.criterion.computed"),
        (Steps, {"mask": "0111"}, "cache.criterion.mask=0111: must begin with 1"),
        (Steps, {"mask": ""}, "cache.criterion.mask=: must begin with 1"),
        (Budget, {"computed": 5}, "cache.criterion.computed=5 cache.criterion.share=0.4: one of the two"),
        (Budget, {"share": None}, "cache.criterion.computed=None cache.criterion.share=None: one of the two"),
        (Budget, {"share": 0.0}, "cache.criterion.share=0.0: above 0"),
        (Budget, {"computed": 0, "share": None}, "cache.criterion.computed=0: 1 step or more"),
        (Budget, {"warmup": 0}, "cache.criterion.warmup=0"),
        (Budget, {"power": 0.5}, "cache.criterion.power=0.5"),
        (Budget, {"largest_gap": 0}, "cache.criterion.largest_gap=0"),
        (AccumulatedPolynomial, {"coefficients": []}, "cache.criterion.coefficients=[]: at least one number"),
        (AccumulatedPolynomial, {"range": [0.2]}, "cache.criterion.range=[0.2]: [lowest, highest]"),
        (AccumulatedPolynomial, {"range": [0.2, 0.1]}, "cache.criterion.range=[0.2, 0.1]"),
        (AccumulatedPolynomial, {"range": [-0.1, 0.1]}, "cache.criterion.range=[-0.1, 0.1]"),
        (MagnitudeRatio, {"ratios": []}, "cache.criterion.ratios=[]: numbers above 0"),
        (MagnitudeRatio, {"ratios": [1.0, 0.0]}, "cache.criterion.ratios=[1.0, 0.0]"),
    ],
)
def test_wrong_values_are_refused_with_their_key(options: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**values)
    assert message in str(caught.value)


def test_values_that_a_calibration_provides_are_required() -> None:
    with pytest.raises(ConfigError, match=r"cache\.criterion\.coefficients=null: .*calibrate it, give .*seacache"):
        AccumulatedPolynomialCriterion(AccumulatedPolynomial())
    with pytest.raises(ConfigError, match=r"cache\.criterion\.ratios=null: .*calibrate it"):
        MagnitudeRatioCriterion(MagnitudeRatio())


BITS = "1110100"


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (("steps", f"mask={BITS}"), Steps(mask=BITS)),  # YAML and Hydra would read it as a number
        (("steps", "mask=cache_dit_fast"), Steps(mask="cache_dit_fast")),
        (("steps", "computed=[1,2,5]", "of=7"), Steps(computed=[1, 2, 5], of=7)),
        (("budget", "computed=4", "share=null"), Budget(computed=4, share=None)),
        (("interval", "spacing=non_uniform"), Interval(start=0.25, spacing=Spacing.non_uniform)),
        (("accumulated_polynomial",), AccumulatedPolynomial()),
        (
            ("accumulated_polynomial", "coefficients=[2,-1.5,0]", "range=[0,0.5]"),
            AccumulatedPolynomial(coefficients=[2.0, -1.5, 0.0], range=[0.0, 0.5]),
        ),
        (("magnitude_ratio", "ratios=[1,1.2]"), MagnitudeRatio(ratios=[1.0, 1.2])),
        (("accumulated_change",), AccumulatedChange()),
        (("predicted_change",), PredictedChange()),
        (("never",), Never()),
    ],
)
def test_options_from_yaml_and_the_command_line(
    composed: Callable[..., dict[str, Any]], overrides: tuple[str, ...], options: PartConfig
) -> None:
    """The option file has the defaults of its class, and an override reaches it."""
    name, *keys = overrides
    given = [f"cache.criterion.{key}" for key in keys]
    config = resolve_config(composed("cache=custom", f"cache/criterion={name}", "cache.start=0.25", *given))
    assert config.cache.criterion == options
