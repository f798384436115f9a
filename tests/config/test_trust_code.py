"""No config from a stranger chooses code to run: options of the compiler, its backend, kernels from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.error_messages import EXPLAINED, explain
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.sweep_overrides import read_sweep
from wavespeed_runner.config.trust import check_files
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sweeps.jobs import keep_typed

CODE = {
    "a_compiler_as_text": (
        'defaults: [override /compile: regional]\ncompile: {options: \'{"cpp.cxx": ["sh"]}\'}\n',
        "compile.options.cpp.cxx=['sh']: a config file may switch",
    ),
    "a_compiler_as_a_mapping": (
        "defaults: [override /compile: regional]\ncompile: {options: {cpp.cxx: [sh]}}\n",
        "compile.options.cpp.cxx.0=sh: a config file may switch",
    ),
    "a_folder_of_traces": (
        'defaults: [override /compile: regional]\ncompile: {options: \'{"trace.debug_dir": "/tmp/x"}\'}\n',
        "compile.options.trace.debug_dir=",
    ),
    "an_option_without_a_dot": (
        "defaults: [override /compile: regional]\ncompile: {options: {compile_threads: 100000}}\n",
        "compile.options.compile_threads=100000: a config file may switch",
    ),
    "a_switch_with_another_value": (
        "defaults: [override /compile: regional]\ncompile: {options: {dce: sh}}\n",
        "compile.options.dce=sh: true or false",
    ),
    "options_put_together": (
        "defaults: [override /compile: regional]\ncompile: {options: '${prompt}'}\n",
        "compile.options=${prompt}: a config file may give a mapping",
    ),
    "options_of_the_compiler_by_an_option": ("defaults: [override /compile: code]\n", "compile.options.cpp.cxx="),
    "a_stages_options_of_the_compiler": (
        "graph: {stages: {load: {options: {compile: {name: torch_compile, options: '{\"cpp.cxx\": 1}'}}}}}\n",
        "graph.stages.load.options.compile.options.cpp.cxx=1",
    ),
    "a_backend_of_a_package": (
        "defaults: [override /compile: regional]\ncompile: {backend: tvm}\n",
        "compile.backend=tvm: a config file may name inductor,",
    ),
    "kernels_from_the_hub": ("defaults: [override /attention: flash_hub]\n", "attention.name=flash_hub: it downloads"),
    "kernels_from_the_hub_by_name": ("attention: {name: sage_hub}\n", "attention.name=sage_hub: it downloads"),
    "kernels_from_the_hub_by_an_option": ("defaults: [override /attention: code]\n", "attention.name=flash3_hub"),
    "a_stages_kernels_from_the_hub": (
        "graph: {stages: {load: {options: {attention: {name: flash_hub}}}}}\n",
        "graph.stages.load.options.attention.name=flash_hub",
    ),
    "a_stages_attention_from_elsewhere": (
        "graph: {stages: {load: {options: {attention: '${graph.stages.x.inputs}'}}, x: {inputs: {name: flash_hub}}}}\n",
        "no interpolation here",
    ),
}
SWEPT = {
    "sweep_the_compiler": (
        """compile: regional, compile.options: "'{\\"cpp.cxx\\": 1}'" """,
        "compile.options.cpp.cxx=1",
    ),
    "sweep_kernels_from_the_hub": ("attention: 'none,flash_hub'", "attention.name=flash_hub: it downloads"),
}


@pytest.fixture(scope="module", autouse=True)
def strangers_configs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of experiments, one a case, and of options that they choose, as `--config-dir` finds them."""
    texts = {name: text for name, (text, _) in CODE.items()}
    texts |= {name: f"hydra: {{sweeper: {{params: {{{params}}}}}}}\n" for name, (params, _) in SWEPT.items()}
    files = {f"experiment/{name}": f"# @package _global_\n{text}" for name, text in texts.items()}
    files["compile/code"] = """defaults: [regional, _self_]\noptions: '{"cpp.cxx": "sh"}'\n"""
    files["attention/code"] = "name: flash3_hub\n"
    folder = tmp_path_factory.mktemp("configs")
    for name, text in files.items():
        file: Path = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    with composer(str(folder)):
        yield


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, (_, words) in CODE.items()])
def test_an_experiment_may_not_choose(name: str, words: str) -> None:
    with pytest.raises(EXPLAINED) as error:
        resolve_config(compose_job([f"experiment={name}"], [f"experiment={name}"]))
    assert words in explain(error.value)


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, (_, words) in SWEPT.items()])
def test_an_experiment_may_not_sweep_over(name: str, words: str) -> None:
    with pytest.raises(EXPLAINED) as error:
        for job in read_sweep([f"experiment={name}"])[1]:
            compose_job(job, [f"experiment={name}"])
    assert words in explain(error.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["compile=regional", """compile.options='{"cpp.cxx": ["sh"]}'"""],
        ["compile=regional", "compile.options={compile_threads: 2}"],
        ["compile=regional", "compile.backend=tvm"],
        ["attention=flash_hub"],
        ["+graph.stages.load.options.attention={name: flash_hub}"],
    ],
)
def test_the_command_line_alone_may_choose_code(typed: list[str]) -> None:
    compose_job(typed, typed)
    with pytest.raises(ConfigError, match="command line"):
        compose_job(typed, typed[:-1])


def test_what_was_typed_of_another_option_lets_no_file_choose_code() -> None:
    for typed in (["attention=sage", "experiment=kernels_from_the_hub_by_name"], ["attention=code"]):
        with pytest.raises(ConfigError, match=r"attention\.name=\w+_hub: it downloads"):
            compose_job(typed, typed)
    typed = ["++compile.options={epilogue_fusion: false}", "experiment=an_option_without_a_dot"]
    with pytest.raises(ConfigError, match=r"compile\.options\.compile_threads"):
        compose_job(typed, typed)
    # A file's override of the same key comes before the one that was typed, and is not taken for it.
    job = ["compile=regional", "compile.options={compile_threads: 9}", "compile.options={epilogue_fusion: false}"]
    assert keep_typed(job, [job[0], job[2]]) == [job[0], job[2]]


def test_what_a_config_may_choose_of_the_compiler() -> None:
    for options in ({"epilogue_fusion": False}, '{"dce": true, "max_autotune": false}', None, {}):
        stages = {"load": {"options": {"compile": {"options": options, "backend": "eager"}}}}
        check_files({"compile": {"options": options, "backend": "inductor"}, "graph": {"stages": stages}})
