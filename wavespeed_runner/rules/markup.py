"""What is to be said of the markup in prompts: no rule, since rules do not know the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.schema import Config, Weighting
from ..errors import ConfigError, Unfit
from ..models.text.clip_chunks import MAX_CHUNKS
from ..models.text.markup import NETWORK, find_foreign, find_markup, refuse_unsupported
from ..registry import find_implementation
from .check import Finding
from .prompts import weighs_prompts

MAX_CHARACTERS = MAX_CHUNKS * 75 * 20
"""Of a prompt that is read in chunks. No tokenizer in use averages more than 20 characters a token."""

COMMENTS = ("#", "//")
"""How comments begin in files of other kinds."""


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
    clip = weighs_prompts(find_implementation("model", c.model))
    is_weighed = c.prompts.weighting is not Weighting.none
    for prompt in prompts if c.prompts.chunked or is_weighed else ():
        if len(prompt) > MAX_CHARACTERS:
            raise Unfit(
                f"prompt {prompt[:40]!r}... has {len(prompt)} characters, and at most {MAX_CHARACTERS} are read in "
                f"{MAX_CHUNKS} chunks; shorten it"
            )
        if is_weighed:
            refuse_unsupported(prompt)
    letters = [] if is_weighed else _warn_of_letters(prompts, clip=clip)
    return [*letters, *_warn_of_foreign(prompts, clip=clip), *_warn_of_comments(c, prompts)]


def _warn_of_letters(prompts: Sequence[str], *, clip: bool) -> list[Finding]:
    """A warning where a prompt has markup, which is read as letters."""
    found = [(prompt, markup) for prompt in prompts if (markup := find_markup(prompt, clip=clip))]
    fix = (
        "prompts.weighting=a1111 weighs words by it"
        if clip
        else "leave it out: there is no weighting for the text encoder of this model"
    )
    return _warn("prompt-markup", "markup", found, fix)


def _warn_of_foreign(prompts: Sequence[str], *, clip: bool) -> list[Finding]:
    """A warning where a prompt has what other tools replace by something, whatever the weighting."""
    pieces = [(prompt, *find_foreign(prompt, clip=clip)) for prompt in prompts]
    found = [(prompt, piece, way) for prompt, piece, way in pieces if piece]
    return _warn("prompt-foreign", "another tool's", [each[:2] for each in found], found[0][2] if found else "")


def _warn_of_comments(c: Config, prompts: Sequence[str]) -> list[Finding]:
    """A warning where lines of a prompt file look like comments: they make images as any other."""
    found = [prompt for prompt in prompts if prompt.startswith(COMMENTS)]
    if not found or c.prompt is not None or c.prompts.path is None:
        return []
    more = f", and {len(found) - 1} more lines" if len(found) > 1 else ""
    message = f"prompts.path={c.prompts.path}: {found[0][:40]!r} is a prompt as any other line is, no comment{more}"
    fix = "take such lines out of the file"
    return [Finding(rule="prompt-comment", verdict="unverified", message=message, fix=fix, source="")]


def _warn(rule: str, what: str, found: Sequence[tuple[str, str]], fix: str) -> list[Finding]:
    """One warning for all prompts. found: those that have such a piece, with the first one."""
    if not found:
        return []
    prompt, piece = found[0]
    more = f", and {len(found) - 1} more prompts have some" if len(found) > 1 else ""
    message = f"prompt {prompt[:40]!r}: {piece[:40]!r} looks like {what}, and is read as letters{more}"
    return [Finding(rule=rule, verdict="unverified", message=message, fix=fix, source="")]
