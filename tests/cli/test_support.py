"""The table of what fits with what: as the rules say, as the docs show, and complete as pairs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.caching.strategy_outcomes import ACTING, EVERY, STEP_RULES, choose_graph, expect_outcome
from tests.caching.tiny_models import families
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.cli.main import main
from wavespeed_runner.cli.support_check import CALIBRATION, GROUPS, MAX_OWN, Combinations
from wavespeed_runner.cli.support_table import table
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.rules.check import apply_rules

pytestmark = pytest.mark.slow


@lru_cache(maxsize=1)
def shipped() -> Combinations:
    return Combinations()


def test_a_folder_with_very_many_options_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(MAX_OWN + 1):
        (folder / f"m{number}.yaml").write_text("defaults: [flux]\n")
    assert main(["support", "--config-dir", str(tmp_path)]) == 2
    assert (
        f"support: {MAX_OWN + 1} options and folders of one's own, and the table has at most" in capsys.readouterr().err
    )
    assert Combinations(["m1"], str(tmp_path)).models == ["m1"]


def test_options_that_want_values_are_in_the_table(tmp_path: Path) -> None:
    for group, text in {
        "model": "defaults: [flux]\nrepo: ???\nguidance_scale: ???\n",
        "cache": "defaults: [fbcache]\nresidual_diff_threshold: ???\n",
        "sampler": "defaults: [euler]\nsigmas: ???\n",
    }.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    found = Combinations(["mine", "flux"], str(tmp_path))
    for model in ("mine", "flux"):
        assert found.check(model, graph="text_to_image", cache="mine", sampler="mine").mark == "yes"


def test_what_is_known_of_some() -> None:
    of = shipped().check
    assert of("sdxl", graph="inpaint").mark == "yes"
    assert (
        of("sdxl", graph="text_to_video").reasons[0].startswith("the graph makes videos, and this model makes images")
    )
    (reason,) = of("wan21", graph="image_to_video").reasons
    assert reason == "the graph asks for image_to_video, and this model does text_to_video"
    assert of("flux", graph="text_to_image", sampler="ddim").mark == "no"
    assert of("sd15", graph="text_to_image", sampler="ddim").mark == "yes"
    assert of("sd15", graph="text_to_image", sampler="euler_ancestral").mark == "yes"
    assert of("flux", graph="text_to_image", cache="fbcache", sampler="euler_stochastic").mark == "~"


def test_every_model_has_a_graph_and_takes_its_own_sampler() -> None:
    for model in shipped().models:
        assert shipped().config(model, sampler="default", cache="none") == shipped().config(model)
        assert shipped().check(model, graph=shipped().find_graph(model)).mark != "no"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_tables_say_all(data: st.DataObject) -> None:
    """A combination is refused exactly when a part of it is that the tables show."""
    model = data.draw(st.sampled_from(shipped().models))
    chosen = {group: data.draw(st.sampled_from(shipped().names[group]), group) for group in GROUPS}
    neutral = {"graph": shipped().find_graph(model), "sampler": "default", "cache": "none"}
    whole = shipped().check(model, **chosen).mark == "no"
    shown = [("graph",), ("cache",), ("graph", "cache"), ("sampler", "cache"), ("graph", "sampler")]
    shown += [("parallel",), ("cache", "parallel")]
    parts = [neutral | {group: chosen[group] for group in groups} for groups in shown]
    assert whole == any(shipped().check(model, **part).mark == "no" for part in parts)


def test_what_runs_and_what_is_refused_is_as_the_support_table_says() -> None:
    """With the models' default numbers of steps and strategies as shipped; and no `yes` needs a calibration."""
    models = {family: families()[family][0] if family in families() else family for family in EVERY}
    options = shipped()
    for family, model in models.items():
        for strategy in ACTING:
            chosen = {"graph": choose_graph(family), "cache": strategy}
            word, outcome = options.check_calibration(model, **chosen), expect_outcome(family, strategy)
            bad = {verdict.rule for verdict in apply_rules(options.config(model, **chosen)) if verdict.verdict == "bad"}
            bad -= {"model-package"}  # about this machine, not the combination
            pair = (family, strategy, word, outcome)
            assert (word.mark == "no") == (outcome == "refused" or (bool(bad) and bad <= STEP_RULES)), pair
            is_shipped = (SHIPPED / f"{model}.yaml").exists()  # for the trained weights, not the tiny ones here
            needs = outcome == "calibration" and word.mark != "no" and not is_shipped
            assert (CALIBRATION in word.reasons) == needs, pair


def test_the_docs_show_it() -> None:
    docs = PACKAGE.parent / "docs" / "support.md"
    made = table(shipped())
    assert docs.read_text(encoding="utf-8") == made, "python -m wavespeed_runner support > docs/support.md"


def test_the_command_takes_models_and_knows_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "demo", "wan21"]) == 0
    out = capsys.readouterr().out
    assert "| `demo` |" in out and "| `wan21` |" in out and "`sdxl`" not in out
    assert main(["support", "sdxxl"]) == 2
    assert "model=sdxxl: no such option (did you mean 'sdxl'" in capsys.readouterr().err
