"""Generated experiments and command lines: refused in one line or planned, and nothing left behind."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.command_line import CommandLine
from tests.inputs.hostile_files import LONG, SECRET, SOON

VALUES = st.sampled_from(
    ["null", "true", "-1", "1e400", ".nan", LONG, "[1, [2]]", "{a: 1}", "x", "${seed}", "${oc.env:HOME}", "'\\ud800'",
     '"\\ud800"', "!!python/name:os.system", "pkg://wavespeed_runner/../x", "../x.txt", "link.txt", "pipe.png",
     "99999999999", "range(0,10)", "&a [*a]", "\\", "'", "2020-02-31", "0x", "~"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["steps", "seed", "prompt", "width", "image", "mask", "prompts", "cache", "graph", "model", "sampler", "points",
     "limits", "hydra", "defaults", "measure", "adapters", "batch_size", "device", "claim", "outputs", "nope",
     "_target_", "cache.start", "num_images_per_prompt", "strength", "? [a]"]
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3), multirun=st.booleans())
def test_any_experiment_is_refused_or_planned(cli: CommandLine, lines: list[tuple[str, str]], multirun: bool) -> None:
    cli.experiment("".join(f"{key}: {value}\n" for key, value in lines))
    before, began = cli.left(), time.monotonic()
    said = cli("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true", *(["-m"] if multirun else []))
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert SECRET not in said.out + said.err and "Traceback" not in said.err
    assert cli.left() == before and time.monotonic() - began < SOON


ARGUMENTS = st.tuples(
    st.sampled_from(["", "+", "++", "~", "-", "--"]),
    st.one_of(
        KEYS, st.sampled_from(["experiment", "hydra.run.dir", "hydra/launcher", "", "=", "a@b", "graph.stages.x"])
    ),
    st.sampled_from(["", "=", "==", ":", " = "]),
    st.one_of(VALUES, st.text(max_size=8), st.sampled_from(["[", "{", "(", "range(1,", "glob(*)", "choice()", "x,y"])),
).map("".join)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=st.lists(ARGUMENTS, min_size=1, max_size=2))
def test_any_command_line_is_refused_or_planned(cli: CommandLine, arguments: list[str]) -> None:
    before, began = cli.left(), time.monotonic()
    said = cli("dry_run=true", "model.init=tiny", *arguments)
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert cli.left() == before and time.monotonic() - began < SOON
