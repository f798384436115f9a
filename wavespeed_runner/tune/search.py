"""The search: every ladder is scouted on a few prompts, then the most promising settings are confirmed on all.

    scout     halve each ladder on a few prompts until the first setting is found that does by its figures
    confirm   race these, the fastest first, over more and more prompts; one that can no longer do is dropped, and its
              ladder offers the next one; where one is known to do, its ladder offers a faster one
    time      those that do and are about as fast are timed again, each image right beside its reference

It ends when no setting is left that could be better than the best one known, or with the budget, see `conclude`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .aim import Aim
from .ladder import Ladder, estimate_relative
from .result import Result
from .rounds import Rounds
from .settings import Setting

WIDTH = 4
"""Settings that are confirmed at once: the same number with every launcher, so that all find the same."""
SLACK = 1.1
"""A setting that is expected to take no more than this times as long as the best one may turn out to be faster."""
SAME_TIME = 1.05
"""What takes up to this times as long as the fastest is as fast: timings vary by as much."""
FAR = 1.5
"""What does this times the work of a setting that does by the figures of a few prompts is not scouted."""
CLOSE = 1.25
"""What takes up to this times as long as the best is timed again before one is chosen."""
IN_TURN = ("measure.in_turn=true",)
"""Overrides of runs whose times decide: each image is timed right beside its reference."""


@dataclass(kw_only=True)
class Search:
    """The state of a search. It is not written anywhere: the same command does the same steps, most of them done."""

    aim: Aim
    rounds: Rounds
    stages: list[int]
    """Numbers of prompts, growing: the first is for scouting, the last one is all of this half."""
    is_over: Callable[[], bool] = lambda: False
    """True once the budget is used up."""
    tell: Callable[[str], None] = lambda line: None
    ladders: list[Ladder] = field(default_factory=list)
    found: list[tuple[Ladder, Result]] = field(default_factory=list)
    """What is known to do, on all prompts."""
    timed: set[str] = field(default_factory=set)
    """Identities of what was timed in turn."""
    rejected: set[str] = field(default_factory=set)
    """Identities of what other prompts have shown not to do."""

    @property
    def best(self) -> Result | None:
        """The best of what is known to do; of those that are as fast, what keeps the bounds by most."""
        return choose_best([result for _, result in self.found], self.aim)

    def scout(self, ladders: Sequence[Ladder]) -> None:
        """Finds for each ladder the first setting that does by its figures, on the fewest prompts."""
        self.ladders += ladders
        while not self.is_over():
            asked = [(ladder, setting) for ladder in ladders if (setting := ladder.choose_to_scout(self._is_near))]
            if not asked:
                return
            # Two ladders may meet in a setting.
            different = list({setting.identity: setting for _, setting in asked}.values())
            self.tell(f"scouting {_count(different, self.stages[0])}")
            results = dict(zip([one.identity for one in different], self._run(different, 0), strict=True))
            for ladder, setting in asked:
                result = results[setting.identity]
                does = result is not None and self.aim.does_by_figures(result)
                hopeless = result is None or not self.aim.may_do(result)
                ladder.scouted(setting, result, does=does, hopeless=hopeless)

    def _is_near(self, setting: Setting) -> bool:
        """False for far more work than a setting that does by its figures: its ladder waits for confirming."""
        works = [
            result.setting.work
            for result in self.rounds.results
            if result.setting.work and self.aim.does_by_figures(result)
        ]
        if not self.aim.for_speed or not works or setting.work is None:
            return True
        return setting.work <= FAR * min(works)

    def confirm(self) -> None:
        """Races the ladders' candidates over all prompts until none is left that could be the best."""
        racing: dict[str, int] = {}
        while not self.is_over():
            batch = self._choose()
            if not batch:
                if self._time_close():  # what was taken for the fastest may not be
                    continue
                return
            stage = min(racing.get(_identity(ladder), 1) for ladder in batch)
            batch = [ladder for ladder in batch if racing.get(_identity(ladder), 1) == stage]
            stage = min(stage, len(self.stages) - 1)
            settings = [ladder.candidate for ladder in batch if ladder.candidate]
            left = f"; {waiting} ladders left" if (waiting := self._count_left()) > 1 else ""
            self.tell(f"confirming {_count(settings, self.stages[stage])}{left}{self._say_best()}")
            for ladder, result in zip(batch, self._run(settings, stage), strict=True):
                self._take(ladder, result, racing, is_last=stage == len(self.stages) - 1)

    def reject(self, identity: str) -> None:
        """Takes a setting back: other prompts, or better timing, have shown that it does not do."""
        self.rejected.add(identity)
        self.found = [pair for pair in self.found if pair[1].setting.identity != identity]
        kept = {result.setting.identity for _, result in self.found}
        for ladder in self.ladders:
            ladder.reject(identity, kept)

    def ask_for_more(self, aim: Aim) -> list[Result]:
        """From now on the bounds are tighter: what does not keep them is taken back, and returned."""
        self.aim = aim
        gone = {result.setting.identity: result for _, result in self.found if not self.aim.does(result)}
        for identity in gone:
            self.reject(identity)
        return list(gone.values())

    def measure(self, settings: Sequence[Setting]) -> list[Result | None]:
        """Quality on all prompts, with times that were taken beside the reference's, on the fewest."""
        self.tell(f"quality of {_count(settings, self.stages[-1])}")
        whole = self._run(settings, len(self.stages) - 1)
        ran = [result.setting for result in whole if result]
        self._say_timing(ran)
        times = iter(self.rounds.run(ran, self.stages[0], IN_TURN))
        return [result.timed_as(next(times)) if result else None for result in whole]

    def _run(self, settings: Sequence[Setting], stage: int) -> list[Result | None]:
        return self.rounds.run(settings, self.stages[stage])

    def _choose(self) -> list[Ladder]:
        """The ladders to look at next: of those whose candidate may be the best, the most promising."""
        known = {result.setting.identity for _, result in self.found} | self.rejected
        waiting = [
            (self._guess(ladder), number, ladder)
            for number, ladder in enumerate(self.ladders)
            if ladder.candidate and ladder.seen and _identity(ladder) not in known and self._may_win(ladder)
        ]
        different: dict[str, Ladder] = {}
        for _, _, ladder in sorted(waiting, key=lambda one: one[:2]):
            different.setdefault(_identity(ladder), ladder)
        return list(different.values())[:WIDTH]

    def _count_left(self) -> int:
        """Ladders whose candidate may still be the best."""
        return sum(bool(ladder.candidate and ladder.seen and self._may_win(ladder)) for ladder in self.ladders)

    def _guess(self, ladder: Ladder) -> float:
        """The score that a candidate is expected to have."""
        assert ladder.seen
        return (estimate_relative(ladder) or 0.0) if self.aim.for_speed else self.aim.score(ladder.seen)

    def _may_win(self, ladder: Ladder) -> bool:
        best = self.best
        if best is None:
            return True
        if self.aim.for_speed:
            is_faster_one = ladder.passed is not None and any(one is ladder and r is best for one, r in self.found)
            return is_faster_one or (estimate_relative(ladder) or 0.0) < best.relative * SLACK
        assert ladder.seen
        return self.aim.can_beat(ladder.seen, best)

    def _take(self, ladder: Ladder, result: Result | None, racing: dict[str, int], *, is_last: bool) -> None:
        """Takes in the result of a candidate."""
        does = result is not None and (self.aim.does(result) if is_last else self._may_do(result))
        if result is None or not does:
            ladder.failed(result)
        elif is_last:
            ladder.did(result)
            if self.aim.is_in_time(result):
                self.found.append((ladder, result))
        else:
            racing[_identity(ladder)] = racing.get(_identity(ladder), 1) + 1
            ladder.seen = result

    def _may_do(self, result: Result) -> bool:
        """Whether it is worth to look at a candidate on more prompts."""
        return self.aim.may_do(result) and self.aim.is_likely(result, self.stages[-1])

    def _time_close(self) -> bool:
        """Times the best, and what is about as fast, right beside the reference; False where that was done."""
        best = self.best
        if best is None or len(self.found) == 1:
            return False
        close = {
            result.setting.identity: result.setting
            for _, result in self.found
            if self.aim.is_about(result, best, CLOSE) and result.setting.identity not in self.timed
        }
        if not close:
            return False
        self._say_timing(list(close.values()))
        results = self.rounds.run(list(close.values()), self.stages[0], IN_TURN)
        times = {result.setting.identity: result for result in results if result}
        self.timed |= close.keys()
        self.found = [(one, result.timed_as(times.get(result.setting.identity))) for one, result in self.found]
        for _, result in list(self.found):
            if not self.aim.is_in_time(result):
                self.reject(result.setting.identity)
        return True

    def time_best(self) -> None:
        """Times the best beside the reference, if that was not done."""
        if (best := self.best) is None or best.setting.identity in self.timed:
            return
        self._say_timing([best.setting])
        (timed,) = self.rounds.run([best.setting], self.stages[0], IN_TURN)
        self.timed.add(best.setting.identity)
        self.found = [(one, result.timed_as(timed if result is best else None)) for one, result in self.found]

    def _say_timing(self, settings: Sequence[Setting]) -> None:
        if settings:
            self.tell(f"timing {_count(settings, self.stages[0])}, each image beside its reference")

    def _say_best(self) -> str:
        if (best := self.best) is None:
            return ""
        return f"; best so far {best.speedup:.2f} times as fast: {best.setting.name}"


def choose_best(results: Sequence[Result], aim: Aim) -> Result | None:
    """The best of results that do; of those that are as fast, what keeps the bounds by most. None: there are none."""
    first = min(results, key=aim.score, default=None)
    if first is None or not aim.for_speed:
        return first
    as_fast = [result for result in results if result.relative <= first.relative * SAME_TIME]
    return min(as_fast, key=aim.find_share)


def _identity(ladder: Ladder) -> str:
    return ladder.candidate.identity if ladder.candidate else ""


def _count(settings: Sequence[Setting], prompts: int) -> str:
    return f"{len(settings)} setting{'s' * (len(settings) != 1)} on {prompts} prompt{'s' * (prompts != 1)}"
