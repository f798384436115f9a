"""Loading a diffusers pipeline, and saying in one line why it could not be loaded. Shared by the families."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ConfigError, RunError, format_error

UNREACHED = {"OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ConnectionError", "ReadTimeout", "gaierror"}
"""Exception classes, by name, that mean: no answer from the hub."""


def loading_error(error: BaseException, repo: str, revision: str | None = None, key: str = "model.repo") -> RunError:
    """A one-line `RunError` with the ways out, from whatever the loading libraries raised.

    The libraries wrap one exception in another and differ in which, so the whole chain is looked at, and classes are
    known by name, which needs no import of the libraries.
    """
    chain = _chain(error)
    kinds = _kinds(chain)
    status = {getattr(getattr(link, "response", None), "status_code", None) for link in chain}
    other = f"or give a local folder as {key}, or rehearse with model.init=tiny"
    where = f"{key}={repo}" + (f" (revision {revision})" if revision else "")
    if "GatedRepoError" in kinds or 403 in status:
        text = (
            f"access is granted by its owner: accept the licence at https://huggingface.co/{repo} "
            f"and run `hf auth login`, {other}"
        )
    elif "RevisionNotFoundError" in kinds or "RevisionResolutionError" in kinds:
        text = f"the hub has no such revision; leave model.revision at null for the newest, {other}"
    elif "RepositoryNotFoundError" in kinds or 401 in status:
        text = (
            f"the hub has no such repository, or it is private; check the name at https://huggingface.co/{repo}, "
            f"run `hf auth login` if it is yours, {other}"
        )
    elif kinds & {*UNREACHED, "LocalEntryNotFoundError"}:
        text = f"the hub cannot be reached and the local cache lacks it; connect to the network once, {other}"
    elif "SafetensorError" in kinds:
        text = f"a file is damaged ({format_error(error)}); download it again, {other}"
    else:
        text = f"cannot be loaded: {format_error(error)}; check that it is complete and of this family, {other}"
    return RunError(f"{where}: {text}")


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _kinds(chain: list[BaseException]) -> set[str]:
    return {base.__name__ for link in chain for base in type(link).__mro__}


def diffusers_class(name: str) -> Any:
    """A class of the installed diffusers.

    Raises:
        RunError: this release does not have it.
    """
    import diffusers

    if not hasattr(diffusers, name):
        raise RunError(
            f"diffusers {diffusers.__version__} has no {name}; a newer one is needed: pip install -U diffusers"
        )
    return getattr(diffusers, name)


@contextmanager
def explained(repo: str, revision: str | None = None, key: str = "model.repo") -> Iterator[None]:
    """Turns what goes wrong inside into a `RunError`; lack of memory and our own errors pass as they are."""
    try:
        yield
    except (ConfigError, RunError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise loading_error(error, repo, revision, key) from error


def cache_only(repo: str, folder: Path | None) -> bool:
    """Whether a repository must come from the local cache, because it lies here or the hub cannot be reached.

    Asked once before its files: each of them would be retried for 23 s (huggingface_hub 2.4).
    """
    if folder is not None:
        return True
    from huggingface_hub import model_info

    try:
        model_info(repo)
    except Exception as error:
        if not _kinds(_chain(error)) & UNREACHED:
            raise
        return True
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps out log lines that say nothing: that an AutoencoderTiny is not the annotated class, and writes a key that
    it does not read; that modules to be kept in float32, of which there are none, were cast; that the hub cannot be
    reached, which our error says."""
    names = ("pipelines.pipeline_utils", "models.modeling_utils", "configuration_utils")
    loggers = [logging.getLogger(f"diffusers.{name}") for name in names]

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        about = ("Expected types for vae", "The config attributes {'block_out_channels'")
        expected = text.startswith(about) and "AutoencoderTiny" in text
        nothing_cast = "should be kept in float32: []" in text
        return not (expected or nothing_cast or text.startswith("Couldn't connect to the Hub"))

    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


def refuse_missing(missing: dict[str, list[str]], where: str) -> None:
    """Raises a `RunError` when a part lacks weights. missing: names of its weights by part; where: `key=value`."""
    for part, names in missing.items():
        if names:
            raise RunError(
                f"{where}: '{part}' is incomplete, {len(names)} of its weights are missing, the first is {names[0]}; "
                "download it again, or rehearse with model.init=tiny"
            )
