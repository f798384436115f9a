"""Prompt markup as people type it for A1111's web UI: weights, breaks, and tags that load other files.

`(x)` weighs 1.1 times, `[x]` 1.1 times less, `(x:1.3)` 1.3 times; brackets inside each other multiply, one that is not
closed reaches to the end, and a backslash before a bracket makes it a letter. `BREAK` begins a new chunk. As described
in https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis.

Compel (https://pypi.org/project/compel/), the library for this that is kept, reads `(x)1.3` and `x++` instead, and
weighs by another formula, so the prompts that people share would give other images; sd_embed is not on PyPI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import ConfigError

ROUND, SQUARE = 1.1, 1 / 1.1
"""Weight of what stands in round and in square brackets."""
MAX_WEIGHT = 100.0
"""Larger ones, also of brackets inside each other, leave nothing of the rest of a prompt."""

TOKEN = re.compile(r"\\[()\[\]\\]|\\|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|[()\[\]]|[^\\()\[\]:]+|:")
BREAK = re.compile(r"\bBREAK\b")
NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{0,200}>")
"""A1111's tags that load a file beside the model's."""
CHANGING = re.compile(r"(?<!\\)\[[^\[\]|]*\||:\s*[.\d]+\s*\]|\bAND\b")
"""Prompts that change from step to step, `[a:b:0.5]` and `[a|b]`, and several prompts in one, `a AND b`."""
CERTAIN = (re.compile(r"\([^()]*:\s*[+-]?[.\d]+\s*\)"), re.compile(r"\bBREAK\b"), re.compile(r"\(\([^()]+\)"))
"""Hardly anything but markup. Like all patterns here they take time linear in the length of a prompt."""
LIKELY = (*CERTAIN, re.compile(r"\[[^\[\]]+\]"), re.compile(r"\([^()]+\)"), re.compile(r"\\[()\[\]]"))
"""Markup in what is written for CLIP; in whole sentences for a language model often just punctuation."""
FOREIGN = (
    (
        re.compile(r"\bembedding:[^\s,()\[\]:]{1,100}"),
        "adapters=textual_inversion adapters.path=FILE loads an embedding, and the prompt has its word alone",
    ),
    (
        re.compile(r"\{[^{}|]{0,200}\|[^{}]{0,200}\}"),
        "one prompt for each choice, as in prompts=file prompts.path=FILE.txt",
    ),
    (
        re.compile(r"__[A-Za-z0-9][\w/.*-]{0,100}?__"),
        "one prompt for each word, as in prompts=file prompts.path=FILE.txt",
    ),
    (
        re.compile(r"(?<=\s)--(?:ar|aspect|no|seed|chaos|stylize|style|niji|iw|tile)\b"),
        "keys beside the prompt, such as width, height, negative_prompt, seed",
    ),
)
"""What other tools replace in a prompt, and what to do here: ComfyUI's embeddings, choices and wildcards; and the
parameters of Midjourney."""
WEIGHT = re.compile(r"::\s?-?\d{0,4}\.?\d{1,4}(?![\d.]{0,8}\s?\])")
"""Midjourney's weight of what stands before it; in brackets it is A1111's `[a::0.5]`."""
COMPOSED = re.compile(r"\bAND\b")
"""A1111's several prompts in one. In sentences for a language model it is a word."""
BY_CLIP = (
    (COMPOSED, "one prompt, or a run for each"),
    (WEIGHT, "prompts.weighting=a1111 and (words:2), for words that weigh twice as much"),
)
BY_OTHERS = ((WEIGHT, "leave it out: there is no weighting for the text encoder of this model"),)
"""What is foreign to CLIP, and to other text encoders, beside `FOREIGN`."""


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A part of a prompt with its weight."""

    text: str
    weight: float


def find_markup(text: str, *, clip: bool) -> str:
    """The first piece of a prompt that looks like markup; empty if none does.

    Args:
        text: the prompt.
        clip: the model reads it with CLIP, for which such markup is written; for others only what can be nothing else.
    """
    found = [match for pattern in (LIKELY if clip else CERTAIN) if (match := pattern.search(text))]
    return min(found, key=lambda match: match.start())[0] if found else ""


def find_foreign(text: str, *, clip: bool) -> tuple[str, str]:
    """The first piece of a prompt that other tools replace by something, and what to do instead; empty without any.

    Args:
        text: the prompt.
        clip: as for `find_markup`.
    """
    kinds = (*FOREIGN, *(BY_CLIP if clip else BY_OTHERS))
    found = [(match.start(), match[0], way) for pattern, way in kinds if (match := pattern.search(text))]
    return min(found)[1:] if found else ("", "")


def refuse_unsupported(text: str) -> None:
    """Refuses markup that weighting cannot give effect to: prompts that change from step to step, wrong weights.

    Raises:
        ConfigError: names it.
    """
    if match := CHANGING.search(text):
        raise ConfigError(
            f"prompt {text[:40]!r}...: {match[0][:40]!r} is a prompt that changes from step to step, or several in "
            "one, and prompts.weighting=a1111 weighs one; write \\[ for a bracket that is a letter"
        )
    parse_markup(text)


def parse_markup(text: str) -> list[list[Fragment]]:
    """Splits a prompt at its breaks, and each part where its weight changes. Takes time linear in its length.

    Raises:
        ConfigError: a weight is no number, or its product with others is above 100.
    """
    tokens = list(TOKEN.finditer(text))
    segments: list[list[Fragment]] = [[]]
    for piece, weight in _weigh(tokens, _find_factors(tokens)):
        if abs(weight) > MAX_WEIGHT:
            raise ConfigError(
                f"prompt {text[:40]!r}...: the weight of {piece[:40]!r} is {weight:.4g}, and at most {MAX_WEIGHT:g} "
                "leaves something of the rest"
            )
        parts = BREAK.split(piece)
        for number, part in enumerate(parts):
            if number:
                segments.append([])
            part = part.lstrip() if number else part
            part = part.rstrip() if number < len(parts) - 1 else part
            if part:
                segments[-1].append(Fragment(text=part, weight=weight))
    if len(segments) > 1 and not segments[-1]:
        segments.pop()
    return [_merge(segment) for segment in segments]


def _find_factors(tokens: list[re.Match[str]]) -> dict[int, tuple[str, float]]:
    """Index of each bracket that is markup -> whether it opens or closes which kind, and its factor."""
    factors: dict[int, tuple[str, float]] = {}
    open_: dict[str, list[int]] = {"(": [], "[": []}
    for index, token in enumerate(tokens):
        text = token[0]
        kind = "[" if text == "]" else "("
        closes = text in (")", "]") or token["weight"] is not None
        if text in open_:
            open_[text].append(index)
        elif closes and open_[kind]:
            factor = ROUND if kind == "(" else SQUARE
            if token["weight"] is not None:
                factor = _read_weight(token["weight"], text)
            factors[open_[kind].pop()] = (kind, factor)
            factors[index] = (f"end {kind}", factor)
    for kind, factor in (("(", ROUND), ("[", SQUARE)):
        factors |= dict.fromkeys(open_[kind], (kind, factor))
    return factors


def _read_weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise ConfigError(f"prompt: {whole!r}: the weight is no number; write it as in (x:1.3)") from None
    return weight


def _weigh(tokens: list[re.Match[str]], factors: dict[int, tuple[str, float]]) -> list[tuple[str, float]]:
    """The letters of a prompt with their weights."""
    products: dict[str, list[float]] = {"(": [1.0], "[": [1.0]}
    pieces = []
    for index, token in enumerate(tokens):
        if index in factors:
            kind, factor = factors[index]
            if kind in products:
                products[kind].append(products[kind][-1] * factor)
            else:
                products[kind[-1]].pop()
            continue
        text = token[0][1:] if token[0].startswith("\\") else token[0]
        pieces.append((text, products["("][-1] * products["["][-1]))
    return pieces


def _merge(segment: list[Fragment]) -> list[Fragment]:
    """Joins neighbours of the same weight, so that a word is not cut where a bracket was a letter."""
    merged: list[Fragment] = []
    for fragment in segment:
        if merged and merged[-1].weight == fragment.weight:
            merged[-1] = Fragment(text=merged[-1].text + fragment.text, weight=fragment.weight)
        else:
            merged.append(fragment)
    return merged
