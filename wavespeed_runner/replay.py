"""Runs a picture, a record or a config again and says whether the result is the same.

    python -m wavespeed_runner.replay PICTURE|record.json|config.yaml [outputs=DIR] [device=DEVICE] [prompts.path=FILE]

Everything is computed again, nothing is taken from the store. Exit status: 0 the same pictures, pixel for pixel, or
nothing to compare with; 1 other pictures, or a failure; 2 not something that can be replayed.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from . import trust
from .errors import ConfigError

USAGE = "python -m wavespeed_runner.replay PICTURE|record.json|config.yaml [outputs=DIR] [device=DEVICE]"
MAY_SET = ("outputs", "device", "prompts.path")


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    from .cli import guarded

    return guarded(lambda: _main(arguments))


def _main(arguments: list[str]) -> int:
    from .logs import log_to
    from .plan import build_plan
    from .report.console import show, show_failure
    from .runner import run_plan

    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    path, values = _arguments(arguments)
    config, claims = read(path)
    if "prompts.path" in values:
        config["prompts"] = {"path": values.pop("prompts.path")}
    elif config.get("prompt") is None:
        trust.check_prompt_file(config)
    config = {**config, "outputs": "outputs", **values, "dry_run": False, "rerun": True}
    trust.check_values(config)
    plan = build_plan(config)
    folder = Path(plan.config.outputs) / "runs" / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-replay"
    log_to(folder)
    record = run_plan(plan, folder, [f"replay={path}"])
    if record["status"] != "completed":
        show_failure(record)
        return 1
    show(record)
    return _compare(record, claims, plan.fingerprint)


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

    Claims: `fingerprint`, and `pixels`: {(prompt, seed): sha256 of the pixels}; each only where it is known.

    Raises:
        ConfigError: nothing of ours in it.
    """
    from .record import PICTURE_KEY, read_record

    if path.suffix.lower() == ".png":
        return _read_picture(path, PICTURE_KEY)
    if path.suffix.lower() == ".json":
        record = read_record(path)
        return record["config"], _claims(record)
    if path.suffix.lower() in (".yaml", ".yml"):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "graph" not in config:
            raise ConfigError(
                f"{path}: not a resolved config of a run; experiments run with experiment=NAME --config-dir DIR"
            )
        beside = path.with_name("record.json")
        return config, _claims(read_record(beside)) if beside.exists() else {}
    raise ConfigError(f"{path}: a .png, .json or .yaml that a run has left is needed")


def _read_picture(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import json

    from .pictures import pixels_sha256, read_png

    try:
        pixels, metadata = read_png(path)
        about = json.loads(metadata[key])
        config, fingerprint = about["config"], about["fingerprint"]
    except KeyError:
        raise ConfigError(
            f"{path}: this picture carries no config of ours (a screenshot, or saved by another program)"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable picture: {error}") from None
    measure = {**config["measure"], "reference": False}
    claims = {"fingerprint": fingerprint, "pixels": {(config["prompt"], config["seed"]): pixels_sha256(pixels)}}
    return {**config, "measure": measure}, claims


def _claims(record: dict[str, Any]) -> dict[str, Any]:
    pixels = {(s["prompt"], s["seed"]): s["pixels_sha256"] for s in record["samples"]}
    return {"fingerprint": record["fingerprint"], "pixels": pixels, "environment": record["environment"]}


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
    why = "" if claims.get("fingerprint") == fingerprint else _why(claims, record)
    print(f"replay: not identical, {same} of {len(claimed)} pictures are the same{why}")
    return 1


def _why(claims: dict[str, Any], record: dict[str, Any]) -> str:
    """What differs between the two machines, where the claim says what it was."""
    then, now = claims.get("environment"), record["environment"]
    if not then:
        return "; other versions, other hardware or other weights (the fingerprints differ)"
    differing = [
        f"{key} {then['versions'].get(key)} -> {value}"
        for key, value in now["versions"].items()
        if then["versions"].get(key) != value
    ]
    differing += [f"{k} {then[k]} -> {now[k]}" for k in ("device_name", "code") if then[k] != now[k]]
    return f"; what changed: {', '.join(differing)}" if differing else "; other weights (the fingerprints differ)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
