"""`load`: the runner's bits from Python, warm between calls; whatever cannot be done is an error that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from tests.api.conftest import PROMPT, Images, hash_pil
from tests.conftest import TINY
from wavespeed_runner import load
from wavespeed_runner.accelerate.compilation import CUDA_GRAPHS
from wavespeed_runner.api.turns import OneThread
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.records.file import read_record
from wavespeed_runner.sharing.export import build_experiment
from wavespeed_runner.sharing.replay import build_replay_plan

SMALL = [override for override in TINY if not override.startswith(("measure", "prompt"))]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=demo", "cache=fbcache"],
        ["model=demo", "cache=planned"],
        ["model=demo", "sampler=fitted", "steps=6"],
        ["model=demo_unet", "cache=deepcache", "sampler=unipc", "steps=8"],
        [*SMALL, "quant=int8_dq", "attention=math"],
        [*SMALL, "graph=image_to_image", "strength=0.5"],
    ],
    ids=" ".join,
)
def test_an_image_has_the_runners_bits_at_each_call(overrides: list[str], runner_images: Images) -> None:
    with load(overrides) as pipe:
        images = [pipe(PROMPT, seed=3)[0] for _ in range(2)]
        other = pipe(PROMPT, seed=4)[0]
    assert {hash_pil(image) for image in images} == set(runner_images(*overrides, "seed=3"))
    assert hash_pil(other) != hash_pil(images[0])


def test_an_attention_backend_that_the_program_has_set_for_other_models_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attend(*_args: Any, **_options: Any) -> None:
        raise AssertionError("the backend of other models")

    others = AttentionBackendName._NATIVE_MATH
    pipe = load(SMALL)
    monkeypatch.setitem(_AttentionBackendRegistry._backends, others, attend)
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", others)  # as `set_attention_backend` does
    assert pipe(PROMPT, seed=3)
    assert _AttentionBackendRegistry._active_backend is others


@pytest.mark.slow
def test_int8_with_compilation_has_the_runners_bits(runner_images: Images, kernels: str) -> None:
    overrides = [*SMALL, "quant=int8_dq", "compile=regional", kernels]
    pipe = load(overrides)
    made, compiled = [], []
    for _ in range(2):
        made.append(hash_pil(pipe(PROMPT, seed=3)[0]))
        compiled.append(pipe.made[0].engaged["denoise"].compile)
    assert compiled[0]["graphs"] and compiled[0] == compiled[1]  # compiled by the first call
    assert {*made} == set(runner_images(*overrides, "seed=3"))


def test_values_of_a_call_are_the_runners(runner_images: Images) -> None:
    pipe = load(SMALL, cache="fbcache", guidance_scale=2.0)
    prompts = [PROMPT, "a green triangle"]
    values: dict[str, Any] = {"steps": 5, "width": 64, "guidance_scale": 3.0, "num_images_per_prompt": 2}
    images = pipe(prompts, seed=7, negative_prompt="it's dark, =x", **values)
    expected = runner_images(
        *(o for o in SMALL if not o.startswith(("steps", "width"))),
        *("cache=fbcache", "seed=7", 'negative_prompt="it\'s dark, =x"'),
        *(f"{key}={value}" for key, value in values.items()),
        prompts=prompts,
    )
    assert [hash_pil(image) for image in images] == expected and images[0].size == (64, 32)
    assert [(made.prompt, made.seed) for made in pipe.made] == [(p, s) for p in prompts for s in (7, 8)]
    assert all(len(made.steps) == 5 for made in pipe.made)


def test_frames_of_videos_are_lists_of_images() -> None:
    pipe = load(["model=wan21", "model.init=tiny", "steps=2", "device=cpu", "graph=text_to_video"])
    videos = pipe("a red circle", seed=1)
    assert len(videos) == 1 and len(videos[0]) == 5 and videos[0][0].mode == "RGB"


def test_nothing_is_written_and_nothing_is_loaded_again(family: Any) -> None:
    calls = family()
    pipe = load(SMALL)
    assert calls == ["load"]
    pipe(PROMPT, seed=1)
    pipe(PROMPT, steps=3)
    assert calls.count("load") == 1 and calls.count("denoise") == 2
    assert not list(Path().iterdir())


def test_a_record_is_a_runs(runner_images: Images) -> None:
    pipe = load([*SMALL, "cache=fbcache"])
    record = pipe.record("made", PROMPT, seed=5)
    again = read_record(Path("made/record.json"))
    assert record.status == again.status == "completed" and again.samples[0].seed == 5
    assert record.samples[0].pixels_sha256 == hash_pil(pipe(PROMPT, seed=5)[0])
    assert again.overrides == [*SMALL, "cache=fbcache"]
    plan, expected = build_replay_plan(Path("made/record.json"), {})
    assert plan.fingerprint == expected["fingerprint"]


def test_an_exported_experiment_is_loaded_with_changes(finished: tuple[Path, Any], runner_images: Images) -> None:
    folder, _ = finished
    _, text = build_experiment(folder, name="mine", out="mine.yaml")
    Path("mine.yaml").write_text(text, encoding="utf-8")
    pipe = load("mine.yaml", ["cache.start=0.3"], steps=5, device="cpu")
    assert pipe.plan.config.cache.name == "fbcache" and pipe.plan.config.cache.start == 0.3
    expected = runner_images(*SMALL[:-2], "steps=5", "device=cpu", "cache=fbcache",
                             "cache.residual_diff_threshold=0.65", "cache.start=0.3", "seed=2")  # fmt: skip
    assert [hash_pil(pipe(PROMPT, seed=2)[0])] == expected


def test_options_of_a_folder_of_ones_own() -> None:
    file = Path("own/cache/mine.yaml")
    file.parent.mkdir(parents=True)
    file.write_text("defaults:\n  - fbcache\n  - _self_\nresidual_diff_threshold: 0.9\n", encoding="utf-8")
    Path("setting.yaml").write_text("# @package _global_\ndefaults:\n  - override /cache: mine\n", encoding="utf-8")
    for pipe in (load([*SMALL, "cache=mine"], config_dir="own"), load("setting.yaml", SMALL, config_dir=Path("own"))):
        assert pipe.plan.config.cache.title == "mine"
    with pytest.raises(ConfigError, match="cache=mine: no option 'mine'"):
        load("setting.yaml", SMALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["model=dem"],), "did you mean 'demo'"),
        (("nothing.yaml",), "nothing.yaml: no such file"),
        (("model=demo",), "a list of overrides: ['model=demo'] or model='demo'"),
        ((["steps=1,2"],), "several values"),
        ((SMALL, "steps=3"), "overrides='steps=3': a list of KEY=VALUE is needed"),
        (([*SMALL, "measure=full"],), "measure=full: only runs of python -m wavespeed_runner read it"),
        (([*SMALL, "prompt=x"],), "prompt=x: only runs"),
        (([*SMALL, "dry_run=true"],), "dry_run=true: only runs"),
        (([*SMALL, "metrics=[scene]"],), "metrics=[scene]: only runs"),
        (([*SMALL, "hydra.run.dir=x"],), "hydra.run.dir=x: only runs"),
        (([*SMALL, "hydra/launcher=isolated"],), "hydra/launcher=isolated: only runs"),
        (([*SMALL, "parallel=ulysses", "parallel.degree=2"],), "parallel=ulysses: not from Python"),
        (([*SMALL, "cache=fbcache", "sampler=nothing"],), "sampler"),
        (([*SMALL, "image=x.png"],), "image=x.png: no stage of the graph reads it"),
    ],
)
def test_wrong_settings_are_one_line(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(*arguments)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert not list(Path().iterdir())


def test_keywords_alone_are_settings() -> None:
    with load(model="demo", cache="fbcache", steps=4) as pipe:
        config = pipe.plan.config
    assert (config.model.repo.rpartition("/")[2], config.cache.name, config.steps) == ("demo", "fbcache", 4)


def test_a_limit_of_steps_is_that_of_a_call() -> None:
    with load([*SMALL, "limits.steps=4"]) as pipe:
        assert len(pipe("x", steps=4)) == 1
        with pytest.raises(ConfigError) as of_prompts:
            pipe(["x" * 5000, ""])
        with pytest.raises(ConfigError) as refused:
            pipe("x", steps=5)
    assert len(str(of_prompts.value)) < 200
    assert str(refused.value) == (
        "denoising steps of 1 x steps: 5, and limits.steps=4; ask for less; the limits are those of the settings"
    )


def test_a_strangers_file_may_not_say_where_things_are_written() -> None:
    Path("theirs.yaml").write_text("# @package _global_\noutputs: /tmp/theirs\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="outputs=/tmp/theirs: a config file sets it"):
        load("theirs.yaml")
    Path("plain.yaml").write_text("cache: fbcache\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"plain\.yaml: an experiment file begins with the line '# @package _global_'"
    ):
        load("plain.yaml")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_inference_steps": 4}, "num_inference_steps: not at a call (did you mean 'steps'?)"),
        ({"cache": "none"}, "cache: not at a call"),
        ({"steps": 0}, "steps=0: at least 1 is needed"),
        ({"width": 33}, "width=33"),
        ({"seed": "x"}, "seed: Value 'x'"),
        ({"seed": -2}, "seed=-2"),
        ({"negative_prompt": "${model.repo}"}, "no interpolation at a call"),
        ({"image": "x.png"}, "image=x.png: no stage of the graph reads it"),
        ({"strength": 0.5}, "strength=0.5: no stage of the graph"),
    ],
)
def test_wrong_values_of_a_call_are_named(values: dict[str, Any], words: str, tiny: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        tiny(PROMPT, **values)
    assert words in str(refused.value)
    assert tiny(PROMPT)


@pytest.mark.parametrize("prompt", ["", [], [" "], 3, ["a", None]])
def test_prompts_are_texts(prompt: Any, tiny: Any) -> None:
    with pytest.raises(ConfigError, match="prompt="):
        tiny(prompt)


def test_a_prompt_is_text_whatever_it_looks_like(tiny: Any) -> None:
    assert len(tiny("${seed} a=b, [c]", seed=1)) == 1


def test_a_start_image_is_a_path(tiny_from_image: Any) -> None:
    with pytest.raises(ConfigError, match="image: the path of a file is needed, not Image"):
        tiny_from_image(PROMPT, image=tiny_from_image(PROMPT)[0])


def test_seed_minus_one_is_drawn_for_each_call(tiny: Any) -> None:
    seeds = set()
    for _ in range(3):
        tiny(PROMPT, seed=-1)
        seeds.add(tiny.made[0].seed)
    assert len(seeds) == 3


def test_a_failed_call_leaves_the_pipeline_as_it_was(tiny: Any) -> None:
    before = hash_pil(tiny(PROMPT, seed=1)[0])
    with pytest.raises(ConfigError, match="max_sequence_length"):
        tiny("word " * 4000)
    assert hash_pil(tiny(PROMPT, seed=1)[0]) == before


def test_a_closed_pipeline_says_so() -> None:
    with load(SMALL) as pipe:
        pass
    with pytest.raises(RunError, match="was closed"):
        pipe(PROMPT)


def test_threads_give_the_bits_that_each_gives_alone() -> None:
    """Two pipelines around the same weights with other settings, and one of them called from two threads."""
    pipes = [load([*SMALL, "cache=fbcache", "cache.residual_diff_threshold=0.65"]), load([*SMALL, "sampler=heun"])]
    calls = [(pipe, seed) for seed in range(3) for pipe in (*pipes, pipes[0])]
    alone = [hash_pil(pipe(PROMPT, seed=seed)[0]) for pipe, seed in calls]
    made: dict[int, str] = {}

    def call(index: int) -> None:
        pipe, seed = calls[index]
        made[index] = hash_pil(pipe(PROMPT, seed=seed)[0])

    threads = [Thread(target=call, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made.get(index) for index in range(len(calls))] == alone


@pytest.mark.parametrize("mode", [*CUDA_GRAPHS, "default"])
def test_cuda_graphs_belong_to_one_thread(mode: str) -> None:
    class Options:
        pass

    options = Options()
    options.mode = mode  # type: ignore[attr-defined]
    bound, said = OneThread(options), []
    bound.check()

    def check() -> None:
        try:
            bound.check()
        except RunError as error:
            said.append(str(error))

    thread = Thread(target=check)
    thread.start()
    thread.join()
    assert bool(said) == (mode in CUDA_GRAPHS)
    bound.check()


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys, wavespeed_runner.accelerate\n"
        "from wavespeed_runner import accelerate, load\n"
        "assert callable(accelerate) and callable(load) and not {'torch', 'diffusers'} & set(sys.modules)\n"
        "import wavespeed_runner.accelerate.quant_options\n"
        "from wavespeed_runner import accelerate as again\n"
        "assert again is accelerate is wavespeed_runner.accelerate\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load(SMALL)


@pytest.fixture(scope="module")
def tiny_from_image() -> Any:
    return load([*SMALL, "graph=image_to_image"])


def test_a_folder_and_a_pipe_are_told_as_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="a folder, not a file; give an experiment"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="not a regular file; give an experiment"):
        load(tmp_path / "pipe.yaml")
