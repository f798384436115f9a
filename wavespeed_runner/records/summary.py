"""What one completed record says: its time, its share of the work, and how close its images are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..config.lossy import (
    LOSSY_GROUPS,
    LOSSY_MEMORY_KEYS,
    find_caches,
    is_lossy,
    is_lossy_beside_caches,
    is_option_on,
)
from ..metrics.quality import LESS_IS_BETTER
from ..metrics.statistics import Interval, bootstrap_interval

METRICS = ("mae", "mae_similarity", "ssim", "psnr")
FIGURES = ("first_call", "median", "p90", "mad", "reference_median", "speedup")
GREATEST = 1e12
"""No time and no likeness is beyond it."""
SETTINGS = ("cache", "memory", "batch_size", "measure", "steps")
"""Top-level keys of a config in which two jobs may differ and still be judged by one another."""
NO_PART = ("claim", "outputs", "dry_run", "rerun")
"""Top-level keys that are no part of what is run."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One metric over the images of a job."""

    mean: Interval
    worst: float
    worst_prompt: str
    worst_seed: int
    noise_floor: float | None
    """The metric's value where nothing lossy differs: the reference run twice, or other numerics. None: it was
    not measured."""


def measured(record: dict[str, Any]) -> dict[str, Any]:
    """Fields of a row that follow from its record alone."""
    _check(record)
    samples, config, timing = record["samples"], record["config"], record["timing"] or {}
    compared = record["reference"]["kind"] == "run"
    theirs = reference_steps(record)
    many = len({sample["prompt"] for sample in samples}) > 1
    several = len(samples) > 1
    timed = [
        # Of a single image its repetitions are drawn, of a single prompt its images.
        ((sample["prompt"] if many else number) if several else (number, i), seconds)
        for number, sample in enumerate(samples)
        for i, seconds in enumerate(sample["raw_seconds"])
    ]
    reference = timing.get("reference_median") or 0
    return {
        "seconds": bootstrap_interval(timed, "median") if timed else None,
        "reference_seconds": reference if compared and reference > 0 else None,
        "speedup": timing.get("speedup") if compared else None,
        "same_run": bool(timing.get("same_run")),
        "computed_share": computed_share(record),
        "never_hit": never_hit(record),
        "same_work": never_hit(record) and not is_lossy_beside_caches(config) and config["steps"] >= theirs,
        "quality": _quality(record) if compared else {},
        "compared_with": _hashed(_comparable(record, theirs)) if compared else "",
        "rivals_with": _hashed([_comparable(record, theirs), *_way(config)]) if compared else "",
        "rival": compared and not is_lossy(config) and config["steps"] < theirs,
    }


def _check(record: dict[str, Any]) -> None:
    """Whether everything that a report reads is of the kind that it takes it for.

    Raises:
        TypeError, KeyError: names what is not.
    """
    config, environment = record["config"], record["environment"]
    _expect(dict, config=config, environment=environment, reference=record["reference"], plan=record["plan"])
    _expect(dict, model=config["model"], measure=config["measure"], graph=config["graph"])
    _expect(dict, versions=environment["versions"])
    _expect(str, device_name=environment["device_name"], name=config["model"]["name"])
    _expect(int, steps=config["steps"], reference_steps=reference_steps(record))
    timing = record["timing"] or {}
    _expect(list, samples=record["samples"], raw=timing.get("raw", []))
    _number(**{name: value for name, value in timing.items() if name in FIGURES and value is not None})
    for sample in record["samples"]:
        _expect(str, prompt=sample["prompt"])
        _expect(int, seed=sample["seed"])
        _expect(list, raw_seconds=sample["raw_seconds"], sample_steps=sample["steps"])
        _number(**{f"raw_seconds_{i}": value for i, value in enumerate(sample["raw_seconds"])})
        quality = sample.get("quality") or {}
        _number(**{name: quality[name] for name in METRICS if quality.get(name) is not None})


def _expect(kind: type, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} is no {kind.__name__}")


def _number(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < GREATEST:
            raise TypeError(f"{name} is no number")


def reference_steps(record: dict[str, Any]) -> int:
    """How many the reference of this run had."""
    steps = record["config"]["measure"].get("reference_steps") or record["config"]["steps"]
    return int(steps)


def computed_share(record: dict[str, Any]) -> float | None:
    """Of the reference's work, as FLOPs of blocks where they were counted, else as steps; fewer steps than the
    reference's count as well. None: nothing was finished, or calls of modules inside of steps were skipped, and what
    part of the work these are nobody has counted."""
    share = _own_share(record)
    return None if share is None else share * record["config"]["steps"] / reference_steps(record)


def _own_share(record: dict[str, Any]) -> float | None:
    """What was computed of the work of its own steps."""
    evidence = _evidence(record)
    if not record["samples"] or "modules" in evidence:
        return None
    share = evidence.get("flop_share")
    if share is None:
        steps = [step["computed"] for sample in record["samples"] for step in sample["steps"]]
        share = sum(steps) / len(steps) if steps else None
    return None if share is None else float(share)


def never_hit(record: dict[str, Any]) -> bool:
    """Whether a cache was on, for all stages or for one, and nothing was taken from it."""
    on = any(is_option_on(cache) for cache in find_caches(record["config"]))
    evidence = _evidence(record)
    return on and not evidence.get("hits") and ("modules" in evidence or _own_share(record) == 1)


def _evidence(record: dict[str, Any]) -> dict[str, Any]:
    """What the cache's hooks have counted; empty without any."""
    return (record.get("engaged") or {}).get("cache") or {}


def _quality(record: dict[str, Any]) -> dict[str, Quality]:
    """Each metric that has a value: PSNR of images that are all identical to their references has none.

    As in a record's own summary, identical images are left out of the mean PSNR, which makes it pessimistic.
    """
    found = {}
    measured = [sample for sample in record["samples"] if sample.get("quality")]
    for metric in METRICS:
        samples = [sample for sample in measured if sample["quality"].get(metric) is not None]
        if samples:
            values = [(sample["prompt"], sample["quality"][metric]) for sample in samples]
            worst = (max if metric in LESS_IS_BETTER else min)(samples, key=lambda s: s["quality"][metric])
            found[metric] = Quality(
                mean=bootstrap_interval(values, "mean"),
                worst=worst["quality"][metric],
                worst_prompt=worst["prompt"],
                worst_seed=worst["seed"],
                noise_floor=_noise_floor(record, metric),
            )
    return found


def _noise_floor(record: dict[str, Any], metric: str) -> float | None:
    """The least likeness of the reference to itself, of all the ways in which it was measured."""
    floors = record.get("noise_floor") or {}
    known = [own[metric] for own in floors.values() if isinstance(own, dict) and own.get(metric) is not None]
    return float((max if metric in LESS_IS_BETTER else min)(known)) if known else None


def _comparable(record: dict[str, Any], theirs: int) -> list[Any]:
    """What a row is compared with, on which prompts and which hardware."""
    config = {key: value for key, value in record["config"].items() if key not in (*SETTINGS, *NO_PART)}
    stages = {
        name: {**stage, "options": _without_lossy_groups(stage["options"])}
        for name, stage in config["graph"]["stages"].items()
    }
    config["graph"] = {**config["graph"], "stages": stages}
    return [config, theirs, record["plan"]["prompts"], record["environment"]["device_name"]]


def _way(config: dict[str, Any]) -> list[Any]:
    """What changes the time of the reference and its rivals as much as that of a setting."""
    memory = {key: value for key, value in (config.get("memory") or {}).items() if key not in LOSSY_MEMORY_KEYS}
    return [config.get("batch_size"), memory]


def _hashed(same: list[Any]) -> str:
    return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]


def _without_lossy_groups(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {key: value for key, value in options.items() if key not in LOSSY_GROUPS}
