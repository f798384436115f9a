"""`tune`, from what may be tried to the answer. `tune` is the whole of it on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConfigError
from ..sweeps.points import to_overrides
from .ablation import ablate
from .conclude import Conclusion
from .judge import JUDGED, judge, judge_shared
from .ladder import Ladder, cut_slow, estimate_relative
from .propose import list_combined, propose
from .result import Result
from .search import Search
from .settings import SAME_WORK, Point, noting
from .space import FEW, Family, Scalar
from .tuning import Tuning

AROUND = 2
"""How far an option on top may move the place on a ladder."""
TOPS = 2
"""So many of the best get the options that go on top."""
FIRST = 8
"""Prompts that a setting is scouted on."""
GROWTH = 2
"""How much more prompts each stage has."""


def tune(tuning: Tuning) -> None:
    """Searches, takes away what gives nothing, and judges on the other half of the prompts."""
    search = Search(
        aim=tuning.aim,
        rounds=tuning.tuning,
        stages=list_stages(len(tuning.tuning.prompts)),
        is_over=lambda: tuning.budget.is_over(tuning.tuning.jobs),
        tell=tuning.tell,
    )
    families = tuning.space.families
    ladders = [
        one for family in families if family.size <= FEW for one in _build(tuning, family, family.combinations())
    ]
    # What was typed may have made some of them the same.
    search.scout(list({tuple(one.identity for one in ladder.settings): ladder for ladder in ladders}.values()))
    for family in families:
        if family.size > FEW:
            _propose(tuning, search, family)
    search.confirm()
    _add_options(tuning, search)
    if not search.ladders:
        raise ConfigError(f"space={tuning.space.name}: nothing of it can be tried here: {tuning.cuts[0].reason}")
    conclusion = Conclusion(tuning=tuning, search=search)
    while tuning.looks < JUDGED and (best := conclusion.choose()):
        simple = _simplify(tuning, search, best)
        is_other = simple.setting.identity != best.setting.identity
        if judge(tuning, search, simple) or (is_other and judge(tuning, search, best)):
            judge_shared(tuning)
            return
        search.confirm()
    tuning.nearest = _find_nearest(tuning)


def list_stages(prompts: int) -> list[int]:
    """Numbers of prompts that a setting is tried on, one after another."""
    stages = [min(FIRST, prompts)]
    while stages[-1] < prompts:
        stages.append(min(prompts, stages[-1] * GROWTH))
    return stages


def _build(tuning: Tuning, family: Family, chosen: Iterable[dict[str, Scalar]]) -> list[Ladder]:
    """The ladders of a family that choose this, as far as the rules leave settings of them."""
    ladders = [build_ladder(tuning, _name(family, choice), family.settings(choice)) for choice in chosen]
    return [ladder for ladder in ladders if ladder.settings]


def _name(family: Family, choice: dict[str, Scalar]) -> str:
    return " ".join([family.name, *to_overrides(choice)])


def _propose(tuning: Tuning, search: Search, family: Family) -> None:
    """Scouts the most promising ladders of a large family."""

    def scout(chosen: list[dict[str, Scalar]]) -> list[Ladder]:
        ladders = [build_ladder(tuning, _name(family, choice), family.settings(choice)) for choice in chosen]
        search.scout([ladder for ladder in ladders if ladder.settings])
        return ladders

    def score(ladder: Ladder) -> float | None:
        if not ladder.candidate or not ladder.seen:
            return None
        return estimate_relative(ladder) if tuning.aim.for_speed else tuning.aim.score(ladder.seen)

    propose(family, scout, score, seed=tuning.seed)


def build_ladder(tuning: Tuning, name: str, points: Sequence[Point]) -> Ladder:
    """The ladder of points that go from fast to slow, without what the rules refuse."""
    with noting(f"(space={tuning.space.name}, ladder {name})"):
        settings, cuts = tuning.planner(points)
    tuning.cuts += cuts
    tuning.grid.update({setting.identity: setting.work or 1.0 for setting in settings})
    wanted = cut_slow(settings, SAME_WORK)
    return Ladder(name=name, settings=wanted if tuning.aim.for_speed else wanted[::-1])


def _add_options(tuning: Tuning, search: Search) -> None:
    """Tries the options that go with any setting on top of the best, each alone; then each on top of what is best."""
    if not tuning.space.also or search.best is None:
        return
    tops = sorted(search.found, key=lambda pair: tuning.aim.score(pair[1]))[:TOPS]
    options = list(list_combined(tuning.space.also))
    added = [_put_on_top(tuning, ladder, option) for ladder, _ in tops for option in options]
    search.scout([ladder for ladder in added if ladder.settings])
    search.confirm()
    for option in options:
        if search.best is None:
            return
        ladder, best = next(pair for pair in search.found if pair[1] is search.best)
        if not option.keys() <= best.setting.point.keys():
            both = _put_on_top(tuning, ladder, option)
            search.scout([both] if both.settings else [])
            search.confirm()


def _put_on_top(tuning: Tuning, ladder: Ladder, option: Point) -> Ladder:
    """The settings around the place that was found, with an option on top, which moves it by little."""
    place = ladder.passed or 0
    around = ladder.settings[max(0, place - AROUND) : place + AROUND + 1]
    points = [{**setting.point, **option} for setting in around]
    name = " ".join(to_overrides(option))
    return build_ladder(tuning, f"{ladder.name} + {name}", points if tuning.aim.for_speed else points[::-1])


def _simplify(tuning: Tuning, search: Search, best: Result) -> Result:
    """The best setting without options that give nothing; as it is where the budget is used up."""
    tuning.ablation = []
    if search.is_over():
        return best
    search.time_best()
    best = search.best or best
    if search.is_over():
        return best
    tuning.tell(f"taking away one option at a time: {best.setting.name}")
    simple, tuning.ablation = ablate(best, search.aim, tuning.planner, search.measure, search.rejected)
    return simple


def _find_nearest(tuning: Tuning) -> Result | None:
    """What misses the bounds by least, among what was tried on the most prompts."""
    if tuning.missed:
        return min(tuning.missed, key=tuning.aim.find_excess)
    tried = tuning.tuning.results
    most = max((result.prompts for result in tried), default=0)
    known = [result for result in tried if result.prompts == most and not tuning.aim.is_met(result)]
    return min(known, key=tuning.aim.find_excess, default=None)
