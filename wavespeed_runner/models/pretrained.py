"""Loads a family's pipeline: from a diffusers folder or the hub, from a single file, or made with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import Init, ModelConfig
from . import checkpoint
from .elsewhere import parts_from_elsewhere, refuse_absent
from .family import Family
from .loading import explained, quiet, refuse_missing
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


def _pretrained(family: Family, model: ModelConfig, dtype: Any) -> Any:
    checkpoint.inspect(model.repo, model.revision)
    path = checkpoint.local(model.repo)
    if path is not None and path.is_file():
        return _single_file(family, model, path, dtype)
    # What the store keys name is what is loaded: a branch stays at the commit that was downloaded first.
    commit = None if path else checkpoint.cached_commit(model.repo, model.revision or "main")
    given = parts_from_elsewhere(family, model, dtype)
    return _from_pretrained(family, str(path or model.repo), model.repo, commit or model.revision, dtype, **given)


def _from_pretrained(
    family: Family,
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
    import diffusers
    import torch
    import transformers

    given = {**family.options, **given}
    kind = getattr(diffusers, next(iter(family.tasks.values())))
    dtypes = {"default": dtype, **dict.fromkeys(family.float32, torch.float32)}
    with explained(value, revision, key), quiet():
        folder = source
        if not Path(source).is_dir():
            folder = kind.download(source, revision=revision, use_safetensors=True, **given)
        refuse_absent(family, Path(folder), given, f"{key}={value}")
        missing = {}
        for name, part in _transformers_models(Path(folder)).items():
            if name not in given:
                given[name], info = getattr(transformers, part).from_pretrained(
                    folder,
                    subfolder=name,
                    output_loading_info=True,
                    use_safetensors=True,
                    dtype=dtypes.get(name, dtype),
                )
                missing[name] = sorted(info["missing_keys"])
        pipe = kind.from_pretrained(folder, trust_remote_code=False, use_safetensors=True, dtype=dtypes, **given)
        for name, module in pipe.components.items():
            if isinstance(module, torch.nn.Module) and name not in missing:
                missing[name] = [key for key, weight in module.named_parameters() if weight.is_meta]
    refuse_missing(missing, f"{key}={value}")
    return pipe


def _transformers_models(folder: Path) -> dict[str, str]:
    """Component -> class, of those that transformers loads and that have weights."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    found = {name: part for name, part in index.items() if isinstance(part, list) and part[0] == "transformers"}
    return {name: part[1] for name, part in found.items() if list((folder / name).glob("*.safetensors"))}


def _single_file(family: Family, model: ModelConfig, path: Path, dtype: Any) -> Any:
    """What the file holds, in diffusers' or in the original layout; the other parts from `components`."""
    components = model.components or (family.published(model) if family.published else model.repo)
    checkpoint.inspect(components, key="model.components")
    folder = checkpoint.local(components)
    source = str(folder or components)
    given = parts_of(family, model, path, components, source, dtype)
    given |= parts_from_elsewhere(family, model, dtype)
    return _from_pretrained(family, source, components, None, dtype, "model.components", **given)
