"""`fit candidates=N`: half of the images are those that fewer steps change most, the others come as they were drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.command_line import CommandLine
from tests.tuning.students import with_student
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.storage.store import Store
from wavespeed_runner.tuning import fit_images
from wavespeed_runner.tuning.fit_images import choose_images
from wavespeed_runner.tuning.student import Student, relative_errors

RUN = ["model=flux", "model.init=tiny", "model.steps=6", "width=32", "height=32", "device=cpu"]


def test_half_are_fragile_and_those_held_out_are_never_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, probed, said = [0.1, 0.9, 0.2, float("nan"), 0.3, 0.4, 0.8, 0.0, 0.5, 0.6], [], []

    def probe(student: Any, keys: Any, first: int) -> torch.Tensor:
        probed.append(first)
        return torch.tensor(changes[first : first + 8]).nan_to_num(nan=1e9)

    monkeypatch.setattr(fit_images, "_probe", probe)
    student: Any = SimpleNamespace(requests=list(range(12)))
    keys, store = [f"{index}" for index in range(12)], Store(tmp_path)

    def choose(images: int, keys: list[str] = keys) -> list[int]:
        return choose_images(student, keys, store, candidates=10, images=images, tell=said.append)

    assert choose(4) == [0, 2, 3, 1, 10, 11], "ordinary ones first: starts are tried on them"
    assert choose(6) == [0, 2, 4, 3, 1, 6, 10, 11] and probed == [0, 8], "what was probed is in the store"
    assert "2 of 10 candidates are taken for being fragile" in said[0]
    assert choose(10) == choose(11) == list(range(12)) and probed == [0, 8]
    choose(4, [*keys[:-3], "x", *keys[-2:]])
    assert probed == [0, 8, 0, 8], "another candidate"


def test_the_probe_compares_the_models_own_sampler_at_two_numbers_of_steps(tmp_path: Path) -> None:
    def work(student: Student) -> tuple[Any, ...]:
        own = student.pipeline.pipe.scheduler
        few, more = (student.generate(own, steps, [0, 1]).result for steps in fit_images.PROBES)
        return fit_images._probe(student, ["a", "b"], 0), relative_errors(few, more)

    found, expected = with_student([*RUN, "prompt=x", "num_images_per_prompt=2"], tmp_path, work)
    assert torch.equal(found, expected) and found.shape == (2,) and (found > 0).all()


def test_the_calibration_tells_how_many_candidates_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = CommandLine(tmp_path, monkeypatch, capsys)
    fit = ("fit", "evaluations=3", "images=4", "held_out=2", "iterations=1", "prompt=x", *RUN)
    status, out, err = command(*fit, "candidates=6")
    assert status == 0 and "2 of 6 candidates are taken for being fragile" in err, err
    made = load(Path(out.strip())).samplers[3].made
    assert (made["images"], made["candidates"], made["held_out"]) == (4, 6, 2)
    status, out, err = command(*fit, "candidates=4")
    assert status == 2 and "candidates=4: more than images=4 are needed, to choose from" in err
    assert (
        command(*fit).status == 0
        and "candidates" not in load(next(Path("outputs/calibrations").glob("*.yaml"))).samplers[3].made
    )
