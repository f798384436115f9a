"""Adapters: what is learned on top of a model and changes what it draws, so the reference has it too.

Loading, weighing and fusing are diffusers' and PEFT's own; see
https://huggingface.co/docs/diffusers/using-diffusers/loading_adapters. Added here: files that cannot be loaded, or of
which a part finds no place in the model, are errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import AdaptersConfig
from ..errors import ConfigError, RunError, one_line
from ..models import checkpoint
from ..registry import register

ALLOWED = "allowed: a .safetensors file, pkg://package/file, or a hub id 'owner/name'"
ENCODERS = {
    "clip_l": ("tokenizer", "text_encoder"),
    "clip_g": ("tokenizer_2", "text_encoder_2"),
    "t5": ("tokenizer_2", "text_encoder_2"),
}
"""Where the vectors go of files that have some for each text encoder: SDXL's clip_l and clip_g, FLUX's clip_l and t5.
https://huggingface.co/docs/diffusers/using-diffusers/textual_inversion_inference"""
NAMELESS = (*ENCODERS, "emb_params")
"""Names of tensors that are no words; the last is written by other tools for Stable Diffusion 1 and 2."""


@dataclass(kw_only=True)
class NoAdapters(AdaptersConfig):
    """The model as it is."""

    name: str = "none"
    path: Any = None


@dataclass(kw_only=True)
class Lora(AdaptersConfig):
    """Low-rank updates of weights, https://arxiv.org/abs/2106.09685. Several at once: lists of equal lengths."""

    name: str = "lora"
    weight: Any = 1.0
    """How strongly it acts: 0 is not at all, 1 as it was trained; one number, or one for each path."""
    file: Any = None
    """Which file of a hub repository that has several; one name, or one for each path."""
    component: Any = None
    """`transformer_2`: into the second denoiser of models with two (Wan 2.2). Null: into the first, and the text
    encoders that the file has updates of. One, or one for each path."""
    fuse: bool = False
    """Add it to the model's weights once, instead of at every step: faster, and rounded to `model.dtype`."""

    def __post_init__(self) -> None:
        _refuse_uneven(self, "weight", "file", "component")
        for weight in _listed(self.weight):
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise ConfigError(f"adapters.weight={weight}: a number is needed")


@dataclass(kw_only=True)
class TextualInversion(AdaptersConfig):
    """Learned tokens for the text encoder, https://arxiv.org/abs/2208.01618."""

    name: str = "textual_inversion"
    token: Any = None
    """The word in prompts that stands for all vectors of a file; null: the one that the file names. One, or one for
    each path."""
    file: Any = None
    """Which file of a hub repository; null: learned_embeds.safetensors. One, or one for each path."""

    def __post_init__(self) -> None:
        _refuse_uneven(self, "token", "file")
        for token in _listed(self.token):
            if token is not None and not (isinstance(token, str) and token.strip()):
                raise ConfigError(f"adapters.token={token}: a word is needed")


register("adapters", "none", NoAdapters)(None)
register("adapters", "lora", Lora)(None)
register("adapters", "textual_inversion", TextualInversion)(None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _refuse_uneven(adapters: Any, *keys: str) -> None:
    paths = _listed(adapters.path)
    if not paths:
        raise ConfigError("adapters.path=[]: at least one is needed; adapters=none for none")
    for key in keys:
        value = getattr(adapters, key)
        if isinstance(value, list) and len(value) != len(paths):
            raise ConfigError(f"adapters.{key}={value}: {len(value)} values for {len(paths)} of adapters.path")


def _each(adapters: Any, key: str) -> list[Any]:
    """The values of a key, one for each path."""
    values = _listed(getattr(adapters, key))
    return values * len(_listed(adapters.path)) if len(values) == 1 else values


def inspect(adapters: AdaptersConfig, texts: Iterable[str] | None = None) -> None:
    """Refuses, before anything is loaded, a file that is not there, is a pickle or is damaged, and a token that is in
    none of the texts.

    texts: prompts of the run, negative ones too; None where they are not to be looked at.

    Raises:
        ConfigError: names the path.
    """
    for path in _listed(adapters.path) if adapters.name != "none" else []:
        where = f"adapters.path={path}"
        if not isinstance(path, str):
            raise ConfigError(f"{where}: {ALLOWED}")
        file = checkpoint.local(path)
        if file is None:
            continue
        if file.suffix.lower() in checkpoint.PICKLES:
            raise ConfigError(f"{where}: {checkpoint.CONVERT}")
        if not file.is_file() or file.suffix.lower() != ".safetensors":
            raise ConfigError(f"{where}: no such file; {ALLOWED}")
        if wrong := checkpoint.flaw(file):
            raise ConfigError(f"{where}: damaged: {wrong}; download or copy it again")
    if isinstance(adapters, TextualInversion):
        for path, token in zip(_listed(adapters.path), _tokens(adapters), strict=True):
            if texts is not None and not any(token in text for text in texts):
                raise ConfigError(
                    f"adapters.path={path}: its token {token} is in no prompt, so it could not take effect; write it "
                    f"as it stands, prompt='... {token}'"
                )


def _tokens(adapters: TextualInversion) -> list[str]:
    """The words that stand for the files, one for each path.

    Raises:
        ConfigError: there is none, or a local file holds no embedding.
    """
    return [_token(path, given) for path, given in zip(_listed(adapters.path), _each(adapters, "token"), strict=True)]


def _token(path: str, given: str | None) -> str:
    file = checkpoint.local(path)
    names = _keys(file) if file else []
    if file and len(names) != 1 and not (names and set(names) <= set(ENCODERS)):
        raise ConfigError(
            f"adapters.path={path}: no textual inversion: it has {len(names)} tensors; one is needed, or "
            f"{', '.join(ENCODERS)}, one for each text encoder"
        )
    if given is None and (file is None or names[0] in NAMELESS):
        why = "the file names no word" if file else "what is on the hub is not read before the run"
        raise ConfigError(f"adapters.token: {why} for adapters.path={path}; adapters.token=WORD says yours")
    return given or names[0]


def identity(adapters: AdaptersConfig) -> list[str]:
    """Says which adapters these are, wherever they lie."""
    paths = _listed(adapters.path) if adapters.name != "none" else []
    return [checkpoint.identity(path, None) for path in paths]


def apply(pipe: Any, adapters: AdaptersConfig) -> Any:
    """The pipeline with the adapters in its modules. Leaves the global random state alone.

    Raises:
        RunError: a file is not for this model.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        if isinstance(adapters, Lora):
            _load_loras(pipe, adapters)
        elif isinstance(adapters, TextualInversion):
            _load_tokens(pipe, adapters)
    return pipe


def _load_loras(pipe: Any, adapters: Lora) -> None:
    paths, components = _listed(adapters.path), _each(adapters, "component")
    names = [f"lora_{index}" for index, _ in enumerate(paths)]
    for name, path, file, component in zip(names, paths, _each(adapters, "file"), components, strict=True):
        local = checkpoint.local(path)
        options: dict[str, Any] = {} if local else {"weight_name": file, "revision": _commit(path)}
        if component == "transformer_2":
            options["load_into_transformer_2"] = True
        try:
            pipe.load_lora_weights(str(local or path), adapter_name=name, use_safetensors=True, **options)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {one_line(error)}") from error
        _refuse_leftovers(pipe, name, path, local)
    pipe.set_adapters(names, _weights(adapters))
    if adapters.fuse:
        pipe.fuse_lora(
            components=[part for part, n in _layers(pipe).items() if n], adapter_names=names, safe_fusing=True
        )
        pipe.unload_lora_weights()


def _commit(path: str) -> str | None:
    """What the store keys name is what is loaded: the commit that was downloaded first."""
    return checkpoint.cached_commit(path, "main") or None


def _weights(adapters: Lora) -> list[float]:
    return [float(weight) for weight in _each(adapters, "weight")]


def _refuse_leftovers(pipe: Any, name: str, path: str, file: Path | None) -> None:
    """diffusers only logs what it has no place for. A file may be converted to more tensors, never to fewer."""
    placed = sum(f".{name}." in key for part in _modules(pipe).values() for key, _ in part.named_parameters())
    wanted = len([key for key in _keys(file) if not _without_place(key)]) if file else 1
    if placed < wanted:
        raise RunError(
            f"adapters.path={path}: does not fit this model: {wanted - placed} of its {wanted} tensors found no place"
        )


def _without_place(key: str) -> bool:
    """Scales, which are multiplied in; and changes of norms in files for Wan, which diffusers leaves out."""
    return key.endswith((".alpha", ".dora_scale")) or ("norm" in key and key.endswith((".diff", ".diff_b")))


def _keys(file: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return [name for name in json.loads(stream.read(length)) if name != "__metadata__"]


def _load_tokens(pipe: Any, adapters: TextualInversion) -> None:
    paths, tokens = _listed(adapters.path), _tokens(adapters)
    for path, token, file in zip(paths, tokens, _each(adapters, "file"), strict=True):
        try:
            for key, vectors in _vectors(path, file).items():
                tokenizer, encoder = _encoder(pipe, key)
                # Given as tensors: diffusers itself opens no file of several encoders.
                pipe.load_textual_inversion({token: vectors}, token=token, tokenizer=tokenizer, text_encoder=encoder)
                if tokenizer.convert_tokens_to_ids(token) not in tokenizer(f"a {token}").input_ids:
                    raise RunError(f"adapters.token={token}: the tokenizer does not find it in a prompt; take another")
        except RunError:
            raise
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {one_line(error)}") from error


def _encoder(pipe: Any, key: str) -> tuple[Any, Any]:
    """The tokenizer and the text encoder that vectors of this name are for."""
    names = ENCODERS.get(key, ENCODERS["clip_l"])
    parts = tuple(getattr(pipe, name, None) for name in names)
    if None in parts:
        raise ValueError(f"its {key} is for {names[1]}, which {type(pipe).__name__} does not have")
    return parts[0], parts[1]


def _vectors(path: str, file: str | None) -> dict[str, Any]:
    """Name -> vectors (n, width of a text encoder), or one of them without n."""
    from safetensors.torch import load_file

    found = checkpoint.local(path)
    if found is None:
        from huggingface_hub import hf_hub_download

        found = Path(hf_hub_download(path, file or "learned_embeds.safetensors", revision=_commit(path)))
    return dict(load_file(found))


def _modules(pipe: Any) -> dict[str, Any]:
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def _layers(pipe: Any) -> dict[str, int]:
    """Component -> layers in it that carry a LoRA."""
    found = {name: sum(hasattr(m, "lora_A") for m in part.modules()) for name, part in _modules(pipe).items()}
    return {name: count for name, count in found.items() if count}


def evidence(pipe: Any, adapters: AdaptersConfig) -> dict[str, Any] | None:
    """The record's `engaged.adapters`: layers that carry each LoRA, or of each token how many vectors each text
    encoder has. None for nothing."""
    if isinstance(adapters, Lora):
        return {"lora": _weights(adapters), "fused": adapters.fuse, "layers": _layers(pipe)}
    if isinstance(adapters, TextualInversion):
        tokens: dict[str, dict[str, int]] = {}
        words = _tokens(adapters)
        for tokenizer, encoder in dict.fromkeys(ENCODERS.values()):
            known: dict[str, int] = getattr(getattr(pipe, tokenizer, None), "get_added_vocab", dict)()
            # Of several vectors the first has the word itself, the others are counted.
            ours = {t: sum(word == t or word.removeprefix(f"{t}_").isdigit() for word in known) for t in words}
            if ours := {token: count for token, count in ours.items() if count}:
                tokens[encoder] = ours
        return {"tokens": tokens}
    return None
