"""Reads the weights of a judge's network from a safetensors file, each tensor of which has its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..inputs.documents import read_safetensors_header
from ..inputs.files import InputError, resolve_path
from ..models.weights.safetensors_file import PLAIN, find_damage, read_numbers

if TYPE_CHECKING:
    from torch import Tensor

DOCS = "docs/metrics.md says how to make it"


def check_weights(
    key: str, path: str | None, shapes: Mapping[str, tuple[int, ...]], sums: Iterable[str], divisors: Iterable[str]
) -> None:
    """Refuses a file that does not hold exactly these tensors, by its header; no torch is loaded, nothing fetched.

    Args:
        key: that names the file.
        path: of the file.
        shapes: of all of its tensors.
        sums: those that weigh the parts of a sum, at least 0: with others a worse image would be a better one.
        divisors: those that something is divided by.

    Raises:
        ConfigError: names the key, and what is missing.
    """
    if path is None:
        raise ConfigError(f"{key}=null: published weights are needed, and none are fetched; {key}=FILE ({DOCS})")
    where, file = f"{key}={path}", resolve_path(path)
    if file.suffix.lower() != ".safetensors":
        raise ConfigError(f"{where}: a .safetensors file is needed ({DOCS})")
    header = _read_header(where, file)
    header.pop("__metadata__", None)
    for name, shape in shapes.items():
        if name not in header:
            raise ConfigError(f"{where}: it has no tensor '{name}' ({DOCS})")
        if (own := tuple(header[name]["shape"])) != shape:
            raise ConfigError(f"{where}: '{name}' has the shape {own}, and {shape} is needed ({DOCS})")
        if (kind := header[name]["dtype"]) not in PLAIN:
            raise ConfigError(f"{where}: '{name}' is stored as {kind}; allowed: {', '.join(PLAIN)}")
    if extra := sorted(header.keys() - shapes.keys()):
        raise ConfigError(f"{where}: '{extra[0]}' has no place in this network ({DOCS})")
    for name, wanted, fits in _list_wanted(sums, divisors):
        wrong = next((number for number in read_numbers(file, name) if not (fits(number) and number < inf)), None)
        if wrong is not None:
            raise ConfigError(f"{where}: '{name}' holds {wrong:g}; {wanted} ({DOCS})")


def _list_wanted(sums: Iterable[str], divisors: Iterable[str]) -> Iterator[tuple[str, str, Callable[[float], bool]]]:
    """Name of a tensor, what its numbers are, and whether one is that."""
    for name in sums:
        yield name, "its numbers weigh the parts of a sum and are at least 0", lambda number: number >= 0
    for name in divisors:
        yield name, "something is divided by its numbers, which are above 0", lambda number: number > 0


def _read_header(where: str, file: Path) -> dict[str, Any]:
    try:
        if damage := find_damage(file):
            raise InputError(f"damaged: {damage}; copy it again")
        return read_safetensors_header(file)[0]
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or error}; give the file ({DOCS})") from None
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from None


def read_weights(path: str | None) -> dict[str, Tensor]:
    """Reads a file that `check_weights` has passed, in float32."""
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(resolve_path(str(path))).items()}
