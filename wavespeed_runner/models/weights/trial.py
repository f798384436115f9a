"""Builds the components of a stranger's folder on trial, in a child process with bounds, before they are loaded.

What a configuration asks for can only be said by the class that reads it: how many blocks a product of two lists makes,
how large a table of positions becomes, which value ends in a panic. So each component is built once as loading builds
it, but without its weights, and whatever fails, hangs or grows there is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, format_error
from ...inputs.files import PACKAGE
from ...inputs.limits import MIB
from ...process.bounded_call import BoundedCallError, call_bounded
from .code_gate import forbid_hub_kernels
from .trial_builds import MEMORY_BYTES, PER_FILE_BYTE, build, build_all

SECONDS = 60.0
"""Of processor time, for all components together. The largest published ones take some seconds."""
SECONDS_TOGETHER = 20.0
"""For the first try, of all of them in one child."""
MOST_MEMORY_BYTES = 16384 * MIB

FAILURES = (BoundedCallError, AttributeError, ImportError, RuntimeError, ValueError)
"""What a component that cannot be built raises."""
Versions = tuple[tuple[str, int, int, int, int], ...]
"""Of each file: name, size, two times, and number."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A component that is to be loaded."""

    name: str
    """As messages call it."""
    library: str
    """As in model_index.json."""
    class_name: str
    folder: Path
    """Of its configuration."""
    weight_bytes: int | None = None
    """Size of its weights where they do not lie beside the configuration."""


def refuse_unbuildable(where: str, candidates: Iterable[Candidate]) -> None:
    """Refuses components that cannot be built within bounds. Those that passed in this process are not tried again.

    Args:
        where: `key=value` of the folder, for messages.
        candidates: components of the folder, after `check_component`.

    Raises:
        ConfigError: names the component, and what is wrong with it.
    """
    if is_trusted(where):
        return
    found = [(candidate, _list_versions(candidate.folder)) for candidate in candidates]
    untried = [each for each in found if each not in _passed]
    if len(untried) > 1 and _are_buildable(untried):
        _passed.update(untried)
        return
    end = _measure_children() + SECONDS
    for candidate, versions in untried:
        if (left := end - _measure_children()) < 1:
            raise ConfigError(f"{where}: building its components takes more than {SECONDS:g} seconds")
        _refuse(where, candidate, versions, left)
        _passed.add((candidate, versions))


def _measure_children() -> float:
    """Processor time in seconds that children of this process took."""
    times = os.times()
    return times.children_user + times.children_system


def is_trusted(where: str) -> bool:
    """True for `key=value` of what lies in an installed package."""
    return where.partition("=")[2].startswith(PACKAGE)


_passed: set[tuple[Candidate, Versions]] = set()


def _list_versions(folder: Path) -> Versions:
    """Changes whenever a file of the folder, or of those in it, does."""
    files = sorted(file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.is_file())
    states = [(file, file.stat()) for file in files]
    return tuple((str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for file, s in states)


def _are_buildable(untried: list[tuple[Candidate, Versions]]) -> bool:
    """True where one child builds them all, in the memory that each may take: most of the time goes into children.

    Where it does not, each is tried alone, which says what is wrong with which.
    """
    sizes = [_measure_files(*each) for each in untried]
    try:
        parts = [
            (find_class(candidate), str(candidate.folder), held)
            for (candidate, _), (held, _) in zip(untried, sizes, strict=True)
        ]
        memory = min(memory for _, memory in sizes)
        call_bounded(build_all, parts, seconds=SECONDS_TOGETHER, memory_bytes=memory)
    except FAILURES:
        return False
    return True


def _measure_files(candidate: Candidate, versions: Versions) -> tuple[int, int]:
    """Bytes of a component's weights, and those of memory that it may take while it is built."""
    held = candidate.weight_bytes
    if held is None:
        held = sum(size for name, size, *_ in versions if name.endswith(".safetensors"))
    size = max(held, sum(size for _, size, *_ in versions))
    return held, min(MEMORY_BYTES + PER_FILE_BYTE * size, MOST_MEMORY_BYTES)


def _refuse(where: str, candidate: Candidate, versions: Versions, seconds: float) -> None:
    """Refuses one component."""
    held, memory = _measure_files(candidate, versions)
    try:
        component_class = find_class(candidate)  # here, because what a child imports is lost with it
        call_bounded(build, component_class, str(candidate.folder), held, seconds=seconds, memory_bytes=memory)
    except FAILURES as error:
        way_out = ", or try the configuration with model.init=tiny" if where.startswith("model.") else ""
        raise ConfigError(
            f"{where}: component '{candidate.name}' ({candidate.class_name}, {candidate.folder.name}/*.json) cannot be "
            f"built: {format_error(error)}; check that it is complete and of this family{way_out}"
        ) from None


def find_class(candidate: Candidate) -> Any:
    """The class that diffusers would load the component with. Raises `ValueError` and others where there is none."""
    from diffusers import OnnxRuntimeModel, pipelines
    from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, get_class_obj_and_candidates

    forbid_hub_kernels()
    library = candidate.library
    is_pipeline_module = hasattr(pipelines, library)
    found, bases = get_class_obj_and_candidates(
        library, candidate.class_name, ALL_IMPORTABLE_CLASSES, pipelines, is_pipeline_module
    )
    is_class = isinstance(found, type) and hasattr(found, "from_pretrained")
    if not is_class or not any(base is not None and issubclass(found, base) for base in bases.values()):
        raise ValueError(f"{library}.{candidate.class_name} is no class that could be loaded")
    if issubclass(found, OnnxRuntimeModel):
        raise ValueError("models of ONNX are not run here")
    return found
