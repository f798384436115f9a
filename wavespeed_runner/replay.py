"""Runs a picture, a video, a record, a config or an exported experiment again and says whether the result is the same.

    python -m wavespeed_runner.replay PICTURE|VIDEO|record.json|config.yaml|EXPERIMENT.yaml [outputs=DIR]
        [device=DEVICE] [prompts.path=FILE] [image=FILE] [mask=FILE]

Everything is computed again, nothing is taken from the store. Exit status: 0 the same pictures, pixel for pixel, or
nothing to compare with; 1 other pictures, or a failure; 2 not something that can be replayed.

Of an exported experiment the claimed figures are judged, see `claims.py`: reproduced or within noise, 0; not
reproduced, and why, 1. Of a record they are shown beside the new ones.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from . import trust
from .errors import ConfigError, one_line, printable

if TYPE_CHECKING:
    from .claims import Judged
    from .config import ClaimConfig
    from .plan import Plan

USAGE = "python -m wavespeed_runner.replay PICTURE|VIDEO|record.json|config.yaml|EXPERIMENT.yaml [outputs=DIR]"
MAY_SET = ("outputs", "device", "prompts.path", "image", "mask")


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from .cli import guarded

    return guarded(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    from .logs import log_to
    from .report.console import show, show_failure
    from .runner import run_plan

    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    path, values = _arguments(arguments)
    plan, claims = _planned(path, values)
    folder = Path(plan.config.outputs) / "runs" / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-replay"
    log_to(folder)
    record = run_plan(plan, folder, [f"replay={path}"])
    if record["status"] != "completed":
        show_failure(record)
        return 1
    show(record)
    if plan.config.claim is not None:
        return _judge(record, plan.config.claim)
    status = _compare(record, claims, plan.fingerprint)
    _show_figures(record, claims.get("claim"))
    return status


def _planned(path: Path, values: dict[str, str]) -> tuple[Plan, dict[str, Any]]:
    """The plan of what the file says, and what it claims.

    Raises:
        One of `messages.EXPLAINED`, whatever is in the file: it may come from a stranger.
    """
    from .messages import EXPLAINED
    from .plan import build_plan

    try:
        config, claims = read(path)
        prompts = claims.get("prompts")
        if prompts:
            # Given as they are: what looks like an interpolation in a prompt is none.
            config = {**config, "prompt": None}
        if "prompts.path" in values:
            if prompts:
                raise ConfigError(f"prompts.path={values['prompts.path']}: {path} says what its prompts are")
            config = {**config, "prompt": None, "prompts": {"path": values["prompts.path"]}}
        elif not prompts and config.get("prompt") is None:
            trust.check_prompt_file(config)
        trust.check_pictures(config, (f"{key}=" for key in values))
        given = {key: value for key, value in values.items() if key != "prompts.path"}
        config = {**config, "outputs": "outputs", **given, "dry_run": False, "rerun": True}
        trust.check_values(config)
        return build_plan(config, prompts), claims
    except EXPLAINED:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: nothing that a run has left: {type(error).__name__}: {one_line(error)}") from error


def _arguments(arguments: list[str]) -> tuple[Path, dict[str, str]]:
    values = dict(a.split("=", 1) for a in arguments if a.partition("=")[0] in MAY_SET and "=" in a)
    paths = [a for a in arguments if a.partition("=")[0] not in MAY_SET]
    if len(paths) != 1:
        raise ConfigError(f"one file is needed: {USAGE}")
    if not Path(paths[0]).is_file():
        raise ConfigError(f"{paths[0]}: no such file; {USAGE}")
    return Path(paths[0]), values


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config in a picture, record or config file, and what is claimed of its result.

    Claims: `fingerprint`; `prompts`; `pixels`: {(prompt, seed): sha256 of the pixels}; `machine`: versions and the
    like, by name; `claim`: figures of a whole record. Each only where it is known. An exported experiment's claim is in
    its config.

    Raises:
        ConfigError, or what broken data makes Python raise: nothing of ours in it.
    """
    from .record import PICTURE_KEY, read_record

    if path.suffix.lower() in (".png", ".mp4"):
        return _read_picture(path, PICTURE_KEY)
    if path.suffix.lower() == ".json":
        record = read_record(path)
        return {**record["config"], "claim": None}, _claims(record, record["config"])
    if path.suffix.lower() in (".yaml", ".yml"):
        with path.open(encoding="utf-8") as file:
            config = yaml.safe_load(file)
        if isinstance(config, dict) and "graph" not in config and config.get("claim") is not None:
            return _composed(path), {}
        if not isinstance(config, dict) or "graph" not in config:
            raise ConfigError(
                f"{path}: not a resolved config of a run, nor an exported experiment with its claim; other experiments "
                "run with experiment=NAME --config-dir DIR"
            )
        beside = path.with_name("record.json")
        return {**config, "claim": None}, _claims(read_record(beside), config) if beside.exists() else {}
    raise ConfigError(f"{path}: a .png, .mp4, .json or .yaml that a run has left is needed")


def _composed(path: Path) -> dict[str, Any]:
    """The config that an exported experiment composes to, checked as any stranger's; from a copy, so that no other file
    of its folder has a say."""
    import shutil
    import tempfile

    from .compose import compose_job, composer

    with tempfile.TemporaryDirectory() as folder:
        name = "to_be_replayed"
        (Path(folder) / "experiment").mkdir()
        shutil.copyfile(path, Path(folder) / "experiment" / f"{name}.yaml")
        with composer(folder):
            return compose_job([f"experiment={name}"], [f"experiment={name}"])


def _read_picture(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import json

    try:
        metadata, pixels = _pixels_of_video(path) if path.suffix.lower() == ".mp4" else _pixels_of_picture(path)
        about = json.loads(metadata[key])
        config, fingerprint = about["config"], about["fingerprint"]
    except KeyError:
        raise ConfigError(
            f"{path}: this picture carries no config of ours (a screenshot, or saved by another program)"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable picture or video: {error}") from None
    alone = {"reference": False, "reference_steps": None, "noise_floor": "none"}
    measure = {**config["measure"], **alone}
    prompt = config["prompt"]
    claims = {
        "fingerprint": fingerprint,
        "prompts": [prompt],
        "pixels": {(prompt, config["seed"]): pixels},
    }
    return {**config, "measure": measure, "claim": None}, claims


def _pixels_of_picture(path: Path) -> tuple[dict[str, str], str]:
    """The file's metadata, and the hash of its pixels."""
    from .pictures import pixels_sha256, read_png

    pixels, metadata = read_png(path)
    return metadata, pixels_sha256(pixels)


def _pixels_of_video(path: Path) -> tuple[dict[str, str], str]:
    """The file's metadata, and the hash in it: a video that was encoded is not what it was made of."""
    from .record import PIXELS
    from .videos import read_metadata

    metadata = read_metadata(path)
    return metadata, metadata[PIXELS]


def _claims(record: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What the record says of a config, its own or one beside it; the prompts only where nobody put in others since."""
    from .claims import claim_of

    pixels = {(s["prompt"], s["seed"]): s["pixels_sha256"] for s in record["samples"]}
    prompts = record["plan"].get("prompts") or []
    same = all(config.get(key) == record["config"].get(key) for key in ("prompt", "prompts"))
    return {
        "fingerprint": record["fingerprint"],
        "prompts": prompts if prompts and same and config.get("prompt") in (None, *prompts) else None,
        "pixels": pixels,
        "machine": _machine(record),
        "claim": claim_of(record) if record.get("status") == "completed" and config == record["config"] else None,
    }


def _machine(record: dict[str, Any]) -> dict[str, Any]:
    """What may make the same config give other pictures."""
    environment = record["environment"]
    return {**environment["versions"], **{key: environment[key] for key in ("device_name", "code")}}


def _judge(record: dict[str, Any], claim: ClaimConfig) -> int:
    """Says whether the claim holds, part by part, and if not what may be why."""
    from .claims import NOT_REPRODUCED, REPRODUCED, differences, judge, verdict_of

    parts = judge(claim, record)
    verdict = verdict_of(parts)
    short = [part.what for part in parts if part.verdict == NOT_REPRODUCED]
    why = differences(claim, record) or ["nothing else differs: this machine does not repeat itself, or was busy"]
    off = f" ({', '.join(short)})" if short else ""
    print(printable(f"replay: {verdict}{off}" + (f"; what differs: {', '.join(why)}" if verdict != REPRODUCED else "")))
    _print(parts)
    return 1 if verdict == NOT_REPRODUCED else 0


def _show_figures(record: dict[str, Any], claim: ClaimConfig | None) -> None:
    """The figures of a record that was run again, beside its own; what the pictures say has been said."""
    from .claims import judge

    _print([part for part in judge(claim, record) if part.what != "pictures"] if claim is not None else [])


def _print(parts: list[Judged]) -> None:
    for part in parts:
        print(f"  {part.what:16}{printable(part.text)}" + (f": {part.verdict}" if part.verdict else ""))


def _compare(record: dict[str, Any], claims: dict[str, Any], fingerprint: str) -> int:
    """Says how the new pictures compare with the claimed ones."""
    claimed = claims.get("pixels", {})
    found = {(s["prompt"], s["seed"]): s["pixels_sha256"] for s in record["samples"]}
    if not claimed:
        print("replay: done; there was no earlier result to compare with")
        return 0
    same = sum(found.get(key) == digest for key, digest in claimed.items())
    if same == len(claimed):
        print(f"replay: identical, {same} of {len(claimed)} pictures are the same, pixel for pixel")
        return 0
    why = "; nothing else differs: the file was edited, or this machine does not repeat itself"
    if claims.get("fingerprint") != fingerprint:
        why = _why(claims, record)
    print(printable(f"replay: not identical, {same} of {len(claimed)} pictures are the same{why}"))
    return 1


def _why(claims: dict[str, Any], record: dict[str, Any]) -> str:
    """What differs between the two machines, where the claim says what it was."""
    then, now = claims.get("machine"), _machine(record)
    if not then:
        return "; other versions, other hardware or other weights (the fingerprints differ)"
    differing = [f"{key} {then.get(key)} -> {value}" for key, value in now.items() if then.get(key) != value]
    if differing:
        return f"; what changed: {', '.join(differing)}"
    return "; other weights, or the config was edited (the fingerprints differ)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
