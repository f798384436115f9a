"""A tuning that has found something, of figures of the test's choosing, with the images of a finished run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.tune.simulated import KNOWN
from wavespeed_runner.config.schema import Init, ModelConfig
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.answer import summarize
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.budget import Budget
from wavespeed_runner.tune.page import render_page
from wavespeed_runner.tune.rounds import Result
from wavespeed_runner.tune.settings import Setting
from wavespeed_runner.tune.tuning import Tuning

COMMANDS = [("run it", "copy it to own/experiment/", "python -m wavespeed_runner experiment=one_two prompt='...'")]


def result(folder: Path, relative: float, ssim: float, prompts: int = 16, **point: Any) -> Result:
    """What a setting gave: half of the prompts are .004 worse and half better."""
    values = {f"prompt {place}": [ssim + 0.004 * (-1) ** place] for place in range(prompts)}
    setting = Setting(point=point, identity=f"{point} {relative}", work=relative)
    return Result(
        setting=setting, prompts=prompts, values={"ssim": values}, seconds=relative, relative=relative, folder=folder
    )


def found(folder: Path, *, answered: bool = True, **given: Any) -> Tuning:
    """A tuning of five settings. folder: of the run whose images the answer has."""
    tried = [
        result(folder, 0.2, 0.96, cache="fbcache", steps=20),
        result(folder, 0.3, 0.98, sampler="dpmpp_2m_karras", steps=12),
        result(folder, 0.5, 0.99, sampler="unipc"),
        result(folder, 0.6, 0.985, sampler="deis"),
        result(folder, 0.25, 0.90, prompts=8, cache="teacache"),
    ]
    half = SimpleNamespace(
        results=tried, prompts=["a"] * 16, jobs=5, images=72, work=40.0, failures=[], args=SimpleNamespace()
    )
    model = ModelConfig(name="flux", repo="flux", init=Init.tiny)
    made: dict[str, Any] = {
        "plan": SimpleNamespace(config=SimpleNamespace(model=model)),
        "planner": None,
        "space": SimpleNamespace(name="small"),
        "aim": Aim(bounds=parse_bounds("ssim>=0.97", KNOWN)),
        "tuning": half,
        "judging": half,
        "seed": 0,
        "budget": Budget(),
        "tell": print,
        "folder": folder.parent,
        "answer": tried[1] if answered else None,
        "tuned": tried[1] if answered else None,
        "nearest": None if answered else tried[0],
    }
    return Tuning(**{**made, **given})


def page_of(tuning: Tuning) -> str:
    """Its page."""
    return render_page(tuning, summarize(tuning), "steps: 12\n", COMMANDS if tuning.answer else []).decode()
