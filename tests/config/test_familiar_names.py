"""Names that people bring from other tools: the message names ours, which exists, and means the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.config.absent import SAMPLERS as ABSENT
from wavespeed_runner.config.familiar import find_familiar_option
from wavespeed_runner.config.familiar_caches import CACHE_KEYS
from wavespeed_runner.config.familiar_names import KEYS
from wavespeed_runner.config.familiar_options import OPTIONS
from wavespeed_runner.config.familiar_options import SAMPLERS as FAMILIAR
from wavespeed_runner.config.unknown_keys import list_shipped_options
from wavespeed_runner.samplers.table import SAMPLERS


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


# ComfyUI's KSampler.SAMPLERS and SCHEDULER_NAMES, A1111's names, and what diffusers says that A1111's are
# (docs/source/en/api/schedulers/overview.md).
TYPED = {
    "euler_a": "euler_ancestral",
    "Euler a": "euler_ancestral",
    "k_euler": "euler",
    "k_euler_a": "euler_ancestral",
    "sample_euler_ancestral": "euler_ancestral",
    "dpm++2m": "dpmpp_2m",
    "dpm++_2m_karras": "dpmpp_2m_karras",
    "DPM++ 2M Karras": "dpmpp_2m_karras",
    "DPM++ 2M SDE Karras": "dpmpp_2m_sde_karras",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpm++ 3M SDE Exponential": "dpmpp_3m_sde_exponential",
    "dpm_2": "dpm2",
    "dpm_2_a": "dpm2_ancestral",
    "DPM2 a Karras": "dpm2_ancestral_karras",
    "k_dpm_2_ancestral": "dpm2_ancestral",
    "LMS Karras": "lms_karras",
    "ddim_uniform": "ddim",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    "PLMS": "pndm",
    "DPM++ 2S a": "",
    "DPM++ SDE Karras": "",
    "dpm_adaptive": "",
    "ipndm": "",
}


@pytest.mark.parametrize(("typed", "ours"), TYPED.items(), ids=TYPED)
def test_a_sampler_of_another_tool_is_found(typed: str, ours: str) -> None:
    assert find_familiar_option("sampler", typed, list_shipped_options("sampler")) == ours


def test_a_scheduler_class_of_diffusers_names_a_sampler_of_that_class() -> None:
    named = {name: ours for name, ours in FAMILIAR.items() if name.endswith("scheduler")}
    classes = {name: {kind.lower() for kind in SAMPLERS[ours].classes.values()} for name, ours in named.items()}
    assert [name for name, made in classes.items() if name not in made] == []


@pytest.mark.parametrize(
    ("group", "typed", "ours"),
    [
        ("model", "sd1.5", "sd15"),
        ("model", "Wan2.1", "wan21"),
        ("model", "z-image", "z_image"),
        ("compile", "max-autotune", "max_autotune"),
        ("cache", "tea_cache", "teacache"),
        ("graph", "img2img", "image_to_image"),
        ("attention", "sdpa", "native"),
        ("quant", "int8", ""),  # with or without quantized activations: nobody can tell which is meant
    ],
)
def test_an_option_of_another_tool_is_found(group: str, typed: str, ours: str) -> None:
    assert find_familiar_option(group, typed, list_shipped_options(group)) == ours


def test_every_familiar_option_exists() -> None:
    missing = [(g, o) for g, names in OPTIONS.items() for o in names.values() if o not in list_shipped_options(g)]
    assert missing == []


def test_the_message_names_the_option(command: CommandLine) -> None:
    assert "no option 'euler_a' in config group 'sampler' (did you mean 'euler_ancestral'?)" in command.refuses(
        "sampler=euler_a"
    )


KEY = {
    "denoise=0.6": "denoise: no such key; here it is strength=0.6, which is refused",
    "denoise=0.5": "(ComfyUI runs all its steps, here that part of them runs: 30 at 0.6 are steps=50 strength=0.6; "
    "steps typed beside it are counted)",
    "cfg=7": "cfg: no such key; here it is guidance_scale=7",
    "sampler_name=euler_a": "here it is sampler=euler_ancestral",
    "scheduler=DPMSolverMultistepScheduler": "here it is sampler=dpmpp_2m",
    "scheduler=karras": "here it is sampler=euler sampler.sigmas=karras",
    "num_inference_steps=20": "here it is steps=20",
    "lora=x.safetensors": "here it is adapters=lora adapters.path=x.safetensors",
    "lora_path=[a,b]": "here it is adapters=lora adapters.path=[a,b]",
    "lora.path=x": "lora: no such key; here it is adapters=lora adapters.path=VALUE",
    "vae_tiling=true": "here it is memory=vae_tiling",
    "teacache=true": "here it is cache=teacache",
    "rel_l1_thresh=0.2": "here it is cache=teacache cache.rel_l1_thresh=0.2",
    "shift=3": "here it is sampler=euler sampler.shift=3",
    "cahce=fbcache": "cahce: no such key (did you mean 'cache'?)",
    "cache.residual_diff_threshold=0.1": "cache.residual_diff_threshold: no key of the chosen option of cache, but of "
    "cache=fbcache, cache=dbcache: cache=fbcache cache.residual_diff_threshold=0.1",
    "cache.rdt=0.1": "cache=fbcache cache.residual_diff_threshold=0.1",
    "cache.rel_l1_threshold=0.1": "cache=teacache cache.rel_l1_thresh=0.1",
    "cache.max_warmup_steps=3": "cache.max_warmup_steps: no such key; here it is cache.warmup_steps=3",
    "cache.criterion.threshold=1": "cache.criterion.threshold=1: the chosen option of cache has no such part",
    "compile.mode=default": "compile=default compile.mode=default",
    "model.frame_rate=25": "but of model=ltx_video, model=ltx2: model=ltx_video model.frame_rate=25",
}

KEY |= {
    "lowvram=true": "lowvram: no such key; here it is memory=group_offload",
    "medvram=true": "here it is memory=model_offload",
    "max_shift=1.15": "the model's own scheduler says how its shift grows with the size; sampler.shift=NUMBER fixes it",
    "model_name=x": "model_name: no such key; here it is model=NAME model.repo=x",
    "tea_cache=0.2": "tea_cache: no such key; here it is cache=teacache",
    "sampler.scheduler=karras": "sampler.sigmas=karras",
}

NEEDS = "the name of an option is needed"
KEY |= {
    "upscale=2": "here it is graph=hires_fix graph.stages.upscale.options.scale=2",
    "hires=2": "here it is graph=hires_fix graph.stages.upscale.options.scale=2",
    "enable_hr=true": "here it is graph=hires_fix",
    "size=512x768": "here it is width=512 height=768",
    "resolution=1024": "here it is width=1024 height=1024",
    "hires=true": "here it is graph=hires_fix",
    "hires=false": "leave it out: it is off unless it is asked for",
    "fp16=false": "here it is model.dtype=float32",
    "gpu=0": "here it is device=cuda:0",
    "dtype=fp16": "here it is model.dtype=float16",
    "torch_dtype=torch.bf16": "here it is model.dtype=bfloat16",
    "cfg_rescale=0.7": "here it is model.guidance_rescale=0.7, which is refused: model.guidance_rescale: no such key",
    "lora_scale=0.8": "here it is adapters=lora adapters.path=FILE adapters.weight=0.8",
    "sampler_name=ipndm": "ipndm has times of its own in diffusers, between 0 and 1; nearest is sampler=dpmpp_2m",
    "neg=a b": "here it is negative_prompt='a b'",
    "scheduler=DPM++ SDE": "needs the package torchsde and draws noise that no seed controls; nearest is sampler=dpmpp",
    "aspect_ratio=16:9": "here it is width=PIXELS height=PIXELS",
    "neg=blurry": "here it is negative_prompt=blurry",
    "fp16=true": "here it is model.dtype=float16",
    "sageattention=true": "here it is attention=sage",
    "controlnet=canny": "(ControlNet, T2I-Adapter) are not supported; nearest is graph=image_to_image image=FILE",
    "ip_adapter=x": "image prompts (IP-Adapter) are not supported; nearest is graph=image_to_image image=FILE",
    "freeu=true": "freeu: no such key; FreeU is not supported",
    "model=sd3.5": "(did you mean 'sd35_large' or 'sd35_medium'?)",
    "model=flux.1-dev": "(did you mean 'flux'?)",
    "quant=int8": "(did you mean 'int8_dq' or 'int8_wo'?)",
    "quant=nf4": "bitsandbytes is not used; nearest is quant=int8_wo",  # int4_wo needs a GPU
    "memory=lowvram": "(did you mean 'group_offload'?)",
    "sampler=dpmpp_sde": "needs the package torchsde and draws noise that no seed controls; nearest is "
    "sampler=dpmpp_2m_sde",
    "sampler=dpm_fast": "dpm_fast has no scheduler in diffusers; nearest is sampler=dpmpp_2s",
    "adapters=x.safetensors": "here it is adapters=lora adapters.path=x.safetensors",
    "prompts=x.txt": "here it is prompts=file prompts.path=x.txt",
    "compile=true": f"compile=true: {NEEDS} (allowed: default, max_autotune, max_autotune_no_cudagraphs, none, ",
    "compile=false": f"compile=false: {NEEDS}; without any: compile=none",
    "parallel=2": f"parallel=2: {NEEDS} (allowed: cfg, data, none, ring, ulysses, unified)",
    "sd3.5": "KEY=VALUE or GROUP=OPTION is needed, such as model=sd35_large or model=sd35_medium",
    "flux": "KEY=VALUE or GROUP=OPTION is needed, such as model=flux",
    "teacache": "such as cache=teacache",
}


@pytest.mark.parametrize(("typed", "words"), KEY.items(), ids=KEY)
def test_a_key_of_another_tool_or_option_is_told_as_ours(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(typed)


FOR_A_MODEL = {
    "model=sd15 eta=0.5": "eta: no such key; here it is sampler=ddim sampler.eta=0.5",
    "model=sd15 sampler.eta=0.5": "sampler=tcd: sampler=ddim sampler.eta=0.5",
    "model=flux eta=0.5": "here it is sampler=euler_ancestral sampler.eta=0.5",
    "-m model=sd15 eta=0.5,0.6 seed=0,1": "here it is sampler=ddim sampler.eta=0.5 (job 1 of 4: model=sd15 eta=0.5",
    "model=sd15 eta=-1": "here it is refused: sampler.eta=-1.0: must be at least 0",
    "model=cogvideox eta=0.5": "here it is refused: sampler=euler_ancestral: not for this model",
    "model=flux sampler.timestep_spacing=trailing": "here it is refused: sampler.timestep_spacing=trailing could not",
    "model=sdxl timestep_spacing=trailing": "here it is sampler=euler sampler.timestep_spacing=trailing",
    "model=flux flow_shift=3": "here it is sampler=euler sampler.shift=3",
    "model=sd15 flow_shift=3": "it is model.shift, a key of model=wan22, ",
    "-m model=sd15,sdxl shift=3": "it is model.shift, a key of model=wan22, ",
    "-m model=flux,sdxl shift=3,4": "here it is sampler=euler sampler.shift=3 (job 1 of 4: model=flux shift=3)",
    "model=sd15 rel_l1_thresh=0.2": "it is a key of cache=teacache; here it is refused: cache=teacache: this model has",
    "model=sd15 clip_skip=2": "here it is model.clip_skip=2 (A1111 counts one more: its Clip skip 2 is 1 here)",
    "model=flux sampler=ipndm": "between 0 and 1; nearest is sampler=dpmpp_2m",
    "model=sd15 sampler=ipndm": "between 0 and 1; nearest is sampler=pndm",
    "model=sd15 sampler=lcm_karras": "no karras noise levels here (sampler.sigmas=karras could not take effect: "
    "LCMScheduler has no such option; leave it out); without them it is sampler=lcm",
    "model=sd15 sampler=euler_a_karras": "EulerAncestralDiscreteScheduler has no such option; leave it out); without",
    "model=sd15 sampler=ddim_karras": "here (sampler=ddim has no such choice); without them it is sampler=ddim",
    "model=sd15 sampler=heun_exponential": "here it is sampler=heun sampler.sigmas=exponential",
    "model=sd15 clip_stop_at_last_layers=2": "here it is model.clip_skip=1",
    "model=sd15 clip_stop_at_last_layers=1": "here it is model.clip_skip=null",
    "model=sd15 cache=fbcache cache.start_percent=0.1": "cache.start_percent: no such key; here it is cache.start=0.1",
    "model=sd15 sampler=euler sampler.scheduler=karras": "scheduler: no such key; here it is sampler.sigmas=karras",
    "model=flux clip_skip=2": "it is model.clip_skip, a key of model=sdxl, model=demo_unet, model=sd15, ",
}
NODE = "as Comfy-WaveSpeed's node has it"
FOR_A_MODEL |= {
    f"model=flux {key}": f"here it is cache=wavespeed cache.{key} ({NODE}"
    for key in ("residual_diff_threshold=0.12", "start=0.2", "end=0.8", "max_consecutive_cache_hits=5")
}
FOR_A_MODEL |= {
    "model=sdxl residual_diff_threshold=0.2": "cache=wavespeed_residual cache.residual_diff_threshold=0.2 (as",
    "model=flux_schnell start=0.2": "here it is cache=wavespeed cache.start=0.2",
    "model=flux cache=wavespeed start=0.2": "start: no such key; here it is cache.start=0.2",
    "model=flux cache=fbcache residual_diff_threshold=0.1": "key; here it is cache.residual_diff_threshold=0.1",
    "-m model=flux residual_diff_threshold=0.1,0.2": "here it is cache=wavespeed cache.residual_diff_threshold=0.1 (",
    "model=flux rdt=0.1": "here it is cache=fbcache cache.residual_diff_threshold=0.1",
    "model=flux start_percent=": "here it is cache=teacache cache.start=VALUE",
    "model=flux end_percent=0.9": "here it is cache=teacache cache.end=0.9",
    "model=flux retention_ratio=0.2": "here it is cache=magcache cache.start=0.2",
    "model=flux schedule_type=Karras": "here it is sampler=euler sampler.sigmas=karras (not ComfyUI's",
    "model=sd15 scheduler=Karras": "here it is sampler=euler sampler.sigmas=karras sampler.timestep_spacing=linspace",
    "model=sd15 schedule_type=simple": "sampler.timestep_spacing=trailing",
    "model=sd15 scheduler=align_your_steps": "keys of the sampler here, and none is called align_your_steps: sampler.",
    "model=sd15 scheduler=dpm_fast": "dpm_fast has no scheduler in diffusers; nearest is sampler=dpmpp_2s",
    "model=sdxl_turbo": "no option of its own; nearest is model=sdxl model.repo=stabilityai/sdxl-turbo steps=4",
    "model=sd_turbo": "nearest is model=sd21 model.repo=stabilityai/sd-turbo steps=4 guidance_scale=1",
    "model=flux cache=wavespeed cache.residual_diff_threshold=-1": "needed; cache.residual_diff_threshold=0.12",
    "model=flux cache=wavespeed_residual cache.residual_diff_threshold=-1": "; cache.residual_diff_threshold=0.12",
    "model=flux cache=fbcache cache.residual_diff_threshold=-1": "is needed; cache.residual_diff_threshold=0.08",
    "model=flux cache=teacache cache.rel_l1_thresh=-1": "0 or more is needed; cache.rel_l1_thresh=0.25",
    "model=flux cache=wavespeed cache.max_consecutive_cache_hits=0": "hits=5, or cache=none: nothing would be reused",
    "cache=whole_reuse": "cache=whole_reuse: only U-Nets have it, so it could not take effect; another cache, such as",
    "model=demo_unet cache=whole_reuse cache.depth=1": "could not take effect; leave cache.depth out",
}
FOR_A_MODEL |= {
    "model=wan22 model.init=tiny sampler.shift=5": "but of sampler=euler, sampler=euler_ancestral, sampler=heun, "
    "sampler=dpmpp_2m, ...: model.shift=5",
    "model=flux magcache_thresh=0.12": "no such key; here it is cache=magcache cache.threshold=0.12",
    "model=flux magcache_K=4": "no such key; here it is cache=magcache cache.max_consecutive_cache_hits=4",
    "model=flux cache=magcache cache.magcache_thresh=0.1": "no such key; here it is cache.threshold=0.1",
    "model=flux cache=magcache cache.K=4": "no such key; here it is cache.max_consecutive_cache_hits=4",
    "model=sdxl cache=whole_reuse cache.start_step=200": "cache.start_step: no such key; a window is cache.start and",
    "model=sdxl end_step=800": "is cache.window=timesteps cache.start=0.2 cache.end=0.8, and of a number of steps",
    "model=flux cache=scm": "(did you mean 'step_mask'?)",
    "model=flux steps_mask=slow": "here it is cache=step_mask cache.criterion.mask=cache_dit_slow",
    "model=flux cache=dbcache cache.steps_mask=fast": "is cache=step_mask cache.criterion.mask=cache_dit_fast",
    "model=flux cache=step_mask cache.steps_mask=[1,1,0,1]": "no such key; here it is cache.criterion.mask=1101",
}


@pytest.mark.parametrize(("typed", "words"), FOR_A_MODEL.items(), ids=FOR_A_MODEL)
def test_the_option_that_is_named_suits_the_model(command: CommandLine, typed: str, words: str) -> None:
    said = command.refuses(*typed.split(" "))
    assert words in said, said


@pytest.mark.parametrize(
    "typed", ["model=flux start=0.2", "model=sdxl max_consecutive_cache_hits=5", "model=sdxl_turbo"]
)
def test_what_is_named_for_nodes_and_turbo_models_is_accepted(command: CommandLine, typed: str) -> None:
    way = re.search(r"(?:here it|nearest) is ([^(]*?)( \(|$)", command.refuses(*typed.split(" ")))
    assert way
    model = [] if "model=" in way[1] else [typed.partition(" ")[0]]
    command.plans(*model, "model.init=tiny", *way[1].split(" "))


@pytest.mark.parametrize("model", ["flux", "sd15", "cogvideox"])
@pytest.mark.parametrize("key", ["sigmas=karras", "timestep_spacing=trailing", "shift=2", "eta=0.5", "order=3"])
def test_what_a_message_tells_to_type_is_accepted(command: CommandLine, model: str, key: str) -> None:
    said = command.refuses(f"model={model}", "model.init=tiny", f"sampler.{key}")
    way = re.search(rf": (sampler=\w+ sampler\.{key})$", said)
    assert way or "here it is refused: sampler" in said
    if way:
        command.plans(f"model={model}", "model.init=tiny", *way[1].split(" "))


@pytest.mark.parametrize(
    "typed",
    [
        "model=flux magcache_thresh=0.12",
        "model=flux K=4",
        "model=flux steps_mask=fast",
        "model=demo_unet start_step=200 cache=whole_reuse",
    ],
)
def test_what_is_named_for_magcache_masks_and_timesteps_is_accepted(command: CommandLine, typed: str) -> None:
    said = command.refuses(*typed.split(" "))
    way = re.search(r"it is ((?:cache\S*=[\w.]+ ?)+)", said)
    assert way, said
    others = [word for word in typed.split(" ") if word.startswith(("model=", "cache="))]
    command.plans(*others, "model.init=tiny", "steps=28", *way[1].split())


def test_the_plan_names_the_shift_that_is_used(command: CommandLine) -> None:
    """Wan's own, `model.shift`, unless the sampler has one in its place."""
    own = ["model=wan22", "model.init=tiny", "prompt=x"]
    assert "(shift=12.0," in command.plans(*own)
    plan = command.plans(*own, "sampler=unipc", "sampler.shift=5")
    assert "unipc (shift=5.0)" in plan and "shift=12.0" not in plan


def test_every_negative_prompt_of_a_model_is_in_the_docs() -> None:
    root = Path(__file__).parents[2]
    own = [
        path.stem for path in (root / "conf/model").glob("*.yaml") if "\nnegative_prompt: " in path.read_text("utf-8")
    ]
    (row,) = (
        line for line in (root / "docs/sampling.md").read_text("utf-8").splitlines() if "`negative_prompt` |" in line
    )
    known = ("wan", "ltx_video", "ltx2", "chroma", "qwen_image")
    assert own and all(name.startswith(known) for name in own)
    assert all(word in row for word in ("Wan", "LTX-Video", "LTX-2", "Chroma", "Qwen-Image and its edit models"))


def test_what_has_no_letter_begins_no_name(command: CommandLine) -> None:
    assert "did you mean" not in command.refuses("model=??")


def test_an_absent_sampler_is_absent_and_the_nearest_is_there() -> None:
    import diffusers

    names = [name.lower() for name in dir(diffusers) if name.endswith("Scheduler")]
    for name, (why, nearest) in ABSENT.items():
        assert nearest in SAMPLERS and name not in SAMPLERS
        plain = name.replace("dpmpp", "dpmsolver").replace("_", "")
        assert ("no scheduler" in why) == (not any(known.startswith(plain) for known in names)), name


def test_a_key_of_another_launcher_is_told_with_it(command: CommandLine) -> None:
    words = "hydra/launcher=slurm hydra.launcher.nodes=2"
    assert words in command.refuses("-m", "hydra.launcher.nodes=2", "seed=0,1")
    assert words in command.refuses("-m", "hydra/launcher=isolated", "hydra.launcher.nodes=2", "seed=0,1")


VALUES = {"model.dtype": "float32", "model": "demo", "quant": "none", "attention": "none", "compile": "none"}


OWNERS = {"cache.interval": "deepcache", "cache.threshold": "magcache", "cache.predictor.order": "dbcache"}


@pytest.mark.parametrize("ours", sorted({*KEYS.values(), *(f"cache.{key}" for key in CACHE_KEYS.values())}))
def test_every_key_that_a_message_names_exists(command: CommandLine, ours: str) -> None:
    *options, key = ours.replace("NAME", "demo" if "model=" in ours else "euler").split(" ")
    if key.startswith("cache.") and not options:
        options = [f"cache={OWNERS.get(key, 'fbcache')}"]
    if key in ("model.guidance_rescale", "model.clip_skip"):
        options = ["model=sd15"]  # the demo model has none of these
    said = command("dry_run=true", "--cfg", "job", *options, key if "=" in key else f"{key}={VALUES.get(key, 'none')}")
    assert "no such key" not in said.err and "no key of" not in said.err and "no such config group" not in said.err
