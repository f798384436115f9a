"""What is to be said of the markup in prompts: no rule, since rules do not know the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.schema import Config, Weighting
from ..errors import ConfigError, Unfit
from ..models.text.clip_chunks import MAX_CHUNKS
from ..models.text.markup import NETWORK, find_markup, refuse_unsupported
from ..registry import find_implementation
from .check import Finding
from .prompts import weighs_prompts

MAX_CHARACTERS = MAX_CHUNKS * 75 * 20
"""Of a prompt that is read in chunks. No tokenizer in use averages more than 20 characters a token."""


def judge_markup(c: Config, prompts: Sequence[str]) -> list[Finding]:
    """What is to be said of the markup in prompts.

    Raises:
        ConfigError: a tag that would load a file, or markup that weighting cannot give effect to.
        Unfit: a prompt too long to be read in chunks.
    """
    for prompt in prompts:
        if match := NETWORK.search(prompt):
            raise ConfigError(
                f"prompt {prompt[:40]!r}...: {match[0][:60]} loads nothing in a prompt; adapters=lora "
                "adapters.path=FILE adapters.weight=0.8 loads it, for all prompts of the run"
            )
    if not c.prompts.chunked and c.prompts.weighting is Weighting.none:
        return _warn_of_letters(prompts, clip=weighs_prompts(find_implementation("model", c.model)))
    for prompt in prompts:
        if len(prompt) > MAX_CHARACTERS:
            raise Unfit(
                f"prompt {prompt[:40]!r}... has {len(prompt)} characters, and at most {MAX_CHARACTERS} are read in "
                f"{MAX_CHUNKS} chunks; shorten it"
            )
        if c.prompts.weighting is not Weighting.none:
            refuse_unsupported(prompt)
    return _warn_of_letters(prompts, clip=True) if c.prompts.weighting is Weighting.none else []


def _warn_of_letters(prompts: Sequence[str], *, clip: bool) -> list[Finding]:
    """A warning where a prompt has markup, which is read as letters."""
    found = [(prompt, markup) for prompt in prompts if (markup := find_markup(prompt, clip=clip))]
    if not found:
        return []
    prompt, markup = found[0]
    more = f", and {len(found) - 1} more prompts have some" if len(found) > 1 else ""
    return [
        Finding(
            rule="prompt-markup",
            verdict="unverified",
            message=f"prompt {prompt[:40]!r}: {markup[:40]!r} looks like markup, and is read as letters{more}",
            fix="prompts.weighting=a1111 weighs words by it"
            if clip
            else "leave it out: there is no weighting for the text encoder of this model",
            source="",
        )
    ]
