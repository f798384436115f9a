"""Rules on what files say of how weights were trained: distilled LoRAs, their base model, and zero terminal SNR."""

from __future__ import annotations

import re

from ..accelerate.adapter_training import Training, read_trainings
from ..config.schema import Config
from ..errors import make_printable
from ..models.family import Family, uses_cfg
from ..models.weights.file_flags import (
    count_skip,
    find_clip_skip,
    find_metadata,
    find_prediction_type,
    find_scheduler,
    has_zero_snr,
    suggest_model,
)
from ..samplers import resolve_sampler
from .rule import Rule

SAMPLERS_OF = {"LCM": ("lcm",), "TCD": ("tcd",), "Lightning": ("euler",), "Hyper": ("ddim", "tcd")}
"""Distillation -> the samplers that its authors use."""
TRAILING = ("Lightning", "Hyper")
"""Distillations whose steps end at the last training step, except with `tcd`."""
FEW_STEPS = 16
"""Steps above which a distillation whose name gives no number is run with more than it was made for."""
MOST_GUIDANCE = {"LCM": 2.0, "Lightning": 1.0, "Hyper": 1.0}
"""Distillation -> the guidance scale above which its images are overdone: it holds guidance already."""
FAMILIES_OF = {
    "stable-diffusion-v1": ("sd",),
    "stable-diffusion-v2": ("sd",),
    "stable-diffusion-xl": ("sdxl",),
    "stable-diffusion-3": ("sd3",),
    "flux-1": ("flux", "flux_fill", "flux_kontext", "chroma"),
    "chroma": ("flux", "flux_fill", "flux_kontext", "chroma"),
    "lumina-2": ("lumina2",),
}
"""Beginning of `modelspec.architecture` -> the families that the LoRA may be for."""


def find_distillations(c: Config, f: Family) -> list[Training]:
    """The loaded LoRAs that were distilled for few steps of a diffusion model."""
    if f.schedule != "diffusion":
        return []
    return [each for each in read_trainings(c.adapters) if each.distillation in SAMPLERS_OF]


def _find_many_steps(c: Config, f: Family) -> Training | None:
    """The first distilled LoRA that is run with more steps than it was made for; not on a model distilled itself."""
    if f.is_distilled(c.model):
        return None  # a LoRA for `..._turbo` is no distillation of it
    distilled = [each for each in read_trainings(c.adapters) if each.distillation]
    return next((each for each in distilled if (c.steps or 0) > (each.steps or FEW_STEPS)), None)


def describe_name(each: Training) -> str:
    """A name is all that there is: a style for Turbo weights may be called so too."""
    return f"{each.path}: its name says {each.distillation}, as of a distillation"


def _explain_many_steps(c: Config, f: Family) -> str:
    each = _find_many_steps(c, f)
    if each is None:
        return ""
    return f"{describe_name(each)} for {each.steps or 'few'} steps, and it is run with steps={c.steps}"


def _fix_many_steps(c: Config, f: Family) -> str:
    each = _find_many_steps(c, f)
    return f"steps={each.steps}" if each and each.steps else "the steps that its authors give, or another LoRA"


def _judge_distilled(c: Config, f: Family) -> tuple[Training, list[str]] | None:
    """The first distilled LoRA that is run with another sampler or guidance than it was made for, and with which."""
    for each in find_distillations(c, f):
        kind = str(each.distillation)
        name = resolve_sampler(f, c.model, c.sampler).name
        spacing = getattr(c.sampler, "timestep_spacing", None) or (find_scheduler(f, c.model) or {}).get(
            "timestep_spacing"
        )
        wrong = []
        if name not in SAMPLERS_OF[kind]:
            wrong.append(f"sampler={c.sampler.name}")
        elif kind in TRAILING and name != "tcd" and getattr(spacing, "value", spacing) != "trailing":
            wrong.append("timesteps that are not trailing")
        scale = c.guidance_scale
        if scale is not None and scale > MOST_GUIDANCE.get(kind, scale) and not each.keeps_guidance:
            wrong.append(f"guidance_scale={scale:g}")
        if wrong:
            return each, wrong
    return None


def _explain_distilled(c: Config, f: Family) -> str:
    """How sampler or guidance differ from what a distilled LoRA was made for; empty: they do not, or there is none."""
    if not (judged := _judge_distilled(c, f)):
        return ""
    each, wrong = judged
    return f"{describe_name(each)}, and it is run with {' and '.join(wrong)}"


def _fix_distilled(c: Config, f: Family) -> str:
    """What the authors of the LoRA that `_explain_distilled` is about use."""
    if not (judged := _judge_distilled(c, f)):
        return ""
    kind = str(judged[0].distillation)
    most = None if judged[0].keeps_guidance else MOST_GUIDANCE.get(kind)
    name = SAMPLERS_OF[kind][0]
    trailing = (
        " sampler.timestep_spacing=trailing" if kind in TRAILING and hasattr(c.sampler, "timestep_spacing") else ""
    )
    return f"sampler={name}{trailing}" + ("" if most is None else f" guidance_scale={most:g} or less")


def _explain_base(c: Config, f: Family) -> str:
    """Which LoRA says that it is for another model; empty: none."""
    wrong = [each for each in read_trainings(c.adapters) if _is_for_another(c, each.architecture or "")]
    return next((f"adapters.path={each.path}: {_name(str(each.architecture))}" for each in wrong), "")


def _is_for_another(c: Config, architecture: str) -> bool:
    """True if a file of this architecture cannot be for the model."""
    known = {name for names in FAMILIES_OF.values() for name in names}
    families = next((names for start, names in FAMILIES_OF.items() if architecture.startswith(start)), (c.model.name,))
    return c.model.name in known and c.model.name not in families


def _name(architecture: str) -> str:
    return f"its modelspec.architecture is {make_printable(architecture)[:60]}"


def _explain_checkpoint(c: Config, f: Family) -> str:
    """Why a single file cannot be the model; empty: nothing speaks against it."""
    architecture = find_metadata(c.model).get("modelspec.architecture", "")
    if architecture.endswith("/lora"):
        return f"model.repo={c.model.repo}: it is a LoRA: {_name(architecture)}"
    is_wrong = _is_for_another(c, architecture)
    return f"model.repo={c.model.repo}: {_name(architecture)}, and the model is {c.model.name}" if is_wrong else ""


def _explain_training(c: Config, f: Family) -> str:
    """What a LoRA was trained with and this run does not have; empty: nothing is known."""
    for each in read_trainings(c.adapters):
        said, has = [], find_prediction_type(f, c.model)
        if each.prediction_type and has and each.prediction_type != has:
            said.append(f"on a model that predicts {each.prediction_type}, and this one predicts {has}")
        if c.model.name == "sd" and each.clip_skip not in (None, 0, count_skip(c.model)):
            said.append(f"with clip skip {each.clip_skip}, as kohya counts")
        if each.zero_snr and f.schedule == "diffusion" and not has_zero_snr(f, c.model):
            said.append("with zero terminal SNR, which this model is not known to have")
        if each.timestep_range:
            said.append(f"for timesteps {make_printable(each.timestep_range)[:20]} alone, and acts in all")
        if said:
            return f"adapters.path={each.path}: its metadata says that it was trained {'; '.join(said)}"
    return ""


def _fix_training(c: Config, f: Family) -> str:
    """The clip skip of the LoRA that `_explain_training` is about, if that is wrong; the rest cannot be set here."""
    said = re.search(r"clip skip (\d+)", _explain_training(c, f))
    return f"model.clip_skip={int(said[1]) - 1 or 'null'}" if said else ""


def _is_overexposed(c: Config, f: Family) -> bool:
    return (
        uses_cfg(c.model, c.guidance_scale, off=f.unguided_scale)
        and not getattr(c.model, "guidance_rescale", 0)
        and has_zero_snr(f, c.model)
    )


TRAINING: tuple[Rule, ...] = (
    Rule(
        id="checkpoint-base",
        verdict="bad",
        when=lambda c, f: bool(_explain_checkpoint(c, f)),
        message=_explain_checkpoint,
        fix=lambda c, f: suggest_model(c.model),
        source="https://github.com/kohya-ss/sd-scripts/blob/main/library/sai_model_spec.py",
    ),
    Rule(
        id="checkpoint-trained",
        verdict="unverified",
        when=lambda c, f: find_clip_skip(c.model) is not None,
        message=lambda c, f: (
            f"model.repo={c.model.repo}: its metadata says that it was trained with clip skip "
            f"{find_clip_skip(c.model)}, as kohya counts"
        ),
        fix=lambda c, f: f"model.clip_skip={(find_clip_skip(c.model) or 1) - 1 or 'null'}",
        source="https://github.com/kohya-ss/sd-scripts/blob/main/library/sai_model_spec.py",
    ),
    Rule(
        id="adapters-base",
        verdict="bad",
        when=lambda c, f: bool(_explain_base(c, f)),
        message=lambda c, f: f"{_explain_base(c, f)}, and the model is {c.model.name}",
        fix="a LoRA for this model",
        source="tests/rules/test_training.py",
    ),
    Rule(
        id="adapters-dora",
        verdict="bad",
        when=lambda c, f: (
            getattr(c.memory, "layerwise_casting", None) is not None
            and not getattr(c.adapters, "fuse", False)
            and any(each.dora for each in read_trainings(c.adapters))
        ),
        message="memory.layerwise_casting with a DoRA: PEFT reads the weights at each step, and cannot in 8 bits",
        fix="adapters.fuse=true, or memory=none",
        source="peft.tuners.lora.dora",
    ),
    Rule(
        id="adapters-trained",
        verdict="unverified",
        when=lambda c, f: bool(_explain_training(c, f)),
        message=_explain_training,
        fix=_fix_training,
        source="https://github.com/kohya-ss/sd-scripts/blob/main/library/sai_model_spec.py",
    ),
    Rule(
        id="distilled-lora",
        verdict="unverified",
        when=lambda c, f: bool(_explain_distilled(c, f)),
        message=_explain_distilled,
        fix=_fix_distilled,
        source="https://huggingface.co/docs/diffusers/using-diffusers/inference_with_lcm, "
        "https://huggingface.co/ByteDance/Hyper-SD, https://huggingface.co/ByteDance/SDXL-Lightning, "
        "https://arxiv.org/abs/2402.19159",
    ),
    Rule(
        id="distilled-lora-steps",
        verdict="unverified",
        when=lambda c, f: _find_many_steps(c, f) is not None,
        message=_explain_many_steps,
        fix=_fix_many_steps,
        source="tests/rules/test_training.py",
    ),
    Rule(
        id="zero-snr-guidance",
        verdict="unverified",
        when=_is_overexposed,
        message="this model is sampled with zero terminal SNR, where guidance without rescale overexposes images",
        fix=lambda c, f: (
            "model.guidance_rescale=0.7" if hasattr(c.model, "guidance_rescale") else "a lower guidance_scale"
        ),
        source="https://arxiv.org/abs/2305.08891",
    ),
)
