"""Reads what `replay` can run again: the config, and the result, in an image, video, record or YAML file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import ValidationError

from ..config.claim import ClaimConfig
from ..config.compose import compose_job, composer
from ..config.error_messages import EXPLAINED, explain
from ..config.wanted import refuse_wanted
from ..errors import ConfigError
from ..inputs.files import read_text
from ..inputs.yaml_documents import read_yaml
from ..records.file import read_record
from ..records.record import Record
from .claim import build_claim
from .image_config import SUFFIXES, read_image_config

COPY_NAME = "to_be_replayed"
"""Name under which the copy of an experiment is composed. No error message may contain it."""


def read_source(path: Path, *, for_replay: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the config in an image, video, record, config or experiment file, and what the file says of the result.

    Args:
        path: the file.
        for_replay: refuse an experiment without a claim, of which nothing could be compared.

    Returns:
        The config, and a dict that holds what is known of `fingerprint`; `prompts`; `pixels`, {(prompt, seed): sha256
        of the pixels}; `machine`, versions and the like by name; `claim`, the figures of a whole record; `planned`,
        False where the config leaves open what planning fills in. The claim of an experiment stays in its config.

    Raises:
        ConfigError: the file is not one that can be replayed. Broken data may also raise other exceptions.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return _read_image(path)
    if suffix == ".json":
        record = read_record(path)
        return {**record.config, "claim": None}, _describe_result(record, record.config)
    if suffix in (".yaml", ".yml"):
        return _read_yaml(path, for_replay=for_replay)
    raise ConfigError(f"{path}: give a .png, .mp4, .json or .yaml file that a run or export wrote")


def _read_yaml(path: Path, *, for_replay: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: neither a resolved config of a run nor an exported experiment")
    # An experiment may change the graph too, but only a resolved config has a graph and no defaults.
    if "graph" not in config or "defaults" in config:
        if for_replay:
            _check_claim(path, config.get("claim"))
        return _compose_experiment(path), {"planned": False}
    record = path.with_name("record.json")
    return {**config, "claim": None}, _describe_result(read_record(record), config) if record.exists() else {}


def _check_claim(path: Path, claim: Any) -> None:
    if claim is None:
        raise ConfigError(
            f"{path}: it has no claim, the figures of a run that tune and export RUN write into an experiment, and "
            "export IMAGE does not, so there is nothing to compare with; it runs as it is with --config-dir DIR "
            "experiment=NAME (DIR/experiment/NAME.yaml)"
        )
    if not isinstance(claim, dict):
        raise ConfigError(f"{path}: claim: a mapping of keys to values is needed, as export writes it")


def _compose_experiment(path: Path) -> dict[str, Any]:
    """Composes an exported experiment, with the checks for a stranger's file."""
    with compose_copy(path) as override:
        return refuse_wanted(compose_job([override], [override]), [override])


@contextmanager
def compose_copy(path: Path, config_dir: str | None = None) -> Iterator[str]:
    """Within it an experiment file can be composed, by the override that is yielded; its errors name the file.

    A copy in an empty folder is composed, so that no other file beside it has an effect.

    Args:
        path: the file, which may come from a stranger.
        config_dir: a folder of the user's whose options it may choose.

    Raises:
        ConfigError: the file is no experiment, or whatever the block raises of a wrong configuration.
    """
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    if first.lstrip("# ").split() != ["@package", "_global_"]:
        raise ConfigError(f"{path}: an experiment file begins with the line '# @package _global_'")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "experiment" / f"{COPY_NAME}.yaml"
        copy.parent.mkdir()
        copy.write_text(read_text(path), encoding="utf-8")
        override = f"experiment={COPY_NAME}"
        try:
            with composer(config_dir, folder):
                yield override
        except EXPLAINED as error:
            message = explain(error)
            in_group = f"experiment/{COPY_NAME}"
            for name in (str(copy), f"{in_group}.yaml", in_group, override, COPY_NAME):
                message = message.replace(name, str(path))
            if "no such config;" in message:
                message += "; this file is read alone, not the configs beside it"
            raise ConfigError(message) from None


def _read_image(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config, fingerprint, pixels = read_image_config(path)
    # A single image is not compared with a reference, so every option that needs one is off.
    no_reference = {
        "reference": False,
        "reference_steps": None,
        "reference_sampler": None,
        "in_turn": False,
        "noise_floor": "none",
    }
    measure = {**config["measure"], **no_reference}
    prompt = config["prompt"]
    expected = {"fingerprint": fingerprint, "prompts": [prompt], "pixels": {(prompt, config["seed"]): pixels}}
    return {**config, "measure": measure, "claim": None}, expected


def _describe_result(record: Record, config: dict[str, Any]) -> dict[str, Any]:
    """What a record says of the result of a config, its own or that of the file beside it.

    The prompts are those of the record only as long as the config was not edited to have others.
    """
    prompts = record.plan.prompts
    same = all(config.get(key) == record.config.get(key) for key in ("prompt", "prompts"))
    return {
        "fingerprint": record.fingerprint,
        "prompts": prompts if prompts and same and config.get("prompt") in (None, *prompts) else None,
        "pixels": {(sample.prompt, sample.seed): sample.pixels_sha256 for sample in record.samples},
        "machine": describe_machine(record),
        "claim": _try_claim(record) if record.status == "completed" and config == record.config else None,
    }


def _try_claim(record: Record) -> ClaimConfig | None:
    """The claim of a record, or None where its figures are missing or unusable: a replay needs only the config."""
    try:
        return build_claim(record)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ValidationError):
        return None


def describe_machine(record: Record) -> dict[str, Any]:
    """Versions, device and code by name: what may make the same config give different images."""
    environment = record.environment
    return {**environment.versions, "device_name": environment.device_name, "code": environment.code}
