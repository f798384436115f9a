"""`support`: what is known to work with a model can be typed, and comes with its source."""

from __future__ import annotations

import re
from argparse import Namespace

import pytest

from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.cli.support_check import Combinations
from wavespeed_runner.cli.support_known import describe_known
from wavespeed_runner.cli.support_table import table as support
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.report.published import read_published
from wavespeed_runner.rules.check import apply_rules
from wavespeed_runner.sweeps.jobs import plan_jobs

ROW = re.compile(
    r"\| `(?P<model>\w+)` \| `(?P<setting>[^`]+)` \| (?P<published>[^|]+) \| <(?P<source>https://[^>]+)> \|"
)


@pytest.fixture(scope="module")
def table() -> str:
    return describe_known(
        Combinations(["flux", "wan21", "hunyuan_video", "qwen_image", "hidream", "hidream_fast", "demo", "sdxl"])
    )


def test_every_published_setting_can_be_planned_with_its_model(table: str) -> None:
    rows = [match.groupdict() for line in table.splitlines() if (match := ROW.fullmatch(line))]
    assert len(rows) >= 20 and {row["model"] for row in rows} == {
        *("flux", "wan21", "hunyuan_video", "qwen_image", "hidream")
    }, "hidream_fast's polynomial is of what is not watched here"
    for row in rows:
        overrides = [f"model={row['model']}", *row["setting"].split(), "prompt=x", "dry_run=true"]
        (job,) = plan_jobs(Namespace(overrides=overrides, config_dir=None, multirun=False))
        assert job.plan is not None, (row, job.skipped)


@pytest.fixture(scope="module")
def all_rows() -> list[dict[str, str]]:
    table = describe_known(Combinations())
    return [match.groupdict() for line in table.splitlines() if (match := ROW.fullmatch(line))]


def test_every_published_setting_is_the_published_run_as_it_is_typed(all_rows: list[dict[str, str]]) -> None:
    """The plan says so, and what was measured there; of SeaCache, whose authors watch something else, it says that.

    So of the only one that was made with a sampler that is none of ours.
    """
    assert len(all_rows) >= 80
    with composer(None):
        for row in all_rows:
            overrides = [f"model={row['model']}", *row["setting"].split()]
            config = resolve_config(compose_job(overrides, overrides))
            config, _ = resolve_cache_numbers(config, find_implementation("model", config.model))
            found = {finding.rule: finding.message for finding in apply_rules(config)}
            if "cache=seacache" in row["setting"]:
                assert (
                    "published for cache/signal=filtered modulated input (here filtered_latents), cache/predictor"
                    in (found["published-differs"])
                ), row
            elif "; with a rule of its script" in row["published"]:
                assert row["model"] in ("wan22", "wan22_i2v")
                assert row["published"].partition("; with ")[2] in found["published-differs"]
            elif "cache.variant=comfy" in row["setting"]:
                assert "published for sampler=res_multistep (here default); " in found["published-differs"], row
            else:
                said = "no figures" if row["published"] == "recommended" else row["published"]
                assert said in found.get("published-same", ""), (row, found.get("published-differs"))


def test_settings_name_what_the_models_option_has_otherwise(all_rows: list[dict[str, str]]) -> None:
    rows = {(row["model"], row["published"]): row["setting"] for row in all_rows}
    assert rows["hunyuan_video", "2.8x (A800, 20:10 to 7:17 min)"].endswith("_hits=6 width=960 height=544")
    assert rows["hunyuan_video", "2.8x (A800, 54:05 to 19:33 min)"].endswith("_hits=6")
    assert rows["qwen_image", "1.75x (ComfyUI)"].endswith("cache.max_consecutive_cache_hits=2 steps=40")
    assert rows["flux", "2.8x (A800, 14.26 to 5.05 s)"].endswith("cache.criterion.always_computed=[12]")
    assert rows["wan21", "2.8x (A800, 189 to 68 s, PSNR 18.93)"].endswith("_hits=4 guidance_scale=5 model.shift=5")


def test_a_polynomial_for_what_is_not_watched_here_is_not_listed(all_rows: list[dict[str, str]]) -> None:
    """Of the input of HiDream's blocks: `cache=teacache` refuses it."""
    models = {row["model"] for row in all_rows}
    assert "hidream" in models and not models & {"hidream_dev", "hidream_fast"}


def test_what_was_made_with_other_weights_is_not_listed(all_rows: list[dict[str, str]]) -> None:
    """The script of TeaCache for Lumina2 loads another denoiser than that of the repository."""
    (setting,) = (row["setting"] for row in all_rows if row["model"] == "lumina2" and "teacache" in row["setting"])
    assert "cache.variant=comfy" in setting and setting.endswith("steps=30 model.cfg_trunc_ratio=1")


def test_known_figures_are_there(table: str) -> None:
    assert "| `flux` | `cache=teacache cache.rel_l1_thresh=0.6` | 2x | <https://github.com/ali-vilab/TeaCache/" in table
    assert (
        "`demo` has a calibration (demo (shipped))" in table and "`sampler=fitted` with 3, 4, 5, 6, 7, 8, 10" in table
    )
    assert "tune model=NAME" in table


def test_a_model_of_which_nothing_is_known_is_told() -> None:
    said = describe_known(Combinations(["sdxl"]))
    assert "None is published for these." in said
    assert (
        "- `sdxl` as it is set in Comfy-WaveSpeed, ComfyUI, LightDiffusion-Next, pruna: `support --coming-from`" in said
    )


def test_first_block_cache_is_known_with_the_figures_of_the_published_times(table: str) -> None:
    """What `support --published` has of one GPU and a cache alone, `support flux` offers as something to type."""
    for row in read_published():
        if (match := re.fullmatch(r"First Block Cache ([\d.]+)", row.method)) and row.speedup and row.seconds:
            (line,) = (
                x for x in table.splitlines() if f"fbcache cache.residual_diff_threshold={float(match[1]):g}`" in x
            )
            there = re.search(r"\| ([\d.]+)x \(L20, 26.36 to ([\d.]+) s", line)
            assert there and float(there[1]) == pytest.approx(row.speedup, abs=0.02)
            assert float(there[2]) == row.seconds


def test_a_model_that_was_asked_for_has_what_is_known_of_it_first() -> None:
    """And no table of other models."""
    said = support(Combinations(["sdxl"]), named=True)
    heads = re.findall(r"^## (.*)", said, re.MULTILINE)
    assert heads[0] == "What is known to work" and heads.count(heads[0]) == 1 and "Accelerations in pairs" in heads
    assert "| pair |" not in said and "wan21" not in said and "`dry_run=true`" in said
