"""A ladder of settings, and how its place is found: by halving, since each is slower and better than the one before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .result import Result
from .settings import Setting


@dataclass(kw_only=True)
class Ladder:
    """Settings in the order in which one would like to have them, of which the later ones do what is wanted.

    For speed that is from fast to slow; for quality within a time it is from slow to fast.
    """

    name: str
    settings: list[Setting]
    low: int = 0
    """Everything before this place is known not to do."""
    first: int = 0
    """Scouting: the first setting that does by its figures lies at this place or later, ..."""
    last: int = -1
    """... and at this place or before; the number of settings where none does."""
    passed: int | None = None
    """The first place that is known to do, on all prompts."""
    seen: Result | None = None
    """The last result that tells about the candidate."""

    def __post_init__(self) -> None:
        self.last = len(self.settings)

    def choose_to_scout(self, is_near: Callable[[Setting], bool]) -> Setting | None:
        """The setting in the middle of those that may be the first one that does; None where that is known.

        Args:
            is_near: False for a setting that is not worth a try now. Then it is the last one before it that is.
        """
        middle = (self.first + self.last) // 2
        open_ = self.settings[self.first : min(middle + 1, self.last)]
        return next((setting for setting in reversed(open_) if is_near(setting)), None)

    @property
    def place(self) -> int | None:
        """The place to look at on more prompts: where scouting ended, later ones until one does, then earlier ones."""
        place = max(self.first, self.low) if self.passed is None else self.passed - 1
        return place if self.low <= place < len(self.settings) else None

    @property
    def candidate(self) -> Setting | None:
        """The setting to look at next on more prompts; None where nothing is left to find out."""
        return None if self.place is None else self.settings[self.place]

    def scouted(self, setting: Setting, result: Result | None, *, does: bool, hopeless: bool) -> None:
        """Takes in how a setting did on a few prompts.

        Args:
            setting: that was tried.
            result: None: it could not be run.
            does: by its figures.
            hopeless: more prompts cannot help.
        """
        place = self.settings.index(setting)
        if does:
            self.last = place
        else:
            self.first = place + 1
        if hopeless:
            self.low = max(self.low, place + 1)
        self.seen = result or self.seen

    def failed(self, result: Result | None) -> None:
        """The candidate is known not to do."""
        assert self.place is not None
        self.low = self.place + 1
        self.seen = result or self.seen

    def did(self, result: Result) -> None:
        """The candidate is known to do, on all prompts."""
        self.passed, self.seen = self.place, result

    def reject(self, identity: str, kept: Collection[str]) -> None:
        """A setting turns out not to do after all: later ones are looked for.

        Args:
            identity: of the setting; it may be of another ladder.
            kept: identities of all that are still known to do.
        """
        places = {setting.identity: place for place, setting in enumerate(self.settings)}
        if identity not in places:
            return
        self.low = max(self.low, places[identity] + 1)
        self.passed = min((places[one] for one in kept if one in places), default=None)


def estimate_relative(ladder: Ladder) -> float | None:
    """What share of the reference's time the candidate will take, from the setting of its ladder that was tried last.

    Where its work is not foreseen it is taken to be as fast: more than that cannot be said before it is tried. None:
    nothing was tried.
    """
    candidate, seen = ladder.candidate, ladder.seen
    if candidate is None or seen is None:
        return None
    if not candidate.work or not seen.setting.work:
        return seen.relative
    return seen.relative * candidate.work / seen.setting.work


def cut_slow(settings: Sequence[Setting], share: float) -> list[Setting]:
    """The settings that are not foreseen to do more than this share of the reference's work."""
    return [setting for setting in settings if setting.work is None or setting.work < share]
