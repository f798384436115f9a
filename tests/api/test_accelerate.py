"""`accelerate`: a diffusers pipeline of the user's gives the runner's bits, and its own again afterwards."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.api.conftest import PROMPT, Images, hash_pil
from wavespeed_runner import accelerate, load
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.errors import ConfigError, RunError

THRESHOLD = "cache.residual_diff_threshold=0.3"
"""With 12 steps some are cached."""
FOLDERS = {"demo": PACKAGE / "weights/demo", "demo_unet": PACKAGE / "weights/demo_unet"}
PLAIN = {
    "demo": {"num_inference_steps": 28, "width": 64, "height": 64, "max_sequence_length": 20},
    "demo_unet": {"num_inference_steps": 25, "width": 64, "height": 64, "guidance_scale": 3.0},
}
"""How a user of diffusers calls the demo models."""


def load_demo(name: str = "demo", **options: Any) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(FOLDERS[name], **options)


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    return {name: load_demo(name) for name in FOLDERS}


@pytest.fixture
def demo(pipes: dict[str, Any]) -> Iterator[Any]:
    """The demo's pipeline; taken back if a test leaves it accelerated."""
    yield pipes["demo"]
    if handle := vars(pipes["demo"]).get("acceleration"):
        handle.restore()


def make(pipe: Any, *args: Any, seed: int = 3, **values: Any) -> str:
    import torch

    images = pipe(*(args or (PROMPT,)), generator=torch.Generator("cpu").manual_seed(seed), **values).images
    return hash_pil(images[0])


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=demo", "cache=fbcache"],
        ["model=demo", "cache=planned"],
        ["model=demo", "sampler=fitted", "steps=6"],
        ["model=demo", "cache=pab"],
        ["model=demo", "quant=int8_wo", "attention=math", "cache=taylorseer"],
        ["model=demo", "accelerate=fuse_qkv", "sampler=unipc", "steps=9", "guidance_scale=2.5"],
        ["model=demo_unet", "cache=deepcache", "negative_prompt=dark"],
        ["model=demo_unet", "sampler=fitted", "steps=5"],
        ["model=demo_unet", "sampler=euler_ancestral", "steps=7", "guidance_scale=5"],
    ],
    ids=" ".join,
)
def test_the_runners_bits_and_then_its_own_again(
    overrides: list[str], pipes: dict[str, Any], runner_images: Images
) -> None:
    model = overrides[0].partition("=")[2]
    pipe, before = pipes[model], make(pipes[model], **PLAIN[model])
    attributes, kind = dict(vars(pipe)), type(pipe)
    with accelerate(pipe, [*overrides, "device=cpu"]) as accelerated:
        assert accelerated is pipe and isinstance(pipe, kind) and type(pipe).__name__ == kind.__name__
        made = [make(pipe) for _ in range(2)]
    assert set(made) == set(runner_images(*overrides, "device=cpu", "seed=3"))
    assert type(pipe) is kind and dict(vars(pipe)) == attributes
    assert make(pipe, **PLAIN[model]) == before


@pytest.mark.slow
def test_int8_with_compilation_has_the_runners_bits(demo: Any, runner_images: Images, kernels: str) -> None:
    before = make(demo, **PLAIN["demo"])
    overrides = ["model=demo", "quant=int8_dq", "compile=regional", "cache=fbcache", kernels, "steps=12", THRESHOLD]
    with accelerate(demo, overrides):
        made = make(demo)
        engaged = demo.acceleration.engaged
        assert engaged["compile"]["graphs"] and engaged["quant"]["scheme"] == "int8_dq" and engaged["cache"]["hits"]
        assert make(demo) == made
    assert [made] == runner_images(*overrides, "device=cpu", "seed=3")
    assert make(demo, **PLAIN["demo"]) == before


def test_an_experiment_file_and_changes_of_it(demo: Any, runner_images: Images) -> None:
    text = "# @package _global_\ndefaults:\n  - override /model: demo\n  - override /cache: fbcache\nsteps: 10\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    accelerate(demo, "mine.yaml", ["cache.residual_diff_threshold=0.3"], steps=12)
    expected = runner_images("model=demo", "cache=fbcache", "cache.residual_diff_threshold=0.3", "steps=12", "seed=3")
    assert [make(demo)] == expected
    assert demo.acceleration.engaged["cache"]["calls"] == 12
    demo.acceleration.restore()
    assert make(demo, **PLAIN["demo"]) != expected[0] and "acceleration" not in vars(demo)


def test_arguments_of_a_call_win(demo: Any, runner_images: Images) -> None:
    with accelerate(demo, ["model=demo", "cache=fbcache"]):
        made = make(demo, PROMPT, num_inference_steps=14, width=96, true_cfg_scale=2.0, negative_prompt="dark")
        batch = demo([PROMPT, "a blue square"], num_images_per_prompt=2, num_inference_steps=6, output_type="np")
        assert demo.acceleration.engaged["cache"]["calls"] == 6 and batch.images.shape == (4, 64, 64, 3)
        assert make(demo) == make(demo, None, **encode(demo))
    expected = runner_images(
        *("model=demo", "cache=fbcache", "steps=14", "width=96", "guidance_scale=2", "negative_prompt=dark", "seed=3")
    )
    assert [made] == expected


def encode(pipe: Any) -> dict[str, Any]:
    embeds, pooled, _ = pipe.encode_prompt(PROMPT, None, max_sequence_length=20)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def test_numbers_fitted_for_other_steps_are_not_borrowed(demo: Any) -> None:
    with accelerate(demo, ["model=demo", "sampler=fitted", "steps=6"]):
        with pytest.raises(ConfigError, match="steps=9: demo"):
            make(demo, num_inference_steps=9)
        with pytest.raises(ConfigError, match="sigmas: the settings decide the schedule"):
            make(demo, sigmas=[1.0, 0.5])
        with pytest.raises(TypeError, match="nothing"):
            make(demo, nothing=1)
        with pytest.raises(ConfigError, match=r"to\(\): not while it is accelerated"):
            demo.to("cpu")
        assert make(demo) == make(demo, num_inference_steps=6)


def test_a_failing_call_leaves_nothing_behind(demo: Any) -> None:
    before = make(demo, **PLAIN["demo"])

    def fail(pipe: Any, step: int, timestep: Any, values: Any) -> Any:
        raise KeyError("stop")

    with accelerate(demo, ["model=demo", "cache=fbcache", "sampler=heun"]):
        made = make(demo)
        with pytest.raises(KeyError):
            demo(PROMPT, callback_on_step_end=fail)
        assert make(demo) == made
    with pytest.raises(KeyError), accelerate(demo, ["model=demo", "cache=fbcache"]):
        demo(PROMPT, callback_on_step_end=fail)
    assert make(demo, **PLAIN["demo"]) == before


def test_permanent_lets_go_of_the_full_weights() -> None:
    from weakref import ref

    pipe = load_demo()
    weight = ref(pipe.transformer.transformer_blocks[0].attn.to_q.weight)
    accelerate(pipe, ["model=demo", "quant=int8_wo"], permanent=True)
    gc.collect()
    assert weight() is None
    with pytest.raises(ConfigError, match="there is no way back"):
        pipe.acceleration.restore()
    with pytest.raises(ConfigError, match="there is no way back"), pipe:
        pass
    assert make(pipe) == make(pipe)


def test_the_model_is_found_by_where_the_pipeline_is_from(pipes: dict[str, Any]) -> None:
    pipe = pipes["demo_unet"]
    with accelerate(pipe, ["cache=deepcache"]):
        assert pipe.acceleration.plan.config.model.dtype.value == "float32", "that of the pipeline"
        assert pipe.acceleration.plan.config.model.repo == str(FOLDERS["demo_unet"])
        assert pipe.acceleration.plan.config.model.name == "sd"


def test_a_dtype_that_is_typed_is_compared_with_the_pipelines(pipes: dict[str, Any]) -> None:
    pipe = pipes["demo_unet"]
    with accelerate(pipe, ["cache=deepcache"], **{"model.dtype": "float32"}):
        assert pipe.acceleration
    with pytest.raises(ConfigError, match=r"model\.dtype=bfloat16: the pipeline's unet is float32"):
        accelerate(pipe, ["cache=deepcache", "model.dtype=bfloat16"])


def test_other_weights_are_said(demo: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), accelerate(demo, ["model=demo", "cache=fbcache"]):
        assert "was loaded from" not in caplog.text
    with caplog.at_level(logging.WARNING), accelerate(demo, ["model=demo", "cache=fbcache", "model.repo=a/b"]):
        assert "model.repo=a/b: the pipeline was loaded from" in caplog.text


def test_seeds_of_a_file_earn_no_warning_before_there_are_prompts(
    demo: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`seeds=per_prompt` is what `tune` writes, and how many prompts there will be is not known yet."""
    file = tmp_path / "mine.yaml"
    file.write_text("# @package _global_\nseeds: per_prompt\nsteps: 3\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        with accelerate(demo, file):
            pass
        with load(file) as pipe:
            pipe(PROMPT)
    assert not caplog.records, caplog.text


LORA = "pkg://wavespeed_runner/weights/demo_lora/night.safetensors"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=demo_unet"], "these settings are for StableDiffusionPipeline, and the pipeline is FluxPipeline"),
        (["adapters=lora", f"adapters.path={LORA}"], "adapters: cannot be applied"),
        (["memory=vae_slicing"], "memory: cannot be applied"),
        (["parallel=ulysses", "parallel.degree=2"], "parallel: cannot be applied"),
        (["graph=image_to_image"], "graph: its stages (load, read_image,"),
        (["graph=hires_fix"], "graph: its stages"),
        (["accelerate.channels_last=true"], "channels_last"),
        (["accelerate.tiny_vae=pkg://wavespeed_runner/weights/demo/vae"], "accelerate.tiny_vae: cannot be applied"),
        (["model.dtype=bfloat16"], "model.dtype=bfloat16: the pipeline's transformer is float32"),
        (["model=flux", "model.dtype=float32"], "model.guidance=embedded: does not fit"),
        (["measure=full"], "measure=full: only runs of"),
        (["seed=3"], "seed=3: of no effect here; give it to the calls of the pipeline"),
        (["batch_size=2"], "batch_size=2: of no effect here"),
        (["cache=deepcache"], "cache"),
    ],
)
def test_what_cannot_be_applied_is_named_and_nothing_is_changed(demo: Any, overrides: list[str], words: str) -> None:
    attributes = dict(vars(demo))
    chosen = [] if overrides[0].startswith("model=") else ["model=demo"]
    with pytest.raises((ConfigError, RunError)) as refused:
        accelerate(demo, [*chosen, *overrides])
    assert words in str(refused.value)
    assert dict(vars(demo)) == attributes


def test_a_pipeline_that_was_changed_is_refused(demo: Any) -> None:
    with pytest.raises(ConfigError, match="a diffusers pipeline is needed, not str"):
        accelerate("demo", ["model=demo"])  # type: ignore[arg-type]
    with accelerate(demo, ["model=demo"]), pytest.raises(ConfigError, match="accelerated already"):
        accelerate(demo, ["model=demo"])
    compiled = load_demo()
    compiled.transformer.compile_repeated_blocks()
    with pytest.raises(ConfigError, match="transformer has been compiled"):
        accelerate(compiled, ["model=demo"])
    cached = load_demo()
    from diffusers import FirstBlockCacheConfig

    cached.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ConfigError, match="transformer has hooks of diffusers"):
        accelerate(cached, ["model=demo"])
    other = load_demo()
    vars(other)["_internal_dict"] = {**other.config, "_name_or_path": "somebody/something"}
    with pytest.raises(ConfigError, match="give model=OPTION, of the family flux"):
        accelerate(other, ["cache=fbcache"])


def test_a_failure_while_applying_leaves_the_pipeline_as_it_was(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from wavespeed_runner.api import borrowed

    def fail(*_: Any) -> None:
        raise RunError("cannot")

    monkeypatch.setattr(borrowed, "change_modules", fail)
    attributes, kind = dict(vars(demo)), type(demo)
    with pytest.raises(RunError, match="cannot"):
        accelerate(demo, ["model=demo", "quant=int8_wo"])
    assert dict(vars(demo)) == attributes and type(demo) is kind


def test_threads_give_the_bits_that_each_gives_alone(pipes: dict[str, Any]) -> None:
    """Two accelerated pipelines and a loaded one, each called from a thread of its own."""
    loaded = load(["model=demo", "cache=fbcache", "steps=8"])
    with (
        accelerate(pipes["demo"], ["model=demo", "sampler=fitted", "steps=6"]) as first,
        accelerate(pipes["demo_unet"], ["model=demo_unet", "cache=deepcache", "steps=8"]) as second,
    ):
        calls = [lambda: make(first), lambda: make(second), lambda: hash_pil(loaded(PROMPT, seed=3)[0])] * 2
        alone = [call() for call in calls]
        made: dict[int, str] = {}
        threads = [Thread(target=lambda i=i: made.update({i: calls[i]()})) for i in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [made.get(index) for index in range(len(calls))] == alone


@pytest.mark.parametrize(
    "model", ["sdxl", "sd35_medium", "z_image", "qwen_image", "pixart_sigma", "sana", "lumina2", "chroma"]
)
def test_pipelines_of_other_families(model: str, runner_images: Images) -> None:
    """Random weights: the arguments of a call are filled in as each family's pipeline takes them."""
    overrides = [f"model={model}", "model.init=tiny", "model.dtype=float32", "steps=4", "cache=fbcache",
                 "cache.residual_diff_threshold=0.5", "negative_prompt=dark", "device=cpu"]  # fmt: skip
    overrides = [o for o in overrides if model != "sdxl" or "cache" not in o]
    with load(overrides) as pipe:
        resources = pipe._kept.resources
        diffusers_pipe = next(iter(resources.values())).pipe
        with accelerate(diffusers_pipe, overrides):
            made = make(diffusers_pipe)
    assert [made] == runner_images(*overrides, "seed=3")


def test_a_prompt_with_half_of_a_character_is_refused(demo: Any) -> None:
    with accelerate(demo, ["model=demo", "device=cpu"]), pytest.raises(ConfigError, match=r"prompt.*surrogate"):
        make(demo, "\ud800")
