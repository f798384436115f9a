"""What a run is compared with: a reference of more steps, and the reference itself once more or in other numerics."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import CommandLine
from tests.conftest import run_as_data
from wavespeed_runner.cli.main import main
from wavespeed_runner.execution import resources
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.runner import run_plan
from wavespeed_runner.media.images import read_png
from wavespeed_runner.metrics.quality import compare_images
from wavespeed_runner.models.weights.pretrained import load as load_pipeline
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.new import IMAGE_KEY
from wavespeed_runner.report.console import show

pytestmark = pytest.mark.slow

Planned = Callable[..., Plan]
FEWER = ("steps=2", "measure=default", "measure.reference_steps=5")
REPEAT = ("measure=default", "steps=2", "measure.noise_floor=repeat")
FULL = ("measure=default", "steps=2", "measure.noise_floor=full")
METRICS = {"mae", "mae_similarity", "ssim", "psnr"}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def ran(plan: Plan, folder: Path) -> dict[str, Any]:
    record = run_as_data(plan, folder, [])
    assert record["status"] == "completed", record["error"]
    return json.loads((folder / "record.json").read_text())  # type: ignore[no-any-return]


def only(folder: Path) -> Path:
    (file,) = folder.glob("*.png")
    return file


def test_fewer_steps_are_compared_with_all_of_them(planned: Planned, tmp_path: Path) -> None:
    record = ran(planned(*FEWER), tmp_path / "fewer")
    ran(planned("steps=5"), tmp_path / "all")
    ran(planned("steps=2"), tmp_path / "few")
    few, all_ = read_png(only(tmp_path / "few/images"))[0], read_png(only(tmp_path / "all/images"))[0]
    assert (read_png(only(tmp_path / "fewer/reference"))[0] == all_).all()
    assert (read_png(only(tmp_path / "fewer/images"))[0] == few).all()
    assert record["reference"]["kind"] == "run" and record["samples"][0]["quality"] == compare_images(few, all_)
    assert record["samples"][0]["reference_steps"] == 5 and len(record["samples"][0]["steps"]) == 2


def test_the_reference_is_shared_with_a_run_of_so_many_steps(planned: Planned) -> None:
    fewer, all_ = planned(*FEWER), planned("steps=5", "measure=default")
    assert fewer.reference_keys == all_.keys and fewer.keys == planned("steps=2", "measure=default").keys
    assert fewer.reference_images == all_.images


def test_images_of_it_are_replayed_as_they_are(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(planned(*FEWER, "measure.noise_floor=repeat"), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for part in ("images", "reference"):
        assert main(["replay", str(only(tmp_path / "run" / part))]) == 0
        assert "identical, 1 of 1" in capsys.readouterr().out
    about = json.loads(read_png(only(tmp_path / "run/reference"))[1][IMAGE_KEY])["config"]
    assert (about["steps"], about["measure"]["reference_steps"]) == (5, None)


def test_so_many_steps_and_nothing_lossy_is_the_reference_itself(planned: Planned) -> None:
    assert planned("steps=5", "measure=default", "measure.reference_steps=5").reference_kind == "self"
    assert planned("steps=5", "measure=default", "measure.reference_steps=6").reference_kind == "run"


def test_a_cache_is_off_in_a_longer_reference(planned: Planned) -> None:
    plan = planned("cache=fbcache", *FEWER)
    assert plan.reference is not None
    options = plan.reference.nodes["denoise"].options
    assert (options.cache.name, options.steps) == ("none", 5)


def test_every_pass_of_a_graph_follows(planned: Planned) -> None:
    plan = planned("graph=hires_fix", "strength=0.6", *FEWER)
    assert plan.reference is not None
    steps = {name: node.options.steps for name, node in plan.reference.nodes.items() if hasattr(node.options, "steps")}
    assert steps == {"denoise": 5, "denoise_large": 5}


def test_the_console_says_what_is_compared(
    planned: Planned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run_plan(planned(*FEWER, "measure.noise_floor=full"), tmp_path / "run", [])
    show(record, tmp_path / "run")
    out = capsys.readouterr().out
    assert "2 steps against 5" in out and "no cache, 2 steps" in out
    assert "SSIM again / in bfloat16" in out and "PSNR in dB again / in bfloat16" in out
    (steps,) = (line.split() for line in out.splitlines() if line.startswith("steps computed"))
    assert steps[-6:] == ["5", "/", "0", "2", "/", "0"]


def test_a_plan_says_it(cli: CommandLine) -> None:
    out = cli.plans("steps=12", "measure.reference_steps=28", "measure.noise_floor=full")
    assert "reference  the same with 28 steps instead of 12: " in out
    assert "floor      the reference once more, untimed: 0 of 4 in the store" in out
    assert "floor      the reference in bfloat16, untimed: 0 of 4" in out
    assert "cache=none instead of fbcache and 40 steps instead of 28" in cli.plans(
        "cache=fbcache", "measure.reference_steps=40"
    )


def test_a_machine_that_repeats_itself_has_no_floor(planned: Planned, tmp_path: Path, family: Any) -> None:
    calls = family()
    floor = ran(planned("cache=fbcache", *REPEAT), tmp_path / "run")["noise_floor"]
    assert floor["repeat"] == {"mae": 0.0, "mae_similarity": 1.0, "ssim": 1.0, "psnr": None}
    assert floor["numerics"] is None and set(floor) == {"latents_max_abs", "repeat", "numerics"}
    # Warm-up and image, for setting and reference; the repetition has no warm-up, and encodes and decodes for itself.
    assert (calls.count("load"), calls.count("encode"), calls.count("denoise"), calls.count("decode")) == (1, 2, 5, 3)


def test_it_costs_once(planned: Planned, tmp_path: Path, family: Any) -> None:
    first = ran(planned(*FULL), tmp_path / "a")
    calls = family()
    again = ran(planned(*FULL), tmp_path / "b")
    assert calls == [] and again["noise_floor"] == first["noise_floor"]
    calls.clear()
    ran(planned(*FULL, "rerun=true"), tmp_path / "c")
    assert calls.count("load") == 2 and calls.count("decode") == 3


def test_jobs_of_a_sweep_that_is_run_again_share_it_and_the_model(
    planned: Planned, tmp_path: Path, family: Any
) -> None:
    """Later jobs find the floor that the first has made: the model is not let go of to make room for the other."""
    calls, cache = family(), ProcessCache()
    for number, threshold in enumerate((0.65, 0.3, 0.2)):
        plan = planned("cache=fbcache", f"cache.residual_diff_threshold={threshold}", *FULL, "rerun=true")
        record = run_as_data(plan, tmp_path / str(number), [], cache=cache)
        assert record["status"] == "completed" and record["noise_floor"]["repeat"]["ssim"] == 1.0
    assert calls.count("load") == 3, "the model, the other precision, and the model for all of the rest"
    cache.clear()


def test_a_machine_that_does_not_repeat_itself_is_noticed(
    planned: Planned, tmp_path: Path, family: Any, own_registry: Any
) -> None:
    usual, seen = own_registry["model", "flux"].implementation.decode, []

    def drifting(*args: Any, **options: Any) -> Any:
        seen.append(1)
        return np.clip(usual(*args, **options).astype(int) // 2 + len(seen) * 10, 0, 255).astype(np.uint8)

    family(decode=drifting)
    floor = ran(planned(*REPEAT), tmp_path / "run")["noise_floor"]["repeat"]
    assert len(seen) == 2 and floor["mae"] == 10.0


def test_other_numerics_are_those_of_the_other_precision(planned: Planned, tmp_path: Path) -> None:
    record = ran(planned("cache=fbcache", *FULL), tmp_path / "run")
    ran(planned("steps=2", "model.dtype=bfloat16"), tmp_path / "half")
    half, reference = read_png(only(tmp_path / "half/images"))[0], read_png(only(tmp_path / "run/reference"))[0]
    expected = compare_images(half, reference)
    assert record["noise_floor"]["numerics"] == {"what": "bfloat16", **expected} and set(expected) == METRICS
    assert record["samples"][0]["noise_floor"]["numerics"] == expected and expected["mae"] > 0  # type: ignore[operator]


def test_half_precision_is_held_against_float32(planned: Planned) -> None:
    plan = planned(*FULL, "model.dtype=bfloat16")
    assert [floor.what for floor in plan.floors] == ["again", "float32"]
    assert plan.floors[1].graph.nodes["load"].options.model.dtype.value == "float32"


def test_it_is_the_longer_references_floor(planned: Planned) -> None:
    plan = planned(*FEWER, "measure.noise_floor=full")
    assert [floor.graph.nodes["denoise"].options.steps for floor in plan.floors] == [5, 5]


def test_nothing_timed_has_a_second_model_beside_it(planned: Planned, tmp_path: Path, family: Any) -> None:
    alive: list[weakref.ref[Any]] = []

    def load(*args: Any) -> Any:
        assert not [pipe for one in alive if (pipe := one())], "the other model is still there"
        pipe = load_pipeline(*args)
        alive.append(weakref.ref(pipe))
        return pipe

    family(load=load)
    record = ran(planned("cache=fbcache", *FULL, "num_images_per_prompt=2"), tmp_path / "run")
    assert len(alive) == 2 and record["noise_floor"]["numerics"] is not None
    kinds = [stage["of"] for stage in record["stages"]]
    timed, floors = kinds[: kinds.index("repeat")], kinds[kinds.index("repeat") :]
    assert set(timed) == {"run", "reference"} and set(floors) == {"repeat", "numerics"}
    assert floors == sorted(floors, reverse=True) and len(record["timing"]["raw"]) == 2


def test_a_floor_that_fails_leaves_the_run_as_it_is(planned: Planned, tmp_path: Path, family: Any) -> None:
    loads: list[int] = []

    def load(*args: Any) -> Any:
        loads.append(1)
        if len(loads) > 1:
            raise MemoryError("no room for float32")
        return load_pipeline(*args)

    family(load=load)
    record = ran(planned("cache=fbcache", *FULL), tmp_path / "run")
    assert record["noise_floor"]["numerics"] is None and record["noise_floor"]["repeat"]["ssim"] == 1.0
    (warning,) = (text for text in record["warnings"] if "noise floor" in text)
    assert "(bfloat16) could not be measured: MemoryError: no room for float32" in warning


def test_without_being_asked_nothing_is_generated_again(planned: Planned, tmp_path: Path) -> None:
    plan = planned("cache=fbcache", "measure=default", "steps=2")
    assert plan.floors == []
    assert {stage["of"] for stage in ran(plan, tmp_path / "run")["stages"]} == {"run", "reference"}


def test_the_gpu_s_memory_is_given_back_before_the_other_precision_is_loaded(
    planned: Planned, tmp_path: Path, family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch keeps of it for later would be missing where two models just do not fit."""
    calls = family()
    monkeypatch.setattr(resources, "_free_memory", lambda: calls.append("free"))
    ran(planned("cache=fbcache", *FULL), tmp_path / "run")
    assert [call for call in calls if call in ("load", "free")] == ["load", "free", "load", "free"]
