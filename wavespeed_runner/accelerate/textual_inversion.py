"""Textual inversion: learned tokens for text encoders, put in by diffusers.

Added here: which word stands for a file is known before the run, and a word that no prompt has is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError, RunError, Unfit, one_line
from ..models.weights import checkpoint
from .adapter_options import TextualInversion, as_list, fetch_file, values_per_path

ENCODERS = {
    "clip_l": ("tokenizer", "text_encoder"),
    "clip_g": ("tokenizer_2", "text_encoder_2"),
    "t5": ("tokenizer_2", "text_encoder_2"),
}
"""Where the vectors go of files that have some for each text encoder: SDXL's clip_l and clip_g, FLUX's clip_l and t5.
https://huggingface.co/docs/diffusers/using-diffusers/textual_inversion_inference"""
NAMELESS = (*ENCODERS, "emb_params")
"""Names of tensors that are no words; the last is written by other tools for Stable Diffusion 1 and 2."""


def check_tokens(adapters: TextualInversion, texts: Iterable[str] | None) -> None:
    """Refuses a token that is in none of the texts; None where they are not to be looked at.

    Raises:
        ConfigError: names it, or says that there is none.
    """
    for path, token in zip(as_list(adapters.path), _tokens(adapters), strict=True):
        whole = rf"(?<!\w){re.escape(token)}(?!\w)" if token.isidentifier() else re.escape(token)
        if texts is not None and not any(re.search(whole, text) for text in texts):
            raise Unfit(
                f"adapters.path={path}: its token {token} is in no prompt, so it could not take effect; write it "
                f"""as it stands, 'prompt="... {token}"'"""
            )


def _tokens(adapters: TextualInversion) -> list[str]:
    """The words that stand for the files, one for each path.

    Raises:
        ConfigError: there is none, or a local file holds no embedding.
    """
    return [
        _token(path, given)
        for path, given in zip(as_list(adapters.path), values_per_path(adapters, "token"), strict=True)
    ]


def _token(path: str, given: str | None) -> str:
    file = checkpoint.local(path)
    names = checkpoint.tensor_names(file) if file else []
    if file and len(names) != 1 and not (names and set(names) <= set(ENCODERS)):
        raise ConfigError(
            f"adapters.path={path}: no textual inversion: it has {len(names)} tensors; one is needed, or "
            f"{', '.join(ENCODERS)}, one for each text encoder"
        )
    if given is None and (file is None or names[0] in NAMELESS):
        why = "the file names no word" if file else "what is on the hub is not read before the run"
        raise ConfigError(f"adapters.token: {why} for adapters.path={path}; adapters.token=WORD says yours")
    return given or names[0]


def load_tokens(pipe: Any, adapters: TextualInversion) -> None:
    """Puts the tokens into tokenizers and text encoders.

    Raises:
        RunError: a file is not for this model.
    """
    paths, tokens = as_list(adapters.path), _tokens(adapters)
    for path, token, file in zip(paths, tokens, values_per_path(adapters, "file"), strict=True):
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

    return dict(load_file(fetch_file(path, file or "learned_embeds.safetensors")))


def collect_evidence(pipe: Any, adapters: TextualInversion) -> dict[str, Any]:
    """Of each token how many vectors each text encoder has."""
    tokens: dict[str, dict[str, int]] = {}
    words = _tokens(adapters)
    for tokenizer, encoder in dict.fromkeys(ENCODERS.values()):
        known: dict[str, int] = getattr(getattr(pipe, tokenizer, None), "get_added_vocab", dict)()
        # Of several vectors the first has the word itself, the others are counted.
        ours = {t: sum(word == t or word.removeprefix(f"{t}_").isdigit() for word in known) for t in words}
        if ours := {token: count for token, count in ours.items() if count}:
            tokens[encoder] = ours
    return {"tokens": tokens}
