"""A search space of which all times and qualities are known, in the place of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.ladder import Ladder
from wavespeed_runner.tune.result import Result
from wavespeed_runner.tune.search import Search
from wavespeed_runner.tune.settings import Setting

PROMPTS = [8, 16, 32]
KNOWN = ("ssim", "psnr", "mae")


def setting(ladder: str, number: int, work: float | None) -> Setting:
    return Setting(point={"cache": ladder, "steps": number}, identity=f"{ladder} {number}", work=work)


@dataclass
class Simulated:
    """Stands for `Rounds`: every setting has a time and a quality of each prompt."""

    times: dict[str, float]
    """Identity -> share of the reference's time."""
    quality: Callable[[str, int], float]
    """(identity, place of the prompt) -> SSIM."""
    results: list[Result] = field(default_factory=list)
    evaluated: int = 0
    """Images that were made."""
    calls: list[tuple[list[str], int, tuple[str, ...]]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Identities that cannot be run."""
    failures: list[object] = field(default_factory=list)
    """None: what is broken is not told."""
    _made: set[tuple[str, int]] = field(default_factory=set)

    def run(self, settings: Sequence[Setting], prompts: int, more: Sequence[str] = ()) -> list[Result | None]:
        self.calls.append(([one.identity for one in settings], prompts, tuple(more)))
        found = [None if one.identity in self.broken else self._result(one, prompts) for one in settings]
        self.results += [one for one in found if one]
        return found

    def _result(self, one: Setting, prompts: int) -> Result:
        new = {(one.identity, place) for place in range(prompts)} - self._made
        self._made |= new
        self.evaluated += len(new)
        ssim = {f"prompt {place}": [self.quality(one.identity, place)] for place in range(prompts)}
        forks = {prompt: [float(value[0] < 0.9)] for prompt, value in ssim.items()}
        relative = self.times[one.identity]
        return Result(
            setting=one,
            prompts=prompts,
            values={"ssim": ssim, "forks": forks},
            seconds=10 * relative,
            relative=relative,
            folder=Path("nowhere"),
        )


def search_of(rounds: Simulated, quality: str = "", seconds: float | None = None) -> Search:
    aim = Aim(bounds=parse_bounds(quality, KNOWN) if quality else [], seconds=seconds)
    return Search(aim=aim, rounds=rounds, stages=PROMPTS)  # type: ignore[arg-type]


def ladders_of(counts: dict[str, list[float]], *, foreseen: bool = True, for_speed: bool = True) -> list[Ladder]:
    """Name -> shares of time from fast to slow."""
    found = []
    for name, times in counts.items():
        settings = [setting(name, number, time if foreseen else None) for number, time in enumerate(times)]
        found.append(Ladder(name=name, settings=settings if for_speed else settings[::-1]))
    return found
