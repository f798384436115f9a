"""Textual inversion: loads learned tokens into the text encoders with diffusers.

Added here: the word that stands for a file is known before the run, and a word that is in no prompt is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, RunError, Unfit, format_error, make_printable
from ..inputs.documents import read_safetensors_header
from ..inputs.limits import MAX_LEARNED_VECTORS
from ..models.weights.checkpoint import find_local_path
from ..models.weights.safetensors_file import find_no_weight
from .adapter_flaws import find_no_number
from .adapter_options import TextualInversion, as_list, fetch_file, values_per_path

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ENCODERS = {
    "clip_l": ("tokenizer", "text_encoder"),
    "clip_g": ("tokenizer_2", "text_encoder_2"),
    "t5": ("tokenizer_2", "text_encoder_2"),
}
"""Tensor name -> tokenizer and text encoder, for files with vectors for several: SDXL's clip_l and clip_g, FLUX's
clip_l and t5. https://huggingface.co/docs/diffusers/using-diffusers/textual_inversion_inference"""
NAMELESS = (*ENCODERS, "emb_params")
"""Names of tensors that are not words; other tools write the last one for Stable Diffusion 1 and 2."""


def check_tokens(adapters: TextualInversion, texts: Iterable[str] | None) -> None:
    """Checks that each token is in one of the texts.

    Args:
        adapters: the options.
        texts: prompts and negative prompts; None: only check that every file has a token.

    Raises:
        ConfigError: names the token, or says that a file has none.
    """
    for path, token in zip(as_list(adapters.path), _resolve_tokens(adapters), strict=True):
        pattern = rf"(?<!\w){re.escape(token)}(?!\w)" if token.isidentifier() else re.escape(token)
        if texts is not None and not any(re.search(pattern, text) for text in texts):
            raise Unfit(
                f"adapters.path={path}: its token {_shorten(token)} is in no prompt, so it could not take effect; "
                f"""write it in the prompt: 'prompt="... {_shorten(token)}"'"""
            )


def _resolve_tokens(adapters: TextualInversion) -> list[str]:
    """The word that stands for each file.

    Raises:
        ConfigError: a file has no word, or a local file holds no embedding.
    """
    return [
        _resolve_token(path, chosen)
        for path, chosen in zip(as_list(adapters.path), values_per_path(adapters, "token"), strict=True)
    ]


def _resolve_token(path: str, chosen: str | None) -> str:
    """The word that stands for one file: the chosen one, or the one that the file names."""
    file = find_local_path(path)
    shapes = _read_shapes(path, file) if file else {}
    names = list(shapes)
    if file and len(names) != 1 and not (names and set(names) <= set(ENCODERS)):
        raise ConfigError(
            f"adapters.path={path}: no textual inversion: it has {len(names)} tensors; one is needed, or one for each "
            f"text encoder, named {', '.join(ENCODERS)}"
        )
    if chosen is None and (file is None or names[0] in NAMELESS):
        why = "the file names no word" if file else "what is on the hub is not read before the run"
        raise ConfigError(f"adapters.token: {why} for adapters.path={path}; choose one with adapters.token=WORD")
    token = chosen or names[0]
    if not token.strip() or not token.isprintable():
        raise ConfigError(
            f"adapters.token={_shorten(make_printable(token))}: a word that can be printed is needed; choose one with "
            "adapters.token=WORD"
        )
    return token


def _shorten(token: str) -> str:
    """For messages."""
    return f"{token[:60]}..." if len(token) > 60 else token


def _read_shapes(path: str, file: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in an undamaged file, after each was looked at."""
    header = read_safetensors_header(file)[0]
    if flaw := find_no_weight(header):
        raise ConfigError(f"adapters.path={path}: {flaw}, which no learned token is; use another file")
    shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    _refuse_vectors(path, shapes)
    return shapes


def _refuse_vectors(path: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises ConfigError unless each tensor is a vector, or 1 to `MAX_LEARNED_VECTORS` of them."""
    for name, shape in shapes.items():
        if not 1 <= len(shape) <= 2 or not 1 <= (shape[0] if len(shape) == 2 else 1) <= MAX_LEARNED_VECTORS:
            raise ConfigError(
                f"adapters.path={path}: its {_shorten(name)} of shape {list(shape)} is no learned token: one vector, "
                f"or 1 to {MAX_LEARNED_VECTORS} of them, are needed"
            )


def load_tokens(pipe: DiffusionPipeline, adapters: TextualInversion) -> None:
    """Adds the learned tokens to the pipeline's tokenizers and text encoders.

    Raises:
        RunError: a file is not for this model.
    """
    paths, tokens = as_list(adapters.path), _resolve_tokens(adapters)
    for path, token, file in zip(paths, tokens, values_per_path(adapters, "file"), strict=True):
        try:
            for key, vectors in _load_vectors(path, file).items():
                tokenizer, encoder = _find_encoder(pipe, key)
                width = encoder.get_input_embeddings().weight.shape[1]
                if vectors.shape[-1] != width:
                    raise RunError(
                        f"adapters.path={path}: its {_shorten(key)} has vectors of {vectors.shape[-1]} numbers, and "
                        f"this model's {type(encoder).__name__} takes {width}; use a file for this model"
                    )
                # As tensors, because diffusers cannot open a file for several encoders.
                pipe.load_textual_inversion({token: vectors}, token=token, tokenizer=tokenizer, text_encoder=encoder)
                if tokenizer.convert_tokens_to_ids(token) not in tokenizer(f"a {token}").input_ids:
                    raise RunError(
                        f"adapters.token={_shorten(token)}: the tokenizer does not find it in prompts; use another"
                    )
        except RunError:
            raise
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {format_error(error)}") from error


def _find_encoder(pipe: DiffusionPipeline, key: str) -> tuple[Any, Any]:
    """The tokenizer and the text encoder for vectors of this name."""
    names = ENCODERS.get(key, ENCODERS["clip_l"])
    parts = tuple(getattr(pipe, name, None) for name in names)
    if None in parts:
        raise ValueError(f"its {key} is for {names[1]}, which {type(pipe).__name__} does not have")
    return parts[0], parts[1]


def _load_vectors(path: str, file: str | None) -> dict[str, Any]:
    """Tensor name -> vectors (n, width of the text encoder), or a single one (width)."""
    from safetensors.torch import load_file

    local = fetch_file(path, file or "learned_embeds.safetensors")
    _read_shapes(path, local)
    vectors = dict(load_file(local))
    if flaw := find_no_number(vectors):
        raise RunError(f"adapters.path={path}: not a file that can be loaded: {flaw}; use another one")
    return vectors


def collect_evidence(pipe: DiffusionPipeline, adapters: TextualInversion) -> dict[str, Any]:
    """Evidence for the record: how many vectors each text encoder has for each token."""
    tokens: dict[str, dict[str, int]] = {}
    words = _resolve_tokens(adapters)
    for tokenizer, encoder in dict.fromkeys(ENCODERS.values()):
        known: dict[str, int] = getattr(getattr(pipe, tokenizer, None), "get_added_vocab", dict)()
        # The first of several vectors has the word itself; the others have the word and a number.
        counts = {t: sum(word == t or word.removeprefix(f"{t}_").isdigit() for word in known) for t in words}
        if counts := {token: count for token, count in counts.items() if count}:
            tokens[encoder] = counts
    return {"tokens": tokens}
