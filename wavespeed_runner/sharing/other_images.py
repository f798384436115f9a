"""Says what is in an image that another program has made: A1111's web UI, ComfyUI, or one that writes as they do."""

from __future__ import annotations

import re
from typing import Any

from ..errors import make_printable
from ..inputs.documents import parse_json
from ..inputs.files import InputError

A1111, COMFYUI = "parameters", ("prompt", "workflow")
"""Keys of the texts that they write: settings of people's words; a graph of nodes, as it runs and as it is drawn."""
OURS = "Version: wavespeed_runner"
"""What our own `parameters` have in them."""
SETTINGS = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
"""Inputs of ComfyUI's samplers that are told."""
SHOWN = 160
"""Characters of a stranger's text in a message."""
MAX_CHARACTERS = 2**20
"""Of a workflow that is looked into."""
TYPE = "prompt='...' sampler=NAME steps=N guidance_scale=N seed=N width=N height=N"
OTHER = f"nothing of it is run here, where the same words and numbers give another image; type them, {TYPE}"


def describe_other_image(texts: dict[str, str]) -> str:
    """What was found in a PNG without our own data, and what to do with it.

    Args:
        texts: key -> text of the PNG; empty for a compressed text.
    """
    if any(key in texts for key in COMFYUI):
        found = _describe_workflow(texts.get("prompt", ""))
        return f"a workflow of ComfyUI{found}, and no config of wavespeed_runner; {OTHER}"
    if OURS in texts.get(A1111, ""):
        return (
            "the settings of wavespeed_runner in words alone, without its config: another program has saved the image; "
            "give the file as the run wrote it"
        )
    if A1111 in texts:
        found = _describe_settings(texts[A1111])
        return f"settings as A1111's web UI writes them{found}, and no config of wavespeed_runner; {OTHER}"
    names = ", ".join(make_printable(name) for name in texts)[:SHOWN]
    found = f", whose texts are {names}" if names else ""
    return (
        f"no config of wavespeed_runner in the metadata{found} (a screenshot, or saved by another program); give a "
        "file as the run wrote it"
    )


def _describe_settings(text: str) -> str:
    """` (Steps: 20, Sampler: Euler a, ...)`, from the last line; empty where it says nothing of steps."""
    last = make_printable(text.strip().rpartition("\n")[2])
    return f" ({_shorten(last)})" if "Steps:" in last else ""


def _describe_workflow(text: str) -> str:
    """` (KSampler: seed 5, steps 20, ...)`: the samplers of a graph; empty where it cannot be read."""
    try:
        nodes: Any = parse_json(text) if len(text) <= MAX_CHARACTERS else {}
    except InputError:
        return ""
    found = []
    for node in nodes.values() if isinstance(nodes, dict) else ():
        kind, inputs = (node.get("class_type"), node.get("inputs")) if isinstance(node, dict) else (None, None)
        if isinstance(kind, str) and re.search("sampler", kind, re.IGNORECASE) and isinstance(inputs, dict):
            values = [f"{key} {inputs[key]}" for key in SETTINGS if isinstance(inputs.get(key), str | int | float)]
            found += [f"{kind}: {', '.join(values)}"] if values else []
    return f" ({_shorten(make_printable('; '.join(found)))})" if found else ""


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
