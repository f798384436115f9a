"""The parts of a script for diffusers that load the model and choose its scheduler."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..config.schema import Init
from ..inputs.files import resolve_path
from ..models.weights.checkpoint import find_local_path, is_single_file
from ..models.weights.folder_gate import check_folder, list_components, read_config
from ..models.weights.hub import fetch_configurations, get_diffusers_class
from ..models.weights.identity import find_downloaded_commit
from ..models.weights.scheduler_shift import set_shift
from ..registry import find_implementation
from .script import Script, format_call, to_code


def add_model(script: Script) -> None:
    """Loads the pipeline as the runner does, or says why plain diffusers would load another one."""
    model, family = script.config.model, script.family
    others = [f"model.{key}" for key in ("components", "vae", *family.external_components) if getattr(model, key)]
    if model.init is not Init.pretrained:
        script.refused.append(f"model.init={model.init.value}: random weights, which this package makes")
    elif is_single_file(find_local_path(model.repo)):
        script.refused.append(f"model.repo={model.repo}: a single file, which this package reads in a way of its own")
    elif family.single_call or family.run or family.prepare:
        script.refused.append(f"model={model.name}: its pipeline is called in several parts")
    script.refused += [f"{key}: parts from elsewhere" for key in others]
    if script.refused:
        return
    pipeline_class = script.use(next(iter(family.tasks.values())))
    arguments = {"dtype": _format_dtype(script), "use_safetensors": "True"}
    arguments |= to_code({"revision": model.revision} if model.revision else {})
    arguments |= to_code({"variant": model.weights} if model.weights else {})
    arguments |= to_code(family.pipeline_options)
    script.lines.append("MODEL = " + repr(_find_place(script)))
    script.lines += format_call(f"pipe = {pipeline_class}.from_pretrained", "MODEL", **arguments)


def _find_place(script: Script) -> str:
    """What is given to `from_pretrained`: a hub id, or where the folder lies on this machine."""
    repo = script.config.model.repo
    if not repo.startswith("pkg://") and find_local_path(repo) is None:
        return repo
    script.notes.append(f"MODEL is a folder of this machine ({repo}): elsewhere, give the place of a copy.")
    folder = resolve_path(repo).absolute()
    check_folder(f"model.repo={repo}", folder)
    return str(folder)


def _format_dtype(script: Script) -> str:
    script.use("", "torch")
    dtype, family = f"torch.{script.config.model.dtype.value}", script.family
    if not family.float32_components or dtype == "torch.float32":
        return dtype
    parts = {"default": dtype, **dict.fromkeys(family.float32_components, "torch.float32")}
    return "{" + ", ".join(f"{name!r}: {value}" for name, value in parts.items()) + "}"


def add_sampler(script: Script) -> dict[str, Any]:
    """Puts the sampler's scheduler in place; returns what the pipeline's call is given for it."""
    sampler = script.config.sampler
    shift = getattr(script.config.model, "shift", None)
    if script.refused or (sampler.name == "default" and shift is None):
        return {}
    own = _read_scheduler(script)
    if shift is not None:
        own = set_shift(own, shift)
    if sampler.name == "default":
        _put_scheduler(script, own)
        return {}
    try:
        scheduler = find_implementation("sampler", sampler)(SimpleNamespace(scheduler=own), sampler)
    except AttributeError:  # a plugin's, which wants more of the pipeline
        scheduler = None
    eta = getattr(sampler, "eta", 0.0) if script.family.schedule == "diffusion" else 0.0
    plain = _build_plain(scheduler)
    if plain is None or not _has_same_schedule(scheduler, plain, script.config.steps or 1):
        script.refused.append(f"sampler={sampler.name}: this package changes what diffusers' scheduler does")
        return {}
    _put_scheduler(script, plain)
    return {"eta": eta} if eta else {}


def _put_scheduler(script: Script, plain: Any) -> None:
    """Writes the scheduler with what is not its class's default."""
    name = script.use(type(plain).__name__)
    defaults = {key: each.default for key, each in signature(type(plain)).parameters.items()}
    changed = {key: plain.config[key] for key in defaults if key in plain.config and plain.config[key] != defaults[key]}
    script.lines += format_call(f"pipe.scheduler = {name}", **to_code(changed))


def _read_scheduler(script: Script) -> Any:
    """The scheduler that the model comes with, from its configuration alone."""
    model = script.config.model
    where = f"model.repo={model.repo}"
    folder = find_local_path(model.repo) or fetch_configurations(model.repo, find_downloaded_commit(model.repo))
    check_folder(where, folder)
    class_name = list_components(where, Path(folder))["scheduler"][1]
    config = read_config(where, Path(folder) / "scheduler" / "scheduler_config.json")
    return get_diffusers_class(class_name).from_config(config)


def _build_plain(scheduler: Any) -> Any:
    """Diffusers' own scheduler with the same configuration; None where ours is not made of one."""
    bases = [base for base in type(scheduler).__mro__ if base.__module__.startswith("diffusers.schedulers.")]
    if not bases or (type(scheduler) is not bases[0] and type(scheduler).__mro__[1] is not bases[0]):
        return None
    accepted = signature(bases[0]).parameters
    return bases[0](**{key: value for key, value in scheduler.config.items() if key in accepted})


def _has_same_schedule(ours: Any, plain: Any, steps: int) -> bool:
    """Whether diffusers' own scheduler takes the same steps, called as pipelines call it."""
    if type(ours) is type(plain):
        return True
    if plain.config.get("prediction_type") == "flow_prediction" or hasattr(type(ours), "scale_noise"):
        return False  # the pipelines of flow models give levels and a shift, which ours alone takes
    for scheduler in (ours, plain):
        scheduler.set_timesteps(steps)
    return bool(len(ours.timesteps) == len(plain.timesteps) and (ours.timesteps == plain.timesteps).all()) and (
        getattr(ours, "begin_index", None) == getattr(plain, "begin_index", None)
    )
