"""The jobs of a command: points zipped, axes multiplied, unfit combinations left out with the rule's reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.config.error_messages import EXPLAINED, explain
from wavespeed_runner.errors import ConfigError, Unfit
from wavespeed_runner.sweeps.jobs import Job, plan_job_again, plan_jobs

PAIRED = "steps: 6\npoints: [{steps: 4, cache: none}, {cache: fbcache, cache.residual_diff_threshold: 0.1}]\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    made = CommandLine(tmp_path, monkeypatch, capsys)
    made.experiment(PAIRED, "paired")
    made.experiment("hydra: {sweeper: {params: {seed: '1,2'}}}\npoints: [{steps: 4}, {steps: 5}]\n", "both")
    return made


def jobs(command: CommandLine, *arguments: str) -> list[Job]:
    return plan_jobs(parse_arguments(["--config-dir", str(command.configs), *TINY, *arguments]))


def told(jobs: list[Job]) -> list[str]:
    """The overrides less those that all have."""
    return [" ".join(o for o in job.overrides if o not in ("model.init=tiny", "device=cpu")) for job in jobs]


def test_a_single_run_is_one_job(command: CommandLine) -> None:
    (job,) = jobs(command, "steps=3")
    assert (job.number, job.overrides, job.skipped) == (0, [*TINY, "steps=3"], "")
    assert job.plan is not None and job.plan.config.steps == 3


def test_axes_are_multiplied_in_hydras_order(command: CommandLine) -> None:
    found = jobs(command, "-m", "steps=3,4", "seed=1,2")
    assert told(found) == ["steps=3 seed=1", "steps=3 seed=2", "steps=4 seed=1", "steps=4 seed=2"]
    plans = [job.plan for job in found if job.plan]
    assert [(plan.config.steps, plan.config.seed) for plan in plans] == [(3, 1), (3, 2), (4, 1), (4, 2)]
    assert [job.number for job in found] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (("seed=range(0,40)", "num_images_per_prompt=8"), "images of 40 jobs: 320"),
        (("seed=range(0,20)", "num_images_per_prompt=4,8"), "images of the first jobs: 1"),
        (("seed=range(0,40)", "prompt=a,b"), ""),
    ],
)
def test_the_images_of_all_jobs_are_counted_before_they_are_planned(
    command: CommandLine, arguments: tuple[str, ...], images: str
) -> None:
    given = ("-m", "limits.sweep_images=100", *(("prompt=x",) if "prompt=a,b" not in arguments else ()), *arguments)
    if not images:
        assert len(jobs(command, *given)) == 80
        return
    with pytest.raises(ConfigError, match=f"{images}.*, and limits.sweep_images=100; .* limits.sweep_images="):
        jobs(command, *given)


def test_what_a_job_alone_may_have_is_no_sweep_s_limit(command: CommandLine) -> None:
    (job,) = jobs(command, "limits.sweep_images=1", "prompt=x", "num_images_per_prompt=3")
    assert job.plan and len(job.plan.samples) == 3


def test_points_are_zipped_and_vary_slowest(command: CommandLine) -> None:
    found = jobs(command, "-m", "experiment=paired", "seed=1,2")
    plans = [job.plan for job in found if job.plan]
    assert [(p.config.steps, p.config.cache.name, p.config.seed) for p in plans] == [
        (4, "none", 1), (4, "none", 2), (6, "fbcache", 1), (6, "fbcache", 2),
    ]  # fmt: skip
    assert told(found)[2] == "cache=fbcache cache.residual_diff_threshold=0.1 experiment=paired seed=1"


def test_points_can_be_typed(command: CommandLine) -> None:
    points = "points=[{steps: 3, prompt: 'a, b'}, {+graph.stages.denoise.options: {steps: 2}}]"
    found = jobs(command, "-m", points)
    assert told(found) == ["steps=3 prompt='a, b'", "+graph.stages.denoise.options={steps:2}"]
    assert found[0].plan is not None and found[0].plan.samples[0].prompt == "a, b"


def test_typed_points_win_over_those_of_an_experiment(command: CommandLine) -> None:
    assert len(jobs(command, "-m", "experiment=paired", "points=[{steps: 3}]")) == 1
    assert told(jobs(command, "-m", "experiment=paired", "points=null")) == ["experiment=paired"]
    assert told(jobs(command, "experiment=paired", "~points")) == ["experiment=paired ~points"]
    assert told(jobs(command, "-m", "experiment=paired,known_answer", "points=[{seed: 3}]")) == [
        "seed=3 experiment=paired", "seed=3 experiment=known_answer",
    ]  # fmt: skip


def test_an_experiment_may_have_both(command: CommandLine) -> None:
    assert told(jobs(command, "-m", "experiment=both")) == [
        "steps=4 seed=1 experiment=both", "steps=4 seed=2 experiment=both",
        "steps=5 seed=1 experiment=both", "steps=5 seed=2 experiment=both",
    ]  # fmt: skip


def test_what_is_typed_wins_over_both(command: CommandLine) -> None:
    assert told(jobs(command, "-m", "experiment=both", "seed=7")) == [
        "steps=4 seed=7 experiment=both", "steps=5 seed=7 experiment=both",
    ]  # fmt: skip
    assert told(jobs(command, "-m", "experiment=both", "steps=7")) == [
        "seed=1 experiment=both steps=7", "seed=2 experiment=both steps=7",
    ]  # fmt: skip
    assert len(jobs(command, "-m", "experiment=paired", "steps=2,3")) == 4


def test_points_leave_no_trace_in_their_jobs(command: CommandLine) -> None:
    first = jobs(command, "-m", "experiment=paired")[0].plan
    alone = jobs(command, "cache=none", "steps=4")[0].plan
    assert first is not None and alone is not None
    assert (first.config, first.identity, first.fingerprint) == (alone.config, alone.identity, alone.fingerprint)
    assert not hasattr(first.config, "points")


REFUSED = [
    (["experiment=paired"], "points: 2 jobs; add -m to run each, or points=null to disable them"),
    (["points=[{steps: 3}]"], "points: 1 jobs; add -m"),
    (["points=3"], "points=3: a list of mappings is needed"),
    (["-m", "points=[{outputs: x}]"], "points[0].outputs: a point may not set it"),
    (["-m", "experiment=clash"], "points[0].steps: hydra.sweeper.params sweeps over it too"),
    (["-m", "points=[{image: /etc/x.png}]"], "image=/etc/x.png: a config file may name a relative"),
    (["-m", "points=[{steps: 3}],[{steps: 4}]"], "one list is needed"),
    (["-m", "experiment=nested"], "hydra.sweeper.params.points: points stand at the top"),
    (["-m", "experiment=paired,known_answer"], "points: they cannot come from an option that is swept over"),
    (["-m", "points=[{nope: 3},{steps: 3}]"], "nope: no such key"),
    (["-m", "points=[{model.name: flux}]"], "model.name=flux: an option of the group is chosen as a whole"),
]


@pytest.mark.parametrize(("typed", "words"), REFUSED, ids=[" ".join(typed) for typed, _ in REFUSED])
def test_what_points_may_not_is_refused(command: CommandLine, typed: list[str], words: str) -> None:
    command.experiment("hydra: {sweeper: {params: {steps: '1,2'}}}\npoints: [{steps: 4}]\n", "clash")
    command.experiment("hydra: {sweeper: {params: {points: 3}}}\n", "nested")
    assert words in command.refuses(*TINY, *typed)


def test_a_file_may_not_hide_a_resolver_in_a_point(command: CommandLine) -> None:
    command.experiment("points: [{prompt: '${oc.env:HOME}'}]\n", "secret")
    assert "only plain interpolations" in command.refuses("-m", *TINY, "experiment=secret")


UNFIT = {
    "a rule": ("cache=deepcache,fbcache", "only a U-Net has layers that mirror each other"),
    "a value that no model takes": ("steps=0,3", "steps=0: at least 1 is needed"),
    "no calibration": ("cache=magcache,fbcache", "cache.criterion.ratios=null: cache=magcache needs a calibration"),
    "a schedule for other steps": ("cache=lemica,fbcache", "and 6 are run"),
}


@pytest.mark.parametrize(("axis", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_an_unfit_combination_is_left_out_with_the_rules_reason(command: CommandLine, axis: str, words: str) -> None:
    bad, good = jobs(command, "-m", *(() if "steps" in axis else ("steps=6",)), axis)
    assert bad.plan is None and words in bad.skipped and "\n" not in bad.skipped
    assert good.plan is not None and good.skipped == ""
    with pytest.raises(Unfit):
        jobs(command, *bad.overrides[len(TINY) :])


WRONG = {
    "cache=fbcache,nope": "cache=nope: no option 'nope'",
    "steps=3,abc": "steps: Value 'abc'",
    "cache=none,fbcache cache.treshold=1": "cache.treshold: no key of the chosen option",
    "image=a.png,b.png graph=image_to_image": "image=a.png: No such file",
    "model.repo=nowhere/x.safetensors,y model.init=pretrained": "model.repo=nowhere/x.safetensors: no such file",
}


@pytest.mark.parametrize(("typed", "words"), WRONG.items(), ids=WRONG.keys())
def test_what_is_wrong_with_the_command_stops_it(command: CommandLine, typed: str, words: str) -> None:
    rest = [one for one in TINY if not (one.startswith("model.init") and "model.init" in typed)]
    assert words in command.refuses("-m", *rest, *typed.split(" "))


def test_a_wrong_job_is_named(command: CommandLine) -> None:
    with pytest.raises(EXPLAINED) as error:
        jobs(command, "-m", "steps=3,abc")
    assert explain(error.value).endswith("(job 2 of 2: model.init=tiny device=cpu steps=abc)")


def test_a_sweep_of_which_nothing_is_left_is_refused(command: CommandLine) -> None:
    with pytest.raises(
        ConfigError, match=r"^steps=0: at least 1.*\(all 2 jobs are refused; this is the reason for the first\)$"
    ):
        jobs(command, "-m", "steps=0,-1")


def test_a_dry_run_says_what_is_left_out(command: CommandLine) -> None:
    said = command.plans("-m", *TINY, "cache=deepcache,fbcache,none", "measure.in_turn=true")
    assert said.count("\n  0  cache=deepcache  skipped: cache=deepcache with cache.depth=0: only a U-Net") == 1
    assert said.endswith("\n3 jobs, 1 of them skipped\n")


def test_a_dry_run_shows_one_plan_whole_and_a_line_a_job_with_what_is_different(command: CommandLine) -> None:
    said = command.plans("-m", *TINY, "cache=none,fbcache,taylorseer", "steps=4,6", "rerun=true")
    assert (
        said.count("fingerprint ") == 1
        and "job: dry_run=True model.init=tiny device=cpu cache=none steps=4 rerun=True" in said
    )
    lines = said.partition("\njobs\n")[2].splitlines()
    assert lines[0] == "  0  cache=none steps=4  0 of 4 in the store" and lines[-1] == "6 jobs"
    assert [line.split()[0] for line in lines if line[2:3].isdigit()] == list("012345")


def test_a_job_can_be_planned_again_elsewhere(command: CommandLine) -> None:
    (command.configs / "mine.txt").write_text("a red circle\n")
    # Which only a command line may name.
    typed = ["prompts=file", f"prompts.path={command.configs}/mine.txt", "experiment=paired"]
    first = jobs(command, "-m", *typed)[1]
    again = plan_job_again(1, str(command.configs), first.overrides, [*TINY, *typed]).plan
    assert first.plan is not None and again is not None
    assert (again.identity, again.asked) == (first.plan.identity, first.plan.asked)
    with pytest.raises(ConfigError, match=r"prompts\.path="):
        plan_job_again(1, str(command.configs), first.overrides, TINY)


def test_what_only_says_where_and_whether_is_not_in_the_identity(command: CommandLine) -> None:
    def identity(*arguments: str) -> str:
        (job,) = jobs(command, *arguments)
        assert job.plan is not None
        return job.plan.identity

    plain = identity("cache=fbcache")
    assert plain == identity("cache=fbcache", "outputs=there", "dry_run=true", "rerun=true")
    others = ["measure.repeats=2", "measure=none", "seed=1", "cache.start=0.2", "measure.difference_gain=2"]
    assert len({plain, *(identity("cache=fbcache", other) for other in others)}) == 1 + len(others)
