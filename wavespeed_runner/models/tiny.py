"""Models without checkpoints: an architecture of given shapes with seeded random weights, and tokenizers made on the
spot. `init=tiny` takes the shrunk shapes, `init=random` the published ones; the code is the same.

Modules are laid out on the meta device and filled parameter by parameter, so that the full size needs no more memory
than its weights. All randomness comes from generators of our own: the same bits every time, and the process's global
random state stays as it was.
"""

from __future__ import annotations

from typing import Any

CLIP_TOKENS = ("<|startoftext|>", "<|endoftext|>")
"""Special tokens 0 and 1. Padding is the end token, as in the real one."""
T5_TOKENS = ("<pad>", "</s>")

FLUX_FULL: dict[str, dict[str, Any]] = {
    "transformer": {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "axes_dims_rope": (16, 56, 56),
    },
    "vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 16,
        "norm_num_groups": 32,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "projection_dim": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
    },
    "text_encoder_2": {
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
}
"""FLUX.1-dev as published: the config.json files of https://huggingface.co/black-forest-labs/FLUX.1-dev."""

FLUX_TINY: dict[str, dict[str, Any]] = {
    "transformer": FLUX_FULL["transformer"]
    | {
        "num_layers": 2,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    "vae": FLUX_FULL["vae"]
    | {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 128},
    "text_encoder": FLUX_FULL["text_encoder"]
    | {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "text_encoder_2": FLUX_FULL["text_encoder_2"]
    | {"vocab_size": 258, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
}
"""Every part kept, each with few and narrow layers. Latents keep their 16 channels and their 1/8 of the size, so that
sizes, token counts and stored latents mean the same. Four heads: sequences can still be split over up to 4 devices."""


def flux(shapes: dict[str, dict[str, Any]], *, guided: bool, shifted: bool, dtype: Any, device: Any) -> Any:
    """A `FluxPipeline` of these shapes.

    guided: the transformer takes the guidance scale as an input (FLUX.1-dev). shifted: noise levels follow the picture
    size (not in FLUX.1-schnell). dtype: torch dtype. device: where the weights are made; `meta` for none at all.
    """
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    def clip() -> Any:
        ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        return CLIPTextModel(CLIPTextConfig(**shapes["text_encoder"], **ids, hidden_act="quick_gelu"))

    makers = {
        "transformer": lambda: FluxTransformer2DModel(**shapes["transformer"], guidance_embeds=guided),
        "vae": lambda: AutoencoderKL(**shapes["vae"]),
        "text_encoder": clip,
        "text_encoder_2": lambda: T5EncoderModel(T5Config(**shapes["text_encoder_2"], pad_token_id=0, eos_token_id=1)),
    }
    parts = {
        name: random_module(make, seed=seed, dtype=dtype, device=device)
        for seed, (name, make) in enumerate(makers.items())
    }
    positions = shapes["text_encoder"]["max_position_embeddings"]
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if shifted else 1.0, use_dynamic_shifting=shifted),
        tokenizer=byte_tokenizer(CLIP_TOKENS, begin=CLIP_TOKENS[0], pad=CLIP_TOKENS[1], length=positions),
        tokenizer_2=byte_tokenizer(T5_TOKENS, begin=None, pad=T5_TOKENS[0], length=512),
        **parts,
    )


def random_module(make: Any, *, seed: int, dtype: Any, device: Any) -> Any:
    """The module that `make()` lays out, with seeded random weights, ready for inference.

    Matrices and kernels are normal with variance 1 / fan-in, so that signals keep their size through any depth; scales
    are 1, biases 0. The generator is that of the device, so bits agree between devices only when made on the same one.
    """
    import torch

    with torch.device("meta"):
        module = make()
    module = torch.nn.Module.to(module, dtype).to_empty(device=device)  # diffusers' own `to` warns about nothing
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    module = module.eval().requires_grad_(False)
    if torch.device(device).type == "meta":
        return module
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() < 2:
            parameter.fill_(1)
        else:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    for name, buffer in module.named_buffers():
        if not name.endswith("position_ids"):
            raise NotImplementedError(f"{type(module).__name__}.{name}: no rule for how to fill this buffer")
        buffer.copy_(torch.arange(buffer.shape[-1], device=buffer.device).expand(buffer.shape))
    return module


def byte_tokenizer(special: tuple[str, str], *, begin: str | None, pad: str, length: int) -> Any:
    """A tokenizer that needs no file: one token a byte of UTF-8, so that different prompts give different tokens.

    special: the first two tokens; the second one ends a sequence. begin: the token that starts one, if any.
    length: tokens that the text encoder can take.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*special, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    end = special[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}" if begin else f"$A {end}",
        special_tokens=[(token, vocabulary[token]) for token in special],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, pad_token=pad, model_max_length=length
    )
