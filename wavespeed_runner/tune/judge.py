"""Shows settings to the prompts that were not used to find them; and what is asked for after one missed the bounds."""

from __future__ import annotations

from .aim import Aim
from .bounds import CONFIDENCE
from .result import Result
from .search import IN_TURN, Search
from .tuning import Tuning

JUDGED = 4
"""So many settings are shown to the other half of the prompts at most."""
TIGHTEST = 0.1
"""The least share of the allowed loss that is asked for after a setting missed the bounds on the other prompts."""


def judge(tuning: Tuning, search: Search, best: Result) -> bool:
    """Shows what a search has found to the prompts for judging; True if it keeps the bounds there too: the answer.

    Otherwise the search goes on without it. Where these prompts are harder it asks for more from then on.
    """
    judged, keeps = _look(tuning, best)
    if keeps:
        tuning.answer, tuning.tuned, tuning.look = judged, best, tuning.looks
        return True
    search.reject(best.setting.identity)
    confidence = _find_confidence(tuning.looks)
    if judged and tuning.aim.for_speed and tuning.aim.find_share(judged, confidence) > 1:
        # These prompts are so many times as hard: what keeps the bounds by hardly more would miss them there as well,
        # and there are few looks.
        _take_back(tuning, search.ask_for_more(tuning.aim.tighten(best, judged, confidence, TIGHTEST)), search.aim)
    return False


def judge_shared(tuning: Tuning) -> None:
    """Judges settings of shared experiments that are faster than the answer, and were taken back without a look.

    Somebody has found them to keep such bounds: that is worth the looks that are left. The search is over: a
    miss changes nothing.
    """
    files = {one.setting.identity: one.file for one in tuning.shared}
    for result in sorted(tuning.taken_back.values(), key=tuning.aim.score):
        answer, identity = tuning.tuned, result.setting.identity
        if not answer or tuning.looks >= JUDGED or not tuning.aim.is_about(result, answer, 1.0):
            return
        if identity not in files:
            continue
        tuning.tell(f"faster than the answer so far, from {files[identity]}: {result.setting.name}")
        judged, keeps = _look(tuning, result)
        # Times of judging were taken beside the reference, others may not have been: it may be the slower one.
        if keeps and judged and tuning.answer and judged.speedup > tuning.answer.speedup:
            tuning.answer, tuning.tuned, tuning.look = judged, result, tuning.looks
            tuning.ablation = []  # of the former answer
            return


def _look(tuning: Tuning, best: Result) -> tuple[Result | None, bool]:
    """A setting on the prompts that were not used so far, and whether it is known to keep the bounds there."""
    tuning.looks += 1
    tuning.tell(f"judging on {len(tuning.judging.prompts)} other prompts: {best.setting.name}")
    (judged,) = tuning.judging.run([best.setting], len(tuning.judging.prompts), IN_TURN)
    tuning.taken_back.pop(best.setting.identity, None)
    confidence = tuning.confidences[best.setting.identity] = _find_confidence(tuning.looks)
    keeps = judged is not None and tuning.aim.is_met(judged, confidence)
    if judged:
        (tuning.kept if keeps else tuning.missed).append(judged)
    return judged, keeps


def _find_confidence(look: int) -> float:
    """The confidence with which the first, second, ... setting has to keep the bounds on the prompts for judging.

    Of several looks at the same prompts one may succeed by chance. So the first one is made at half of the error that
    is allowed, 2.5 %, the next at half of the rest, and so on: all together make less than 5 %.
    """
    return 1 - (1 - CONFIDENCE) / 2**look


def _take_back(tuning: Tuning, gone: list[Result], wanted: Aim) -> None:
    """Says what is asked for after a miss, and what does not keep that."""
    tuning.taken_back |= {one.setting.identity: one for one in gone}
    names = ", ".join(one.setting.name for one in gone)
    without = f"; taken back, since they keep it by less: {names}" if names else ""
    tuning.tell(f"these prompts are harder: {wanted} on those for tuning is asked for from now on{without}")
