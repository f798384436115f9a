"""Says in words what a tuning has found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite

from .aim import Aim
from .bounds import CONFIDENCE, Bound
from .result import Result, describe_time
from .settings import Cut, Setting
from .tuning import Tuning


def describe_answer(tuning: Tuning) -> str:
    """The answer in one sentence, with the figures of the prompts that were not used to find it."""
    count = len(tuning.judging.prompts)
    if tuning.answer is None and not tuning.aim.bounds:
        fastest = min(tuning.tuning.results, key=lambda one: one.seconds, default=None)
        which = f"; the fastest, {fastest.setting.name}, took {describe_time(fastest.seconds)}" if fastest else ""
        return f"nothing that was tried is known to keep time<={tuning.aim.limit}{which}"
    if tuning.answer is None:
        return (
            f"nothing that was tried is known to keep {tuning.aim}: the reference is the answer{_say_nearest(tuning)}"
        )
    return (
        f"{describe_speed(tuning.answer)}{_say_time(tuning)} at {describe_quality(tuning.aim, tuning.answer)}, "
        f"{count} prompts not used for tuning{_say_looks(tuning)}: {tuning.answer.setting.name}"
        f"{_say_reference(tuning.aim, tuning.answer)}"
    )


def describe_speed(result: Result) -> str:
    """`2.90 times as fast as the reference`."""
    about = "about (the machine was busy) " if result.guess else ""
    return f"{about}{result.speedup:.2f} times as fast as the reference"


def describe_quality(aim: Aim, result: Result) -> str:
    """The figure of each bound: `SSIM 0.978 (95 %: 0.974 to 0.981)`, and what is known of it."""
    return "; ".join(_describe_figure(bound, result) for bound in (aim.bounds or [aim.shown]))


def _describe_figure(bound: Bound, result: Result) -> str:
    values = result.values[bound.metric]
    low, high = (_describe_limit(limit) for limit in bound.find_interval(values))
    name = bound.metric.upper() if bound.metric in ("ssim", "psnr", "mae") else bound.metric
    if bound.statistic == "share":
        share, most = 100 * bound.estimate(values), 100 * bound.find_interval(values)[1]
        return f"{share:.3g} % of the prompts with a fork (95 %: at most {most:.3g} %)"
    interval = "of these images" if bound.statistic == "worst" else f"95 %: {low} to {high}"
    what = name if bound.statistic == "mean" else f"{bound.statistic} of {name}"
    return f"{what} {bound.estimate(values):.4g} ({interval})"


def _describe_limit(limit: float) -> str:
    return f"{limit:.4g}" if isfinite(limit) else "not known"


def _say_time(tuning: Tuning) -> str:
    """The time of an image, where it is bounded."""
    return f" ({describe_time(tuning.answer.seconds)} an image)" if tuning.answer and tuning.aim.limit else ""


def _say_reference(aim: Aim, answer: Result) -> str:
    """That the reference is as fast as a time alone asks for: then nothing would have to be changed for that."""
    seconds = answer.seconds * answer.speedup
    if aim.bounds or aim.seconds is None or seconds > aim.seconds:
        return ""
    return f"; the reference itself takes {describe_time(seconds)}, which is within {aim.limit}"


def _say_looks(tuning: Tuning) -> str:
    """How many settings these prompts have seen before."""
    if tuning.look < 2:
        return ""
    which = {2: "second", 3: "third"}.get(tuning.look, f"{tuning.look}th")
    return f", the {which} setting that they have judged"


def _say_nearest(tuning: Tuning) -> str:
    nearest = tuning.nearest
    if nearest is None:
        return ""
    where = "of those for judging" if nearest in tuning.missed else "for tuning"
    return (
        f". The nearest, {nearest.setting.name}, has {describe_quality(tuning.aim, nearest)} on {nearest.prompts} "
        f"prompts {where}; {say_missed(tuning.aim, nearest, find_confidence(tuning, nearest))}"
    )


def find_confidence(tuning: Tuning, result: Result) -> float:
    """The one-sided confidence that a result is held to: on the prompts for judging that of its look."""
    judged = result in tuning.missed or result in tuning.kept
    return tuning.confidences.get(result.setting.identity, CONFIDENCE) if judged else CONFIDENCE


def say_missed(aim: Aim, result: Result, confidence: float) -> str:
    """Which limits miss the bounds, and by how much, each in its metric's unit; empty where none does.

    Args:
        aim: what is wanted.
        result: on some prompts.
        confidence: one-sided, that these prompts have to show the bounds with.
    """
    missed = [bound for bound in aim.bounds if bound.margin(result.values[bound.metric], confidence) < 0]
    parts = [_say_limit(bound, result, confidence) for bound in missed]
    if not aim.is_in_time(result):
        parts.append(f"it takes {describe_time(result.seconds)} an image")
    return ", and ".join(parts)


def _say_limit(bound: Bound, result: Result, confidence: float) -> str:
    """`its one-sided 95 % confidence limit, 0.9407, misses ssim>=0.95 by 0.0093`: figures that fit together."""
    times, unit = (100, " %") if bound.statistic == "share" else (1, "")
    limit, value = times * bound.find_limit(result.values[bound.metric], confidence), times * bound.value
    worst = bound.statistic == "worst"  # has no limit beyond what was seen
    name = "its worst image" if worst else f"its one-sided {100 * confidence:g} % confidence limit"
    if not isfinite(limit):
        return f"{name} of {bound.name} is not known from {result.prompts} prompts"
    texts = (f"{limit:.{digits}g}" for digits in range(4, 18))
    text = next((one for one in texts if (float(one) < value) is (limit < value) and float(one) != value), f"{limit}")
    return f"{name}, {text}{unit}, misses {bound} by {abs(value - float(text)):.3g}{unit}"


def describe_cuts(cuts: Sequence[Cut]) -> list[str]:
    """What the rules refuse: of reasons that differ in numbers only, the first one, with how many there are."""
    kinds: dict[str, list[str]] = {}
    for cut in cuts:
        kinds.setdefault(re.sub(r"\d+", "#", cut.reason), []).append(cut.reason)
    by_count = sorted(kinds.values(), key=len, reverse=True)
    return [f"not tried, {len(reasons)} setting{'s' * (len(reasons) != 1)}: {reasons[0]}" for reasons in by_count]


def describe_shared(tuning: Tuning) -> list[tuple[str, str, str]]:
    """File, setting and what became of it, of each setting of a shared experiment."""
    return [(one.file, one.setting.name, _describe_fate(tuning, one.setting)) for one in tuning.shared]


def _describe_fate(tuning: Tuning, setting: Setting) -> str:
    """What became of a setting, in words."""
    aim, identity = tuning.aim, setting.identity
    if judged := _say_judged(tuning, identity):
        return judged
    if identity in tuning.taken_back:
        return f"not judged: it keeps {aim} on the prompts for tuning, by less than the harder ones for judging ask for"
    for failure in (*tuning.tuning.failures, *tuning.judging.failures):
        if failure.setting.identity == identity:
            return f"it could not be run: {failure.reason}"
    seen = [one for one in tuning.tuning.results if one.setting.identity == identity]
    if not seen:
        return f"not tried{f': {tuning.budget.spent}' * bool(tuning.budget.spent)}"
    last = max(seen, key=lambda one: one.prompts)
    on = f"on {last.prompts} prompts {describe_speed(last)} at {describe_quality(aim, last)}"
    if last.prompts == len(tuning.tuning.prompts):
        known = "known" if aim.is_met(last) else "not known"
        return f"{known} to keep {aim} on the prompts for tuning, not judged: {on}"
    if not aim.does_by_figures(last):
        return f"dropped, since its figures miss {aim}: {on}"
    slower = aim.for_speed and tuning.tuned and last.relative > tuning.tuned.relative
    return f"dropped, since {'it is slower than the answer' if slower else 'more prompts were not worth a try'}: {on}"


def _say_judged(tuning: Tuning, identity: str) -> str:
    """What the prompts for judging have shown of a setting; empty where they have not seen it."""
    if tuning.answer and tuning.answer.setting.identity == identity:
        return "the answer"
    if any(kept.setting.identity == identity for kept in tuning.kept):
        return "judged and kept, but slower than the answer"
    for missed in tuning.missed:
        if missed.setting.identity == identity:
            by = say_missed(tuning.aim, missed, find_confidence(tuning, missed))
            return f"judged, and not known to keep {tuning.aim} there: {describe_quality(tuning.aim, missed)}; {by}"
    return ""
