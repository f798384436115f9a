"""Adapters made for tiny models of every family: each kind that a family lists changes what it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.shipped import MODELS, config_of
from tests.models.staged import encoded, latents
from wavespeed_runner.accelerate.adapters import (
    Lora,
    TextualInversion,
    apply_adapters,
    check_adapters,
    collect_evidence,
)
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import implementation_of

TOKEN = "<new>"
PROJECTIONS = ("to_q", "to_k", "to_v", "qkv")


def family_of(name: str) -> Any:
    return implementation_of("model", config_of(name))


FAMILIES = {config_of(name).name: name for name in reversed(MODELS)}
"""Family -> one model of it."""


def loaded(name: str) -> tuple[Any, Any, Any]:
    config = replace(config_of(name), dtype=Dtype.float32)
    family = implementation_of("model", config)
    return family, config, load(family, config, "cpu")


def made(name: str, pipe: Any, prompt: str = "a circle") -> torch.Tensor:
    """Latents of two steps."""
    family, config = family_of(name), config_of(name)
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size, "steps": 2}
    if family.kind == "video":
        size["num_frames"] = family.tiny_frames
    start: dict[str, Any] = {}
    if next(iter(family.tasks)) == "image_to_video":
        from PIL import Image

        start["image"] = Image.new("RGB", (family.tiny_size, family.tiny_size), "red")
    sample = Sample(prompt=prompt, negative_prompt="", seed=0)
    embeddings = encoded(family, pipe, config, sample, config.guidance_scale, start.get("image"))
    return latents(family, pipe, config, embeddings, **size, **start)["latents"].float()


def targets(module: Any, count: int = 4) -> list[str]:
    """Names of the last projections of attention."""
    linear = [name for name, part in module.named_modules() if type(part) is torch.nn.Linear]
    return [name for name in linear if name.endswith(PROJECTIONS)][-count:]


def lora(module: Any, file: Path, prefix: str, seed: int = 0) -> Path:
    """A LoRA file of random updates as diffusers and PEFT name them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in targets(module):
        out, into = module.get_submodule(name).weight.shape
        tensors[f"{prefix}.{name}.lora_A.weight"] = torch.randn(2, into, generator=generator)
        tensors[f"{prefix}.{name}.lora_B.weight"] = torch.randn(out, 2, generator=generator)
    save_file(tensors, file)
    return file


def embedding(file: Path, seed: int = 0, **shapes: tuple[int, ...]) -> str:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file({{"new": TOKEN}.get(name, name): tensor for name, tensor in tensors.items()}, file)
    return str(file)


@pytest.mark.parametrize("name", [name for name in FAMILIES.values() if "lora" in family_of(name).adapters])
def test_a_lora_changes_what_the_model_makes_and_at_weight_0_nothing(name: str, tmp_path: Path) -> None:
    family, _, pipe = loaded(name)
    prefix = "unet" if family.denoiser == "unet" else "transformer"
    file = lora(getattr(pipe, family.denoiser), tmp_path / "lora.safetensors", prefix)
    plain = made(name, pipe)

    apply_adapters(pipe, Lora(path=str(file)))

    layers = len(load_file(file)) // 2
    assert collect_evidence(pipe, Lora(path=str(file))) == {
        "lora": [1.0],
        "fused": False,
        "layers": {family.denoiser: layers},
    }
    assert (made(name, pipe) - plain).abs().max() > 1e-4
    pipe.set_adapters(["lora_0"], [0.0])
    assert torch.allclose(made(name, pipe), plain, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES.values() if "textual_inversion" in family_of(name).adapters]
)
def test_a_learned_token_changes_what_the_model_makes(name: str, tmp_path: Path) -> None:
    """Two vectors of one word make two images, where the prompt has the word, and one where it has not."""
    images = []
    for seed in (1, 2):
        _, _, pipe = loaded(name)
        width = pipe.text_encoder.get_input_embeddings().embedding_dim
        file = embedding(tmp_path / f"{seed}.safetensors", seed, new=(1, width))
        apply_adapters(pipe, TextualInversion(path=file))
        assert collect_evidence(pipe, TextualInversion(path=file)) == {"tokens": {"text_encoder": {TOKEN: 1}}}
        images.append((made(name, pipe, f"a {TOKEN}"), made(name, pipe, "a circle")))
    (first, other), (second, same) = images
    assert (first - second).abs().max() > 1e-5
    assert torch.equal(other, same)


@pytest.mark.parametrize(("name", "second"), [("sdxl", "clip_g"), ("demo", "t5")])
def test_a_file_for_two_text_encoders_reaches_both(name: str, second: str, tmp_path: Path) -> None:
    """Against vectors put into the encoders' tables by hand, at the places of two bytes of which the prompt is made."""
    _, config, pipe = loaded(name)
    encoders = pipe.text_encoder, pipe.text_encoder_2
    one, two = (encoder.get_input_embeddings().embedding_dim for encoder in encoders)
    file = embedding(tmp_path / "two.safetensors", clip_l=(2, one), **{second: (2, two)})
    adapters = TextualInversion(path=file, token=TOKEN)
    apply_adapters(pipe, adapters)
    assert collect_evidence(pipe, adapters) == {"tokens": {"text_encoder": {TOKEN: 2}, "text_encoder_2": {TOKEN: 2}}}

    by_hand = loaded(name)[2]
    for tokenizer, encoder, key in (
        (by_hand.tokenizer, by_hand.text_encoder, "clip_l"),
        (by_hand.tokenizer_2, by_hand.text_encoder_2, second),
    ):
        places = tokenizer("XY", add_special_tokens=False).input_ids
        encoder.get_input_embeddings().weight.data[places] = load_file(file)[key]
    family = family_of(name)

    def read(pipe: Any, prompt: str) -> dict[str, torch.Tensor]:
        return encoded(family, pipe, config, Sample(prompt=prompt, negative_prompt="", seed=0), config.guidance_scale)

    # Between the words of an expanded token diffusers writes a space, which the tokenizer keeps.
    expected = read(by_hand, "a X Y")
    for key, tensor in read(pipe, f"a {TOKEN}").items():
        assert torch.allclose(tensor, expected[key], atol=1e-5), key


def test_vectors_are_counted_as_tokens_of_the_prompt(tmp_path: Path) -> None:
    family, config, pipe = loaded("sd15")
    pretrained = replace(config, init=Init.pretrained)
    apply_adapters(pipe, TextualInversion(path=embedding(tmp_path / "many.safetensors", new=(30, 32))))

    def encode(prompt: str) -> Any:
        return encoded(family, pipe, pretrained, Sample(prompt=prompt, negative_prompt="", seed=0), 1.0)

    encode(f"a {TOKEN}")
    with pytest.raises(RunError, match=r"tokenizer\.model_max_length=77"):
        encode(f"a {TOKEN} and a {TOKEN}")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, _, pipe = loaded("sd15")
    two = embedding(tmp_path / "two.safetensors", clip_l=(1, 32), clip_g=(1, 48))
    with pytest.raises(RunError, match="clip_g is for text_encoder_2, which StableDiffusionPipeline does not have"):
        apply_adapters(pipe, TextualInversion(path=two, token=TOKEN))
    wide = embedding(tmp_path / "wide.safetensors", new=(1, 33))
    with pytest.raises(RunError, match=r"wide\.safetensors: does not fit this model: .*incorrect shape"):
        apply_adapters(loaded("sd15")[2], TextualInversion(path=wide))


@pytest.mark.parametrize(
    ("shapes", "token", "texts", "says"),
    [
        ({"new": (1, 4)}, None, ["a <new>"], None),
        ({"new": (1, 4)}, None, ["a circle", "a <new>"], None),
        ({"new": (1, 4)}, None, None, None),
        ({"new": (1, 4)}, "cat", ["a cat"], None),
        ({"clip_l": (1, 4), "clip_g": (1, 8)}, "cat", ["a cat"], None),
        ({"new": (1, 4)}, None, ["a circle", "a <NEW>"], "its token <new> is in no prompt"),
        ({"new": (1, 4)}, "cat", ["a <new>"], "its token cat is in no prompt"),
        ({"emb_params": (1, 4)}, None, ["emb_params"], "adapters.token: the file names no word"),
        ({"clip_l": (1, 4), "clip_g": (1, 8)}, None, ["a cat"], "adapters.token: the file names no word"),
        ({"one": (1, 4), "other": (1, 4)}, "cat", ["a cat"], "no textual inversion: it has 2 tensors"),
    ],
)
def test_a_token_must_be_known_and_in_a_prompt(
    shapes: dict[str, Any], token: str | None, texts: list[str] | None, says: str | None, tmp_path: Path
) -> None:
    adapters = TextualInversion(path=embedding(tmp_path / "file.safetensors", **shapes), token=token)
    if says is None:
        check_adapters(adapters, texts)
        return
    with pytest.raises(ConfigError, match=says):
        check_adapters(adapters, texts)


def test_what_is_on_the_hub_needs_its_token() -> None:
    check_adapters(TextualInversion(path="owner/name", token="cat"), ["a cat"])
    with pytest.raises(ConfigError, match=r"what is on the hub is not read before the run.*adapters\.token=WORD"):
        check_adapters(TextualInversion(path="owner/name"), ["a cat"])


def test_a_lora_of_another_tool_acts_as_its_own_formula_says(tmp_path: Path) -> None:
    """kohya-ss' layout, as most files for Stable Diffusion 1 are: W + weight * alpha / rank * up @ down."""
    _, _, pipe = loaded("sd15")
    generator = torch.Generator().manual_seed(0)
    tensors, expected = {}, {}
    for name in targets(pipe.unet):
        weight = pipe.unet.get_submodule(name).weight
        down, up = (torch.randn(shape, generator=generator) for shape in ((4, weight.shape[1]), (weight.shape[0], 4)))
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}
        expected[name] = weight.double() + 0.5 * 2 / 4 * up.double() @ down.double()
    save_file(tensors, tmp_path / "kohya.safetensors")
    apply_adapters(pipe, Lora(path=str(tmp_path / "kohya.safetensors"), weight=0.5, fuse=True))
    assert len(expected) == 4
    for name, weight in expected.items():
        assert torch.allclose(pipe.unet.get_submodule(name).weight.double(), weight, atol=1e-5), name


@pytest.mark.parametrize(
    ("component", "layers"),
    [
        (None, {"transformer": 4}),
        ("transformer_2", {"transformer_2": 4}),
        (["transformer", "transformer_2"], {"transformer": 4, "transformer_2": 4}),
    ],
)
@pytest.mark.parametrize("fuse", [False, True])
def test_each_denoiser_of_two_can_have_its_own(
    component: Any, layers: dict[str, int], fuse: bool, tmp_path: Path
) -> None:
    _, _, pipe = loaded("wan22")
    files = [str(lora(pipe.transformer, tmp_path / f"{i}.safetensors", "transformer", i)) for i in range(2)]
    adapters = Lora(path=files if isinstance(component, list) else files[0], component=component, fuse=fuse)
    before = {part: getattr(pipe, part).state_dict() for part in ("transformer", "transformer_2")}
    before = {part: {key: tensor.clone() for key, tensor in state.items()} for part, state in before.items()}
    apply_adapters(pipe, adapters)
    if not fuse:
        assert collect_evidence(pipe, adapters)["layers"] == layers  # type: ignore[index]
        return
    changed = {}
    for part, state in before.items():
        now = getattr(pipe, part).state_dict()
        changed[part] = sum(not torch.equal(now[key], tensor) for key, tensor in state.items())
    assert {part: count for part, count in changed.items() if count} == layers


def test_a_plan_holds_the_token_against_its_prompts(
    composed: Callable[..., dict[str, Any]], planned: Callable[..., Any], tmp_path: Path
) -> None:
    file = embedding(tmp_path / "new.safetensors", new=(1, 32))
    overrides = ("adapters=textual_inversion", f"adapters.path={file}")
    with pytest.raises(ConfigError, match="its token <new> is in no prompt"):
        planned(*overrides)
    planned(*overrides, prompt=f"a {TOKEN}")
    # One image of several, made again: the token was in another one's prompt.
    build_plan(composed(*overrides), ["a red circle"])
