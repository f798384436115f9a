"""Published values: every row is well formed, has its source, and belongs to the model it was measured on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria import published
from wavespeed_runner.caching.criteria.published import (
    WATCHED,
    TeaCachePolynomial,
    find_polynomial,
    find_ratios,
    find_usable_range,
    load_polynomials,
    load_ratios,
)
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError

ROWS = pytest.mark.parametrize("item", load_polynomials(), ids=lambda item: f"{item.name}-{item.variant}")


def read_repo(model: str) -> str:
    return str(yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())["repo"])


@pytest.mark.parametrize(
    ("model", "variants"),
    [
        ("flux", [None]),
        ("hunyuan_video15", [None]),
        ("hunyuan_video15_i2v", [None]),
        ("qwen_image", [None]),
        ("hunyuan_video", [None]),
        ("hidream", [None]),
        ("hidream_dev", [None]),
        ("hidream_fast", [None]),
        ("lumina2", [None, "comfy", "v1"]),
        ("wan21", [None, "ret_steps"]),
        ("wan21_14b", [None, "ret_steps"]),
        ("wan21_i2v_480p", [None, "ret_steps"]),
        ("wan21_i2v_720p", [None, "ret_steps"]),
        ("wan22_5b", [None]),
        ("cogvideox", [None]),
        ("cogvideox_2b", [None]),
        ("cogvideox_i2v", [None]),
    ],
)
def test_models_with_their_own_polynomial(model: str, variants: list[str | None]) -> None:
    repo = read_repo(model)
    assert sorted((item.variant for item in load_polynomials() if repo in item.repos), key=str) == sorted(
        variants, key=str
    )
    for variant in variants:
        row = find_polynomial(repo, variant)
        special_names = {"hidream": "hidream_full", "cogvideox": "cogvideox_5b"}
        special_names |= {"hunyuan_video15": "hunyuan_video15_480p_t2v"}
        assert row is not None and row.name == special_names.get(model, row.name)


@pytest.mark.parametrize(
    "model", ["flux_schnell", "flux2", "ltx_video", "ltx_video_095", "hunyuan_video_i2v", "demo", "sdxl"]
)
def test_nothing_is_borrowed_from_a_related_model(model: str) -> None:
    assert find_polynomial(read_repo(model)) is None and find_ratios(read_repo(model)) is None


def test_another_variant_has_no_row() -> None:
    assert find_polynomial("black-forest-labs/FLUX.1-dev", "ret_steps") is None


def test_no_repository_has_two_rows_of_one_variant() -> None:
    keys = [(repo, item.variant) for item in load_polynomials() for repo in item.repos]
    assert len(keys) == len(set(keys))


def test_flux_as_its_authors_wrote_it() -> None:
    row = find_polynomial("black-forest-labs/FLUX.1-dev")
    assert row is not None
    assert row.coefficients == (4.98651651e02, -2.83781631e02, 5.58554382e01, -3.82021401e00, 2.64230861e-01)
    assert row.speedups == {0.25: 1.5, 0.4: 1.8, 0.6: 2.0, 0.8: 2.25} and row.watched == "modulated_input"


@ROWS
def test_a_row_is_complete(item: TeaCachePolynomial) -> None:
    assert len(item.coefficients) in (5, 6) and np.isfinite(item.coefficients).all()
    assert item.watched in WATCHED and item.source.startswith("https://github.com/")
    speedups = [item.speedups[threshold] for threshold in sorted(item.speedups)]
    assert speedups == sorted(speedups) and all(speedup > 1 for speedup in speedups)


def test_the_steps_that_a_source_names_are_there() -> None:
    """It names none of the first CogVideoX: the script's are those of 1.5."""
    rows = [row for row in (*load_polynomials(), *load_ratios()) if row.repos]
    without = {row.name for row in rows if row.made_for.steps is None}
    assert without == {"cogvideox_2b", "cogvideox_5b", "cogvideox_5b_i2v"}


def test_speedups_of_any_model_are_none_of_these_weights() -> None:
    row = find_polynomial("Qwen/Qwen-Image")
    assert row is not None and row.speedups == {}
    assert [(setting.threshold, setting.speedup) for setting in row.settings] == [(0.2, 1.91), (0.4, None), (0.6, None)]


@ROWS
def test_in_its_range_a_polynomial_is_not_negative(item: TeaCachePolynomial) -> None:
    low, high = item.range
    assert 0 <= low < high <= 1
    inside = np.linspace(low, high, 4001)
    assert np.polyval(item.coefficients, inside).min() >= -1e-6
    if low > 0:
        assert np.polyval(item.coefficients, np.linspace(0, low - 2e-4, 101)).max() < 0
    if high < 1:
        slope = np.polyval(np.polyder(np.array(item.coefficients)), [high - 5e-4, high + 5e-4])
        assert slope[0] > 0 > slope[1], "its upper end is a peak"


@given(st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=2, max_size=5).map(tuple))
def test_a_range_ends_where_values_turn_negative_or_at_one(coefficients: tuple[float, ...]) -> None:
    grid = np.arange(10001) / 10000
    values = np.array([published.evaluate_polynomial(coefficients, float(x)) for x in grid])
    if (values < 0).all():
        with pytest.raises(ValueError, match="negative on all"):
            find_usable_range(coefficients)
        return
    low, high = find_usable_range(coefficients)
    inside = (grid >= low) & (grid <= high)
    assert (values[inside] >= 0).all() and (values[grid < low] < 0).all()
    above = values[grid > high]
    if (above < 0).any():
        falling = above[: int(np.argmax(above < 0)) + 1]
        assert all(after <= before for before, after in pairwise([values[inside][-1], *falling]))


def test_the_polynomial_of_ltx_video_belongs_to_version_091() -> None:
    assert find_polynomial("a-r-r-o-w/LTX-Video-0.9.1-diffusers") is not None
    assert find_polynomial("Lightricks/LTX-Video") is None


def test_settings_in_the_own_window_come_first_and_others_keep_theirs() -> None:
    row = find_polynomial("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "ret_steps")
    assert row is not None
    own, other = row.settings[0], row.settings[-1]
    assert (own.threshold, own.warmup_steps, own.force_last_step, own.expectation) == (0.05, 5, False, "1.6x")
    assert (other.threshold, other.start, other.warmup_steps, other.speedup) == (0.15, 0.1, 0, 2.2)
    assert "ComfyUI-TeaCache" in other.source and row.made_for.shift == 5.0 and row.made_for.steps == 50


def test_the_ratios_equal_those_of_diffusers() -> None:
    from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS

    published_ratios = find_ratios("black-forest-labs/FLUX.1-dev")
    assert published_ratios is not None and list(published_ratios.ratios) == pytest.approx(
        FLUX_MAG_RATIOS.tolist(), abs=1e-7
    )


def test_a_misspelt_mask_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lemica_flux_fast'"):
        published.find_mask("lemica_flux_fats")
