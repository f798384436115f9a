"""`seeds=per_prompt`: which seeds images get; runs, sweeps, ranks, replays and reports keep to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import CommandLine
from tests.conftest import run_as_data
from tests.execution.forked_ranks import start_rank
from tests.report.records import varied, write_job
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.config.schema import Seeds
from wavespeed_runner.execution.ranks import local
from wavespeed_runner.media.images import read_png
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.planning.prompts import build_samples
from wavespeed_runner.planning.seeds import draw_seed
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.sweeps.jobs import plan_jobs

SMALL = ("model.init=tiny", "device=cpu", "width=32", "height=32", "steps=2", "measure=none")
OWN = "seeds=per_prompt"


@pytest.fixture(autouse=True)
def drawn_anew() -> Iterator[None]:
    draw_seed.cache_clear()
    yield
    draw_seed.cache_clear()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def config(composed: Callable[..., dict[str, Any]]) -> Any:
    return build_plan(composed()).config


@given(st.integers(0, 2**64 - 100), st.integers(1, 5), st.integers(1, 8), st.sampled_from(Seeds))
def test_seeds_go_on_from_prompt_to_prompt_or_begin_again(
    config: Any, seed: int, images: int, prompts: int, seeds: Seeds
) -> None:
    run = deepcopy(config)
    run.seed, run.num_images_per_prompt, run.seeds = seed, images, seeds
    samples = build_samples(run, [f"prompt {number}" for number in range(prompts)])
    assert [sample.prompt for sample in samples] == [f"prompt {n}" for n in range(prompts) for _ in range(images)]
    counter = count(seed)
    wanted = [next(counter) for _ in range(prompts * images)] if seeds is Seeds.per_prompt else []
    assert [sample.seed for sample in samples] == (wanted or [seed + i for _ in range(prompts) for i in range(images)])


def test_a_plan_says_which_seeds_it_has(command: CommandLine) -> None:
    prompts = "prompts=demo"
    assert "seed 7, sampler" in command.plans(*SMALL, "seed=7", prompts, "num_images_per_prompt=2")
    said = command.plans(*SMALL, "seed=7", prompts, "num_images_per_prompt=2", OWN)
    assert "seeds 7 to 14, each prompt its own, sampler" in said and "seeds-one-prompt" not in said
    assert "unverified seeds-one-prompt" in command.plans(*SMALL, "prompt=x", OWN)


def test_seeds_above_the_largest_are_refused_by_name(command: CommandLine) -> None:
    said = command.refuses(*SMALL, f"seed={2**64 - 7}", "num_images_per_prompt=2", OWN)
    assert said.startswith(
        f"seed={2**64 - 7} seeds=per_prompt: the 8 images of 4 prompts have the seeds seed to seed + 7"
    )
    assert said.rstrip().endswith(f"seed={2**64 - 8} is the largest for so many images")
    said = command.refuses(*SMALL, f"seed={2**64 - 1}", "num_images_per_prompt=2", OWN)
    assert said.rstrip().endswith(f"seed={2**64 - 8} is the largest for so many images"), "of all prompts"
    said = command.refuses(*SMALL, "prompt=x", f"seed={2**64 - 1}", "num_images_per_prompt=2", OWN)
    assert "the 2 images of 1 prompt have" in said and f"seed={2**64 - 2} is the largest" in said
    assert "seeds" in command.plans(*SMALL, f"seed={2**64 - 8}", "num_images_per_prompt=2", OWN)
    assert "expected one of [same, per_prompt]" in command.refuses(*SMALL, "seeds=own")


def test_a_sweep_over_it_shares_the_first_prompt_and_a_drawn_seed(command: CommandLine) -> None:
    same, own = (job.plan for job in plan_jobs(parse_arguments(["-m", *SMALL, "seed=-1", "seeds=same,per_prompt"])))
    assert same and own and same.config.seed == own.config.seed >= 0
    assert [sample.seed - own.config.seed for sample in own.samples] == [0, 1, 2, 3]
    assert same.keys[0] == own.keys[0] and same.keys[1]["denoise"] != own.keys[1]["denoise"]
    assert same.identity != own.identity and same.asked != own.asked and same.fingerprint != own.fingerprint


def test_images_and_record_are_made_again(command: CommandLine) -> None:
    (command.folder / "two.txt").write_text("a red circle\na blue square\n", encoding="utf-8")
    assert command(*SMALL, "prompts=file", "prompts.path=two.txt", OWN, "seed=5").status == 0
    (file,) = Path("outputs").glob("runs/*/*/record.json")
    record = json.loads(file.read_text())
    assert record["config"]["seeds"] == "per_prompt" and [sample["seed"] for sample in record["samples"]] == [5, 6]
    second = file.parent / record["samples"][1]["file"]
    assert second.name.endswith("seed6.png")
    about = json.loads(read_png(second)[1]["wavespeed_runner"])["config"]
    assert (about["seed"], about["seeds"]) == (6, "same"), "an image alone has nothing to share a seed with"
    for source, images in ((second, 1), (file, 2)):
        again = command("replay", str(source))
        assert again.status == 0 and f"identical, {images} of {images} images" in again.out, again
        assert "seeds-one-prompt" not in again.out


def test_ranks_of_data_make_the_same_images(
    planned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, Any]]
) -> None:
    monkeypatch.setattr(local, "_start_rank", start_rank)
    prompts = ["a red circle", "a blue square"]
    digests = []
    for name, given_ in (("one", ()), ("two", ("parallel=data", "parallel.degree=2"))):
        config = composed("prompt=null", OWN, *given_) | {"outputs": str(tmp_path / name)}
        record = run_as_data(build_plan(config, prompts), tmp_path / name / "run", [])
        assert [sample["seed"] for sample in record["samples"]] == [0, 1], record["error"]
        digests.append([sample["pixels_sha256"] for sample in record["samples"]])
    assert digests[0] == digests[1]
    one_seed = build_plan(composed("prompt=null") | {"outputs": str(tmp_path / "one")}, prompts)
    made = run_as_data(one_seed, tmp_path / "same", [])
    assert [digest == sample["pixels_sha256"] for digest, sample in zip(digests[0], made["samples"], strict=True)] == [
        True,
        False,
    ]


def test_a_report_compares_only_jobs_with_the_same_seeds(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    before, same, own = (varied(finished[1], [f"x={number}"]) for number in range(3))
    del before["config"]["seeds"]  # as in records of earlier versions
    own["config"]["seeds"] = "per_prompt"
    for name, record in (("0", before), ("1", same), ("2", own)):
        write_job(tmp_path / name, record)
    sweep = collect(tmp_path)
    groups = [row.compared_with for row in sweep.rows]
    assert groups[0] == groups[1] != groups[2]
    head, *lines = [line.split(",") for line in results_csv(sweep).splitlines()]
    assert [line[head.index("seeds")] for line in lines] == ["same", "same", "per_prompt"]
