"""Ways out are tried until one is accepted, for as long as somebody waits for a message."""

from __future__ import annotations

from itertools import count

import pytest

from wavespeed_runner.config import suggestions

WAYS = [[f"a={number}"] for number in range(12)]


@pytest.mark.parametrize(("a_trial_takes", "tried"), [(0.01, 12), (0.3, 5), (0.12, 6)])
def test_it_is_tried_for_a_while(monkeypatch: pytest.MonkeyPatch, a_trial_takes: float, tried: int) -> None:
    """The clock is read before the trials and between them; the first trial is that of the rest of the command."""
    seen: list[list[str]] = []

    def refuse(typed: str, way: list[str]) -> str:
        seen.append(way)
        return f"{way[0]} is wrong" if way else ""

    monkeypatch.setattr(suggestions, "perf_counter", lambda: len(seen) * a_trial_takes)
    with suggestions.trying(refuse):
        assert suggestions.choose_accepted("b=1", WAYS) == (["a=0"], "a=0 is wrong")
    assert seen == [[], *WAYS[:tried]]


def test_the_first_that_is_accepted_is_taken() -> None:
    tries = count()
    with suggestions.trying(lambda typed, way: "" if not way or next(tries) == 3 else "wrong"):
        assert suggestions.choose_accepted("b=1", WAYS) == (["a=3"], "")
