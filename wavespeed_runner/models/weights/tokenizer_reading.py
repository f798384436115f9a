"""Decides whether a tokenizer makes something of a text: no others each time, no unknown words alone, and its end.

What is said of a prompt's tokens can only be seen in them, so a child process has some texts read on trial.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from ...inputs import limits
from ...inputs.documents import read_json

READINGS = 4
"""Of one text, for a tokenizer that draws among its pieces."""
WORDS = f"a photo of a red cat on the blue house, {' '.join(string.ascii_lowercase)}"
"""A vocabulary for prompts has some of these, as words, letters or bytes."""
LEGACY_END = 2
"""With this `eos_token_id`, which CLIPs were first published with by mistake, transformers takes the largest number."""


def refuse_unread_text(tokenizer: Any, text: str) -> None:
    """Raises `ValueError` for a tokenizer that makes of a text what it makes of none, or other tokens each time."""
    read, *again, empty = (list(tokenizer(each).input_ids) for each in (*[text] * READINGS, ""))
    if any(other != read for other in again):
        raise ValueError("the tokenizer makes other tokens of the same text each time, so no run could be repeated")
    if read == empty:
        raise ValueError("the tokenizer makes the same tokens of a text as of none, so prompts would be dropped")
    if type(tokenizer).__name__.startswith("CLIPTokenizer") and tokenizer.model_max_length > limits.MAX_TOKENS:
        raise ValueError("it has no model_max_length, to which CLIP fills up each text; it is 77 in published ones")
    if len(empty) >= tokenizer.model_max_length:
        raise ValueError(
            f"model_max_length = {tokenizer.model_max_length} leaves no token of a text beside {len(empty)} around it, "
            "so prompts would be dropped"
        )
    if len(set(tokenizer(WORDS).input_ids) - set(tokenizer.all_special_ids)) < 2:
        raise ValueError(
            "its vocabulary knows no word or letter of English, so it would make the same of different prompts; "
            "give it the vocabulary of its publisher (tokenizer.json, or vocab.json and merges.txt)"
        )


def refuse_unread_end(tokenizer: Any, encoder: Path) -> None:
    """Raises `ValueError` where a CLIP does not find the end of a text, the one place where it reads the whole of it.

    Args:
        tokenizer: its own.
        encoder: the folder of its configuration. One without any, or of another model, passes.
    """
    from transformers import CLIPConfig, CLIPTextConfig

    file = encoder / "config.json"
    config = read_json(file, constants=True) if file.is_file() else {}
    if config.get("model_type") == "clip":
        end: Any = CLIPConfig.from_dict(config).text_config.eos_token_id
    elif config.get("model_type") == "clip_text_model":
        end = CLIPTextConfig.from_dict(config).eos_token_id
    else:
        return
    read = list(tokenizer(WORDS).input_ids)
    mark = max(read) if end == LEGACY_END else end
    if mark not in read or read.index(mark) != len(read) - 1:
        raise ValueError(
            f"eos_token_id = {str(end)[:80]} of {encoder.name}/config.json is not how the tokenizer ends a text "
            f"({read[-1]}), so CLIP would not see the prompt; give both as their publisher has them"
        )
