"""The record: its contract in the file, in a run that finished and in one that has not begun, and records of before."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.records.makers import sample_record
from wavespeed_runner.config.limits import LimitsConfig
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs import limits
from wavespeed_runner.inputs.limits import MAX_CONFIG_BYTES, MAX_STEP_RECORDS, MAX_TIMINGS
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.file import (
    parse_record,
    read_record,
    record_data,
    record_from_data,
    write_record,
)
from wavespeed_runner.records.json_schema import SCHEMA_FILE, schema_text
from wavespeed_runner.records.new import cache_summary, new_record, timing_summary
from wavespeed_runner.records.record import CacheSummary
from wavespeed_runner.records.sample import Step
from wavespeed_runner.records.summary import summarize_record

Finished = tuple[Path, dict[str, Any]]
VERSION_1 = Path(__file__).with_name("record_version_1.json")
"""Written by the release before schema version 2; trimmed to four steps of each image."""
KEYS = {
    "": "schema_version status error fingerprint config overrides environment plan reference engaged stages samples "
    "cache timing memory quality noise_floor warnings identity",
    "environment": "versions code device device_name driver platform threads variables plugins commit",
    "plan": "stages prompts verdicts changes",
    "plan.verdicts": "rule verdict message fix source",
    "reference": "kind sampler steps",
    "engaged": "cache adapters quant attention compile accelerate memory parallel weights",
    "engaged.cache": "strategy attached_to blocks calls hits block_share block_flops flop_share denoiser_flops "
    "denoiser_flop_share",
    "stages": "name sample seconds source peak_memory_bytes of",
    "samples": "prompt seed seconds raw_seconds first_call steps engaged quality timed_together reference_seconds "
    "reference_raw_seconds reference_steps reference_spread source reference_source file pixels_sha256 sha256 "
    "peak_memory_bytes",
    "samples.steps": "index computed signal level seconds stage",
    "samples.quality": "mae mae_similarity ssim psnr",
    "cache": "hits computed computed_steps hit_rate predicted",
    "timing": "first_call raw median p90 mad reference_raw reference_median speedup same_run",
    "memory": "weight_bytes peak_bytes",
    "quality": "mae mae_similarity ssim psnr forks",
    "quality.ssim": "mean ci95 median p10 worst",
    "noise_floor": "latents_max_abs repeat numerics",
}
"""Where in the file -> the keys there. People's scripts rely on these names."""
ADDED = dict.fromkeys(("quant", "attention", "compile", "accelerate", "parallel", "weights"))
"""Evidence that records have since."""


def nodes_at(data: Any, where: str) -> list[dict[str, Any]]:
    """What lies at a dotted path, of lists every item."""
    nodes = [data]
    for key in filter(None, where.split(".")):
        below = [node[key] for node in nodes]
        nodes = [item for value in below for item in (value if isinstance(value, list) else [value])]
    return nodes


@pytest.mark.parametrize("where", KEYS)
def test_the_file_has_the_keys_of_the_contract(finished: Finished, where: str) -> None:
    on_disk = json.loads((finished[0] / "record.json").read_text())
    nodes = nodes_at(on_disk, where)
    assert nodes and all(node.keys() == set(KEYS[where].split()) for node in nodes)


def test_what_was_written_is_what_is_read(finished: Finished) -> None:
    folder, record = finished
    on_disk = json.loads((folder / "record.json").read_text())
    assert record == on_disk == record_data(read_record(folder / "record.json"))


def test_every_key_is_there_before_the_run_begins(planned: Callable[..., Plan]) -> None:
    record = record_data(new_record(planned(), ["steps=4"]))
    assert record.keys() == set(KEYS[""].split()) - {"memory"}, "which has no figures yet"
    assert record["status"] == "interrupted", "what a kill leaves"
    assert record["overrides"] == ["steps=4"] and record["plan"]["prompts"] == ["a red circle"]


def test_a_record_of_version_1_is_read() -> None:
    old, record = json.loads(VERSION_1.read_text()), read_record(VERSION_1)
    assert old["schema_version"] == 1 and record.schema_version == 2
    assert record.cache is not None and record.cache.predicted is not None
    assert record.cache.predicted.computed_steps == old["cache"]["foretold"]["computed_steps"]
    assert record.timing is not None and record.timing.raw == old["timing"]["raw"]
    assert summarize_record(record).quality["ssim"].worst == old["quality"]["ssim"]["worst"]
    expected = {**old, "schema_version": 2, "cache": {**old["cache"], "predicted": old["cache"]["foretold"]}}
    del expected["cache"]["foretold"]
    expected["engaged"] = ADDED | expected["engaged"]
    for sample in expected["samples"]:
        sample["engaged"] = {node: ADDED | engaged for node, engaged in sample["engaged"].items()}
    assert record_data(record) == expected, "and nothing else is lost or changed"


def test_unknown_keys_are_ignored(finished: Finished) -> None:
    record = {**finished[1], "of_a_later_release": 1}
    record["timing"] = {**record["timing"], "p99": 1.0}
    assert record_data(record_from_data(record)) == finished[1]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", '{"schema_version": 1}', '{"schema_version": 2, "config": {}}', "[" * 100_000, "\0\0"],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ConfigError, match=r"record\.json: not a readable record: ") as refused:
        read_record(tmp_path / "record.json")
    assert "\n" not in str(refused.value)


def test_the_versions_that_are_read_are_named() -> None:
    with pytest.raises(ValueError, match="schema_version 3; this release reads versions 1 to 2"):
        parse_record(b'{"schema_version": 3}')


def test_true_is_no_version() -> None:
    with pytest.raises(ValueError, match="schema_version True: a whole number is needed"):
        parse_record(b'{"schema_version": true}')


def test_very_long_overrides_are_refused(finished: Finished) -> None:
    with pytest.raises(ValueError, match="characters of overrides"):
        record_from_data({**finished[1], "overrides": ["prompt=" + "x" * MAX_CONFIG_BYTES]})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("samples", 0, "prompt"), 3, r"Expected `str`, got `int` - at `\$.samples\[0\].prompt`"),
        (("samples", 1, "raw_seconds", 0), 1e13, r"at `\$.samples\[1\].raw_seconds\[0\]`"),
        (("timing", "speedup"), True, r"got `bool` - at `\$.timing.speedup`"),
        (("status",), "done", r"Invalid enum value 'done' - at `\$.status`"),
        (("quality", "ssim", "ci95"), [1.0], r"at `\$.quality.ssim.ci95`"),
        (("environment",), None, r"at `\$.environment`"),
    ],
)
def test_a_wrong_field_is_named(finished: Finished, path: tuple[Any, ...], value: Any, message: str) -> None:
    record = deepcopy(finished[1])
    node = record
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(msgspec.ValidationError, match=message):
        record_from_data(record)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(finished: Finished, number: str) -> None:
    text = json.dumps(finished[1]).replace('"speedup": ', f'"speedup": {number}, "was": ')
    with pytest.raises(ValueError, match=r"is not a number|too large"):
        parse_record(text.encode())


def test_numbers_that_are_not_finite_are_not_written(finished: Finished, tmp_path: Path) -> None:
    record = record_from_data(finished[1])
    record.samples[0].steps[1].signal = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path, record)
    assert not list(tmp_path.iterdir())


def test_a_signal_is_relative_to_what_may_be_next_to_nothing() -> None:
    """A run must not fail for its size."""
    decision = {"computed": True, "signal": 1e30, "level": 1e20}
    step = msgspec.convert(
        {"index": 1, "seconds": 1.0, "stage": "denoise", "branches": {"text": decision}, **decision}, Step
    )
    assert (step.signal, step.level) == (1e30, 1e20)


def test_the_published_schema_is_that_of_the_code() -> None:
    command = 'python -c "from wavespeed_runner.records.json_schema import write_schema; write_schema()"'
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), f"write it again: {command}"
    record = json.loads(schema_text())["$defs"]["Record"]
    assert record["properties"].keys() == set(KEYS[""].split()) | {"metrics"}, "left out without judges"
    assert "interrupted" in record["properties"]["status"]["enum"]


def steps(*computed: int) -> list[Step]:
    return [
        Step(index=index, computed=index in computed, signal=None, level=None, seconds=0.1, stage="denoise")
        for index in range(1, 5)
    ]


def test_computed_steps_are_given_once_where_images_agree_and_per_image_where_they_differ() -> None:
    same = cache_summary([sample_record(steps=steps(1, 4)), sample_record(steps=steps(1, 4))])
    assert same == CacheSummary(hits=4, computed=4, computed_steps=[1, 4], hit_rate=0.5, predicted=None)
    differing = cache_summary([sample_record(steps=steps(1, 4)), sample_record(steps=steps(1))])
    assert differing.computed_steps == [[1, 4], [1]]


def test_a_graph_that_denoises_nothing_has_no_hit_rate_to_divide_by() -> None:
    none = CacheSummary(hits=0, computed=0, computed_steps=[], hit_rate=0.0, predicted=None)
    assert cache_summary([sample_record(steps=[])]) == none


def test_without_a_reference_there_is_no_speedup() -> None:
    first = sample_record(raw_seconds=[1.0, 3.0], first_call=4.0)
    timing = timing_summary([first, sample_record(raw_seconds=[2.0], first_call=None)])
    assert timing.median == 2.0 and timing.first_call == 4.0
    assert timing.speedup is timing.reference_median is timing.reference_raw is None


def test_the_speedup_is_the_ratio_of_the_medians() -> None:
    sample = sample_record(raw_seconds=[1.0, 2.0, 9.0], reference_raw_seconds=[3.0, 4.0, 5.0])
    assert timing_summary([sample]).speedup == 2.0


@pytest.mark.parametrize(
    ("key", "most", "words"),
    [
        ("raw_seconds", MAX_TIMINGS, "repetitions"),
        ("reference_raw_seconds", MAX_TIMINGS, "repetitions"),
        ("steps", MAX_STEP_RECORDS, "steps"),
    ],
)
def test_an_image_with_very_many_repetitions_or_steps_is_refused(
    finished: Finished, key: str, most: int, words: str
) -> None:
    data = deepcopy(finished[1])
    data["samples"][0][key] = [1.0] * (most + 1) if key != "steps" else data["samples"][0]["steps"][:1] * (most + 1)
    with pytest.raises(ValueError, match=rf"samples\[0\]: more than {most} {words}"):
        record_from_data(data)


def test_the_largest_runs_that_limits_allow_by_default_can_be_read_and_reported(finished: Finished) -> None:
    """`limits.images` images in a record, `limits.sweep_images` in a report, of 50 steps each."""
    data = finished[1]
    (sample, *_), step = data["samples"], data["samples"][0]["steps"][0]
    image = {**sample, "steps": [step] * 50}
    made = [{**data, "samples": [image] * count, "stages": data["stages"] * count} for count in (1, 2)]
    one, two = (json.dumps(each, indent=1) for each in made)
    size, values = len(two) - len(one), two.count(",") - one.count(",")
    usual = LimitsConfig()
    assert size * usual.images < limits.MAX_RECORD_BYTES and values * usual.images < limits.MAX_RECORD_VALUES
    assert size * usual.sweep_images < limits.MAX_REPORT_BYTES
    assert values * usual.sweep_images < limits.MAX_REPORT_VALUES
