"""Every shipped option and experiment composes, passes the checks, makes a plan, and survives being written down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wavespeed_runner.cli.plan_text import plan_text
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF, SPACES
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import to_data
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules import basics
from wavespeed_runner.samplers import SAMPLERS

FILES = sorted(
    file.relative_to(CONF).with_suffix("").as_posix() for file in CONF.rglob("*.yaml") if file.parent != SPACES
)
OPTIONS = [name for name in FILES if "/" in name and not name.startswith("hydra/")]
EXPERIMENTS = [name for name in OPTIONS if name.startswith("experiment/")]
CALIBRATED = ["model.init=pretrained"]
"""The shipped calibration is of the demo model's own weights."""
ON_A_GPU = ["device=cuda", "dry_run=true", "model.dtype=bfloat16"]
"""A plan for a machine that has one."""
OF_GPUS = (
    *("cudnn", "efficient", "flash", "flash_hub", "flash_varlen", "flash_varlen_hub", "flash3", "flash3_hub"),
    *("flash3_varlen", "flash3_varlen_hub", "flash4_hub", "sage", "sage_hub", "sage_varlen", "sage_int8_fp16"),
    *("sage_int8_fp16_triton", "sage_int8_fp8", "sage_int8_fp8_sm90", "xformers"),
)
OF_OTHER_DEVICES = tuple(f"attention/{name}" for name in ("aiter_hub", "npu", "xla"))
"""Backends of diffusers for devices that the runner cannot be told to use: there is no plan, only a refusal."""
JUDGES = {"lpips": "weights", "dists": "weights", "clip_score": "folder", "pick_score": "folder"}
"""Judges that have no plan without a file or a folder, which nobody ships -> the key that names it."""
OF_UNETS = ("deepcache", "balanced", "max_speed", "max_quality", "partial", "whole_reuse")
COMPANIONS = {
    **{f"cache/{name}": CALIBRATED for name in ("teacache", "magcache", "magcache_flux", "planned", "fitted")},
    "cache/predictor/fitted": CALIBRATED,
    **{f"cache/criterion/{name}": CALIBRATED for name in ("accumulated_polynomial", "magnitude_ratio", "planned")},
    **{f"cache/{name}": ["model=demo_unet"] for name in OF_UNETS},
    **{f"attention/{name}": ON_A_GPU for name in OF_GPUS},
    "attention/sage_blackwell_hub": [*ON_A_GPU, "model.init=random"],
    "attention/flex": ["compile=regional"],
    "accelerate/channels_last": ["model=demo_unet"],
    "accelerate/tf32": ["device=cuda", "dry_run=true"],
    "accelerate/fp16_accumulation": ["device=cuda", "dry_run=true", "model.dtype=float16"],
    "cache/step_mask": ["steps=28"],
    "cache/lemica": ["steps=50"],
    "cache/criterion/accumulated_polynomial": [*CALIBRATED, "cache/signal=modulated_input"],
    "cache/criterion/steps": ["cache.criterion.computed=[1,2,4]"],
    "cache/criterion/predicted_change": ["cache/signal=model_change"],
    "cache/signal/none": ["cache/criterion=interval"],
    "adapters/lora": ["adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"],
    **{f"adapters/{name}": ["model=sdxl"] for name in ("sdxl_lightning", "sdxl_hyper", "sdxl_lcm")},
    "adapters/sd15_lcm": ["model=sd15"],
    **{f"adapters/{name}": ["model=flux"] for name in ("flux_hyper", "flux_turbo")},
    "adapters/qwen_lightning": ["model=qwen_image"],
    "adapters/wan22_lightning": ["model=wan22"],
    "adapters/textual_inversion": [
        "model=sd15",
        "adapters.path=pkg://wavespeed_runner/weights/demo_embedding/sunset.safetensors",
        "prompt='a <sunset>'",
    ],
    "model/generic": ["model.repo=pkg://wavespeed_runner/weights/demo_unet", "model.init=pretrained"],
    "model/generic_video": ["model.repo=a/b", "model.init=pretrained"],
    "prompts/listed": ["prompts.texts=['a red circle']"],
    "prompts/file": ["prompts.path=pkg://wavespeed_runner/prompts/demo.txt"],
    "quant/custom": ["quant.layers=[{pattern:'.*to_q',scheme:int8_wo}]"],
    "parallel/cfg": ["model=wan21"],
    "metrics/temporal": ["model=wan21"],
    "sampler/fitted": ["model.init=pretrained", "steps=6"],
    "cache/predictor/step_weights": [*CALIBRATED, "cache=fitted"],
    "quant/fp8_dq": ["device=cuda"],
    "compile/max_autotune": ["device=cuda"],
    "compile/reduce_overhead": ["device=cuda"],
    "quant/fp8_dq_row": ["device=cuda", "model.dtype=bfloat16"],
    "quant/int4_wo": ["device=cuda", "model.dtype=bfloat16"],
}
"""What an option makes no sense without."""
REHEARSED = ("model.init=tiny", "device=cpu", "outputs=nowhere")
MODEL_OF_GRAPH = {
    "graph/text_to_video": "wan21",
    "graph/image_to_video": "wan21_i2v_480p",
    "graph/image_to_image_seen": "qwen_image_edit",
    "graph/image_to_video_seen": "hunyuan_video_i2v",
}


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def overrides(option: str) -> list[str]:
    group, _, name = option.rpartition("/")
    whole = ["cache=custom"] if group.startswith("cache/") else []
    companions = COMPANIONS.get(option, [])
    rehearsed = [one for one in REHEARSED if one.partition("=")[0] not in {c.partition("=")[0] for c in companions}]
    return [*whole, *_model_of(option), f"{group}={name}", *companions, *rehearsed]


def _model_of(option: str) -> list[str]:
    """A model that the sampler or the graph fits, where the default one, a flow model of images, does not."""
    group, _, name = option.rpartition("/")
    if option in MODEL_OF_GRAPH:
        return [f"model={MODEL_OF_GRAPH[option]}"]
    own = ("_karras", "_exponential", "_beta", "_stochastic")
    sampler = SAMPLERS.get(next((name.removesuffix(end) for end in own if name.endswith(end)), name))
    if group != "sampler" or sampler is None or "flow" in sampler.classes:
        return []
    return ["model=sd15" if "diffusion" in sampler.classes else "model=cogvideox"]


@pytest.mark.parametrize("option", OF_OTHER_DEVICES)
def test_a_backend_for_other_devices_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=r"attention=\w+ runs on (rocm|npu|xla), and this run on cpu"):
        build_plan(compose_job(overrides(option), overrides(option)))


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_without_its_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"metrics\.{name}\.{JUDGES[name]}=null"):
        build_plan(compose_job(overrides(f"metrics/{name}"), overrides(f"metrics/{name}")))


WITHOUT_PLAN = (*OF_OTHER_DEVICES, *(f"metrics/{name}" for name in JUDGES))


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in WITHOUT_PLAN])
def test_it_makes_a_plan(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed_here = overrides(option)
    if "device=cuda" in typed_here:
        monkeypatch.setattr(basics, "has_cuda", lambda: True)
    plan = build_plan(compose_job(typed_here, typed_here))
    text = plan_text(plan)
    assert f"fingerprint {plan.fingerprint}" in text and all(f"  {stage} " in text for stage in plan.graph.nodes)
    again = resolve_config(to_data(plan.config))
    assert again == plan.config


@pytest.mark.parametrize("option", FILES)
def test_it_begins_with_what_it_is(option: str) -> None:
    assert (CONF / f"{option}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_an_experiment_says_how_to_run_it(option: str) -> None:
    package, command = (CONF / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert package == "# @package _global_"
    assert command.startswith("# python -m wavespeed_runner ") and f"experiment={option.rpartition('/')[2]}" in command


def test_the_known_answer_is_what_its_experiment_sets() -> None:
    config = resolve_config(compose_job(["experiment=known_answer"], []))
    window = (config.cache.start, config.cache.end, config.cache.max_consecutive_cache_hits)
    assert config.steps == 30 and window == (0.2, 0.8, 5)
