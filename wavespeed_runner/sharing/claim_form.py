"""Refuses a claim that no `export` writes: counts that do not fit each other or the config, and texts of any length.

Figures that contradict each other are judged with the others (`claim.py`): an edited figure is a claim, though a wrong
one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256

from ..config.claim import ClaimConfig
from ..errors import ConfigError

MAX_TEXT, MAX_ENTRIES = 300, 100
"""Characters of one text, and packages with a version or judges; our own have up to some 80 and 30."""
SHA256 = re.compile(r"[0-9a-f]{64}")


def refuse_malformed(claim: ClaimConfig, prompts: list[str], images_per_prompt: int) -> None:
    """Refuses a claim that contradicts the run that it comes with.

    Args:
        claim: of the file.
        prompts: of the run, which the command line may have changed.
        images_per_prompt: of the run.

    Raises:
        ConfigError: names the key.
    """
    for key, text in _list_texts(claim):
        if len(text) > MAX_TEXT:
            raise ConfigError(f"claim.{key}={text[:40]}...: {len(text)} characters; at most {MAX_TEXT} are read")
    for key, entries in (("versions", claim.versions), ("metrics", claim.metrics)):
        if len(entries) > MAX_ENTRIES:
            raise ConfigError(f"claim.{key}: {len(entries)} entries; at most {MAX_ENTRIES} are read")
    for key, hashes in (("pixels_sha256", claim.pixels_sha256), ("prompts_sha256", [claim.prompts_sha256])):
        if wrong := next((each for each in hashes if not SHA256.fullmatch(each)), None):
            raise ConfigError(f"claim.{key}={wrong[:80]}: a SHA-256 in 64 hexadecimal digits is needed")
    images = len(claim.pixels_sha256)
    if claim.prompts < 1 or claim.prompts * images_per_prompt != images:
        raise ConfigError(
            f"claim.prompts={_shorten(claim.prompts)}: its config makes {images_per_prompt} images of each prompt, and "
            f"claim.pixels_sha256 has {images} entries; export the run again"
        )
    same = claim.prompts_sha256 == sha256("\n".join(prompts).encode()).hexdigest()
    if same and claim.prompts != len(prompts):
        raise ConfigError(f"claim.prompts={claim.prompts}: these are {len(prompts)} prompts; export the run again")
    if claim.forks is not None and not 0 <= claim.forks <= images:
        raise ConfigError(f"claim.forks={_shorten(claim.forks)}: not within 0 to {images}, the number of images")


def _list_texts(claim: ClaimConfig) -> Iterator[tuple[str, str]]:
    """Key and text of all texts but the images' hashes."""
    for key, value in asdict(claim).items():
        if isinstance(value, str):
            yield key, value
    yield from (("metrics", name) for name in claim.metrics)
    for name, version in claim.versions.items():
        yield "versions", name
        yield f"versions.{name[:40]}", version


def _shorten(number: int) -> str:
    text = str(number)
    return text if len(text) <= 20 else f"a number of {len(text.lstrip('-'))} digits"
