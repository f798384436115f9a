"""Words of TeaCache, DeepCache, TaylorSeer, cache-dit, pruna and of ComfyUI's loaders, and windows in percent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.cli.support_coming_from import read_tools
from wavespeed_runner.config.familiar_caches import RET_STEPS


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


RET = " ".join(f"cache.{key}" for key in RET_STEPS)
NODE = "(ComfyUI-TeaCache's node as a whole also needs cache.include_end, cache.criterion.outside_window, "
SAID = {
    "model=wan21 use_ret_steps=true": f"here it is cache=teacache {RET} (docs/coming_from.md)",
    "model=wan21 cache=teacache cache.use_ret_steps=true": f"here it is {RET} (docs/coming_from.md)",
    "model=wan21 use_ret_steps=false": "leave it out: cache=teacache is without them",
    "model=flux use_ret_steps=true": "which is refused: cache.variant=ret_steps: this model knows none",
    "model=sdxl deepcache_interval=2": "here it is cache=deepcache cache.interval=2",
    "model=sdxl cache_branch_id=1": "here it is cache=deepcache cache.depth=1",
    "model=sdxl cache=deepcache cache.cache_branch_id=1": "here it is cache.depth=1",
    "model=flux enable_taylorseer=true": "here it is cache=dbcache cache/predictor=taylor",
    "model=flux enable_taylorseer=false": "leave it out: no cache is chosen, so nothing is predicted",
    "model=flux cache=none cache.enable_taylorseer=false": "leave it out: no cache is chosen, so nothing is predicted",
    "model=flux cache=dbcache enable_taylorseer=false": "here it is cache/predictor=reuse",
    "model=flux cache=dbcache cache.enable_taylorseer=false": "here it is cache/predictor=reuse",
    "model=flux taylorseer_order=2": "here it is cache=dbcache cache.predictor.order=2",
    "model=flux max_order=2": "here it is cache=taylorseer cache.predictor.order=2",
    "model=flux cache=taylorseer cache.max_order=2": "here it is cache.predictor.order=2",
    "model=flux disable_cache_before_step=4": "here it is cache=taylorseer cache.warmup_steps=4",
    "model=flux mask_policy=fast": "here it is cache=step_mask cache.criterion.mask=cache_dit_fast",
    "model=flux cache=dbcache rdt=0.1": "here it is cache.residual_diff_threshold=0.1",
    "model=flux use_teacache=true": "here it is cache=teacache",
    "model=flux use_teacache=false": "leave it out",
    "model=flux use_fbcache=true": "here it is cache=fbcache",
    "model=flux weight_dtype=fp8_e4m3fn": "here it is quant=fp8_wo",
    "model=flux device=cpu weight_dtype=fp8_e4m3fn_fast": "here it is quant=fp8_wo",  # fp8_dq has no kernels there
    "model=flux weight_dtype=bf16": "here it is model.dtype=bfloat16",
    "model=flux weight_dtype=default": "leave it out: the model's own is taken",
    "model=flux start_percent=20": f"here it is cache=teacache cache.start=0.2 (20 percent as a part of 1) {NODE}",
    "model=flux cache=teacache cache.start_percent=0.2": f"here it is cache.start=0.2 {NODE}",
    "model=flux start=20": "here it is cache=wavespeed cache.start=0.2 (20 percent as a part of 1) (as",
    "model=flux end=800": "here it is cache=wavespeed cache.end=0.8 (800 of 1000 as a part of 1) (as",
}
SAID |= {f"model=wan21 {key}=5": f"{key}: no such key; here it is model.shift=5" for key in ("shift", "flow_shift")}
SAID |= {
    "model=wan21 sample_shift=5": "sample_shift: no such key; here it is model.shift=5",
    "model=flux sample_shift=5": "here it is sampler=euler sampler.shift=5",
    "model=wan21 sample_guide_scale=5": "here it is guidance_scale=5",
    "model=wan21 sample_solver=unipc": "here it is sampler=unipc",
    "model=wan21 sample_solver=dpm++": "here it is sampler=dpmpp_2m",
    "model=wan21 frame_num=33": "here it is num_frames=33",
}


@pytest.mark.parametrize(("typed", "words"), SAID.items(), ids=SAID)
def test_a_word_of_another_tool_is_told_as_ours(command: CommandLine, typed: str, words: str) -> None:
    said = command.refuses(*typed.split(" "))
    assert words in said and " or model.shift" not in said, said


@pytest.mark.parametrize(
    "typed",
    [
        typed
        for typed, words in SAID.items()
        if words.startswith("here it is ")
        and re.search("ret_steps|taylor|max_order|interval|cache_branch_id|solver", typed)
    ],
)
def test_what_is_named_is_accepted(command: CommandLine, typed: str) -> None:
    model, *given, _ = typed.split(" ")
    way = re.search(r"here it is ([^(,]*)", SAID[typed])
    assert way
    command.plans(model, *given, *way[1].split())


WINDOWS = {
    "start=30 end=800": "start=0.03 end=0.8",
    "end=800 start=30": "start=0.03 end=0.8",
    "start=30 end=80": "start=0.3 end=0.8",
    "start=1 end=80": "start=0.01 end=0.8",
    "start=0.2 end=80": "start=0.2 end=0.8",
    "start=20 end=1": "start=0.2 end=1",
}


@pytest.mark.parametrize(("typed", "meant"), WINDOWS.items(), ids=WINDOWS)
def test_both_ends_of_a_window_are_read_together_as_the_rule_on_windows_reads_them(
    command: CommandLine, typed: str, meant: str
) -> None:
    ours, ends = [f"cache.{end}" for end in meant.split(" ")], typed.split(" ")
    told = command.refuses("model=sd15", *(f"{end.replace('=', '_percent=')}" for end in ends))
    assert set(re.findall(r"cache\.(?:start|end)=[\d.]+", told)) == set(ours), told
    by_rule = command.refuses("model=sd15", "cache=fbcache", *(f"cache.{end}" for end in ends))
    assert " ".join(ours) in by_rule
    command.plans("model=sd15", "model.init=tiny", "cache=fbcache", *ours)


def test_an_end_is_read_beside_the_other_one_by_whatever_word_that_was_typed(command: CommandLine) -> None:
    said = command.refuses("model=flux", "cache=fbcache", "cache.end=800", "retention_ratio=30")
    assert "here it is cache.start=0.03" in said and "(30 of 1000 as a part of 1)" in said


def test_the_predictor_of_an_experiments_cache_is_told_how_to_switch_off(command: CommandLine) -> None:
    command.experiment("defaults:\n  - override /cache: dbcache\n")
    said = command.refuses("model=flux", "experiment=mine", "enable_taylorseer=false")
    assert "cache/predictor=reuse" in said and "leave it out" not in said


def test_no_note_of_the_node_where_another_cache_is_chosen(command: CommandLine) -> None:
    said = command.refuses("model=sd15", "cache=fbcache", "cache.start_percent=0.1")
    assert said.endswith("here it is cache.start=0.1")


def test_ret_steps_are_those_of_the_docs() -> None:
    rows = [row for tool in read_tools() for row in tool["rows"] if "with use_ret_steps" in row["theirs"]]
    assert rows and all(f"cache.{key}" in row["ours"].split(" ") for row in rows for key in RET_STEPS)
