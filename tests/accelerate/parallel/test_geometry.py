"""What is known of denoisers before they are loaded: against the denoisers, tiny ones and those of full size."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.models.shipped import MODELS, config_of
from tests.models.staged import denoise_latents, encode_prompt
from tests.models.test_every_model import SAMPLE, image
from wavespeed_runner.accelerate.parallel.geometry import Geometry, find_geometry
from wavespeed_runner.accelerate.parallel.links import H100
from wavespeed_runner.accelerate.parallel.shapes import SHAPES
from wavespeed_runner.caching import flops
from wavespeed_runner.caching.strategies import NoCache
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

KNOWN = [name for name in MODELS if config_of(name).name in SHAPES]
STEPS = 2


class SeenAttention(TorchFunctionMode):
    """Counts calls of attention by the shape of their query and whether it is self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[int, ...]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, key = kwargs.get("query", args[0] if args else None), kwargs.get("key", args[1] if args else None)
            if query.shape == key.shape:
                self.calls[tuple(query.shape)] += 1
        return func(*args, **kwargs)


@dataclass
class Run:
    """Two steps of a tiny model."""

    geometry: Geometry
    seen: Counter[tuple[int, ...]]
    calls: int
    """Of the denoiser."""
    block_flops: list[int]
    """Of each call, all blocks."""


def run_tiny(name: str) -> Run:
    model = replace(config_of(name), dtype=Dtype.float32)
    family = find_implementation("model", model)
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size}
    size |= {"num_frames": family.tiny_frames} if family.kind == "video" else {}
    geometry = find_geometry(model, **size)
    assert geometry is not None and geometry.source == "init=tiny"
    pipe, task = load(family, model, "cpu"), next(iter(family.tasks))
    options = {"task": task, **size, **({"image": image(family.tiny_size)} if task == "image_to_video" else {})}
    embeddings = encode_prompt(family, pipe, model, SAMPLE, model.guidance_scale, options.get("image"))
    called = get_task_pipeline(pipe, family, task)
    names = [name for name in (family.denoiser, family.denoiser_2) if name]
    with flops.record_calls([getattr(called, name) for name in names]) as calls, SeenAttention() as attention:
        denoise_latents(family, pipe, model, embeddings, steps=STEPS, **options)
    counted = flops.count_generation_flops(calls, family.blocks, NoCache())
    assert not counted.missing
    return Run(geometry, attention.calls, len(calls.shapes), [call.blocks for call in counted.calls])


@pytest.fixture(scope="module", params=KNOWN)
def run(request: pytest.FixtureRequest) -> tuple[str, Run]:
    return request.param, run_tiny(request.param)


@pytest.mark.slow
def test_layers_heads_and_tokens_are_those_of_the_denoiser(run: tuple[str, Run]) -> None:
    name, found = run
    geometry = found.geometry
    rows = 2 if geometry.batched_guidance else 1
    for layers, lengths in geometry.attentions:
        if name.startswith("qwen_image"):  # the prompt's tokens are known when it is read
            matching = [shape for shape in found.seen if shape[2] > lengths[0]]
            assert sum(found.seen[shape] for shape in matching) == layers * found.calls
        else:
            assert found.seen[rows, geometry.heads, sum(lengths), geometry.head_size] == layers * found.calls


@pytest.mark.parametrize("name", KNOWN)
def test_blocks_are_those_that_a_cache_finds(name: str) -> None:
    model = config_of(name)
    family = find_implementation("model", model)
    denoiser = family.build(model, torch.float32, "meta").transformer
    geometry = find_geometry(model, width=64, height=64, num_frames=model.num_frames and 9)
    assert geometry and geometry.blocks == sum(len(getattr(denoiser, part.name)) for part in family.blocks.lists)


@pytest.mark.slow
def test_flops_are_those_of_the_blocks(run: tuple[str, Run]) -> None:
    """Modulation, a few percent of a tiny block, is left out."""
    name, found = run
    rows = 2 if found.geometry.batched_guidance else 1
    # SD3's last block stops halfway for the prompt's tokens: of the tiny one's three blocks that is much.
    tolerance = {"sd35_large": 0.35, "sd35_medium": 0.35}.get(name, 0.03)
    expected = [found.geometry.flops]
    if name.startswith("qwen_image"):  # each branch's prompt at its own length
        model = replace(config_of(name), dtype=Dtype.float32)
        sizes = [(shape[2] - found.geometry.image_tokens) for shape in found.seen]
        expected = [predict_flops(model, size, found.geometry) for size in sizes]
    for count in found.block_flops:
        assert any(count == pytest.approx(rows * each, rel=tolerance) for each in expected)


def predict_flops(model: Any, text: int, geometry: Geometry) -> int:
    """For a prompt of so many tokens."""
    shape = replace(SHAPES[model.name], text=lambda model: text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHAPES, model.name, shape)
        found = find_geometry(model, width=128, height=128)
    assert found is not None and found.image_tokens == geometry.image_tokens
    return found.flops


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=torch.bfloat16)


PROMPT = {"encoder_hidden_states": meta(1, 512, 4096), "pooled_projections": meta(1, 768), "guidance": meta(1)}
FULL_SIZE: dict[str, tuple[tuple[int, int, int | None], dict[str, torch.Tensor]]] = {
    "flux": (
        (1024, 1024, None),
        {**PROMPT, "hidden_states": meta(1, 4096, 64), "img_ids": meta(4096, 3), "txt_ids": meta(512, 3)},
    ),
    "hunyuan_video": (
        (1280, 720, 129),
        {
            **PROMPT,
            "hidden_states": meta(1, 16, 33, 90, 160),
            "encoder_hidden_states": meta(1, 256, 4096),
            "encoder_attention_mask": meta(1, 256).bool(),
        },
    ),
    "wan21_14b": (
        (1280, 720, 81),
        {"hidden_states": meta(1, 16, 21, 90, 160), "encoder_hidden_states": meta(1, 512, 4096)},
    ),
    "sd35_medium": (
        (1024, 1024, None),
        {
            "hidden_states": meta(1, 16, 128, 128),
            "encoder_hidden_states": meta(1, 333, 4096),
            "pooled_projections": meta(1, 2048),
        },
    ),
}
"""Model -> its size, and latents and embeddings of that size."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_published_models_take_what_is_predicted(name: str) -> None:
    """On shapes alone. All of a call is counted, so this also shows that what is left out is below 1 %."""
    import diffusers

    (width, height, frames), inputs = FULL_SIZE[name]
    model = replace(config_of(name), init=Init.random)
    geometry = find_geometry(model, width=width, height=height, num_frames=frames)
    assert geometry is not None
    class_name, config = build_full_config(name)
    with torch.device("meta"):
        denoiser = getattr(diffusers, class_name)(**config).to(torch.bfloat16)
    with SeenAttention() as attention:
        counted = flops._count_by_module(denoiser, (), {**inputs, "timestep": meta(1)})["Global"]
    assert counted == pytest.approx(geometry.flops, rel=0.01)
    for layers, lengths in geometry.attentions:
        assert attention.calls[1, geometry.heads, sum(lengths), geometry.head_size] == layers


def build_full_config(name: str) -> tuple[str, dict[str, Any]]:
    from wavespeed_runner.models.families import flux, hunyuan_video, sd3
    from wavespeed_runner.models.families.wan_architectures import VARIANTS, WanVariant

    class_name, config = {
        "flux": flux.FULL["transformer"],
        "hunyuan_video": hunyuan_video.FULL["transformer"],
        "wan21_14b": VARIANTS[WanVariant.t2v_14b].full["transformer"],
        "sd35_medium": sd3.FULL["transformer"],
    }[name]
    more = {"flux": {"guidance_embeds": True}, "sd35_medium": sd3.MEDIUM}.get(name, {})
    return class_name, config | more


def test_a_published_video_and_its_time() -> None:
    """117 frames of 1280x768 are (30, 48, 80) tokens, and took 945 s on an H100: https://arxiv.org/abs/2502.04507."""
    model = replace(config_of("hunyuan_video"), init=Init.random)
    geometry = find_geometry(model, width=1280, height=768, num_frames=117)
    assert geometry is not None and geometry.image_tokens == 30 * 48 * 80
    reached = 50 * geometry.flops / 945 / H100.peak
    assert H100.utilisation < reached < 0.65, "of the published time; models with fewer tokens reach less"


def test_a_local_folder_counts_and_what_cannot_be_in_it_does_not(tmp_path: Path) -> None:
    demo = find_geometry(replace(config_of("demo"), init=Init.pretrained), width=64, height=64)
    assert demo is not None and (demo.heads, demo.head_size, demo.layers) == (4, 32, 8), "of the package's weights"
    assert demo.image_tokens == 64, "its autoencoder has a block less: tokens of 8 pixels"
    assert demo.channels == 16 and demo.source == "pkg://wavespeed_runner/weights/demo"
    (tmp_path / "transformer").mkdir()
    config = {"num_layers": 7, "num_attention_heads": "9" * 9, "attention_head_dim": 10**90, "num_single_layers": -1}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    local = replace(config_of("flux"), init=Init.pretrained, repo=str(tmp_path))
    geometry = find_geometry(local, width=1024, height=1024)
    assert geometry is not None and (geometry.layers, geometry.heads, geometry.head_size) == (45, 24, 128)


def test_of_a_hub_repository_the_published_model_counts() -> None:
    model = replace(config_of("flux"), init=Init.pretrained, repo="black-forest-labs/FLUX.1-dev")
    geometry = find_geometry(model, width=1024, height=1024)
    assert geometry is not None and geometry.source == "the published flux" and geometry.image_tokens == 4096


def test_nothing_is_known_of_other_models() -> None:
    assert find_geometry(replace(config_of("flux"), name="generic"), width=64, height=64) is None
