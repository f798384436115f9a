"""The tables of fitted samplers and caches are the committed results, and the captions are used for nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.few_steps_tables import choose_spacings, read_cells
from benchmarks.few_steps_tables import load as load_few_steps
from benchmarks.fitted import COUNTS, DOCUMENT, MODELS, OWN, RIVALS, compare, describe, load, make_table
from benchmarks.marked import read_marked
from benchmarks.peers.prompts import calibration, fresh, judged, unseen
from training.scenes import held_out, parse
from wavespeed_runner.caching.calibration.file import load as load_calibration
from wavespeed_runner.caching.calibration.find import SHIPPED


def test_the_document_has_the_committed_figures() -> None:
    shown = read_marked(DOCUMENT, "fitted")
    assert shown == "\n".join(make_table(load(name)) for name in MODELS)


def test_the_captions_are_used_for_nothing_else() -> None:
    contents = [parse(prompt.text) for prompt in unseen()]
    assert len(set(contents)) == len(contents) == 64 and all(held_out(prompt.text) for prompt in unseen())
    others = {parse(prompt.text) for prompt in (*judged(), *fresh(), *calibration())}
    assert not others & set(contents)
    assert not {p.seed for p in unseen()} & {p.seed for p in (*judged(), *fresh(), *calibration())}


@pytest.mark.parametrize("model", MODELS)
def test_every_shipped_fit_was_measured_beside_the_best_solvers_of_other_captions(model: str) -> None:
    measured = {(one["setting"], one["evaluations"]): one["ssim"] for one in load(model)["settings"]}
    assert {len(ssim) for ssim in measured.values()} == {64}
    shipped = load_calibration(SHIPPED / f"{model}.yaml")
    for count in COUNTS:
        assert ((OWN[0], count) in measured) == (count in shipped.samplers)
        assert ((OWN[1], count) in measured) == (count in shipped.caches)
        assert {(name, count) for name in (*RIVALS[model], "cache=planned")} <= set(measured)
    known = read_cells(load_few_steps()[model])
    plain = {name: cells for name, cells in choose_spacings(known).items() if name.startswith("sampler")}
    for count in set(COUNTS) & set(next(iter(plain.values()))):
        best = max((name for name in plain if count in plain[name]), key=lambda name: plain[name][count].mean)
        taken = max(known[name][count].mean for name in RIVALS[model] if name in known)
        assert best in RIVALS[model] or plain[best][count].mean - taken < 0.01, (count, best)


def test_differences_and_figures_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.uniform(0.8, 1, 64), rng.uniform(0.7, 0.9, 64)
    low, middle, high = compare(ours, theirs)
    spread = (ours - theirs).std() / 8
    assert middle == pytest.approx((ours - theirs).mean())
    assert low == pytest.approx(middle - 1.96 * spread, abs=0.3 * spread)
    assert high == pytest.approx(middle + 1.96 * spread, abs=0.3 * spread)
    assert describe([1.0, 0.95, 0.5, 0.91]) == ".840 / .930 / .623 / 1"
