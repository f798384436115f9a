"""Bounds: how they are typed, and what is known of images; against scipy, theory and simulation."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, norm

from wavespeed_runner.metrics.confidence import INTERVAL
from wavespeed_runner.tune.bounds import CONFIDENCE, STATISTICS, Bound, parse_bounds

KNOWN = ("ssim", "psnr", "mae", "mae_similarity")


def by_prompt(values: list[float]) -> dict[str, list[float]]:
    return {f"prompt {number}": [value] for number, value in enumerate(values)}


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("ssim>=0.97", [("ssim", "mean", True, 0.97)]),
        ("mean(ssim) >= 0.97", [("ssim", "mean", True, 0.97)]),
        ("p10(ssim)>=0.95, worst(ssim)>=0.9", [("ssim", "p10", True, 0.95), ("ssim", "worst", True, 0.9)]),
        ("ssim>=.97", None),
        ("mae<=2 and forks<=5%", [("mae", "mean", False, 2.0), ("forks", "share", False, 0.05)]),
        ("forks<=0.05", [("forks", "share", False, 0.05)]),
    ],
)
def test_what_is_typed(text: str, bounds: list[tuple[str, str, bool, float]] | None) -> None:
    if bounds is None:
        with pytest.raises(ValueError, match="is no bound"):
            parse_bounds(text, KNOWN)
        return
    assert [(b.metric, b.statistic, b.least, b.value) for b in parse_bounds(text, KNOWN)] == bounds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no bound"),
        ("ssim", "is no bound"),
        ("ssim=0.97", "is no bound"),
        ("ssim>0.97", "is no bound"),
        ("p10(ssim>=0.9", "is no bound"),
        ("sim>=0.9", "did you mean 'ssim'"),
        ("median10(ssim)>=0.9", "no such figure"),
        ("ssim<=0.9", "ssim>=VALUE"),
        ("mae>=2", "mae<=VALUE"),
        ("ssim>=97%", "without %"),
        ("forks<=0%", "cannot be known"),
        ("forks>=5%", "bounded from above"),
        ("worst(forks)<=5%", "bounded from above"),
        ("ssim>=0.9,ssim>=0.8", "bounded twice"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_bounds(text, KNOWN)


@given(st.sampled_from(KNOWN), st.sampled_from(STATISTICS), st.integers(0, 1000))
def test_a_bound_is_read_as_it_is_written(metric: str, statistic: str, thousandths: int) -> None:
    bound = Bound(metric=metric, statistic=statistic, least=metric != "mae", value=thousandths / 1000)
    assert parse_bounds(str(bound), KNOWN) == [bound]


def test_the_limit_of_a_share_is_scipy_s() -> None:
    for forks, of in ((0, 20), (3, 32), (32, 32)):
        values = by_prompt([1.0] * forks + [0.0] * (of - forks))
        (bound,) = parse_bounds("forks<=50%", KNOWN)
        interval = binomtest(forks, of).proportion_ci(2 * CONFIDENCE - 1, method="exact")
        assert bound.find_limit(values) == pytest.approx(interval.high)
        assert bound.can_hold(values) is (forks < of)
        assert bound.estimate(values) == forks / of


def test_so_many_prompts_are_needed_for_a_share() -> None:
    (bound,) = parse_bounds("forks<=5%", KNOWN)
    needed = bound.count_needed()
    # All zeros have no spread; the limit of a share is above them all the same.
    assert (
        bound.margin(by_prompt([0.0] * needed), INTERVAL) >= 0 > bound.margin(by_prompt([0.0] * (needed - 1)), INTERVAL)
    )


def test_so_many_prompts_are_needed_for_a_quantile() -> None:
    for text in ("p10(ssim)>=0.5", "median(ssim)>=0.5"):
        (bound,) = parse_bounds(text, KNOWN)
        needed = bound.count_needed()
        many = [0.9 + number / 1000 for number in range(needed)]
        assert bound.margin(by_prompt(many), INTERVAL) >= 0 > bound.margin(by_prompt(many[1:]), INTERVAL)


@pytest.mark.parametrize(("text", "true"), [("p10(ssim)>=0.9", 0.1**0.2), ("median(ssim)>=0.9", 0.5**0.2)])
def test_the_limit_of_a_quantile_is_right_in_nineteen_of_twenty_cases(text: str, true: float) -> None:
    (bound,) = parse_bounds(text, KNOWN)
    drawn = np.random.default_rng(0).beta(5, 1, (500, 40))
    lower = [bound.find_limit(by_prompt(row.tolist())) for row in drawn]
    assert (
        np.mean([limit <= true for limit in lower]) >= 0.94 and np.mean([limit > true - 0.35 for limit in lower]) > 0.9
    )


@pytest.mark.parametrize("count", [2, 4, 7])
def test_few_prompts_are_judged_by_a_t_interval(count: int) -> None:
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    drawn = np.random.default_rng(1).normal(0.9, 0.02, (400, count))
    assert np.mean([bound.find_limit(by_prompt(row.tolist())) <= 0.9 for row in drawn]) >= 0.92


def test_the_interval_is_what_a_first_judgement_goes_by() -> None:
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    values = by_prompt(np.random.default_rng(3).beta(9, 1, 32).tolist())
    low, high = bound.find_interval(values)
    assert low < bound.estimate(values) < high and low == bound.find_limit(values, INTERVAL)


def test_the_limit_of_a_mean_is_that_of_the_normal_distribution_for_many_prompts() -> None:
    values = np.random.default_rng(1).normal(0.9, 0.02, 2000).tolist()
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    expected = np.mean(values) - norm.ppf(CONFIDENCE) * np.std(values, ddof=1) / np.sqrt(2000)
    assert bound.find_limit(by_prompt(values)) == pytest.approx(expected, abs=1e-4)


def test_the_limit_is_right_in_about_nineteen_of_twenty_cases_also_for_few_skewed_values() -> None:
    """Beta(5, 1), as qualities are distributed: most near 1, some far below."""
    true = 5 / 6
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    drawn = np.random.default_rng(0).beta(5, 1, (300, 12))
    right = np.mean([bound.find_limit(by_prompt(row.tolist())) <= true for row in drawn])
    assert 0.92 <= right <= 0.99


def test_the_limit_is_about_right_where_one_image_in_ten_forks() -> None:
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    rng = np.random.default_rng(0)
    true, right = 0.9 * 0.99 + 0.1 * 0.65, []
    for _ in range(200):
        values = np.where(rng.random(64) < 0.1, rng.uniform(0.4, 0.9, 64), 1 - 0.03 * rng.random(64) ** 2)
        right.append(bound.find_limit(by_prompt(values.tolist())) <= true)
    assert 0.92 <= np.mean(right) <= 0.99


def test_the_limit_of_a_mean_is_scipy_s_bca_where_prompts_are_many() -> None:
    values = np.random.default_rng(2).beta(5, 1, 200)
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    theirs = bootstrap(
        (values,),
        np.mean,
        confidence_level=2 * CONFIDENCE - 1,
        n_resamples=20000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert bound.find_limit(by_prompt(values.tolist())) == pytest.approx(theirs.low, abs=1.5e-3)


def test_images_of_one_prompt_count_as_one_prompt() -> None:
    """The same image ten times tells nothing more of other prompts."""
    once = {str(number): [0.9 + number / 100] for number in range(9)}
    often = {prompt: values * 10 for prompt, values in once.items()}
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    assert bound.find_limit(once) == pytest.approx(bound.find_limit(often))
    uneven = {**once, "0": [0.9] * 10}
    assert bound.find_limit(uneven) < bound.find_limit(once)


def test_the_worst_is_that_of_the_images() -> None:
    (bound,) = parse_bounds("worst(ssim)>=0.9", KNOWN)
    assert bound.margin(by_prompt([0.99, 0.95, 0.91])) == pytest.approx(0.01)
    (bound,) = parse_bounds("worst(mae)<=3", KNOWN)
    assert bound.margin(by_prompt([1.0, 2.0, 3.5])) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("text", "values", "share"),
    [
        ("worst(ssim)>=0.98", [0.99, 0.97], 1.5),
        ("worst(mae)<=2", [1.0, 3.0], 1.5),
        ("worst(psnr)>=40", [40 - 20 * np.log10(1.5), 50.0], 1.5),
        ("worst(ssim)>=1", [1.0], 1.0),
        ("worst(ssim)>=1", [0.9], np.inf),
    ],
)
def test_the_share_of_what_may_be_lost_is_the_same_for_all_metrics(
    text: str, values: list[float], share: float
) -> None:
    """A PSNR lower by 20 log10(1.5) dB is an error of a pixel that is 1.5 times as large."""
    (bound,) = parse_bounds(text, KNOWN)
    assert bound.find_share(by_prompt(values)) == pytest.approx(share)


@given(st.sampled_from(["ssim>=0.9", "mae<=2", "psnr>=30", "mae_similarity>=0.95"]), st.floats(0.05, 1))
def test_a_tighter_bound_is_the_one_at_which_so_much_is_lost(text: str, share: float) -> None:
    (bound,) = parse_bounds(text, KNOWN)
    assert replace(bound, statistic="worst").find_share({"a": [bound.tighten(share).value]}) == pytest.approx(share)


def test_a_setting_is_given_up_where_it_keeps_the_bound_on_all_prompts_in_less_than_a_tenth_of_cases() -> None:
    """The limit of 128 normal values decides, and is guessed after 16 of them."""
    (bound,) = parse_bounds("ssim>=0.9", KNOWN)
    rng, kept = np.random.default_rng(5), {True: [], False: []}
    for mean in np.linspace(0.88, 0.93, 400):
        drawn = by_prompt(rng.normal(mean, 0.03, 128).tolist())
        first = dict(list(drawn.items())[:16])
        kept[bound.is_likely(first, 128)].append(bound.margin(drawn) >= 0)
    assert len(kept[False]) > 100 and np.mean(kept[False]) < 0.1 and np.mean(kept[True]) > 0.4
    assert bound.is_likely(by_prompt([0.0, 0.1]), 2)  # nothing is left to guess


def test_a_limit_that_is_not_known_yet_is_no_reason_to_give_up() -> None:
    (bound,) = parse_bounds("p10(ssim)>=0.9", KNOWN)
    assert bound.is_likely(by_prompt([0.95, 0.99, 0.5]), 64)


def test_the_interval_of_forks_is_that_of_a_share_whatever_it_is_called() -> None:
    """A row of the page has the mean of its first metric, which of forks is the share."""
    values = by_prompt([0.0] * 30 + [1.0] * 2)
    low, high = Bound(metric="forks", statistic="mean", least=False, value=0.0).find_interval(values)
    expected = binomtest(2, 32).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_a_bound_below_zero_gets_tighter_upwards() -> None:
    bound = Bound(metric="clip_score", statistic="mean", least=True, value=-0.5)
    assert bound.tighten(0.5).value == pytest.approx(-0.25) and bound.find_share({"a": [-0.25], "b": [-0.25]}) == 0.5


def test_no_image_has_more_decibels_than_its_reference() -> None:
    with pytest.raises(ValueError, match="7000 dB"):
        parse_bounds("psnr>=7000", KNOWN)


def test_no_image_is_more_like_its_reference_than_the_reference() -> None:
    for metric in ("ssim", "mae_similarity"):
        assert parse_bounds(f"{metric}>=1", KNOWN)
        with pytest.raises(ValueError, match=f"'{metric}>=97': an image like its reference has 1; {metric}>=0.97"):
            parse_bounds(f"{metric}>=97", KNOWN)


def test_no_limit_lies_beyond_the_largest_value_of_a_metric() -> None:
    """Student's t knows of none; a limit that is not known stays infinite."""
    ssim, psnr = (Bound(metric=name, statistic="mean", least=True, value=0.9) for name in ("ssim", "psnr"))
    few = by_prompt([0.7, 0.99, 0.99])
    assert psnr.find_interval(few)[1] > 1 and ssim.find_interval(few) == (psnr.find_interval(few)[0], 1.0)
    assert ssim.find_interval(by_prompt([0.9, 0.91, 0.9]))[1] < 1
    tail = Bound(metric="ssim", statistic="p10", least=True, value=0.9)
    assert tail.find_interval(few)[0] == -np.inf
