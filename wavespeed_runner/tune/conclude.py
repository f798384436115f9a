"""What is judged next; once the budget is used up, what keeps the bounds so far is confirmed for it, in a few jobs."""

from __future__ import annotations

from dataclasses import dataclass

from .judge import JUDGED
from .ladder import Ladder
from .result import Result, list_latest
from .search import Search, choose_best
from .tuning import Tuning

CONFIRMED = 4
"""So many settings are confirmed at most after the budget is used up."""
SAFER = 0.8
"""After each that proves too slow for a limit of time, only what takes this share of it is tried."""


@dataclass(kw_only=True)
class Conclusion:
    """Chooses what is judged next, with the jobs that are left for it once the budget is used up.

    The fastest that keeps the bounds on the prompts that it was seen on comes first. If it misses on more prompts, the
    safest does, so that there is an answer whenever something was seen that keeps the bounds by much.
    """

    tuning: Tuning
    search: Search
    left: int = CONFIRMED
    """Settings that may still be confirmed."""
    failed: int = 0
    """Settings that were confirmed, and are not known to keep the bounds."""
    is_told: bool = False

    def choose(self) -> Result | None:
        """What is judged next, with its figures on all prompts for tuning; None: nothing is left to be judged."""
        best = self.search.best
        if not self.search.is_over():
            return best
        self._say_what_follows()
        if best and self.tuning.looks < JUDGED - 1:
            return best
        while seen := self._choose_seen():
            if seen.prompts == self.search.stages[-1]:
                return seen
            if result := self._confirm(seen):
                return result
        return best

    def _say_what_follows(self) -> None:
        if not self.is_told:
            self.is_told = True
            self.tuning.tell(
                f"{self.tuning.budget.spent}: what keeps {self.tuning.aim} so far is confirmed and judged, in at most "
                f"{self.left + JUDGED - self.tuning.looks} jobs more"
            )

    def _choose_seen(self) -> Result | None:
        """The fastest that keeps the bounds so far; after one that missed them on more prompts, the safest."""
        aim, tries = self.tuning.aim, self.failed + self.tuning.looks
        seen = self._list_seen()
        known = [one for one in seen if aim.is_met(one)]
        if not aim.for_speed:
            roomy = [one for one in known if aim.find_excess(one) <= SAFER**tries]
            return choose_best(roomy, aim) or min(known, key=aim.find_excess, default=None)
        if known and not tries:
            return choose_best(known, aim)
        # A limit of shares and quantiles is not known on few prompts: then what takes the most time is the safest.
        return min(seen, key=lambda one: (aim.find_excess(one), -one.relative), default=None)

    def _list_seen(self) -> list[Result]:
        """What keeps the bounds on all prompts for tuning, or may well do so, and was not judged."""
        gone = self.search.rejected - self.tuning.taken_back.keys()
        latest = list_latest(self.tuning.tuning.results)
        return [one for one in latest if one.setting.identity not in gone and self._may_do(one)]

    def _may_do(self, seen: Result) -> bool:
        aim, whole = self.tuning.aim, self.search.stages[-1]
        if aim.for_speed and seen.relative >= 1:
            return False
        if seen.prompts == whole:
            return aim.is_met(seen)
        may_do = aim.does_by_figures(seen) and aim.is_likely(seen, whole) and aim.is_in_time(seen)
        return self.left > 0 and (may_do or aim.is_met(seen))

    def _confirm(self, seen: Result) -> Result | None:
        """The result on all prompts for tuning; None where it is not known to keep the bounds there."""
        self.left -= 1
        count = self.search.stages[-1]
        self.tuning.tell(f"confirming on {count} prompts what was seen on {seen.prompts}: {seen.setting.name}")
        (result,) = self.tuning.tuning.run([seen.setting], count)
        if result and self.tuning.aim.is_met(result):
            self.search.found.append((Ladder(name=seen.setting.name, settings=[seen.setting]), result))
            return result
        self.failed += 1
        self.search.reject(seen.setting.identity)
        return None
