"""`tune` as it is typed: refusals, a whole search on a tiny model, the same command again, and what it leaves."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.children import started
from tests.report.html_parts import stands_alone, whole_text
from wavespeed_runner.cli.main import main
from wavespeed_runner.tune import prepare
from wavespeed_runner.tune.settings import drop_typed

SPACE = """
ladders:
  steps: {choose: {sampler: [default, unipc]}, vary: {steps: [2, 4, 6]}}
  first_block: {set: {cache: fbcache}, vary: {cache.residual_diff_threshold: [0.5, 0.01]}}
also: {accelerate: [fuse_qkv]}
"""

THEIRS = "# @package _global_\ndefaults:\n- override /sampler: unipc\nsteps: 5\nclaim: {prompts: 1}\n"
"""A shared experiment."""


@pytest.fixture
def tune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`tune(*arguments)`: exit status, stdout and stderr of a command in a folder of its own, on a tiny model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "small.yaml").write_text(SPACE)
    (tmp_path / "prompts.txt").write_text(
        "".join(f"a {color} circle\n" for color in ("red", "blue", "green", "yellow"))
    )

    def run(*arguments: str, side: int = 32) -> tuple[int, str, str]:
        tiny = ["model.init=tiny", f"width={side}", f"height={side}", "device=cpu", "prompts=file"]
        own = ["prompts.path=prompts.txt", "space=small", "--config-dir", str(tmp_path)]
        status = main(["tune", *arguments, *tiny, *own])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "quality=: what is accepted?"),
        (("quality=ssim>0.9",), "quality=ssim>0.9: 'ssim>0.9' is no bound"),
        (("time=3s",), "time=3s: the most time"),
        (("time=<=0s",), "time=<=0s"),
        (("time=<=1s", "by=sim"), "by=sim: no such metric"),
        (("quality=ssim>=0.5", "budget=2"), "budget=2: a time or a number of jobs"),
        (("quality=ssim>=0.5", "images=5"), "images=5: an even number"),
        (("quality=ssim>=0.5", "images=1000000000"), "images=1000000000: there are 4 different prompts; fewer images"),
        (("quality=forks<=5%",), "144 prompts are needed"),
        (("quality=ssim>=0.5", "steps=20"), "steps=20: not here"),
        (("quality=ssim>=0.5", "measure.reference=false"), "measure.reference=false: not here"),
        (("quality=ssim>=0.5", "rerun=true"), "rerun=true: not here"),
        (("quality=ssim>=0.5", "prompt='a red circle'"), "many prompts are needed"),
        (("quality=ssim>=0.5", "qualty=3"), "qualty"),
        (("quality=p10(ssim)>=0.5",), "72 prompts are needed"),
        (("quality=ssim>=0.5", "seed=-1"), "seed=-1: the same command would not go on"),
        (("quality=ssim>=0.5", "by=psnr"), "by=psnr: only where a time alone is given"),
        (("quality=ssim>=0.5", "hydra.sweep.dir=x"), "hydra.sweep.dir=x: not here"),
        (("quality=ssim>=0.5", "name=a b"), "name=a b: letters"),
        (("quality=ssim>=0.5", "measure=none"), "measure.reference: set by the experiment or the option of measure"),
        (("quality=ssim>=0.5", "hydra/launcher=joblib"), "hydra/launcher"),
        (("quality=lpips<=0.05",), "metrics.lpips.weights"),
        (("quality=lpips>=0.05",), "lpips<=VALUE"),
        (("quality=scene>=0.9", "metrics=temporal"), "metrics=temporal: scene is bounded"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = tune(*arguments)
    assert status == 2 and said in err and err.count("\n") == 1 and not out
    assert not (tmp_path / "outputs").exists()


def test_a_wrong_key_of_a_space_is_told_before_anything_runs(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "tune" / "small.yaml").write_text("ladders: {a: {vary: {stepps: [2, 3]}}}")
    status, _, err = tune("quality=ssim>=0.5")
    assert status == 2 and "stepps" in err and "ladders.a" in err
    assert not list(tmp_path.glob("outputs/runs/*")) and not list(tmp_path.glob("outputs/store/*"))


def test_a_wrong_value_of_a_ladder_is_told_by_its_place(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    ladder = "{set: {cache: fbcache}, vary: {cache.residual_diff_threshold: [wide, 0.1]}}"
    (tmp_path / "tune" / "small.yaml").write_text(f"ladders: {{thresholds: {ladder}}}")
    status, _, err = tune("quality=ssim>=0.5")
    assert status == 2 and "wide" in err and "(space=small, ladder thresholds)" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ("attention: [flash_hub]", "flash_hub"),
        ("batch_size: [many]", "batch_size"),
        ("compil: [x]", "a space may not set"),
    ],
)
def test_a_wrong_option_on_top_is_told_before_anything_runs(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path, also: str, said: str
) -> None:
    (tmp_path / "tune" / "small.yaml").write_text(f"ladders: {{a: {{vary: {{steps: [4]}}}}}}\nalso: {{{also}}}\n")
    status, out, err = tune("quality=ssim>=0.5")
    assert (
        status == 2
        and said in err
        and "space=small" in err
        and "also" in err
        and not out
        and not (tmp_path / "outputs").exists()
    )


def test_a_dry_run_counts_what_there_is_to_try(tune: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, _ = tune("quality=ssim>=0.5", "dry_run=true")
    assert status == 0 and "space    small: 8 settings" in out and "2 for tuning, 2 for judging" in out
    assert not (tmp_path / "outputs").exists()


def test_captions_of_shapes_are_no_prompts_for_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("a\nb\nc\nd\n")
    own = ["prompts=file", "prompts.path=mine.txt"]
    for arguments, warned in ((["model=sdxl"], True), (["model=demo"], False), (["model=sdxl", *own], False)):
        assert main(["tune", "quality=ssim>=0.9", "model.init=tiny", "dry_run=true", *arguments]) == 0
        assert ("captions of the demo models' shapes" in capsys.readouterr().out) is warned, arguments


def _command(outputs: Path, folder: Path) -> list[str]:
    arguments = ["model.init=tiny", "width=32", "height=32", "device=cpu", f"outputs={outputs / 'outputs'}"]
    own = ["space=small", "--config-dir", str(folder), "prompts=file", f"prompts.path={folder / 'prompts.txt'}"]
    return ["tune", "quality=ssim>=0.5", f"gallery={folder / 'shelf'}", *arguments, *own]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A finished tuning, made twice; the folder, and the exit statuses."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "tune").mkdir()
    (folder / "tune" / "small.yaml").write_text(SPACE)
    (folder / "prompts.txt").write_text("".join(f"a {color} circle\n" for color in ("red", "blue", "green", "yellow")))
    (folder / "shelf").mkdir()
    (folder / "shelf" / "theirs.yaml").write_text(THEIRS)
    command = _command(folder, folder)
    first = main(command)
    entries = sorted(path.name for path in (folder / "outputs" / "store").rglob("*.entry"))
    (folder / "entries.json").write_text(json.dumps(entries))
    return folder, [first, main(command)]


@pytest.mark.parametrize("inside", ["", "experiment", "prompts", "tuning", "judging/001/2"])
def test_a_folder_of_its_own_that_is_a_link_is_refused(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's outputs folder may have one that leads to files of ours."""
    (victim := tmp_path / "victim").mkdir()
    monkeypatch.setattr(prepare, "sha256", lambda _: SimpleNamespace(hexdigest=lambda: "0" * 64))
    link = Path("outputs", "tune", f"flux_small_{'0' * 12}" if inside else "", inside)
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    status, _, err = tune("quality=ssim>=0.5", "model=flux")
    assert status == 2 and err.startswith(f"error: {link}: a link, which leads out of the folder; ")
    assert not list(victim.iterdir())


@pytest.mark.slow
def test_a_tuning_leaves_an_experiment_that_keeps_the_bound_and_a_page(whole: tuple[Path, list[int]]) -> None:
    folder, statuses = whole
    assert statuses == [0, 0]
    (home,) = (folder / "outputs" / "tune").iterdir()
    data = json.loads((home / "tune.json").read_text())
    answer = data["answer"]
    assert answer["met"] and answer["ssim"]["low"] >= 0.5 and answer["prompts"] == 2
    assert answer["setting"] in data["sentence"] and "2 prompts not used for tuning" in data["sentence"]
    ((theirs),) = data["shared"]
    assert (theirs["file"], theirs["setting"]) == ("theirs.yaml", "sampler=unipc steps=5") and theirs["said"]
    assert data["work"]["done"] > 0 and data["tried"] and data["ablation"]
    page = (home / "tune.html").read_text()
    assert answer["setting"] in page.replace("<wbr>", "") and "data:image/webp;base64" in page and stands_alone(page)
    assert "experiment=tuned" in whole_text(page) and "Images of the answer" in page
    assert "From shared experiments" in page and "theirs.yaml" in page.replace("<wbr>", "")
    (experiment,) = (home / "experiment").iterdir()
    text = experiment.read_text()
    assert "claim:" in text and "# Judged by SSIM" in text
    assert data["intervals"] in text and data["intervals"] in page.replace("&#39;", "'")
    claimed = re.search(r"speedup: {value: ([\d.]+)", text)
    assert claimed and 1 / answer["relative"] == pytest.approx(float(claimed[1]), rel=1e-4)
    assert f"{float(claimed[1]):.2f} times as fast" in data["sentence"], "one speed, wherever it stands"


@pytest.mark.slow
def test_the_prompts_for_judging_are_none_of_those_for_tuning(whole: tuple[Path, list[int]]) -> None:
    (home,) = (whole[0] / "outputs" / "tune").iterdir()
    judged = json.loads((home / "judging" / "001" / "0" / "record.json").read_text())["samples"]
    tuned = [
        sample
        for file in (home / "tuning").glob("*/*/record.json")
        for sample in json.loads(file.read_text())["samples"]
    ]
    assert tuned and not {one["prompt"] for one in judged} & {one["prompt"] for one in tuned}
    assert not {one["seed"] for one in judged} & {one["seed"] for one in tuned}


@pytest.mark.slow
def test_the_same_command_denoises_nothing_again(whole: tuple[Path, list[int]]) -> None:
    folder, _ = whole
    entries = sorted(path.name for path in (folder / "outputs" / "store").rglob("*.entry"))
    assert entries and entries == json.loads((folder / "entries.json").read_text())


@pytest.mark.slow
def test_killed_three_times_it_goes_on_where_it_was(whole: tuple[Path, list[int]], tmp_path: Path) -> None:
    """Killed at three moments, it ends as a tuning that nobody disturbed, and denoises nothing again."""
    folder, _ = whole
    command = _command(tmp_path, folder)
    for rounds in (1, 2, 4):
        process = started(tmp_path, *command)
        end = time.monotonic() + 100
        while len(list(tmp_path.glob("outputs/tune/*/tuning/*/0/record.json"))) < rounds and process.is_alive():
            assert time.monotonic() < end, (tmp_path / "out").read_text()
            time.sleep(0.05)
        process.kill()
        process.join(100)
    before = {path.name for path in (tmp_path / "outputs" / "store").rglob("*.entry")}
    process = started(tmp_path, *command)
    process.join(200)
    said = (tmp_path / "out").read_text()
    assert process.exitcode == 0 and "prompt='...' seeds=same" in said, said
    assert said.count("from theirs.yaml: sampler=unipc steps=5") >= 2, "what is tried, and what became of it"
    (home,) = (tmp_path / "outputs" / "tune").iterdir()
    data = json.loads((home / "tune.json").read_text())
    assert data["answer"]["met"] and before <= {path.name for path in (tmp_path / "outputs" / "store").rglob("*.entry")}
    (undisturbed,) = (folder / "outputs" / "tune").iterdir()
    scouted = [json.loads((one / "tune.json").read_text())["tried"] for one in (home, undisturbed)]
    assert {one["setting"] for one in scouted[0] if one["prompts"] == 2} & {one["setting"] for one in scouted[1]}


@pytest.mark.slow
def test_the_experiment_alone_can_be_replayed_elsewhere(
    whole: tuple[Path, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It carries the prompts that judged it."""
    (experiment,) = (whole[0] / "outputs" / "tune").glob("*/experiment/*.yaml")
    shutil.copy(experiment, tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    status = main(["replay", "mine.yaml"])
    out = capsys.readouterr().out
    assert status in (0, 1), "times of a model this small may not be reproduced"
    assert "ssim" in out and "2 of 2 are the same" in out


def test_nothing_that_does_leaves_the_reference_as_the_answer(
    tune: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "tune" / "small.yaml").write_text("ladders: {steps: {vary: {steps: [2, 3]}}}")
    status, out, _ = tune("quality=ssim>=0.9999")
    assert (
        status == 0
        and "the reference is the answer" in out
        and "The nearest, " in out
        and "misses ssim>=0.9999 by" in out
    )
    assert not list(tmp_path.glob("outputs/tune/*/experiment"))


def test_a_judge_that_is_bounded_is_chosen(tune: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """On noise it reads nothing: the bound is not kept, and that is said with its figure."""
    (tmp_path / "tune" / "small.yaml").write_text("ladders: {steps: {vary: {steps: [2]}}}")
    status, out, _ = tune("quality=scene>=0.9", side=64)
    assert status == 0 and "scene 0 (95 %: 0 to 0)" in out and "the reference is the answer" in out


def test_what_is_typed_wins_over_a_space() -> None:
    points = [{"cache": "planned", "cache.computed": 8}, {"cache": "fbcache", "cache/predictor": "taylor", "steps": 6}]
    assert drop_typed(points, {"cache": "cache=fbcache"}) == [{}, {"cache/predictor": "taylor", "steps": 6}]
    assert drop_typed(points, {"steps": "steps=4"}) == [points[0], {"cache": "fbcache", "cache/predictor": "taylor"}]
    assert drop_typed(
        [{"sampler": "unipc", "steps": 6}, {"sampler": "deis", "steps": 6}], {"sampler": "sampler=ddim"}
    ) == [{"steps": 6}]
