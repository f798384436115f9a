"""The record: one JSON a run, enough to judge it and to replay it. Layout: the README's section on records."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from ..config.environment import describe_environment
from ..config.schema import KEYS_NOT_IN_IMAGES, Config, to_data
from ..errors import ConfigError
from ..planning.plan import Plan
from ..storage.atomic import write_text

SCHEMA_VERSION = 1
IMAGE_KEY = "wavespeed_runner"
"""The PNG text chunk, and the MP4 tag, that holds an image's config and fingerprint, as JSON."""
PIXELS = "pixels_sha256"
"""The MP4 tag that holds the hash of the frames as they were before they were encoded."""


def new_record(plan: Plan, overrides: list[str]) -> dict[str, Any]:
    """A record of a run that has not begun: every key is there from the start."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "interrupted",
        "error": None,
        "fingerprint": plan.fingerprint,
        "config": to_data(plan.config),
        "overrides": overrides,
        "environment": describe_environment(plan.config.device),
        "plan": {
            "stages": list(plan.graph.nodes),
            "prompts": [sample.prompt for sample in plan.samples[:: plan.config.num_images_per_prompt]],
            "verdicts": [asdict(spoken) for spoken in plan.verdicts],
            "changes": [asdict(change) for change in plan.changes],
        },
        "reference": {"kind": plan.reference_kind},
        "engaged": {"cache": None, "adapters": None, "memory": None},
        "stages": [],
        "samples": [],
        "cache": None,
        "timing": None,
        "quality": None,
        "noise_floor": None,
        "warnings": [],
    }


def cache_summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Hits and computed steps over all samples; `computed_steps` (counted from 1) once when all samples agree."""
    lists = [[step["index"] for step in sample["steps"] if step["computed"]] for sample in samples]
    total = sum(len(sample["steps"]) for sample in samples)
    computed = sum(map(len, lists))
    same = all(steps == lists[0] for steps in lists)
    return {
        "hits": total - computed,
        "computed": computed,
        "computed_steps": lists[0] if same and lists else lists,
        "hit_rate": (total - computed) / total if total else 0.0,
        # By the calibration, where there is one of this run: {"calibration", "computed_steps"}.
        "foretold": None,
    }


def timing_summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Denoising seconds an image, raw and summarised; the speed-up is the ratio of the medians."""
    from ..metrics.timing import summarize_timings

    found = summarize_timings([s for sample in samples for s in sample["raw_seconds"]])
    references = [s for sample in samples for s in sample.get("reference_raw_seconds", [])]
    reference = median(references) if references else None
    return {
        "first_call": samples[0]["first_call"],
        **found,
        "reference_raw": references or None,
        "reference_median": reference,
        "speedup": reference / found["median"] if reference else None,
        # Only then did the two see the same machine in the same minutes.
        "same_run": all(sample.get("timed_together", False) for sample in samples) if references else None,
    }


def image_data(config: Config, prompt: str, seed: int, fingerprint: str) -> dict[str, str]:
    """What an image carries: the config that makes this one image, and the fingerprint of its run."""
    data = {key: value for key, value in to_data(config).items() if key not in KEYS_NOT_IN_IMAGES}
    data.update(prompt=prompt, seed=seed, num_images_per_prompt=1)
    return {IMAGE_KEY: json.dumps({"config": data, "fingerprint": fingerprint}, sort_keys=True)}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Leaves out where the folder lies: it may move."""
    shared = {key: value for key, value in record.items() if key != "output_dir"}
    write_text(folder / "record.json", json.dumps(shared, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Raises `ConfigError` when it is no record of a version that we know."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable record: {error}") from None
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION or "config" not in record:
        raise ConfigError(f"{path}: not a record of schema version {SCHEMA_VERSION}")
    return record


def write_config(folder: Path, plan: Plan) -> None:
    """The resolved config beside the record, for people: `replay` takes it too."""
    head = f"# Run it again: python -m wavespeed_runner replay config.yaml\n# fingerprint: {plan.fingerprint}\n"
    write_text(folder / "config.yaml", head + yaml.safe_dump(to_data(plan.config), sort_keys=False, allow_unicode=True))
