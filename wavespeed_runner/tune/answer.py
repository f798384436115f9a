"""Writes the answer of a tuning: an experiment file with its claim, `tune.json`, and the page `tune.html`."""

from __future__ import annotations

import json
import re
from shlex import quote
from typing import Any

from ..config.compose import find_key
from ..config.schema import Seeds
from ..records.file import FILE
from ..records.names import model_name
from ..sharing.export import build_experiment, read_completed_record, write_experiment
from ..sharing.prompts import explain_not_carried
from ..storage.atomic import write_bytes, write_text
from .ablation import Ablation
from .bounds import Bound
from .figure import find_front
from .page import render_page
from .result import Result, describe_time, find_interval, list_latest
from .sentence import (
    describe_answer,
    describe_cuts,
    describe_quality,
    describe_shared,
    find_confidence,
    say_missed,
)
from .tuning import Tuning

PAGE, DATA = "tune.html", "tune.json"
PROGRAM = "python -m wavespeed_runner"
INTERVALS = (
    "Tuning judges a mean by its BCa bootstrap over prompts (of fewer than 8 by Student's t); a claim, its replay and "
    "reports have the percentile bootstrap of the same images."
)
"""Why one mean has two intervals."""


def write_answer(tuning: Tuning, name: str | None) -> list[tuple[str, str]]:
    """Writes the files and returns what they are, and where.

    Raises:
        ConfigError: the answer cannot be written as an experiment.
        RunError: a file cannot be written.
    """
    name, text = _export(tuning, tuning.answer, name) if tuning.answer else ("", "")
    target = tuning.folder / "experiment" / f"{name}.yaml"
    if text:
        write_experiment(target, text)
    data = summarize(tuning)
    write_text(tuning.folder / DATA, json.dumps(data, indent=1) + "\n")
    commands = []
    if text:
        before, run = _say_how_to_run(tuning, name)
        check = f"{PROGRAM} replay {quote(str(target))}{_name_prompts(tuning)}"
        commands = [("run it", before, run), ("check it", "", check)]
    page = render_page(tuning, data, text, commands)
    write_bytes(tuning.folder / PAGE, page, way_out="choose another folder with outputs=DIR")
    told = [(what, f"{before}; {command}" if before else command) for what, before, command in commands]
    return [*([("answer", str(target))] if text else []), *told, ("page", str(tuning.folder / PAGE))]


def _name_prompts(tuning: Tuning) -> str:
    """The file of the prompts for judging, where they are too many for the answer to carry."""
    prompts = tuning.judging.prompts
    if not explain_not_carried(prompts):
        return ""
    return f" {quote(f'prompts.path={tuning.judging.prompt_file(len(prompts))}')}"


def _say_how_to_run(tuning: Tuning, name: str) -> tuple[str, str]:
    """What has to be done before, and the command."""
    own = tuning.tuning.args.config_dir
    before = "" if own is None else f"copy it to {own}/experiment/"  # there is one --config-dir
    folder = quote(str(tuning.folder if own is None else own))
    return before, f"{PROGRAM} --config-dir {folder} experiment={name} {_ask_for_one(tuning)}"


def _ask_for_one(tuning: Tuning) -> str:
    """Overrides for one prompt; seeds of each prompt, which the experiment has, would be of no effect."""
    typed = any(find_key(override) == "seeds" for override in tuning.tuning.args.overrides)
    return f"prompt='...'{'' if typed else f' seeds={Seeds.same.value}'}"


def _export(tuning: Tuning, answer: Result, name: str | None) -> tuple[str, str]:
    """Name and text of the experiment, which says by which figures it was judged."""
    name = name or _name(tuning, read_completed_record(answer.folder / FILE))
    name, text = build_experiment(answer.folder, name=name, out="-", config_dir=tuning.tuning.args.config_dir)
    judged = f"# Judged by {describe_quality(tuning.aim, answer)}. {INTERVALS}\n"
    return name, text.replace("\ndefaults:", f"\n{judged}defaults:", 1)


def _name(tuning: Tuning, record: Any) -> str:
    words = re.findall(r"[a-z0-9]+", f"{model_name(record.config['model'])} {tuning.aim}".lower())
    return "_".join(["tuned", *words])


def summarize(tuning: Tuning) -> dict[str, Any]:
    """Everything that was found, as plain data."""
    aim, latest = tuning.aim, list_latest(tuning.tuning.results)
    most = max((result.prompts for result in latest), default=0)
    whole = [result for result in latest if result.prompts == most]
    front = {one.setting.identity for one in find_front(whole, aim)}
    return {
        "schema_version": 1,
        "aim": str(aim),
        "limit": aim.limit,
        "space": tuning.space.name,
        "sentence": describe_answer(tuning),
        "intervals": INTERVALS,
        "prompts": {"tuning": len(tuning.tuning.prompts), "judging": len(tuning.judging.prompts)},
        "jobs": tuning.tuning.jobs + tuning.judging.jobs,
        "images": tuning.tuning.images + tuning.judging.images,
        "work": {"done": tuning.tuning.work + tuning.judging.work, "grid": compute_grid_work(tuning)},
        "spent": tuning.budget.spent,
        "answer": _row(tuning, tuning.answer) if tuning.answer else None,
        "tuned": _row(tuning, tuning.tuned) if tuning.tuned else None,
        "missed": [_row(tuning, result) for result in tuning.missed],
        "ablation": [_ablation_row(tuning, row) for row in tuning.ablation],
        "tried": [{**_row(tuning, result), "front": result.setting.identity in front} for result in _sorted(latest)],
        "shared": [{"file": file, "setting": name, "said": said} for file, name, said in describe_shared(tuning)],
        "taken_back": [_row(tuning, result) for result in tuning.taken_back.values()],
        "cut": describe_cuts(tuning.cuts),
        "failed": [
            {"setting": one.setting.name, "reason": one.reason}
            for one in (*tuning.tuning.failures, *tuning.judging.failures)
        ],
    }


def compute_grid_work(tuning: Tuning) -> float:
    """What a plain grid would denoise, in full runs of one image: every setting, and the reference, on all prompts."""
    return (1 + sum(tuning.grid.values())) * (len(tuning.tuning.prompts) + len(tuning.judging.prompts))


def _sorted(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda result: (-result.prompts, 1 / result.speedup))


def _row(tuning: Tuning, result: Result) -> dict[str, Any]:
    metric, confidence = tuning.aim.shown.metric, find_confidence(tuning, result)
    value = find_interval(result, metric)[0]
    low, high = Bound(metric=metric, statistic="mean", least=tuning.aim.shown.least, value=0.0).find_interval(
        result.values[metric]
    )
    return {
        "setting": result.setting.name,
        "prompts": result.prompts,
        "relative": 1 / result.speedup,
        "seconds": result.seconds,
        "took": describe_time(result.seconds),
        "in_time": tuning.aim.is_in_time(result),
        metric: {"mean": value, "low": max(low, -1e9), "high": min(high, 1e9)},
        "quality": describe_quality(tuning.aim, result),
        # More than the column of the first metric's mean tells.
        "bounds": [str(bound) for bound in tuning.aim.bounds if bound.statistic != "mean" or bound.metric != metric],
        "share": min(tuning.aim.find_share(result), 1e9),
        "met": tuning.aim.is_met(result, confidence),
        "confidence": confidence,
        "misses": say_missed(tuning.aim, result, confidence),
        "folder": str(result.folder.relative_to(tuning.folder)),
    }


def _ablation_row(tuning: Tuning, row: Ablation) -> dict[str, Any]:
    result = _row(tuning, row.result) if row.result else None
    return {"without": row.without, "result": result, "refused": row.refused, "dropped": row.dropped}
