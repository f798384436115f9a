"""Shows settings to the prompts that were not used to find them; and what is asked for after one missed the bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .ablation import Ablation
from .aim import Aim
from .bounds import CONFIDENCE
from .result import Result
from .rounds import Rounds
from .search import IN_TURN, Search
from .shared import Shared

JUDGED = 4
"""So many settings are shown to the other half of the prompts at most."""
TIGHTEST = 0.1
"""The least share of the allowed loss that is asked for after a setting missed the bounds on the other prompts."""


@dataclass(kw_only=True)
class Judging:
    """What judging needs, and what it has shown."""

    aim: Aim
    judging: Rounds
    tell: Callable[[str], None]
    shared: list[Shared] = field(default_factory=list)
    """Settings of shared experiments, which are tried too."""
    answer: Result | None = None
    """On the prompts for judging; None: nothing does, the reference is the answer."""
    tuned: Result | None = None
    """The same setting on the prompts for tuning."""
    ablation: list[Ablation] = field(default_factory=list)
    """Of what the search found best; empty where a shared setting became the answer, or no time was left."""
    looks: int = 0
    """Settings that were shown to the prompts for judging."""
    look: int = 0
    """Which of them the answer was."""
    taken_back: dict[str, Result] = field(default_factory=dict)
    """Identity -> what does on the prompts for tuning, but by less than harder prompts ask for: not judged."""
    kept: list[Result] = field(default_factory=list)
    """What did on the prompts for judging, on these: the answer, and what is slower."""
    missed: list[Result] = field(default_factory=list)
    """What did on the prompts for tuning, and not on the others; on the others."""


def judge(tuning: Judging, search: Search, best: Result) -> bool:
    """Shows what a search has found to the prompts for judging; True if it does there too, and is the answer.

    Otherwise the search goes on without it. Where these prompts are harder it asks for more from then on.
    """
    judged, does = _look(tuning, best)
    if does:
        tuning.answer, tuning.tuned, tuning.look = judged, best, tuning.looks
        return True
    search.reject(best.setting.identity)
    confidence = _find_confidence(tuning.looks)
    if judged and tuning.aim.for_speed and tuning.aim.find_share(judged, confidence) > 1:
        # These prompts are so many times as hard: what keeps the bounds by hardly more would miss them there as well,
        # and there are few looks.
        _take_back(tuning, search.ask_for_more(tuning.aim.tighten(best, judged, confidence, TIGHTEST)), search.aim)
    return False


def judge_shared(tuning: Judging) -> None:
    """Judges settings of shared experiments that are faster than the answer, and were taken back without a look.

    Somebody has found them to do: that is worth the looks that are left. The search is over: a miss changes nothing.
    """
    files = {one.setting.identity: one.file for one in tuning.shared}
    for result in sorted(tuning.taken_back.values(), key=tuning.aim.score):
        answer, identity = tuning.tuned, result.setting.identity
        if not answer or tuning.looks >= JUDGED or not tuning.aim.is_about(result, answer, 1.0):
            return
        if identity not in files:
            continue
        tuning.tell(f"faster than the answer so far, from {files[identity]}: {result.setting.name}")
        judged, does = _look(tuning, result)
        # Times of judging were taken beside the reference, others may not have been: it may be the slower one.
        if does and judged and tuning.answer and judged.speedup > tuning.answer.speedup:
            tuning.answer, tuning.tuned, tuning.look = judged, result, tuning.looks
            tuning.ablation = []  # of the former answer
            return


def _look(tuning: Judging, best: Result) -> tuple[Result | None, bool]:
    """A setting on the prompts that were not used so far, and whether it is known to do there."""
    tuning.looks += 1
    tuning.tell(f"judging on {len(tuning.judging.prompts)} other prompts: {best.setting.name}")
    (judged,) = tuning.judging.run([best.setting], len(tuning.judging.prompts), IN_TURN)
    tuning.taken_back.pop(best.setting.identity, None)
    does = judged is not None and tuning.aim.is_met(judged, _find_confidence(tuning.looks))
    if judged:
        (tuning.kept if does else tuning.missed).append(judged)
    return judged, does


def _find_confidence(look: int) -> float:
    """The confidence with which the first, second, ... setting has to do on the prompts for judging.

    Of several looks at the same prompts one may succeed by chance. So the first one is made at half of the error that
    is allowed, 2.5 %, the next at half of the rest, and so on: all together make less than 5 %.
    """
    return 1 - (1 - CONFIDENCE) / 2**look


def _take_back(tuning: Judging, gone: list[Result], wanted: Aim) -> None:
    """Says what is asked for after a miss, and what does not do that."""
    tuning.taken_back |= {one.setting.identity: one for one in gone}
    names = ", ".join(one.setting.name for one in gone)
    without = f"; taken back, since they keep it by less: {names}" if names else ""
    tuning.tell(f"these prompts are harder: {wanted} on those for tuning is asked for from now on{without}")
