"""Generated experiments and command lines: refused in one line or planned, and nothing left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import yaml
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


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3), multirun=st.booleans())
def test_any_experiment_is_refused_or_planned(cli: CommandLine, lines: list[tuple[str, str]], multirun: bool) -> None:
    cli.experiment("".join(f"{key}: {value}\n" for key, value in lines))
    before, began = cli.left(), time.process_time()
    said = cli("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true", *(["-m"] if multirun else []))
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert SECRET not in said.out + said.err and "Traceback" not in said.err
    assert cli.left() == before and time.process_time() - began < SOON


ENTRY_PARTS = st.sampled_from(
    ["/", "//", "..", "../", ".", "~", "cache", "experiment", "mine", "fbcache", "private", "secret", "link", "pipe",
     "@", "@_global_.claim", "@_here_.hydra", "@hydra.runtime.choices", "_global_.hydra[sweeper].params", "override ",
     "optional ", "${oc.decode:'..'}", "${oc.env:HOME}", "${oc.create:x}", "${cache}", "${a${b}}", "$", ":", "\\",
     "%2e", "schema/", "hydra/", " ", "x", "_self_", "???", "C:"]
)  # fmt: skip
ENTRY = st.lists(ENTRY_PARTS, min_size=1, max_size=6).map("".join)
ENTRIES = st.lists(ENTRY | st.tuples(ENTRY, ENTRY | st.lists(ENTRY, max_size=2)), min_size=1, max_size=3)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(ENTRY | st.tuples(ENTRY, ENTRY) | st.tuples(ENTRY, st.lists(ENTRY, max_size=2)), min_size=1, max_size=3)
)
def test_any_defaults_list_copies_nothing_of_another_folder(cli: CommandLine, entries: list[Any]) -> None:
    defaults = [{entry[0]: entry[1]} if isinstance(entry, tuple) else entry for entry in entries]
    cli.experiment(yaml.safe_dump({"defaults": defaults}))
    began = time.process_time()
    said = cli("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true")
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert SECRET not in said.out + said.err and "'token'" not in said.out + said.err and "Traceback" not in said.err
    assert time.process_time() - began < SOON


PIECES = st.sampled_from(
    ["%YAML 1.3\n---\n", "%YAML 1.1\n---\n", "%TAG ! x\n---\n", "a0: &a0 [x, x, x]\n", "a: &a [*a]\n", "? [a]\n: b\n",
     *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 7)), "prompt: *a3\n", "claim: *a4\n",
     "claim: {x: *a2}\n", "<<: *a1\n", "graph: " + "[" * 90 + "]" * 90 + "\n", "--- x\n", "...\n",
     "!!python/tuple [1]\n", "x: !!int 0x" + "f" * 500 + "\n", "defaults: *a1\n", "steps: 2\n", "\ufeff", "\t",
     "points: *a3\n"]
)  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, min_size=1, max_size=9).map("".join), st.booleans())
def test_any_yaml_as_an_experiment_is_refused_or_planned_soon(cli: CommandLine, text: str, first: bool) -> None:
    (cli.configs / "experiment" / "mine.yaml").write_text(text if first else f"# @package _global_\n{text}")
    began = time.process_time()
    said = cli("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true")
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert time.process_time() - began < SOON


REPOSITORIES = st.sampled_from(
    ["evil/repo", "../x", "/x", "~/x", "pkg://os/x", "pkg://__main__/x", "private", "here.safetensors",
     "pipe.safetensors", "a/b/c", "", "a b", "x\\y", "file:///etc", "https://x/y", "x.ckpt", "owner/..",
     "owner/name@main"]
)  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(REPOSITORIES, REPOSITORIES, st.sampled_from(["sd15", "flux", "hidream", "generic", "demo"]))
def test_any_repository_is_planned_unloaded_or_refused(
    cli: CommandLine, repo: str, components: str, model: str
) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    Path("here.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    given = {"init": "pretrained", "repo": repo, "components": components}
    cli.experiment(yaml.safe_dump({"defaults": [{"override /model": model}], "model": given}))
    loaded = {"torch", "diffusers", "transformers", "huggingface_hub"} & sys.modules.keys()
    began = time.process_time()
    said = cli("--config-dir", str(cli.configs), "experiment=mine", "dry_run=true")
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert {"torch", "diffusers", "transformers", "huggingface_hub"} & sys.modules.keys() == loaded
    assert time.process_time() - began < SOON


ARGUMENTS = st.tuples(
    st.sampled_from(["", "+", "++", "~", "-", "--"]),
    st.one_of(
        KEYS, st.sampled_from(["experiment", "hydra.run.dir", "hydra/launcher", "", "=", "a@b", "graph.stages.x"])
    ),
    st.sampled_from(["", "=", "==", ":", " = "]),
    st.one_of(VALUES, st.text(max_size=8), st.sampled_from(["[", "{", "(", "range(1,", "glob(*)", "choice()", "x,y"])),
).map("".join)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=st.lists(ARGUMENTS, min_size=1, max_size=2))
def test_any_command_line_is_refused_or_planned(cli: CommandLine, arguments: list[str]) -> None:
    before, began = cli.left(), time.process_time()
    said = cli("dry_run=true", "model.init=tiny", *arguments)
    assert said.status in (0, 2), said
    assert said.status == 0 or (said.err.count("\n") == 1 and said.err[:-1].isprintable())
    assert cli.left() == before and time.process_time() - began < SOON
