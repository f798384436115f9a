"""Reads off a local diffusers folder which model option fits it, and which of its values the files contradict.

Reads its JSON files alone: no torch, no weights. Whether the folder is safe to load is checked elsewhere
(`folder_gate.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, did_you_mean
from ...registry import list_names, lookup
from ..family import Family
from .folder_gate import read_config

LENGTH_TOKENIZERS = {**dict.fromkeys(("flux", "flux_fill", "flux_kontext"), "tokenizer_2"), "sd3": "tokenizer_3"}
"""Family -> the tokenizer that `max_sequence_length` is about; of all others it is `tokenizer`."""
SIDES = range(16, 4097)
"""Pixels of a native width or height."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A value that a folder's own files give."""

    key: str
    """As an override: `model.guidance`."""
    value: Any
    why: str


def find_option(folder: Path) -> str:
    """The shipped model option for a folder, such as `sd35_medium`, by the class in its model_index.json.

    Raises:
        ConfigError: no family runs this class, or several options do; names them.
    """
    where = f"model={folder}"
    index = read_config(where, folder / "model_index.json")
    pipeline = index.get("_class_name")
    families = [name for name in list_names("model") if pipeline in lookup("model", name).implementation.tasks.values()]
    if not families:
        raise ConfigError(
            f"{where}: no model family runs its {pipeline}; model=generic model.repo={folder} runs any pipeline of "
            f"diffusers{did_you_mean(str(pipeline), _list_pipelines())}"
        )
    options = _list_options(_choose_family(families, index), _Folder(where, folder))
    if len(options) > 1:
        raise ConfigError(
            f"{where}: {', '.join(options)} run its {pipeline}, and its files do not say which it is; give one, as in "
            f"model={options[0]} model.repo={folder}"
        )
    return options[0]


def refuse_other_family(repo: str, folder: Path, name: str) -> None:
    """Raises `ConfigError` if a folder is of a pipeline that another family runs, and this one does not.

    Args:
        repo: as it was given.
        folder: with a model_index.json.
        name: of the family.
    """
    pipeline = read_config(f"model.repo={repo}", folder / "model_index.json").get("_class_name")
    tasks = {of: lookup("model", of).implementation.tasks.values() for of in list_names("model")}
    if lookup("model", name).implementation.single_call:  # `generic` runs any
        return
    if pipeline not in tasks[name] and any(pipeline in of for other, of in tasks.items() if other != name):
        raise ConfigError(
            f"model.repo={repo}: it is a {pipeline}, which the model family {name} does not run; model={repo} alone "
            "finds the option that does"
        )


def read_facts(folder: Path, model: dict[str, Any], family: Family) -> list[Fact]:
    """What a folder's files say otherwise than a model option.

    Args:
        folder: with a model_index.json.
        model: the option's values, plain data.
        family: the facts of its family.
    """
    files = _Folder(f"model.repo={folder}", folder)
    return [
        *_read_guidance(files, model),
        *_read_variant(files, model),
        *_read_length(files, model),
        *_read_size(files, model, family),
    ]


class _Folder:
    """The configurations of a folder's components; empty where there is none."""

    def __init__(self, where: str, folder: Path) -> None:
        self.where, self.folder = where, folder

    def read(self, component: str, file: str = "config.json") -> dict[str, Any]:
        path = self.folder / component / file
        return read_config(self.where, path) if path.is_file() else {}


def _list_pipelines() -> list[str]:
    return [name for of in list_names("model") for name in lookup("model", of).implementation.tasks.values()]


def _choose_family(families: list[str], index: dict[str, Any]) -> str:
    """One of the families that run a pipeline: Wan 2.2 has a second transformer, its 5b model its own timesteps."""
    if index.get("expand_timesteps"):
        wanted = "wan22_5b"
    else:
        second = index.get("transformer_2")
        wanted = "wan22" if isinstance(second, list) and second and second[0] else "wan"
    return next((name for name in families if name in (wanted, f"{wanted}_i2v")), families[0])


def _list_options(family: str, files: _Folder) -> list[str]:
    """The shipped options that a folder of this family may be; one where its files tell."""
    match family:
        case "flux":
            shift = files.read("scheduler", "scheduler_config.json")
            embedded = files.read("transformer").get("guidance_embeds", False)
            # The distilled FLUX.1-schnell has a fixed shift of 1; fine-tunes without embedded guidance do not.
            schnell = not embedded and not shift.get("use_dynamic_shifting", True) and shift.get("shift") == 1.0
            return ["flux_schnell"] if schnell else ["flux"]
        case "sd":
            return ["sd21"] if files.read("unet").get("cross_attention_dim") == 1024 else ["sd15"]
        case "sd3":
            return ["sd35_medium"] if files.read("transformer").get("dual_attention_layers") else ["sd35_large"]
        case "cogvideox":
            rotary = files.read("transformer").get("use_rotary_positional_embeddings", False)
            return ["cogvideox"] if rotary else ["cogvideox_2b"]
        case "flux2_klein":
            heads = files.read("transformer").get("num_attention_heads")
            return [f"{option}_9b" if heads == KLEIN_9B_HEADS else option for option in SEVERAL[family]]
        case "ltx2":
            return ["ltx23" if files.read("transformer").get("cross_attn_mod", False) else "ltx2"]
        case "qwen_image_edit_plus":
            later = files.read("transformer").get("zero_cond_t", False)
            return ["qwen_image_edit_2511" if later else "qwen_image_edit_2509"]
        case "z_image" | "hidream" | "ltx_video" | "wan" | "wan_i2v":
            return SEVERAL[family]
        case _:
            return [family]


KLEIN_9B_HEADS = 32
"""Attention heads by which FLUX.2-klein-9B differs from 4B, which has 24."""
SEVERAL = {
    "z_image": ["z_image", "z_image_turbo"],
    "hidream": ["hidream", "hidream_dev", "hidream_fast"],
    "ltx_video": ["ltx_video", "ltx_video_095"],
    "wan": ["wan21", "wan21_14b"],
    "wan_i2v": ["wan21_i2v_480p", "wan21_i2v_720p"],
    "flux2_klein": ["flux2_klein", "flux2_klein_base"],
}
"""Family -> its options, where only how the weights were trained tells them apart."""


def _read_guidance(files: _Folder, model: dict[str, Any]) -> Iterator[Fact]:
    """FLUX.1: whether the denoiser takes the guidance scale as an input."""
    if model["name"] != "flux":
        return
    if not (transformer := files.read("transformer")):
        return
    takes_scale = transformer.get("guidance_embeds", False)
    if not takes_scale and model["guidance"] == "embedded":
        why = "guidance_embeds=false in its transformer/config.json; above 1, guidance_scale runs a negative prompt too"
        yield Fact(key="model.guidance", value="true_cfg", why=why)
        yield Fact(key="model.guidance_scale", value=1.0, why="without an input for the scale; 1 is no guidance")
    if takes_scale and model["guidance"] != "embedded":
        yield Fact(key="model.guidance", value="embedded", why="guidance_embeds=true in its transformer/config.json")
        yield Fact(key="model.guidance_scale", value=3.5, why="that of FLUX.1-dev, whose input for the scale it has")


def _read_variant(files: _Folder, model: dict[str, Any]) -> Iterator[Fact]:
    """Stable Diffusion 3.5: which of the two transformers it is."""
    if model["name"] == "sd3" and (transformer := files.read("transformer")):
        variant = "medium" if transformer.get("dual_attention_layers") else "large"
        if variant != model["variant"]:
            yield Fact(
                key="model.variant", value=variant, why="by dual_attention_layers of its transformer/config.json"
            )


def _read_length(files: _Folder, model: dict[str, Any]) -> Iterator[Fact]:
    """How many tokens its tokenizer was made for, where that is fewer."""
    if "max_sequence_length" not in model:
        return
    tokenizer = LENGTH_TOKENIZERS.get(model["name"], "tokenizer")
    length = files.read(tokenizer, "tokenizer_config.json").get("model_max_length")
    if isinstance(length, int) and 0 < length < model["max_sequence_length"]:
        why = f"model_max_length of its {tokenizer}/tokenizer_config.json"
        yield Fact(key="model.max_sequence_length", value=length, why=why)


def _read_size(files: _Folder, model: dict[str, Any], family: Family) -> Iterator[Fact]:
    """The size of images that its denoiser was trained with."""
    if family.kind != "image" or family.fixed_size:
        return
    autoencoder, sample = files.read("vae"), files.read(family.denoiser).get("sample_size")
    channels = autoencoder.get("block_out_channels", autoencoder.get("encoder_block_out_channels"))
    if not isinstance(sample, int) or not isinstance(channels, list):
        return
    side = sample * 2 ** (len(channels) - 1)
    if side not in SIDES or side % family.size_multiple or (side, side) == (model["width"], model["height"]):
        return
    why = f"sample_size={sample} in its {family.denoiser}/config.json"
    yield Fact(key="model.width", value=side, why=why)
    yield Fact(key="model.height", value=side, why=why)
