"""A config from a stranger is data: it cannot run code, say where things are written, or read a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.error_messages import EXPLAINED, explain
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.sweep_overrides import read_sweep
from wavespeed_runner.config.trust import check_values, is_reserved, remove_places
from wavespeed_runner.errors import ConfigError

TOUCH = "{_target_: builtins.open, file: MARKER, mode: w}"
"""What Hydra would instantiate: it leaves a file."""
CALLBACK = f"hydra: {{callbacks: {{x: {TOUCH}}}}}\n"

HYDRAS = {
    "a_callback": (CALLBACK, "hydra.callbacks"),
    "an_empty_callback": ("hydra: {callbacks: {x: null}}\n", "hydra.callbacks"),
    "the_folder": ("hydra: {run: {dir: MARKER}}\n", "hydra.run.dir"),
    "the_folder_of_sweeps": ("hydra: {sweep: {dir: MARKER}}\n", "hydra.sweep.dir"),
    "the_folder_of_overrides": ("hydra: {output_subdir: ../../x}\n", "hydra.output_subdir"),
    "the_log": ("hydra: {job_logging: {handlers: {file: {filename: MARKER}}}}\n", "hydra.job_logging.handlers.file"),
    "Hydras_log": ("hydra: {hydra_logging: {handlers: {f: {class: logging.FileHandler}}}}\n", "hydra.hydra_logging"),
    "a_log_handler_that_is_none": ("hydra: {job_logging: {handlers: {x: null}}}\n", "hydra.job_logging.handlers.x"),
    "a_logging_factory": ("hydra: {job_logging: {filters: {f: {(): os.getcwd}}}}\n", "hydra.job_logging.filters"),
    "the_launchers_class": ("hydra: {launcher: {_target_: x.y}}\n", "hydra.launcher._target_"),
    "the_sweepers_class": ("hydra: {sweeper: {_target_: x.y}}\n", "hydra.sweeper._target_"),
    "the_environment": ("hydra: {job: {env_set: {PATH: /x}}}\n", "hydra.job.env_set"),
    "the_mode": ("hydra: {mode: MULTIRUN}\n", "hydra.mode"),
    "the_search_path": ("hydra: {searchpath: [file:///tmp]}\n", "hydra.searchpath"),
    "nothing_at_all": ("hydra: null\n", "hydra: keys and their values are needed"),
    "overrides_of_jobs": ("hydra: {overrides: {task: [hydra.run.dir=MARKER]}}\n", "hydra.overrides"),
    "overrides_of_Hydra": ("hydra: {overrides: {hydra: [hydra.run.dir=MARKER]}}\n", "hydra.overrides"),
    "another_launcher": ("defaults: [override /hydra/launcher: mine]\n", "override /hydra/launcher"),
    "a_package": ("defaults: [/cache@hydra.callbacks.x: evil]\n", "hydra.callbacks"),
    "an_option": ("defaults: [override /cache: global]\n", "hydra.callbacks"),
    "where_results_go": ("outputs: MARKER\n", "outputs="),
    "where_kernels_go": (
        "defaults: [override /compile: regional]\ncompile: {cache_dir: MARKER}\n",
        "compile.cache_dir=",
    ),
    "where_kernels_go_by_an_option": ("defaults: [override /compile: mine]\n", "compile.cache_dir="),
    "where_a_stages_kernels_go": (
        "graph: {stages: {load: {options: {compile: {name: torch_compile, cache_dir: MARKER}}}}}\n",
        "graph.stages.load.options.compile.cache_dir=",
    ),
    "where_a_stage_writes": (
        "graph: {stages: {load: {options: {outputs: MARKER}}}}\n",
        "graph.stages.load.options.outputs=",
    ),
    "where_kernels_go_put_together": (
        "defaults: [override /compile: regional]\ncompile: {cache_dir: '${prompt}'}\n",
        "compile.cache_dir=${prompt}",
    ),
    "a_stages_compile_from_elsewhere": (
        "graph: {stages: {load: {options: {compile: '${graph.stages.x.inputs}'}}, "
        "x: {inputs: {name: torch_compile, cache_dir: MARKER}}}}\n",
        "graph.stages.load.options.compile=${graph.stages.x.inputs}: no interpolation here",
    ),
    "whether_it_runs": ("dry_run: true\n", "dry_run=True"),
    "whether_it_runs_again": ("rerun: true\n", "rerun=True"),
}

VALUES = {
    "a_secret": ("prompt: ${oc.env:HOME}\n", "prompt=${oc.env:HOME}"),
    "a_secret_at_depth": ("cache: {start: '${oc.env:HOME}'}\n", "cache.start=${oc.env:HOME}"),
    "a_secret_in_a_list": ("graph: {stages: {load: {options: {x: [1, '${oc.env:HOME}']}}}}\n", "load.options.x.1="),
    "a_nested_secret": ("prompt: ${oc.${negative_prompt}:HOME}\n", "prompt=${oc.${negative_prompt}:HOME}"),
    "a_secret_in_two_parts": ('negative_prompt: "$"\nprompt: "${negative_prompt}{oc.env:HOME}"\n', "put together"),
    "a_secret_among_defaults": (
        "defaults: [optional /x: '${oc.env:HOME}']\n",
        "a defaults list may name options of config groups alone",
    ),
    "code": ("graph: {stages: {load: {options: {_target_: os.system}}}}\n", "options._target_: configs hold no code"),
    "code_at_depth": ("graph: {stages: {load: {options: {_args_: {a: 1}}}}}\n", "_args_.a: configs hold no code"),
    "a_file": ("prompts: {path: /etc/hostname}\n", "prompts.path=/etc/hostname"),
    "a_file_above": ("prompts: {path: ../mine.txt}\n", "prompts.path=../mine.txt"),
    "a_file_above_a_package": ("prompts: {path: pkg://wavespeed_runner/../x.txt}\n", "prompts.path=pkg://"),
    "a_image": ("image: /home/me/passport.png\n", "image=/home/me/passport.png: a config file may name a relative"),
    "a_image_of_a_user": ("image: ~/passport.png\n", "image=~/passport.png"),
    "a_mask_above": ("mask: ../passport.webp\n", "mask=../passport.webp"),
    "a_image_above_a_package": ("image: pkg://wavespeed_runner/../x.png\n", "image=pkg://"),
    "what_may_be_no_image": ("image: .ssh/id_rsa\n", "image=.ssh/id_rsa"),
    "a_image_put_together": ("image: 'a${prompt}.png'\n", "image=a${prompt}.png"),
    "a_stages_image": (
        "graph: {stages: {image: {stage: read_image, options: {path: /x.png}}}}\n",
        "graph.stages.image.options.path=/x.png",
    ),
    "a_stages_options_from_elsewhere": (
        "graph: {stages: {image: {stage: read_image, inputs: {path: /x.png}, "
        "options: '${graph.stages.image.inputs}'}}}\n",
        "graph.stages.image.options=${graph.stages.image.inputs}: no interpolation here",
    ),
    "a_file_put_together": ("prompts: {path: '${prompt}.txt'}\n", "prompts.path=${prompt}.txt"),
}


SWEPT = {
    "sweep_the_folder": ("hydra.run.dir: MARKER", "hydra.sweeper.params.hydra.run.dir"),
    "sweep_a_new_key_of_Hydras": ("+hydra.x: 1", "hydra.sweeper.params.+hydra.x"),
    "sweep_the_launcher": ("hydra/launcher: mine", "hydra.sweeper.params.hydra/launcher"),
    "sweep_where_results_go": ("outputs: MARKER", "hydra.sweeper.params.outputs"),
    "sweep_where_kernels_go": ("compile.cache_dir: MARKER", "hydra.sweeper.params.compile.cache_dir"),
    "sweep_where_a_stage_writes": (
        "graph.stages.load.options.outputs: MARKER",
        "hydra.sweeper.params.graph.stages.load.options.outputs",
    ),
    "sweep_a_file": ("prompts.path: /etc/hostname", "hydra.sweeper.params.prompts.path"),
    "sweep_a_image": ("image: 'a.png,/home/me/passport.png'", "image=/home/me/passport.png: a config file"),
    "sweep_a_secret": ("prompt: '${oc.env:HOME}'", "hydra.sweeper.params.prompt=${oc.env:HOME}"),
    "sweep_two_overrides_in_one": ("seed: 1 hydra.run.dir=MARKER", "cannot be read as KEY=VALUE"),
    "sweep_an_option": ("cache: 'none,global'", "hydra.callbacks"),
    "sweep_a_package": ("+cache@hydra.callbacks.x: evil", "hydra.callbacks"),
}


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an attack would write."""
    return tmp_path_factory.mktemp("marker") / "marker"


@pytest.fixture(scope="module", autouse=True)
def strangers_configs(tmp_path_factory: pytest.TempPathFactory, marker: Path) -> Iterator[None]:
    """A folder of experiments, one a case, and of options that they choose, as `--config-dir` finds them."""
    texts = {name: text for name, (text, _) in (HYDRAS | VALUES).items()}
    texts |= {name: f"hydra: {{sweeper: {{params: {{{params}}}}}}}\n" for name, (params, _) in SWEPT.items()}
    files = {f"experiment/{name}": f"# @package _global_\n{text}" for name, text in texts.items()}
    files["compile/mine"] = f"defaults: [regional, _self_]\ncache_dir: {marker}\n"
    files["cache/evil"] = files["hydra/launcher/mine"] = TOUCH
    files["cache/global"] = f"# @package _global_\n{CALLBACK}"
    folder = tmp_path_factory.mktemp("configs")
    for name, text in files.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("MARKER", str(marker)), encoding="utf-8")
    with composer(str(folder)):
        yield


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, (_, words) in (HYDRAS | VALUES).items()])
def test_an_experiment_may_not_set(marker: Path, name: str, words: str) -> None:
    with pytest.raises(EXPLAINED) as error:
        resolve_config(compose_job([f"experiment={name}"], [f"experiment={name}"]))
    assert words in explain(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, (_, words) in SWEPT.items()])
def test_an_experiment_may_not_sweep_over(marker: Path, name: str, words: str) -> None:
    with pytest.raises(EXPLAINED) as error:
        for job in read_sweep([f"experiment={name}"])[1]:
            compose_job(job, [f"experiment={name}"])
    assert words in explain(error.value)
    assert not marker.exists()


def test_the_command_line_may_say_where_kernels_go() -> None:
    typed = ["compile=regional", "compile.cache_dir=/mine", "+graph.stages.load.options.outputs=/there"]
    config = compose_job(typed, typed)
    assert config["compile"]["cache_dir"] == "/mine"
    assert config["graph"]["stages"]["load"]["options"]["outputs"] == "/there"
    with pytest.raises(ConfigError, match=r"compile\.cache_dir=/mine: a config file sets it"):
        compose_job(typed, typed[:1])


def test_places_are_left_out_of_what_is_shared() -> None:
    config = {"compile": {"name": "torch_compile", "cache_dir": "/mine", "mode": "default"}, "outputs": "/home/me/o"}
    stages = {"load": {"stage": "load", "options": {"outputs": "/there", "compile": {"cache_dir": "/here"}}}}
    assert remove_places({**config, "graph": {"stages": stages}}) == {
        "compile": {"name": "torch_compile", "cache_dir": None, "mode": "default"},
        "outputs": "/home/me/o",
        "graph": {"stages": {"load": {"stage": "load", "options": {"compile": {"cache_dir": None}}}}},
    }


@pytest.mark.parametrize(
    ("override", "reserved"),
    [
        ("hydra.run.dir=x", True),
        ("+hydra.callbacks.x=1", True),
        ("~hydra.run", True),
        ("hydra/launcher=x", True),
        ("hydra/launcher@x=y", True),
        ("outputs=x", True),
        ("++dry_run=true", True),
        ("prompts.path=x", True),
        ("compile.cache_dir=x", True),
        ("++graph.stages.load.options.outputs=x", True),
        ("graph.stages.load.options.compile.cache_dir=x", True),
        ("compile.backend=x", False),
        ("cache=fbcache", False),
        ("outputs_of=x", False),
        ("prompt=hydra.run.dir", False),
    ],
)
def test_reserved_is_what_only_the_command_line_may_set(override: str, reserved: bool) -> None:
    assert is_reserved(override) is reserved


NAMES = st.sampled_from(["steps", "cache", "a_b", "_x", "x_", "target"])
HARMLESS = st.sampled_from(["", "a", "$5", "${steps}", "a ${cache.start} b", "${.x}", "{oc.env:X}", 1, None, True])
HOSTILE = st.one_of(
    st.sampled_from(["${oc.env:X}", "a ${oc.env:X}", "${oc.${x}:X}", "${ x }", "${a${b}}", "${x", r"\${oc.env:X}"]),
    st.dictionaries(st.sampled_from(["_target_", "_args_", "__class__"]), HARMLESS, min_size=1, max_size=1),
)
CONFIGS = st.recursive(HARMLESS, lambda node: st.lists(node, max_size=3) | st.dictionaries(NAMES, node, max_size=3))


@given(CONFIGS)
def test_harmless_values_pass(config: Any) -> None:
    check_values({"config": config})


@given(CONFIGS, HOSTILE, st.lists(NAMES | st.none(), max_size=4))
def test_one_hostile_value_anywhere_is_refused(config: Any, hostile: Any, path: list[str | None]) -> None:
    for name in path:
        hostile = [config, hostile] if name is None else {name: hostile}
    with pytest.raises(ConfigError):
        check_values({"config": config, "more": hostile})


@given(st.text("${}:.a \\", max_size=12), st.text("${}:.a \\", max_size=6))
def test_what_passes_calls_no_resolver(text: str, other: str) -> None:
    called: list[str] = []
    OmegaConf.register_new_resolver("a", lambda *given: called.append("a"), replace=True)
    try:
        check_values({"text": text, "a": other})
        config = OmegaConf.create({"text": text, "a": other})
        OmegaConf.to_container(config, resolve=True)
    except (ConfigError, OmegaConfBaseException):
        pass
    finally:
        OmegaConf.clear_resolver("a")
    assert called == []
