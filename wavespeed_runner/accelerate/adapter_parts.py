"""Names of the tensors in LoRA files, as kohya's sd-scripts, LyCORIS, ComfyUI, PEFT and diffusers write them.

A name is that of a layer and, after it, of the part. No torch is needed here.
"""

from __future__ import annotations

from collections.abc import Iterable

DOWN = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    ".lora_linear_layer.down.weight",
    "_lora.down.weight",
)
UP = (
    ".lora_up.weight",
    ".lora_B.weight",
    ".lora_B.default.weight",
    ".lora.up.weight",
    ".lora_linear_layer.up.weight",
    "_lora.up.weight",
)
"""The two factors of an update of low rank, in the same order. The last two: diffusers' first training scripts."""
DIFFERENCES = {".diff": "weight", ".diff_b": "bias", ".w_norm": "weight", ".b_norm": "bias"}
"""Part -> the parameter of the layer that it is added to: ComfyUI's differences, and LyCORIS' for norms."""
LOHA = tuple(f".hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"))
LOKR = tuple(f".lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2"))
DORA = ".dora_scale"
ALPHA = ".alpha"
UNSUPPORTED = {
    ".lora_mid.weight": "a LoRA of a convolution in three factors (Tucker)",
    ".oft_blocks": "OFT",
    ".oft_diag": "OFT",
    ".boft_blocks": "BOFT",
    ".a1.weight": "GLoRA",
    ".a2.weight": "GLoRA",
    ".b1.weight": "GLoRA",
    ".b2.weight": "GLoRA",
    ".on_input": "IA3",
    ".set_weight": "a weight to put in place of the model's",
    ".reshape_weight": "a new shape for a weight of the model",
    ".rescale": "a scale for a weight of the model",
}
"""Part -> what it is. diffusers drops these, or reads them as something else."""

TEXT_ENCODERS = {
    "lora_te_": "clip_l",
    "lora_te1_": "clip_l",
    "lora_te2_": "clip_g",
    "lora_te3_": "t5",
    "text_encoders.clip_l.transformer.": "clip_l",
    "text_encoders.clip_g.transformer.": "clip_g",
    "text_encoders.t5xxl.transformer.": "t5",
}
"""Start of a layer's name -> the text encoder that it belongs to. The first four are kohya's, the others ComfyUI's."""
DENOISERS = ("lora_unet_", "lora_transformer_", "lycoris_", "diffusion_model.", "transformer.", "unet.")
"""Starts of the names of the denoiser's layers."""


def split_part(key: str, parts: Iterable[str]) -> tuple[str, str] | None:
    """(layer, part) of a tensor's name if it ends in one of these parts."""
    return next(((key.removesuffix(part), part) for part in parts if key.endswith(part)), None)


def find_unsupported(keys: Iterable[str]) -> str | None:
    """The first tensor of a kind that cannot be applied, and what it is; None if there is none."""
    found = ((key, split_part(key, UNSUPPORTED)) for key in keys)
    return next((f"{key}: {UNSUPPORTED[named[1]]}, which is not supported" for key, named in found if named), None)


def find_twice(keys: Iterable[str]) -> str | None:
    """The first layer that has the same factor by two tools' names, one of which would be left out; None without any.

    keys: names of the file's tensors.
    """
    seen: dict[tuple[str, bool], str] = {}
    for key in keys:
        if not (named := split_part(key, (*DOWN, *UP))):
            continue
        first = seen.setdefault((named[0], named[1] in DOWN), key)
        if first != key:
            return f"{key}: the file has {first} too, the same factor by another tool's name; use another file"
    return None


def find_half(shapes: dict[str, list[int]]) -> str | None:
    """Which factor of a LoRA lacks its partner, or has another rank than it; None if all are whole.

    Also a scale, or the norms of a DoRA, of a layer that has nothing else.
    """
    partners = dict(zip((*DOWN, *UP), (*UP, *DOWN), strict=True))
    found = {key: split_part(key, (*partners, *LOHA, *LOKR, *DIFFERENCES)) for key in shapes}
    changed = {named[0] for named in found.values() if named}
    for key, named in found.items():
        if named is None:
            scale = split_part(key, (ALPHA, DORA))
            if scale and scale[0] not in changed:
                return f"{key}: it belongs to factors that the file lacks; use a whole file"
            continue
        layer, part = named
        other = layer + partners.get(part, part)
        if other not in shapes:
            return f"{key}: half of a LoRA, without {other}; use a whole file"
        if part in DOWN and shapes[key][:1] != shapes[other][1:2]:
            ranks = f"{key} of the shape {shapes[key]} and {other} of {shapes[other]}"
            return f"{ranks} have other ranks; use a whole file"
    return None


ALL_OR_NONE = {
    "a bias of its update": (".lora_B.bias",),
    "a DoRA magnitude": (".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
}
"""What PEFT gives to all layers of a component or to none -> how it is called; the rest would stay without memory."""


def find_partial(keys: Iterable[str]) -> str | None:
    """Why PEFT cannot make the layers of a file: some have a part that others lack; None if it can.

    keys: names of the file's tensors.
    """
    given = set(keys)
    layers = [key.removesuffix(".lora_B.weight") for key in sorted(given) if key.endswith(".lora_B.weight")]
    for what, ends in ALL_OR_NONE.items():
        has = {layer: any(f"{layer}{end}" in given for end in ends) for layer in layers}
        for component in dict.fromkeys(layer.partition(".")[0] for layer in layers):
            own = [layer for layer in layers if layer.partition(".")[0] == component]
            lacks = [layer for layer in own if not has[layer]]
            if lacks and len(lacks) < len(own):
                first = next(layer for layer in own if has[layer])
                return f"{first} has {what} and {lacks[0]} has none, which PEFT cannot load; use a file of one kind"
    return None


def find_bad_dora(shapes: dict[str, list[int]], weight: float) -> str | None:
    """Why the DoRA layers of a file cannot be applied at this weight; None if they can or there are none.

    PEFT computes m (W + s B A) / |W + s B A| with one norm for each output, https://arxiv.org/abs/2402.09353.
    """
    for key, shape in shapes.items():
        if not key.endswith((DORA, ".lora_magnitude_vector", ".lora_magnitude_vector.weight")):
            continue
        if weight != 1:
            return (
                f"{key}: DoRA sets the norms of the weights, whatever its strength, so adapters.weight={weight:g} has "
                "no meaning; use adapters.weight=1"
            )
        if len(shape) > 1 and shape[0] == 1 and max(shape) > 1 and key.endswith(DORA):
            return (
                f"{key}: DoRA with one norm for each input (shape {shape}), and PEFT has one for each output; use a "
                "file that was trained with norms of outputs (wd_on_output of LyCORIS), or merge it into a checkpoint"
            )
    return None
