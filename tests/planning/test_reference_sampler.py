"""A reference with the model's own sampler and steps, whatever the run has: `measure.reference_sampler=own`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from tests.conftest import run_as_data
from wavespeed_runner.config.limits import count_steps
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.execution.runner import run_plan
from wavespeed_runner.media.images import read_png
from wavespeed_runner.metrics.quality import compare_images
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.comparable import identify_comparable
from wavespeed_runner.records.new import IMAGE_KEY, new_record
from wavespeed_runner.records.reference import find_solver
from wavespeed_runner.report.console import show

Planned = Callable[..., Plan]
OWN = ("measure=default", "measure.reference_sampler=own")
UNIPC = ("sampler=unipc", "sampler.shift=1.65", "steps=3", "model.steps=4", *OWN)


def settings_of(plan: Plan) -> list[tuple[str, int]]:
    assert plan.reference is not None
    options = [node.options for node in plan.reference.nodes.values() if hasattr(node.options, "sampler")]
    return [(each.sampler.name, each.steps) for each in options]


def test_the_reference_is_what_the_model_makes_by_itself(planned: Planned) -> None:
    plan, alone = planned(*UNIPC), planned("measure=default", "model.steps=4")
    assert settings_of(plan) == [("default", 4)]
    assert plan.reference_keys == alone.keys != plan.keys and plan.reference_images == alone.images
    assert plan.keys == planned(*UNIPC[:3], "measure=default").keys, "it changes nothing of the run"
    assert settings_of(planned(*UNIPC, "measure.reference_steps=6", "cache=fbcache")) == [("default", 6)]
    assert settings_of(planned(*UNIPC[:4], "measure=default", "measure.reference_steps=6")) == [("unipc", 6)]


@pytest.mark.parametrize("sampler", ["default", "euler"])
def test_the_models_own_sampler_and_steps_are_the_reference_itself(planned: Planned, sampler: str) -> None:
    assert planned(f"sampler={sampler}", "model.steps=4", *OWN).reference_kind == "self"
    assert planned(f"sampler={sampler}", "model.steps=4", "steps=3", *OWN).reference_kind == "run"
    assert planned(f"sampler={sampler}", "model.steps=4", "cache=fbcache", *OWN).reference_kind == "run"


def test_a_record_knows_the_models_own_sampler_by_its_name(planned: Planned) -> None:
    for overrides in (("steps=3", *OWN), ("cache=fbcache", "measure=default")):
        named, default = (
            new_record(planned(f"sampler={name}", "model.steps=4", *overrides), []) for name in ("euler", "default")
        )
        assert find_solver(named) == find_solver(default) == ""
        assert named.reference.sampler == default.reference.sampler == {"name": "default"}
        assert identify_comparable(named) == identify_comparable(default)
    other = new_record(planned("sampler=euler", "sampler.shift=2", "model.steps=4", *OWN), [])
    assert find_solver(other) == "euler, shift 2.0"


def test_another_sampler_or_spacing_is_not(planned: Planned) -> None:
    for overrides in (("sampler=unipc",), ("sampler=euler", "sampler.shift=2"), ("sampler=euler_beta",)):
        assert planned(*overrides, "model.steps=4", *OWN).reference_kind == "run", overrides


def test_every_pass_of_a_graph_follows(planned: Planned) -> None:
    assert settings_of(planned("graph=hires_fix", "strength=0.6", *UNIPC)) == [("default", 4)] * 2


def test_its_steps_count_for_the_limits(composed: Any) -> None:
    run, reference = 3, 40
    config = resolve_config(composed("sampler=unipc", f"steps={run}", f"model.steps={reference}", *OWN, "seed=1"))
    assert count_steps(config, 1) == (1, (1 + config.measure.warmup) * (run + reference))


def test_a_plan_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli = CommandLine(tmp_path, monkeypatch, capsys)
    own = "measure.reference_sampler=own"
    named = "the same with the model's own sampler (euler)"
    assert f"{named} instead of unipc (shift=3.0) and 28 steps instead of 6: same prompts" in cli.plans(
        "sampler=unipc", "sampler.shift=3", "steps=6", own
    )
    assert f"{named} and 28 steps instead of 6: " in cli.plans("sampler=euler", "steps=6", own)
    assert "nothing lossy is on, and sampler and steps are the model's own" in cli.plans("sampler=euler", own)
    assert "the sampler is the model's own, and the steps are those of measure.reference_steps" in cli.plans(
        "steps=40", own, "measure.reference_steps=40"
    )
    said = cli.plans("cache=fbcache", own)
    assert "cache=none instead of fbcache and the model's own sampler (euler) and 28 steps: same prompts" in said
    assert "the model's own sampler instead of euler and" in cli.plans("model=demo_unet", "sampler=euler", own)


@pytest.fixture(scope="module")
def ran(composed: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from wavespeed_runner.planning.plan import build_plan

    home = tmp_path_factory.mktemp("own")

    def run(name: str, *overrides: str) -> Path:
        record = run_as_data(build_plan({**composed(*overrides), "outputs": str(home / "out")}), home / name, [])
        assert record["status"] == "completed", record["error"]
        return home / name

    return run


def test_a_run_is_compared_with_it(ran: Any) -> None:
    """Heun's three steps are five calls of the denoiser, and the work is counted in calls."""
    heun, alone = ran("heun", "sampler=heun", "steps=3", "model.steps=4", *OWN), ran("alone", "steps=4")
    (image,), (reference,), (expected,) = (
        [*folder.glob("*.png")] for folder in (heun / "images", heun / "reference", alone / "images")
    )
    assert (read_png(reference)[0] == read_png(expected)[0]).all()
    record = json.loads((heun / "record.json").read_text())
    assert record["samples"][0]["quality"] == compare_images(read_png(image)[0], read_png(reference)[0])
    assert record["reference"] == {"kind": "run", "sampler": {"name": "default"}, "steps": 4}
    about = json.loads(read_png(reference)[1][IMAGE_KEY])["config"]
    assert (about["sampler"], about["steps"], about["measure"]["reference_sampler"]) == ({"name": "default"}, 4, None)

    from wavespeed_runner.records.file import read_record
    from wavespeed_runner.records.summary import summarize_record

    summary = summarize_record(read_record(heun / "record.json"))
    assert summary.computed_share == 5 / 4 and summary.rival and summary.solver == "heun"


def test_the_console_says_what_is_compared(
    planned: Planned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run_plan(planned(*UNIPC), tmp_path / "run", [])
    show(record, tmp_path / "run")
    out = capsys.readouterr().out
    assert "3 steps of unipc (shift 1.65) against 4 of the model's own sampler" in " ".join(out.split())
    assert "unipc 3 steps" in " ".join(out.split())
