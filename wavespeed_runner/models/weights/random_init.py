"""Models without checkpoints: an architecture of given shapes with seeded random weights, and tokenizers made on the
spot. `init=tiny` takes the shrunk shapes, `init=random` the published ones; the code is the same.

Parameters are laid out on the meta device and filled one by one, so that the full size needs no more memory than its
weights. All randomness comes from generators of our own: the same bits every time, and the process's global
random state stays as it was.
"""

from __future__ import annotations

from typing import Any

from .hub import diffusers_class

CLIP_TOKENS = ("<|startoftext|>", "<|endoftext|>")
"""Special tokens 0 and 1. Padding is the end token, as in the real one."""
T5_TOKENS = ("<pad>", "</s>")
BYTES = 258
"""Tokens of the tokenizers made here: the special ones and the bytes."""

Parts = dict[str, tuple[str, dict[str, Any]]]
"""Component -> name of its class in diffusers or transformers, and its configuration."""


TINY_CLIP: dict[str, Any] = {
    "vocab_size": BYTES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "projection_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TINY_T5: dict[str, Any] = {"vocab_size": BYTES, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}


def clip(
    width: int, *, layers: int, heads: int, kind: str = "CLIPTextModel", **more: Any
) -> tuple[str, dict[str, Any]]:
    """OpenAI's CLIP text encoder of this width; 768 wide with 12 layers and heads is CLIP-L."""
    config: dict[str, Any] = {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "hidden_act": "quick_gelu",
    }
    return kind, config | more


def t5(width: int, *, ff: int, layers: int, heads: int, kind: str = "T5EncoderModel", **more: Any) -> tuple[str, Any]:
    """The encoder of T5 1.1; 4096 wide with 24 layers it is XXL."""
    config: dict[str, Any] = {
        "vocab_size": 32128,
        "d_model": width,
        "d_kv": 64,
        "d_ff": ff,
        "num_layers": layers,
        "num_heads": heads,
        "feed_forward_proj": "gated-gelu",
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    return kind, config | more


def shrunk(parts: Parts, **changes: dict[str, Any]) -> Parts:
    """The parts with some values of their configurations changed."""
    return {name: (kind, config | changes.get(name, {})) for name, (kind, config) in parts.items()}


def assemble(kind: str, parts: Parts, *, dtype: Any, device: Any, float32: tuple[str, ...] = (), **others: Any) -> Any:
    """A pipeline with random weights.

    kind: its class in diffusers. dtype: torch dtype of the parts, but of those named in `float32`. device: where the
    weights are made; `meta` for none at all. others: what has no weights (scheduler, tokenizers) and the pipeline's
    own options.
    """
    import torch

    modules = {
        name: random_module(
            lambda given=given: _module(*given),
            seed=seed,
            dtype=torch.float32 if name in float32 else dtype,
            device=device,
        )
        for seed, (name, given) in enumerate(parts.items())
    }
    return diffusers_class(kind)(**modules, **others)


def _module(name: str, config: dict[str, Any]) -> Any:
    """A module of diffusers, which takes its configuration as arguments, or of transformers, which takes an object.

    name: a class, or `folder.class` for those that diffusers keeps in the folder of one pipeline.
    """
    import diffusers
    import transformers

    folder, _, kind_name = name.rpartition(".")
    home = getattr(diffusers.pipelines, folder) if folder else diffusers
    if hasattr(home, kind_name):
        return getattr(home, kind_name)(**config)
    kind = getattr(transformers, name)
    return kind(kind.config_class(**config))


def random_module(make: Any, *, seed: int, dtype: Any, device: Any) -> Any:
    """The module that `make()` lays out, with seeded random weights, ready for inference.

    Matrices and kernels are normal with variance 1 / fan-in, so that signals keep their size through any depth; scales
    are 1, biases 0. The generator is that of the device, so bits agree between devices only when made on the same one.
    """
    import torch
    import transformers.initialization  # noqa: F401  # keeps torch's own functions: not those of `no_init_weights`
    from accelerate import init_empty_weights
    from diffusers.models.modeling_utils import no_init_weights

    # Parameters on the meta device, buffers as the module computes them (rotary tables, running means).
    with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False), no_init_weights():
        module = make()
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    module = module.eval().requires_grad_(False)
    _materialise(module, dtype, device)
    if torch.device(device).type == "meta":
        return module
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() < 2 or parameter[0].numel() == 1:  # the latter: of a norm over (n, channels, ...)
            parameter.fill_(1)
        else:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return module


def _materialise(module: Any, dtype: Any, device: Any) -> None:
    """Memory for the parameters, each once (tied ones stay tied), and the buffers beside them."""
    import torch

    made: dict[int, Any] = {}
    kept = in_float32(module, dtype)
    for path, part in module.named_modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fresh = made.get(id(parameter))
                if fresh is None:
                    kind = torch.float32 if kept.intersection((*path.split("."), name)) else dtype
                    empty = torch.empty(parameter.shape, dtype=kind, device=device)
                    fresh = made[id(parameter)] = torch.nn.Parameter(empty, requires_grad=False)
                part._parameters[name] = fresh
        for name, buffer in part._buffers.items():
            if buffer is not None:
                # As loading does: what a checkpoint holds is cast, tables reckoned from the configuration are not.
                cast = buffer.is_floating_point() and name not in part._non_persistent_buffers_set
                part._buffers[name] = buffer.to(device, dtype if cast else None)


def in_float32(module: Any, dtype: Any) -> set[str]:
    """Names of submodules and parameters that loading keeps in float32: always in diffusers' models, in those of
    transformers some only where the rest is float16."""
    import torch
    from transformers import PreTrainedModel

    names = set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    if not isinstance(module, PreTrainedModel) or dtype == torch.float16:
        names |= set(getattr(module, "_keep_in_fp32_modules", None) or ())
    return names


def clip_tokenizer(length: int = 77, pad: str = CLIP_TOKENS[1]) -> Any:
    """In the place of CLIP's. pad: the tokenizers of OpenCLIP have "!"."""
    return byte_tokenizer(CLIP_TOKENS, begin=CLIP_TOKENS[0], pad=pad, length=length)


def t5_tokenizer(length: int) -> Any:
    """In the place of T5's."""
    return byte_tokenizer(T5_TOKENS, begin=None, pad=T5_TOKENS[0], length=length)


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
