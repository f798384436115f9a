"""Hostile configs, records and command lines through the command line: one line, exit status 2, within a second, and
nothing private in what is printed or written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from tests.inputs.hostile_files import DEEP, LONG, SOON, refuse, refuse_experiment
from tests.inputs.test_documents import ALIASES
from wavespeed_runner.config.paths import CONF


@pytest.mark.parametrize(
    "line",
    [
        "{key}: pkg://wavespeed_runner//{private}/secret.{suffix}",
        "{key}: pkg://wavespeed_runner/../../../../../../../../../../{private}/secret.{suffix}",
        "{key}: link.{suffix}",
        "{key}: ./link.{suffix}",
        "{key}: {private}/secret.{suffix}",
        "{key}: ../private/secret.{suffix}",
        "{key}: zero.{suffix}",
    ],
)
@pytest.mark.parametrize(
    ("key", "suffix", "more"),
    [
        ("prompts.path", "txt", "defaults: [{override /prompts: file}]\n"),
        ("image", "png", "defaults: [{override /graph: image_to_image}]\n"),
        ("mask", "png", "defaults: [{override /graph: inpaint}]\n"),
        ("graph.stages.read.options.path", "png", "defaults: [{override /graph: image_to_image}]\n"),
        ("cache.calibration", "yaml", "defaults: [{override /cache: teacache}]\n"),
    ],
)
def test_a_config_reads_no_file_that_it_may_not(cli: CommandLine, line: str, key: str, suffix: str, more: str) -> None:
    *above, last = key.split(".")
    text = line.format(key=last, suffix=suffix, private=cli.folder.parent / "private")
    for name in reversed(above):
        text = f"{name}:\n" + "".join(f"  {part}\n" for part in text.rstrip("\n").split("\n"))
    refuse_experiment(cli, f"{more}{text}\n")


@pytest.mark.parametrize(
    "path",
    [
        "adapters.path: {private}/x.safetensors",
        "adapters.path: ['owner/name', '{private}/x.safetensors']",
        "adapters.path: ../private/x.safetensors",
        "adapters.path: pkg://wavespeed_runner//{private}/x.safetensors",
    ],
)
def test_a_config_names_no_adapter_elsewhere(cli: CommandLine, path: str) -> None:
    value = path.format(private=cli.folder.parent / "private").partition(": ")[2]
    error = refuse_experiment(cli, f"defaults: [{{override /adapters: lora}}]\nadapters:\n  path: {value}\n")
    assert ("adapters.path" in error and "a config file may name a hub id" in error) or "leads" in error


NON_UNIFORM = "defaults: [{override /cache: taylorseer}]\ncache:\n  criterion:\n    spacing: non_uniform\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"prompt: {DEEP}", "nested too deep"),
        (ALIASES, "with its aliases followed"),
        ("a: &a [*a]", "with its aliases followed"),
        (f"claim:\n  a: &a [{'x, ' * 90}]\n  b: [{'*a, ' * 120}]\n", "more than 10000 values, with its aliases"),
        ("".join(f"a{i}: &a{i} {'[' * 98}{f'*a{i - 1}' if i else ''}{']' * 98}\n" for i in range(60)), "too deep"),
        ("x: " + "y" * 300_000, "at most 262144 are read"),
        ("x: !!int '" + "9" * 5000 + "'", "a number of 5000 characters"),
        ("steps: 99999999999", "at most 1000 steps"),
        (f"steps: {LONG}", "a number of 5000 characters"),
        ("num_images_per_prompt: 1000000000", "limits.images"),
        ("batch_size: 1000000000", "limits.images"),
        ("measure:\n  repeats: 1000000000000", "limits.steps"),
        ("measure:\n  warmup: 1000000000000", "limits.steps"),
        ("width: 1000000000\nheight: 1000000000", "limits.pixels"),
        ("limits:\n  steps: 1", "limits"),
        (f"{NON_UNIFORM}    power: 1.0e308\n", "cache.criterion.power=1e+308: above 1, at most 100"),
        (f"{NON_UNIFORM}    center: 1{'0' * 90}\n", "cache.criterion.center="),
        ('graph:\n  stages:\n    "a\\e[31m": {stage: decode}', "a name without control characters"),
        ("graph:\n  stages:\n    denoise:\n      options: {steps: 99999999999}", "at most 1000 steps"),
    ],
)
def test_an_experiment_that_asks_for_too_much(cli: CommandLine, text: str, words: str) -> None:
    assert words in refuse_experiment(cli, f"{text}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hydra:\n  sweeper:\n    params:\n      seed: range(0,1000000000)", "jobs of the sweep: 1000000000"),
        ("hydra:\n  sweeper:\n    params:\n      cache.start: range(0,1,1e-300)", "jobs of the sweep: very many"),
        (
            "hydra:\n  sweeper:\n    params:\n      seed: range(0,200)\n      steps: range(1,200)",
            "jobs of the sweep: 39800",
        ),
        (
            f"points: [{', '.join(['{steps: 1}'] * 101)}]\nhydra:\n  sweeper:\n    params:\n      seed: range(0,100)",
            "jobs of the sweep: 10100",
        ),
        (
            "prompt: x\nnum_images_per_prompt: 10000\nsteps: 1\nmeasure: {reference: false}\n"
            "hydra:\n  sweeper:\n    params:\n      seed: range(0,9000)",
            "images of 9000 jobs: 90000000, and limits.sweep_images=100000",
        ),
        (
            f"defaults: [{{override /quant: int8_wo}}]\nquant:\n  skip: [{', '.join(['x'] * 5000)}]\n"
            "hydra:\n  sweeper:\n    params:\n      seed: range(0,9000)",
            "values in the configs of 9000 jobs",
        ),
        ('hydra:\n  sweeper:\n    params: {sampler: glob(*), seed: "range(0,999)"}', "limits.jobs=10000"),
        (
            "measure: {reference: false, repeats: 700000}\nhydra:\n  sweeper:\n    params:\n      seed: 1,2",
            "denoising steps of the first jobs",
        ),
    ],
)
def test_a_sweep_of_too_many_jobs(cli: CommandLine, text: str, words: str) -> None:
    cli.experiment(f"{text}\n")
    began = time.process_time()
    said = cli("-m", "--config-dir", str(cli.configs), "experiment=mine", "dry_run=true")
    assert said.status == 2 and words in said.err, said
    assert time.process_time() - began < SOON


def test_the_command_line_raises_a_limit(cli: CommandLine) -> None:
    asked = ("dry_run=true", "measure.repeats=10000000")
    assert "raise it on the command line, limits.steps=" in refuse(cli, *asked)
    assert cli(*asked, "limits.steps=100000000000").status == 0
    assert "steps=1001: at most 1000 steps" in refuse(cli, "dry_run=true", "steps=1001")
    assert cli("dry_run=true", "steps=1000").status == 0
    assert "limits.jobs=12000" in refuse(cli, "-m", "dry_run=true", "seed=range(0,12000)")
    count = len(list((CONF / "sampler").glob("*.yaml")))
    assert f"limits.jobs={1000 * count}" in refuse(cli, "-m", "dry_run=true", "sampler=glob(*)", "seed=range(0,1000)")


@pytest.mark.parametrize(
    "arguments",
    [
        (f"claim={LONG}",),
        (f"device={LONG}",),
        (f"model.init={LONG}",),
        (f"seed={LONG}",),
        (f"cache.start=0.{LONG}",),
        (f"+x={LONG}",),
        (f"steps=1,{LONG}", "-m"),
        (f"seed=range(0,{LONG})", "-m"),
        ("model=true",),
        ("cache=fbcache", "++cache.criterion.threshold=[1"),
        ("prompts=file", "prompts.path=pipe.txt"),
        ("prompts=file", "prompts.path=zero.txt"),
        ("prompts=file", "prompts.path=/dev/stdin"),
        ("graph=image_to_image", "image=pipe.png"),
        ("graph=image_to_image", "image=zero.png"),
        ("cache=teacache", "cache.calibration=pipe.yaml"),
        ("model.repo=pipe.safetensors",),
        ("adapters=lora", "adapters.path=pipe.safetensors"),
        ("prompt=\x1b[31mred",),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_a_command_line(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    os.mkfifo("pipe.safetensors")
    if arguments[0].startswith("prompt="):
        assert "\x1b" not in str(cli("dry_run=true", *arguments))
    else:
        refuse(cli, "dry_run=true", *arguments)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("model=true",), "model=true"),
        (("cache=fbcache", "++cache.criterion.threshold=1"), "cache.criterion.threshold"),
    ],
)
def test_the_error_names_the_key(cli: CommandLine, command: tuple[str, ...], key: str) -> None:
    assert key in refuse(cli, "dry_run=true", *command)


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", ".", "--prune-to", f"{LONG}GB"),
        ("store", ".", "--older-than", f"{LONG}d"),
        ("store", "\x1b[31mnowhere"),
        ("report", "\x1b[31mnowhere"),
        ("replay", "pipe.txt"),
        ("replay", "pipe.png"),
        ("replay", "zero.png"),
        ("replay", "zero.yaml"),
        ("replay", "pipe.yaml"),
        ("export", "pipe.txt"),
        ("thresholds", "pipe.txt"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_another_command(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    refuse(cli, *arguments)


RECORDS: dict[str, str | bytes] = {
    "deep": DEEP,
    "closed": DEEP + "]" * 100_000,
    "a long number": f'{{"schema_version": {LONG}}}',
    "half a character": '{"schema_version": 2, "status": "\\ud800"}',
    "not a number": '{"schema_version": NaN}',
    "bytes": b"\xff\xfe\0\0",
    "many prompts": '{"schema_version": 2, "plan": {"prompts": [' + ",".join(['"a"'] * 2_000_000) + "]}}",
    "empty": "",
    "a list": "[]",
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record(cli: CommandLine, name: str) -> None:
    content = RECORDS[name]
    Path("record.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("replay", "export"):
        refuse(cli, command, "record.json")


@pytest.mark.parametrize("change", ["prompt", "path", "device"])
def test_half_a_character_in_a_real_record(
    cli: CommandLine, finished: tuple[Path, dict[str, Any]], change: str
) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    if change == "prompt":
        record["plan"]["prompts"][0] = record["samples"][0]["prompt"] = "\ud800"
    elif change == "path":
        record["config"]["prompts"]["path"] = "\udcff.txt"
    else:
        record["environment"]["device_name"] = "\ud800"
    Path("record.json").write_text(json.dumps(record))
    for command in ("replay", "export"):
        assert "not valid Unicode" in refuse(cli, command, "record.json")
