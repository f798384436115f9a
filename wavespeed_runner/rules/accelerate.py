"""Rules on the switches of the config group `accelerate`: where each takes effect, and what it must not meet."""

from __future__ import annotations

from typing import Any

from ..accelerate.adapter_options import Lora
from ..accelerate.memory import MemorySettings
from ..accelerate.switches import FUSES_QKV, SwitchSettings
from ..accelerate.tiny_vae import CHANNELS, PUBLISHED, inspect_tiny_vae
from ..config.capability import read_capability
from ..config.environment import resolve_device
from ..config.schema import Config, Dtype, Init
from ..errors import ConfigError
from ..models.family import UNetBlocks
from ..models.weights.checkpoint import find_local_path
from ..models.weights.folder_gate import read_config
from .graph import list_tasks
from .rule import Rule

TESTS = "tests/accelerate/test_switches.py"
FAMILIES = "tests/accelerate/test_switches_of_families.py"
NOT_FUSED = {
    "ltx_video": "diffusers fuses its projections and never uses them",
    "sd3": "diffusers leaves out the norms of fused queries and keys, and the images are wrong",
}
"""Family -> why its projections must not be fused, where that is not simply impossible."""


def _get(c: Config) -> SwitchSettings:
    assert isinstance(c.accelerate, SwitchSettings)
    return c.accelerate


def _is_cuda(c: Config) -> bool:
    return resolve_device(c.device).partition(":")[0] == "cuda"


def _tiles(c: Config) -> bool:
    return isinstance(c.memory, MemorySettings) and c.memory.vae_tiling


def _find_folder_error(c: Config) -> str:
    """What is wrong with a local folder of a tiny autoencoder; empty: nothing, or it is a hub id."""
    try:
        inspect_tiny_vae(_get(c).tiny_vae or "")
    except ConfigError as error:
        return str(error)
    return ""


def _count_channels(c: Config) -> int | None:
    """Latent channels of the tiny autoencoder, where they are known before it is loaded."""
    repo = _get(c).tiny_vae
    if not repo or _find_folder_error(c):
        return None
    config = inspect_tiny_vae(repo)
    return _read_channels(config) if config is not None else CHANNELS.get(repo)


def _count_model_channels(c: Config) -> int | None:
    """Latent channels of the model's own VAE, where they are known before it is loaded."""
    folder = find_local_path(c.model.repo) if c.model.init is Init.pretrained else None
    if folder is not None and (folder / "vae" / "config.json").is_file():
        return _read_channels(read_config("model.repo", folder / "vae" / "config.json"))
    published = PUBLISHED.get(c.model.name)
    return None if published is None or c.model.init is Init.tiny else CHANNELS[published]


def _read_channels(config: dict[str, Any]) -> int | None:
    """What an autoencoder's configuration says; None for no whole number, which its folder is refused for."""
    value = config.get("latent_channels", 4)
    return value if type(value) is int else None


def _has_wrong_channels(c: Config) -> bool:
    ours, theirs = _count_channels(c), _count_model_channels(c)
    return ours is not None and theirs is not None and ours != theirs


def _is_other_space(c: Config) -> bool:
    """True if a published tiny autoencoder is used for a family that it was not made for."""
    repo, published = _get(c).tiny_vae, PUBLISHED.get(c.model.name)
    return repo in CHANNELS and published is not None and repo != published and not _has_wrong_channels(c)


def _is_surely_made_for(c: Config) -> bool:
    """True if the tiny autoencoder is the published one of the model's published VAE."""
    is_published = c.model.init is Init.pretrained and find_local_path(c.model.repo) is None
    return is_published and _get(c).tiny_vae == PUBLISHED.get(c.model.name)


SWITCHES: tuple[Rule, ...] = (
    Rule(
        id="fuse-qkv-family",
        verdict="bad",
        when=lambda c, f: _get(c).fuse_qkv and c.model.name not in FUSES_QKV,
        message=lambda c, f: (
            "accelerate.fuse_qkv=true: " + NOT_FUSED.get(c.model.name, "diffusers cannot fuse this model's projections")
        ),
        fix="accelerate.fuse_qkv=false",
        source=FAMILIES,
    ),
    Rule(
        id="fuse-qkv-lora",
        verdict="bad",
        when=lambda c, f: _get(c).fuse_qkv and isinstance(c.adapters, Lora) and not c.adapters.fuse,
        message="accelerate.fuse_qkv=true with adapters.fuse=false: diffusers joins the weights without the "
        "LoRA, which would be lost",
        fix="adapters.fuse=true",
        source=TESTS,
    ),
    Rule(
        id="channels-last-family",
        verdict="bad",
        when=lambda c, f: _get(c).channels_last and not isinstance(f.blocks, UNetBlocks),
        message="accelerate.channels_last=true: it is for the convolutions of a U-Net, and this model has none",
        fix="accelerate.channels_last=false",
        source="https://huggingface.co/docs/diffusers/optimization/fp16",
    ),
    Rule(
        id="torch-switches-device",
        verdict="bad",
        when=lambda c, f: (_get(c).tf32 or _get(c).fp16_accumulation) and not _is_cuda(c),
        message="accelerate.tf32 and accelerate.fp16_accumulation switch CUDA's matrix products, and this run has "
        "device={c.device}",
        fix="device=cuda, or leave them out",
        source="torch.backends.cuda.matmul",
    ),
    Rule(
        id="tf32-dtype",
        verdict="bad",
        when=lambda c, f: _get(c).tf32 and c.model.dtype is not Dtype.float32 and not f.float32_components,
        message="accelerate.tf32=true rounds products of float32, and everything here is {c.model.dtype.value}",
        fix="model.dtype=float32, or accelerate.tf32=false",
        source="https://docs.pytorch.org/docs/stable/notes/cuda.html",
    ),
    Rule(
        id="tf32-capability",
        verdict="bad",
        when=lambda c, f: _get(c).tf32 and (read_capability(resolve_device(c.device)) or (8, 0)) < (8, 0),
        message="accelerate.tf32=true on device={c.device}: TF32 needs compute capability 8.0",
        fix="accelerate.tf32=false",
        source="https://docs.pytorch.org/docs/stable/notes/cuda.html",
    ),
    Rule(
        id="fp16-accumulation-dtype",
        verdict="bad",
        when=lambda c, f: _get(c).fp16_accumulation and c.model.dtype is not Dtype.float16,
        message="accelerate.fp16_accumulation=true adds up products of float16, and model.dtype is "
        "{c.model.dtype.value}",
        fix="model.dtype=float16, or accelerate.fp16_accumulation=false",
        source="https://docs.pytorch.org/docs/stable/notes/cuda.html",
    ),
    Rule(
        id="tiny-vae-family",
        verdict="bad",
        when=lambda c, f: _get(c).tiny_vae is not None and c.model.name not in PUBLISHED,
        message=lambda c, f: (
            f"accelerate.tiny_vae={_get(c).tiny_vae}: it is for {', '.join(PUBLISHED)}, and this model's latents have "
            "another shape"
        ),
        fix="accelerate.tiny_vae=null",
        source="https://github.com/madebyollin/taesd README",
    ),
    Rule(
        id="tiny-vae-folder",
        verdict="bad",
        when=lambda c, f: bool(_get(c).tiny_vae is not None and _find_folder_error(c)),
        message=lambda c, f: _find_folder_error(c),
        fix="a folder that AutoencoderTiny.save_pretrained wrote, or accelerate.tiny_vae=null",
        source=TESTS,
    ),
    Rule(
        id="tiny-vae-channels",
        verdict="bad",
        when=lambda c, f: _has_wrong_channels(c),
        message=lambda c, f: (
            f"accelerate.tiny_vae={_get(c).tiny_vae}: it decodes {_count_channels(c)} latent channels, and this "
            f"model's latents have {_count_model_channels(c)}"
        ),
        fix="one that was made for this model, or accelerate.tiny_vae=null",
        source=FAMILIES,
    ),
    Rule(
        id="tiny-vae-other-space",
        verdict="bad",
        when=lambda c, f: _is_other_space(c),
        message="accelerate.tiny_vae={c.accelerate.tiny_vae}: it was made for the latents of other models",
        fix=lambda c, f: f"accelerate.tiny_vae={PUBLISHED[c.model.name]}",
        source="https://github.com/madebyollin/taesd README",
    ),
    Rule(
        id="tiny-vae-space",
        verdict="unverified",
        when=lambda c, f: (
            _get(c).tiny_vae is not None
            and c.model.name in PUBLISHED
            and not _find_folder_error(c)
            and not _is_surely_made_for(c)
            and not _has_wrong_channels(c)
            and not _is_other_space(c)
        ),
        message="accelerate.tiny_vae={c.accelerate.tiny_vae}: nobody has said that it was made for this model's "
        "latents; one made for others decodes them to noise",
        fix="look at the images",
        source="https://github.com/madebyollin/taesd README",
    ),
    Rule(
        id="tiny-vae-own",
        verdict="bad",
        when=lambda c, f: _get(c).tiny_vae is not None and c.model.vae is not None,
        message="accelerate.tiny_vae with model.vae={c.model.vae}: the tiny one takes its place, so it could not take "
        "effect",
        fix="model.vae=null, or accelerate.tiny_vae=null",
        source=TESTS,
    ),
    Rule(
        id="tiny-vae-tiling",
        verdict="bad",
        when=lambda c, f: _get(c).tiny_vae is not None and _tiles(c),
        message="accelerate.tiny_vae with memory.vae_tiling=true: AutoencoderTiny cannot do it",
        fix="memory.vae_tiling=false: it needs little memory",
        source="tests/accelerate/test_tiny_autoencoder.py",
    ),
    Rule(
        id="tiny-vae-encodes",
        verdict="unverified",
        when=lambda c, f: _get(c).tiny_vae is not None and bool({"image_to_image", "inpaint"} & set(list_tasks(c, f))),
        message="accelerate.tiny_vae={c.accelerate.tiny_vae} also encodes the images that this graph starts from",
        fix="accelerate.tiny_vae=null",
        source=TESTS,
    ),
)
