"""Published step masks: cache-dit's for any number of steps, and LeMiCa's lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria.published import StepMask, load_masks

POLICIES = ("slow", "medium", "fast", "ultra")
LISTS = [mask for mask in load_masks().values() if mask.steps is not None]


def write_mask(policy: str, steps: int) -> str:
    """A mask of cache-dit as it prints it; empty if there is none."""
    computed = load_masks()[f"cache_dit_{policy}"].choose(steps)
    return "".join("1" if step in computed else "0" for step in range(1, steps + 1)) if computed else ""


@pytest.mark.parametrize(
    ("policy", "bits"),
    [
        ("slow", "1111111101110011100110010001"),
        ("medium", "1111110110001100011000110001"),
        ("fast", "1111110100010000100000100001"),
        ("ultra", "1111001000001000000100000001"),
        ("fast", "11111101000000000001"),
        ("ultra", "11110000000000000001"),
        ("slow", "111110111"),
        ("ultra", "11001001"),
        ("fast", "111001"),
        ("medium", "1101"),
    ],
)
def test_cache_dits_masks_as_it_prints_them(policy: str, bits: str) -> None:
    assert write_mask(policy, len(bits)) == bits


def test_five_and_seven_steps_have_no_mask() -> None:
    assert [steps for steps in range(4, 80) if not write_mask("fast", steps)] == [5, 7]
    assert load_masks()["cache_dit_fast"].fits == "4, 6, 8 or more"


def replay_cache_dit(policy: str, steps: int) -> str:
    """cache-dit's formula from its description, on text: letters of alternating runs, cut or stretched."""
    tables = load_masks()[f"cache_dit_{policy}"].runs
    size = next((size for size in sorted(tables) if size >= steps), 28)
    ones, zeros = (list(lengths) for lengths in tables[size])
    original = list(ones), list(zeros)
    turn = 0
    while sum(ones) + sum(zeros) < steps:  # 1st run of ones, 1st of zeros, 2nd of ones, ..., then the last run of ones
        pair, kind = divmod(turn % (2 * min(len(ones), len(zeros)) + 1), 2)
        if pair == min(len(ones), len(zeros)):
            ones[-1] += 1
        else:
            growth = int(original[kind][pair] * ((steps / 28) * 0.5))
            (ones, zeros)[kind][pair] += growth if growth > 1 else 1
        turn += 1
    turn = 0
    while sum(ones) + sum(zeros) > steps:
        runs = (zeros, ones)[turn % 2]
        turn += 1
        if runs:
            runs[-1] -= 1
            if runs[-1] == 0:
                del runs[-1]
    text = ""
    for index in range(max(len(ones), len(zeros))):
        text += "1" * (ones[index] if index < len(ones) else 0) + "0" * (zeros[index] if index < len(zeros) else 0)
    return text[:-1] + "1"


@given(st.sampled_from(POLICIES), st.integers(8, 300))
def test_other_numbers_of_steps_follow_the_formula(policy: str, steps: int) -> None:
    assert write_mask(policy, steps) == replay_cache_dit(policy, steps)


@pytest.mark.parametrize("policy", POLICIES)
def test_listed_runs_have_as_many_steps_as_they_say(policy: str) -> None:
    for steps, (computed, cached) in load_masks()[f"cache_dit_{policy}"].runs.items():
        assert sum(computed) + sum(cached) == steps


@pytest.mark.parametrize("mask", LISTS, ids=lambda mask: mask.name)
def test_a_list_of_lemica_is_complete(mask: StepMask) -> None:
    assert list(mask.computed) == sorted(set(mask.computed)) and mask.computed[0] == 1
    assert mask.computed[-1] == mask.steps == int(mask.fits)
    assert mask.choose(mask.steps) == list(mask.computed) and mask.choose(mask.steps - 1) is None
    assert mask.repos and mask.made_for.predictor == "reuse" and mask.source.startswith("https://github.com/")
    budget = mask.name.rpartition("_")[2]
    assert not budget.isdigit() or len(mask.computed) == int(budget)


@pytest.mark.parametrize(
    ("name", "count"),
    [("flux_slow", 26), ("flux_ultra", 10), ("flux2_fast", 15), ("qwen_image_medium", 17), ("z_image_turbo_slow", 7)],
)
def test_a_list_computes_as_many_steps_as_published(name: str, count: int) -> None:
    assert len(load_masks()[f"lemica_{name}"].computed) == count
