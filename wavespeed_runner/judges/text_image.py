"""CLIPScore and PickScore: how well an image fits its prompt, by a CLIP in a local folder; nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..inputs.files import resolve_path
from ..models.weights.checkpoint import CONVERT_PICKLES, PICKLE_SUFFIXES, inspect_component_weights
from ..models.weights.folder_gate import check_component, read_config
from ..models.weights.safetensors_file import find_damage
from ..models.weights.trial import Candidate, refuse_unbuildable
from .metric import Judge, metric
from .weight_file import DOCS

USUAL_SIDE = 224
"""Pixels of a side where a CLIP's files do not say it."""
TOKENS = 77
"""Of a prompt with its two marks, which published CLIPs read."""
NEEDED = ("config.json", "preprocessor_config.json", "tokenizer_config.json")


@dataclass(kw_only=True)
class ClipOptions:
    """Options of the metrics `clip_score` and `pick_score`."""

    folder: str | None = None
    """A local folder with a CLIP, its tokenizer and its image processor, as transformers' `save_pretrained` writes."""
    truncate: bool = False
    """Judge only the beginning of a prompt that is longer than CLIP reads; otherwise it is refused."""


def _check_folder(options: ClipOptions, key: str) -> None:
    """Refuses a folder that lacks something or asks for code; loads nothing."""
    key = f"{key}.folder"
    if options.folder is None:
        raise ConfigError(f"{key}=null: a local folder with a CLIP is needed, and none is fetched; {key}=DIR ({DOCS})")
    where, folder = f"{key}={options.folder}", resolve_path(options.folder)
    if not folder.is_dir():
        raise ConfigError(f"{where}: no such folder; give one that save_pretrained wrote ({DOCS})")
    for name in NEEDED:
        if not (folder / name).is_file():
            raise ConfigError(f"{where}: it has no {name}; model, tokenizer and image processor are needed ({DOCS})")
    check_component(where, folder)
    if (kind := read_config(where, folder / "config.json").get("model_type")) != "clip":
        raise ConfigError(f"{where}: config.json is of model_type {kind!r}, and 'clip' is needed ({DOCS})")
    _check_sizes(where, folder)
    _check_weights(where, folder)


def _check_sizes(where: str, folder: Path) -> None:
    """Refuses an image processor that makes images of another size than the CLIP takes."""
    vision = read_config(where, folder / "config.json").get("vision_config") or {}
    settings = read_config(where, folder / "preprocessor_config.json")
    wanted = vision.get("image_size", USUAL_SIDE) if isinstance(vision, dict) else None
    key = "crop_size" if settings.get("do_center_crop", True) else "size"
    made = settings.get(key, USUAL_SIDE)
    sides = [made.get("height"), made.get("width")] if isinstance(made, dict) else [made]
    if any(side != wanted for side in sides):
        raise ConfigError(
            f"{where}: {key} = {str(made)[:80]} of preprocessor_config.json, and config.json has image_size = "
            f"{str(wanted)[:80]} in its vision_config; give the files of one CLIP ({DOCS})"
        )


def _list_parts(folder: Path) -> list[Candidate]:
    classes = ("CLIPModel", "CLIPTokenizer", "CLIPImageProcessorPil")
    return [Candidate(name=one, library="transformers", class_name=one, folder=folder) for one in classes]


def _try_folder(options: ClipOptions, key: str) -> None:
    """Builds the parts of a folder on trial."""
    refuse_unbuildable(f"{key}.folder={options.folder}", _list_parts(resolve_path(str(options.folder))))


def _check_weights(where: str, folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        has_pickles = any(file.suffix in PICKLE_SUFFIXES for file in folder.iterdir())
        raise ConfigError(f"{where}: it has no .safetensors file{f'; {CONVERT_PICKLES}' if has_pickles else ''}")
    for file in files:
        if damage := find_damage(file):
            raise ConfigError(f"{where}: {file.name} is damaged: {damage}; copy it again")
    inspect_component_weights(where, folder, None)


def _find_long(options: ClipOptions, prompt: str) -> str:
    """Refuses what is certainly too long; the tokens are counted as the prompt is judged."""
    words = len(prompt.split())
    if options.truncate or words <= TOKENS - 2:
        return ""
    return f"it has {words} words, and CLIP reads {TOKENS} tokens; truncate=true judges its beginning alone"


def _list_folder(options: ClipOptions) -> list[str]:
    return [options.folder] if options.folder else []


def _make(name: str, options: ClipOptions, read: Callable[[float, float], float]) -> Judge:
    """Loads the CLIP. read: (cosine of the embeddings of image and prompt, logit scale) -> value."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    from ..models.weights.folder_models import load_models

    where, folder = f"metrics.{name}.folder={options.folder}", resolve_path(str(options.folder))
    _check_folder(options, f"metrics.{name}")
    _try_folder(options, f"metrics.{name}")
    model: Any = load_models(where, _list_parts(folder)[:1], None, {"default": torch.float32})["CLIPModel"]
    tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    processor = CLIPImageProcessorPil.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    model.eval().requires_grad_(False)
    most = model.config.text_config.max_position_embeddings

    def judge(image: Any, reference: Any, prompt: str) -> float:
        from PIL import Image

        tokens = len(tokenizer(prompt).input_ids)
        if tokens > most and not options.truncate:
            raise RunError(
                f"metrics.{name}: {prompt[:40]!r}... has {tokens} tokens, and this CLIP reads {most}; "
                f"metrics.{name}.truncate=true judges its beginning alone"
            )
        text = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=most)
        pixels = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            found = model(input_ids=text.input_ids, attention_mask=text.attention_mask, pixel_values=pixels)
            cosine = torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds)
            return read(float(cosine), float(model.logit_scale.exp()))

    return judge


@metric(
    "clip_score",
    less_is_better=False,
    needs_reference=False,
    options=ClipOptions,
    check=_check_folder,
    try_files=_try_folder,
    check_prompt=_find_long,
    list_files=_list_folder,
)
def make_clip_score(options: ClipOptions) -> Judge:
    """CLIPScore, max(100 cos(image, prompt), 0), in the scale of torchmetrics.

    Hessel, Holtzman, Forbes, Le Bras, Choi: CLIPScore: A Reference-free Evaluation Metric for Image Captioning, EMNLP
    2021, https://arxiv.org/abs/2104.08718, whose scale is 2.5 where this one is 100.
    """
    return _make("clip_score", options, lambda cosine, scale: max(100 * cosine, 0.0))


@metric(
    "pick_score",
    less_is_better=False,
    needs_reference=False,
    options=ClipOptions,
    check=_check_folder,
    try_files=_try_folder,
    check_prompt=_find_long,
    list_files=_list_folder,
)
def make_pick_score(options: ClipOptions) -> Judge:
    """PickScore: the cosine times the logit scale of a CLIP that was trained on which of two images people pick.

    Kirstain, Polyak, Singer, Matiana, Penna, Levy: Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image
    Generation, 2023, https://arxiv.org/abs/2305.01569.
    """
    return _make("pick_score", options, lambda cosine, scale: cosine * scale)
