"""Loads a family's pipeline: from a diffusers folder or the hub, from a single file, or made with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...config.schema import Init, ModelConfig
from ..family import Family
from . import checkpoint
from .external_components import parts_from_elsewhere, refuse_absent
from .hub import diffusers_class, explained, quiet, refuse_missing
from .single_file import parts_of


def load(family: Family, model: ModelConfig, device: str) -> Any:
    """The pipeline of the family's first task, in `model.dtype`. Leaves the global random state alone.

    `init=tiny` is made on the CPU, for the same numbers everywhere; `init=random` on the device where it will run.

    Raises:
        RunError: it cannot be had or is not what the configuration says; the message has the ways out.
        ConfigError: `model.repo` names nothing that may be loaded.
    """
    import torch

    dtype = getattr(torch, model.dtype.value)
    with torch.random.fork_rng(devices=[]):
        if model.init is Init.pretrained:
            pipe = _pretrained(family, model, dtype)
        else:
            pipe = family.build(model, dtype, "cpu" if model.init is Init.tiny else device)
    if family.check:
        family.check(model, pipe)
    return pipe


def completed_from(family: Family, model: ModelConfig) -> str | None:
    """Where the parts come from that a single-file checkpoint may lack; None for other models."""
    path = checkpoint.local(model.repo)
    if path is None or path.suffix.lower() != ".safetensors":
        return None
    return model.components or (family.published(model) if family.published else model.repo)


def _pretrained(family: Family, model: ModelConfig, dtype: Any) -> Any:
    checkpoint.inspect(model.repo, model.revision, without=without(family), weights=model.weights)
    path = checkpoint.local(model.repo)
    if path is not None and path.is_file():
        return _single_file(family, model, path, dtype)
    # What the store keys name is what is loaded: a branch stays at the commit that was downloaded first.
    commit = None if path else checkpoint.cached_commit(model.repo, model.revision or "main")
    given = parts_from_elsewhere(family, model, dtype)
    revision = commit or model.revision
    return _from_pretrained(family, model, str(path or model.repo), model.repo, revision, dtype, **given)


def without(family: Family) -> list[str]:
    """Components that its repositories may name and that are not loaded."""
    return [name for name, value in family.options.items() if value is None]


def _from_pretrained(
    family: Family,
    model: ModelConfig,
    source: str,
    value: str,
    revision: str | None,
    dtype: Any,
    key: str = "model.repo",
    **given: Any,
) -> Any:
    """Every part from one folder or repository, but those given.

    source: what diffusers is to open. value and key: how the user named it, for messages. Parts of transformers are
    loaded here, because transformers fills weights that a checkpoint lacks with random numbers and only logs it.
    """
    import torch
    import transformers

    given = {**family.options, **given}
    kind = diffusers_class(next(iter(family.tasks.values())))
    dtypes = {"default": dtype, **dict.fromkeys(family.float32, torch.float32)}
    with explained(value, revision, key), quiet():
        folder = source
        if not Path(source).is_dir():
            options = {"revision": revision, "variant": model.weights, "use_safetensors": True}
            folder = kind.download(source, **options, **given)
        refuse_absent(family, Path(folder), given, f"{key}={value}")
        missing = {}
        for name, part in _transformers_models(Path(folder)).items():
            if name not in given:
                given[name], info = getattr(transformers, part).from_pretrained(
                    folder,
                    subfolder=name,
                    output_loading_info=True,
                    use_safetensors=True,
                    variant=model.weights if _in_variant(Path(folder) / name, model.weights) else None,
                    dtype=dtypes.get(name, dtype),
                )
                missing[name] = sorted(info["missing_keys"])
        options = {"trust_remote_code": False, "use_safetensors": True, "variant": model.weights}
        pipe = kind.from_pretrained(folder, dtype=dtypes, **options, **given)
        for name, module in pipe.components.items():
            if isinstance(module, torch.nn.Module) and name not in missing:
                missing[name] = [key for key, weight in module.named_parameters() if weight.is_meta]
    refuse_missing(missing, f"{key}={value}")
    return pipe


def _in_variant(folder: Path, weights: str | None) -> bool:
    """Whether a component has files of this kind; the plain ones are taken for those that have not."""
    return weights is not None and any(f".{weights}." in file.name for file in folder.glob("*.safetensors"))


def _transformers_models(folder: Path) -> dict[str, str]:
    """Component -> class, of those that transformers loads and that have weights."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    found = {name: part for name, part in index.items() if isinstance(part, list) and part[0] == "transformers"}
    return {name: part[1] for name, part in found.items() if list((folder / name).glob("*.safetensors"))}


def _single_file(family: Family, model: ModelConfig, path: Path, dtype: Any) -> Any:
    """What the file holds, in diffusers' or in the original layout; the other parts from `components`."""
    components = completed_from(family, model) or model.repo
    checkpoint.inspect(components, key="model.components", without=without(family))
    folder = checkpoint.local(components)
    source = str(folder or components)
    commit = None if folder else checkpoint.first_commit(components)
    given = parts_of(family, model, path, components, source, commit, dtype)
    given |= parts_from_elsewhere(family, model, dtype)
    return _from_pretrained(family, model, source, components, commit, dtype, "model.components", **given)
