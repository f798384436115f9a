"""Random command lines, right and wrong, for tests that compare two ways of reading them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from wavespeed_runner.config.error_messages import explain

GROUPS = (
    "cache=fbcache", "cache=deepcache", "cache/predictor=taylor", "model=demo_unet", "model=flux", "sampler=euler",
    "graph=hires_fix", "measure=none", "experiment=known_answer", "experiment=detour", "experiment=mine",
    "prompts=file", "hydra/launcher=basic", "hydra.sweep.dir=x", "hydra.job.env_set={A: b}",
    "+hydra.sweeper.params={seed: 1}", "~hydra.sweep.subdir",
)  # fmt: skip
STRUCTURE = (
    "+graph.stages.y={stage: encode}", "++cache.start=0.1", "++new.thing=[1,2]", "~graph.stages.decode", "~prompt",
    "+graph.stages.x='${graph.stages.load}'", "cache={start: 0.5}", "~width=5", "graph={output: decode}",
    "+graph.stages.denoise.options={steps: 3}",
)  # fmt: skip
VALUES = (
    "steps=3", "steps=null", "steps=3.0", "seed=-1", "width='${height}'", "width=5", "height=${oc.env:HOME}",
    "prompt='a, b: {c} [d] ${seed}'", 'prompt="it\'s \\"quoted\\""', "prompt=a b", "prompt=é", "prompt='null'",
    "prompt=null", "negative_prompt=true", "negative_prompt=", "points=[{a: 1, b.c: [x]}]", "cache.start=0.3",
    "cache.start=-0.0", "cache.start=nan", "cache.end=1", "cache.residual_diff_threshold=0.2",
    "cache.criterion.threshold=0.2", "cache.signal=null", "cache.signal.blocks=2", "cache.signal={blocks: 3}",
    "model.repo=x/y", "model.dtype=bfloat16", "model.guidance_scale=2", "graph.stages.load={stage: x}",
    "graph.stages.denoise.inputs.sample=x", "graph.stages={}", "graph.output=y", "graph.stages.twin.stage=z",
    "graph.stages.twin={stage: z}", "graph.stages.twin='${graph}'", "outputs=y", "dry_run=true", "measure.repeats=2",
    "graph.stages.load.inputs={a: '${graph.stages.decode}'}", "prompts.path=a.txt", "hydra.job.num=3",
)  # fmt: skip
WRONG = (
    "cache=nope", "cache=[none]", "cache/signal=none", "~cache", "~sampler=default", "+cache=fbcache", "+seed=3",
    "cache@graph.x=none", "~steps=3", "seed=1,2", "seed=range(3)", "steps=abc", "steps=", "seed=1e3", "prompt='${'",
    "prompt=[a,b]", "cache.nope=1", "nope=1", "cache.start.x=1", "model.dtype=float8", "dry_run=maybe", "int(3)=4",
    "=3", "steps", "graph.stages.x.stage=z",
)  # fmt: skip
DETOUR = "# @package _global_\ngraph: {stages: {twin: '${graph.stages.load}'}}\n"
MINE = "# @package _global_\nsteps: 7\nprompt: ${negative_prompt}\npoints: [{steps: 3}]\n"

COMMAND_LINES = st.builds(
    lambda first, more, wrong, order: sorted([*first, *more, *wrong], key=lambda _: order.random()),
    st.lists(st.sampled_from(GROUPS) | st.sampled_from(STRUCTURE), max_size=2, unique=True),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=4),
    st.one_of(st.just([]), st.just([]), st.just([]), st.lists(st.sampled_from(WRONG), max_size=1)),
    st.randoms(use_true_random=False),
)


def write_experiments(folder: Path) -> None:
    """The experiment files that the command lines name."""
    (folder / "experiment").mkdir()
    (folder / "experiment" / "detour.yaml").write_text(DETOUR)
    (folder / "experiment" / "mine.yaml").write_text(MINE)


def outcome(function: Callable[..., Any], *arguments: Any) -> str:
    """What a function returns, or the error line; as text, because 1, 1.0 and True are equal and not the same."""
    try:
        return repr(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {explain(error)}"
