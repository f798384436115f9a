"""Calibrations and quantization: whose numbers a quantized run takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.caching.test_calibration_resolve import composing, config, demo, fill
from wavespeed_runner.caching.calibration.data import build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.caching.calibration.find import find_calibration
from wavespeed_runner.errors import ConfigError, Unfit

__all__ = ["composing", "demo"]


def test_a_quantized_run_takes_its_own_calibration_or_says_that_it_has_none(demo, tmp_path):
    overrides = ("cache=teacache", "quant=int8_wo", f"outputs={tmp_path}")
    given, resolved = fill(config(*overrides))
    assert given.cache.criterion.coefficients == demo.polynomial.coefficients
    assert resolved[0].why == "calibration demo (shipped), made without quantization"
    assert "quant=int8_wo" in given.cache.calibrated_for
    (tmp_path / "calibrations").mkdir()
    own = replace(demo, key=build_key(given), polynomial=replace(demo.polynomial, coefficients=[1.0] * 5))
    save(own, tmp_path / "calibrations" / "own.yaml")
    given, resolved = fill(config(*overrides))
    assert given.cache.criterion.coefficients == [1.0] * 5 and "without" not in resolved[0].why
    for other in ("quant=none", "quant=int8_dq"):  # never that of another scheme
        assert fill(config(*overrides, other))[0].cache.criterion.coefficients == demo.polynomial.coefficients


def test_a_named_calibration_may_be_made_without_quantization():
    named = ("cache=teacache", "cache.calibration=pkg://wavespeed_runner/calibrations/demo.yaml")
    assert fill(config(*named, "quant=int8_wo"))[1][0].why.endswith("demo.yaml, made without quantization")
    with pytest.raises(ConfigError, match="steps=28, this run has 20"):
        fill(config(*named, "quant=int8_wo", "steps=20"))


def test_numbers_that_were_filled_in_without_quantization_are_still_good():
    """Resolved configs of records carry them."""
    plain, _ = fill(config("cache=teacache"))
    given = config("cache=teacache", "quant=int8_wo")
    carried = replace(given, cache=replace(plain.cache))
    assert "quant" not in carried.cache.calibrated_for
    assert fill(carried) == (carried, [])
    with pytest.raises(ConfigError, match=r"cache\.calibrated_for="):
        fill(replace(carried, quant=given.quant, model=replace(given.model, repo="a/b")))


def test_a_search_takes_none_that_was_made_without(tmp_path):
    given = config("cache=planned", "quant=int8_wo", f"outputs={tmp_path}")
    with pytest.raises(Unfit, match="quant=null, this run has int8_wo"):
        find_calibration(given, "a search needs a calibration", exact=True)
