"""Loading from a folder or the Hugging Face Hub: one-line explanations of loading errors, and fewer log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ConfigError, RunError, format_error, is_panic

CONFIGURATIONS = ("*.json", "*.txt", "*.model", "*.jinja")
"""Files of a repository that say what it is, and vocabularies: everything but weights, and no code."""

LOADERS = ("load_sub_model", "load_models", "_load_components")
"""Functions, one of diffusers' and two of ours, that load one component, whose name they hold in `name`."""

UNREACHABLE = {"OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ConnectionError", "ReadTimeout", "gaierror"}
"""Names of exception classes that mean: the hub did not answer."""


def explain_loading_error(
    error: BaseException, repo: str, revision: str | None = None, key: str = "model.repo"
) -> RunError:
    """Turns whatever the loading libraries raised into a one-line `RunError` that says what to do.

    The libraries wrap exceptions in each other, and differ in which. So the whole chain is searched, and classes are
    recognised by name, which avoids importing the libraries.
    """
    chain = _list_causes(error)
    names = _list_class_names(chain)
    status = {getattr(getattr(cause, "response", None), "status_code", None) for cause in chain}
    other = f"or set {key} to a local folder, or try the configuration with model.init=tiny"
    where = f"{key}={repo}" + (f" (revision {revision})" if revision else "")
    if "GatedRepoError" in names or 403 in status:
        text = (
            f"its owner must grant you access: accept the licence at https://huggingface.co/{repo} "
            f"and run `hf auth login`, {other}"
        )
    elif "RevisionNotFoundError" in names or "RevisionResolutionError" in names:
        text = f"the hub has no such revision; set model.revision=null for the newest, {other}"
    elif "RepositoryNotFoundError" in names or 401 in status:
        text = (
            f"the hub has no such repository, or it is private; check the name at https://huggingface.co/{repo}, "
            f"run `hf auth login` if it is yours, {other}"
        )
    elif names & {*UNREACHABLE, "LocalEntryNotFoundError"}:
        text = f"the hub cannot be reached and the local cache lacks it; connect to the network once, {other}"
    elif "SafetensorError" in names:
        text = f"a file is damaged ({format_error(error)}); download it again, {other}"
    else:
        what = f"{_find_component(chain)}cannot be loaded: {_describe(error)}"
        text = f"{what}; check that it is complete and of this family, {other}"
    return RunError(f"{where}: {text}")


def _describe(error: BaseException) -> str:
    """The message, with the class where it says little without: `KeyError: 'x'`."""
    text, name = format_error(error), type(error).__name__
    return text if text == name or len(text.split()) > 1 else f"{name}: {text}"


def _find_component(chain: list[BaseException]) -> str:
    """`component 'vae' (vae/config.json) `, from where the errors were raised; empty if that says nothing."""
    for error in chain:
        frame = error.__traceback__
        while frame is not None:
            name = frame.tb_frame.f_locals.get("name")
            if frame.tb_frame.f_code.co_name in LOADERS and isinstance(name, str):
                return f"component '{name}' ({name}/*.json) "
            frame = frame.tb_next
    return ""


def _list_causes(error: BaseException) -> list[BaseException]:
    """The exception and all that led to it, newest first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _list_class_names(chain: list[BaseException]) -> set[str]:
    """Names of the exceptions' classes and their base classes."""
    return {base.__name__ for error in chain for base in type(error).__mro__}


def get_diffusers_class(name: str) -> Any:
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
def explain_loading_errors(repo: str, revision: str | None = None, key: str = "model.repo") -> Iterator[None]:
    """Turns exceptions inside into a `RunError`, except lack of memory and our own errors."""
    try:
        yield
    except (ConfigError, RunError, MemoryError):
        raise
    except BaseException as error:
        if type(error).__name__ == "OutOfMemoryError" or not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise explain_loading_error(error, repo, revision, key) from error


def must_use_cache(repo: str, folder: Path | None) -> bool:
    """True if a repository can only come from local files: it is a folder, or the hub cannot be reached.

    The hub is asked once here, because huggingface_hub (2.4) would otherwise retry for 23 s on every single file.
    """
    if folder is not None:
        return True
    from huggingface_hub import model_info

    try:
        model_info(repo)
    except Exception as error:
        if not _list_class_names(_list_causes(error)) & UNREACHABLE:
            raise
        return True
    return False


def fetch_configurations(repo: str, commit: str | None) -> Path:
    """Downloads what a hub repository says of itself, so that it can be checked before anything of it is loaded.

    Args:
        repo: a hub id.
        commit: of the repository; None for the newest.

    Returns:
        The folder in the local cache, laid out like the repository; weights may be missing.
    """
    from huggingface_hub import snapshot_download

    patterns = list(CONFIGURATIONS)  # each also matches in the folders of the components
    folder = snapshot_download(
        repo, revision=commit, allow_patterns=patterns, local_files_only=must_use_cache(repo, None)
    )
    return Path(folder)


def fetch_component(repo: str, commit: str | None, name: str) -> Path:
    """Downloads one component of a hub repository, which may be a whole model or that component alone.

    Args:
        repo: a hub id.
        commit: of the repository; None for the newest.
        name: of the component.

    Returns:
        The folder in the local cache, laid out like the repository.
    """
    from huggingface_hub import snapshot_download

    own = ["config.json", "model_index.json", "diffusion_pytorch_model*.safetensors*"]
    patterns = [*own, *(f"{name}/{pattern}" for pattern in own)]
    folder = snapshot_download(
        repo, revision=commit, allow_patterns=patterns, local_files_only=must_use_cache(repo, None)
    )
    return Path(folder)


def count_weight_bytes(repo: str, commit: str | None, folder: Path) -> int:
    """Bytes of the safetensors files at the root of a hub repository.

    Args:
        repo: a hub id.
        commit: of the repository; None for the newest.
        folder: from `fetch_configurations`; weights that are in it already are counted there.
    """
    if here := sum(file.stat().st_size for file in folder.glob("*.safetensors")):
        return here
    from huggingface_hub import model_info

    files = model_info(repo, revision=commit, files_metadata=True).siblings or []
    return sum(f.size or 0 for f in files if f.rfilename.endswith(".safetensors") and "/" not in f.rfilename)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Suppresses three log lines that tell a user nothing.

    They say that an AutoencoderTiny is not the annotated class or has an unused config key; that no module had to be
    kept in float32; and that the hub cannot be reached, which our own error says where it matters.
    """
    names = ("pipelines.pipeline_utils", "models.modeling_utils", "configuration_utils")
    loggers = [logging.getLogger(f"diffusers.{name}") for name in names]

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        about_vae = ("Expected types for vae", "The config attributes {'block_out_channels'")
        expected = text.startswith(about_vae) and "AutoencoderTiny" in text
        nothing_cast = "should be kept in float32: []" in text
        return not (expected or nothing_cast or text.startswith("Couldn't connect to the Hub"))

    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


def refuse_missing_weights(missing: dict[str, list[str]], where: str) -> None:
    """Raises `RunError` if a component lacks weights. missing: component -> names; where: `key=value`."""
    for component, names in missing.items():
        if names:
            raise RunError(
                f"{where}: '{component}' is incomplete, {len(names)} of its weights are missing, the first is "
                f"{names[0]}; download it again, or try the configuration with model.init=tiny"
            )
