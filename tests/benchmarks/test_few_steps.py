"""The tables of fewer steps are the committed results, and the rule on samplers without an image is what they say."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.few_steps import CACHE, EVALUATIONS, list_settings, list_steps, replace_settings
from benchmarks.few_steps_tables import DOCUMENT, OWN, choose_spacings, find_imageless, load, make_tables, read_cells
from benchmarks.marked import read_marked
from benchmarks.peers.prompts import calibration, fresh, judged
from benchmarks.readme import ROOT
from tests.models.shipped import config_of
from training.scenes import held_out, parse
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import deterministic_samplers
from wavespeed_runner.samplers.few_steps import NO_IMAGE
from wavespeed_runner.samplers.options import OPTIONS


def results(*settings: tuple[str, int, int, list[float]]) -> dict[str, Any]:
    """setting, evaluations, steps, SSIM of each image."""
    keys = ("setting", "evaluations", "steps", "ssim")
    return {"settings": [dict(zip(keys, setting, strict=True)) for setting in settings]}


def test_the_document_has_the_committed_figures() -> None:
    assert read_marked(DOCUMENT, "few steps") == make_tables(load())


def test_the_readme_has_the_committed_figures() -> None:
    """UniPC against fewer steps and the calibrated cache, and where each wins on the U-Net."""
    said = (ROOT / "README.md").read_text(encoding="utf-8")
    flux, unet = (read_cells(load()[name]) for name in ("demo", "demo_unet"))
    names = ("sampler=unipc", "sampler=euler", CACHE)
    unipc, euler, cache = (f"{flux[name][6].mean:.3f}".removeprefix("0") for name in names)
    assert f"(mean SSIM {unipc} at 6, Euler {euler}, `planned` {cache})" in said
    for count in EVALUATIONS:
        assert flux["sampler=unipc"][count].mean > max(flux["sampler=euler"][count].mean, flux[CACHE][count].mean)
        assert (unet[OWN["demo_unet"]][count].mean > unet[CACHE][count].mean) == (count < 8)
    assert "plain fewer steps win up to 6 evaluations and `planned` at 8" in said


def test_the_rule_is_what_was_measured() -> None:
    """On flow models every solver gives an image; on the U-Net not."""
    measured = load()
    assert find_imageless(measured["demo"]) == {} and find_imageless(measured["demo_unet"]) == NO_IMAGE


@pytest.mark.parametrize("model", OWN)
def test_every_deterministic_sampler_was_measured(model: str) -> None:
    family, cells = find_implementation("model", config_of(model)), read_cells(load()[model])
    assert {setting.split()[0] for setting in cells} == {
        CACHE,
        *(f"sampler={s}" for s in deterministic_samplers(family)),
    }
    assert set(cells) == {CACHE, *(name for name, _ in list_settings(family))}
    assert all(set(cells[name]) == set(list_steps(options)) for name, options in list_settings(family))


def test_prompts_are_judged_nowhere_else() -> None:
    prompts = fresh()
    others = {parse(prompt.text) for prompt in (*judged(), *calibration())}
    assert len({prompt.text for prompt in prompts}) == 48 and prompts == fresh()
    assert all(held_out(prompt.text) and parse(prompt.text) not in others for prompt in prompts)
    assert sum(len(parse(prompt.text).things) == 2 for prompt in prompts) == 24
    assert [prompt.seed for prompt in prompts] == list(range(2000, 2048))


def test_evaluations_are_calls_of_the_denoiser() -> None:
    assert list_steps(OPTIONS["unipc"]()) == {n: n for n in EVALUATIONS}
    assert list_steps(OPTIONS["heun"]()) == {3: 2, 5: 3, 7: 4}
    assert list_steps(OPTIONS["pndm"]()) == {3: 2, 4: 3, 5: 4, 6: 5, 8: 7}


def test_a_cell_is_mean_median_tenth_percentile_and_forks() -> None:
    (cell,) = read_cells(results(("sampler=euler", 4, 4, [1.0, 0.9, 0.8, 0.7])))["sampler=euler"].values()
    assert str(cell) == ".850 / .850 / .730 / 2"


def test_the_best_spacing_of_each_solver_is_shown() -> None:
    cells = read_cells(results(("sampler=a", 3, 3, [0.5]), ("sampler=a sampler.shift=3.0", 3, 3, [0.6])))
    assert list(choose_spacings(cells)) == ["sampler=a sampler.shift=3.0"]


def test_no_image_is_a_median_below_a_half() -> None:
    bad, good = [0.1, 0.2, 0.9], [0.1, 0.6, 0.9]
    found = find_imageless(
        results(
            ("sampler=a sampler.sigmas=beta", 3, 3, bad),
            ("sampler=a sampler.sigmas=beta", 4, 4, good),
            ("sampler=a sampler.sigmas=beta sampler.order=3", 4, 4, bad),
            ("sampler=heun", 5, 3, bad),
            ("sampler=b", 3, 3, good),
        )
    )
    assert found == {"a sigmas=beta": ((3,), (4,)), "a sigmas=beta order=3": ((4,), ()), "heun": ((3,), ())}


def test_results_are_those_of_the_command() -> None:
    for name, measured in load().items():
        assert measured["command"] == "OMP_NUM_THREADS=1 python -m benchmarks.few_steps" and measured["model"] == name
        assert [prompt["text"] for prompt in measured["prompts"]] == [prompt.text for prompt in fresh()]


def test_settings_are_replaced_whole_and_others_stay() -> None:
    before = results(("a", 3, 3, [0.5]), ("a", 4, 4, [0.6]), ("b", 3, 3, [0.7]))
    after = replace_settings({**before, "model": "x"}, results(("a", 3, 3, [0.9]))["settings"])
    assert after == {"model": "x", **results(("b", 3, 3, [0.7]), ("a", 3, 3, [0.9]))}
