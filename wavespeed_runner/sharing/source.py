"""What can be run again: the config in an image, video, record, config or experiment file, and what it claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import ConfigError
from ..records.file import read_record
from ..records.new import IMAGE_KEY, PIXELS
from ..records.record import Record

if TYPE_CHECKING:
    from ..config.claim import ClaimConfig

COPY = "to_be_replayed"
"""Under which name an experiment is composed; no message of ours may hold it."""


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config in an image, record or config file, and what is claimed of its result.

    Claims: `fingerprint`; `prompts`; `pixels`: {(prompt, seed): sha256 of the pixels}; `machine`: versions and the
    like, by name; `claim`: figures of a whole record. Each only where it is known. An exported experiment's claim is in
    its config.

    Raises:
        ConfigError, or what broken data makes Python raise: nothing of ours in it.
    """
    if path.suffix.lower() in (".png", ".mp4"):
        return _read_image(path, IMAGE_KEY)
    if path.suffix.lower() == ".json":
        record = read_record(path)
        return {**record.config, "claim": None}, _claims(record, record.config)
    if path.suffix.lower() in (".yaml", ".yml"):
        with path.open(encoding="utf-8") as file:
            config = yaml.safe_load(file)
        # An experiment may change the graph too; a resolved config has no defaults.
        if isinstance(config, dict) and ("graph" not in config or "defaults" in config):
            _check_claim(path, config.get("claim"))
            return _composed(path), {}
        if not isinstance(config, dict):
            raise ConfigError(f"{path}: neither a resolved config of a run nor an exported experiment")
        beside = path.with_name("record.json")
        return {**config, "claim": None}, _claims(read_record(beside), config) if beside.exists() else {}
    raise ConfigError(f"{path}: a .png, .mp4, .json or .yaml that a run has left is needed")


def _check_claim(path: Path, claim: Any) -> None:
    if claim is None:
        raise ConfigError(
            f"{path}: neither a resolved config of a run nor an experiment with a claim, so there is nothing to "
            "compare with; an experiment runs with --config-dir DIR experiment=NAME (DIR/experiment/NAME.yaml)"
        )
    if not isinstance(claim, dict):
        raise ConfigError(f"{path}: claim: keys and their values are needed, as export writes them")


def _composed(path: Path) -> dict[str, Any]:
    """Composes an exported experiment and returns the config, checked like any stranger's.

    From a copy, so that no other file in its folder has an influence.
    """
    import shutil
    import tempfile

    from ..config.compose import compose_job, composer
    from ..config.error_messages import EXPLAINED, explain

    first = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()), "")
    if first.lstrip("# ").split() != ["@package", "_global_"]:
        raise ConfigError(f"{path}: an experiment file begins with the line '# @package _global_'")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "experiment" / f"{COPY}.yaml"
        copy.parent.mkdir()
        shutil.copyfile(path, copy)
        try:
            with composer(folder):
                return compose_job([f"experiment={COPY}"], [f"experiment={COPY}"])
        except EXPLAINED as error:
            said = explain(error)
            for name in (str(copy), f"experiment/{COPY}.yaml", f"experiment/{COPY}", f"experiment={COPY}", COPY):
                said = said.replace(name, str(path))
            alone = "; a file is replayed alone, without those beside it" if "no such config;" in said else ""
            raise ConfigError(f"{said}{alone}") from None


def _read_image(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import json

    try:
        metadata, pixels = _pixels_of_video(path) if path.suffix.lower() == ".mp4" else _pixels_of_image(path)
        about = json.loads(metadata[key])
        config, fingerprint = about["config"], about["fingerprint"]
    except KeyError:
        raise ConfigError(
            f"{path}: this image carries no config of ours (a screenshot, or saved by another program)"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable image or video: {error}") from None
    # All that needs a reference, which a single image is not compared with.
    alone = {"reference": False, "reference_steps": None, "in_turn": False, "noise_floor": "none"}
    measure = {**config["measure"], **alone}
    prompt = config["prompt"]
    claims = {
        "fingerprint": fingerprint,
        "prompts": [prompt],
        "pixels": {(prompt, config["seed"]): pixels},
    }
    return {**config, "measure": measure, "claim": None}, claims


def _pixels_of_image(path: Path) -> tuple[dict[str, str], str]:
    """The file's metadata, and the hash of its pixels."""
    from ..media.images import hash_image, read_png

    pixels, metadata = read_png(path)
    return metadata, hash_image(pixels)


def _pixels_of_video(path: Path) -> tuple[dict[str, str], str]:
    """The file's metadata, and the hash in it: a video that was encoded is not what it was made of."""
    from ..media.videos import read_metadata

    metadata = read_metadata(path)
    return metadata, metadata[PIXELS]


def _claims(record: Record, config: dict[str, Any]) -> dict[str, Any]:
    """What the record says of a config, its own or one beside it; the prompts only where nobody put in others since."""
    pixels = {(sample.prompt, sample.seed): sample.pixels_sha256 for sample in record.samples}
    prompts = record.plan.prompts
    same = all(config.get(key) == record.config.get(key) for key in ("prompt", "prompts"))
    return {
        "fingerprint": record.fingerprint,
        "prompts": prompts if prompts and same and config.get("prompt") in (None, *prompts) else None,
        "pixels": pixels,
        "machine": machine_of(record),
        "claim": _figures(record) if record.status == "completed" and config == record.config else None,
    }


def _figures(record: Record) -> ClaimConfig | None:
    """None where the record lacks some of them, or has what is none: replaying it takes no more than its config."""
    from .claim import claim_of

    try:
        return claim_of(record)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def machine_of(record: Record) -> dict[str, Any]:
    """What may make the same config give other images, as far as the record says it."""
    environment = record.environment
    return {**environment.versions, "device_name": environment.device_name, "code": environment.code}
