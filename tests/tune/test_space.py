"""Spaces: the shipped ones, one's own, and what is wrong in a file, told by its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.tune.space import list_spaces, read_space

LADDER = {"set": {"cache": "fbcache"}, "vary": {"cache.residual_diff_threshold": [0.3, 0.1]}}


def write(folder: Path, content: Any, name: str = "mine") -> Any:
    (folder / "tune").mkdir(exist_ok=True)
    (folder / "tune" / f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_space(name, str(folder), 28)


@pytest.mark.parametrize("name", ["quick", "cache", "everything"])
@pytest.mark.parametrize("steps", [2, 4, 28, 50])
def test_the_shipped_spaces(name: str, steps: int) -> None:
    space = read_space(name, None, steps)
    assert {"fewer_steps", "fitted_sampler", "planned"} <= {family.name for family in space.families}
    for family in space.families:
        assert family.values and family.size == len(list(family.combinations()))
    assert space.calibrate is (name != "quick") and bool(space.also) is (name == "everything")


def test_a_ladder_goes_from_fast_to_slow(tmp_path: Path) -> None:
    space = write(
        tmp_path,
        {
            "ladders": {
                "a": {"choose": {"sampler": ["unipc", "deis"]}, "vary": {"steps": {"of_steps": [0.1, 0.25]}}},
                "b": {**LADDER, "vary": {"cache.residual_diff_threshold": {"from": 0.8, "to": 0.05, "count": 5}}},
            }
        },
    )
    a, b = space.families
    assert [point for choice in a.combinations() for point in a.settings(choice)] == [
        {"sampler": sampler, "steps": steps} for sampler in ("unipc", "deis") for steps in (3, 4, 5, 6, 7)
    ]
    assert b.values == [0.8, 0.4, 0.2, 0.1, 0.05]
    assert list(b.combinations()) == [{}] and b.settings({})[0] == {
        "cache": "fbcache",
        "cache.residual_diff_threshold": 0.8,
    }


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    """YAML takes `8e-1` for a text."""
    vary = "{cache.residual_diff_threshold: {from: 8e-1, to: 1E-1, count: 4}}"
    space = write(tmp_path, f"ladders: {{a: {{set: {{cache: fbcache}}, vary: {vary}}}}}")
    assert space.families[0].values == [0.8, 0.4, 0.2, 0.1]
    with pytest.raises(ConfigError, match="2 numbers are needed, not"):
        write(tmp_path, f"ladders: {{a: {{vary: {vary.replace('8e-1', '8x-1')}}}}}")


def test_a_space_that_extends_another_has_its_ladders_too(tmp_path: Path) -> None:
    space = write(tmp_path, {"extends": "quick", "ladders": {"mine": LADDER}, "also": {"compile": ["regional"]}})
    assert [family.name for family in space.families][-1] == "mine" and len(space.families) > 3
    assert space.also == {"compile": ["regional"]}
    assert "mine" in list_spaces(str(tmp_path)) and "mine" not in list_spaces(None)


def test_a_link_that_leads_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "dir" / "tune").mkdir(parents=True)
    (tmp_path / "private.yaml").write_text("secret\n")
    (tmp_path / "dir" / "tune" / "mine.yaml").symlink_to(tmp_path / "private.yaml")
    with pytest.raises(ConfigError, match=r"^space=mine: \S+mine\.yaml leads out of") as caught:
        read_space("mine", str(tmp_path / "dir"), 28)
    assert "secret" not in str(caught.value)


def test_spaces_that_extend_each_other_end_somewhere(tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    for number in range(3000):
        (tmp_path / "tune" / f"mine{number}.yaml").write_text(f"extends: mine{number + 1}\n")
    with pytest.raises(ConfigError, match="in a row"):
        read_space("mine0", str(tmp_path), 28)


def test_a_space_that_would_never_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the shipped space has this name"):
        write(tmp_path, {"ladders": {"a": LADDER}}, name="quick")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "not YAML"),
        ("3", "a mapping of names is needed"),
        ({"ladder": {}}, "ladder: no such key (did you mean 'ladders'?)"),
        ({"ladders": {}}, "at least one is needed"),
        ({"ladders": {"a": {**LADDER, "sett": {}}}}, "ladders.a: sett: no such key (did you mean 'set'?)"),
        ({"ladders": {"a": {"set": {"cache": "fbcache"}}}}, "ladders.a.vary"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": [4], "seed": [1]}}}}, "one key is needed"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": []}}}}, "a list of 1 to 64 values"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": [[4]]}}}}, "a text, a number"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": {"of_steps": [0.5, 0.1]}}}}}, "0 < LOW <= HIGH <= 1"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": {"from": 1, "to": 0, "count": 3}}}}}, "above 0"),
        ({"ladders": {"a": {**LADDER, "vary": {"steps": {"from": 1}}}}}, "a list, {from: , to: , count: }"),
        ({"ladders": {"a": {**LADDER, "choose": {"cache": "x"}}}}, "a list of 1 to 64 values"),
        ({"ladders": {"a": {**LADDER, "set": {"outputs": "/tmp"}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "set": {"prompts.path": "/etc/passwd"}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "set": {"hydra.run.dir": "x"}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "set": {"+experiment": "x"}}}}, "a space may not set it"),
        ({"ladders": {"a": LADDER}, "prepare": "fit"}, "prepare=fit: not known"),
        ({"ladders": {"a": {**LADDER, "set": {"seed": 3}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "set": {"measure.reference_steps": 3}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "set": {"~cache": None}}}}, "a space may not set it"),
        ({"ladders": {"a": {**LADDER, "choose": {"cache": ["fbcache"]}}}}, "cache is given twice"),
        ({"ladders": {"a": {**LADDER, "set": {"cache.start:1,attention": "flash_hub"}}}}, "a space may not set it"),
        (
            {"ladders": {f"a{n}": {**LADDER, "choose": {"cache.x": list(range(12))}} for n in range(99)}},
            "2376 settings",
        ),
        ({"extends": "mine"}, "no circle"),
        ({"extends": "nothing"}, "space=nothing: no such space"),
        (
            {
                "ladders": {
                    "a": {**LADDER, "choose": {key: list(range(20)) for key in ("cache.x", "cache.y", "cache.z")}}
                }
            },
            "8000 combinations",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_place(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, content)
    assert said in str(caught.value) and "space=" in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["ladders", "set", "choose", "vary", "also", "of_steps", "from", "to", "count", "a"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_content_is_more_than_an_error(tmp_path: Path, content: Any) -> None:
    try:
        write(tmp_path, {"ladders": content, "also": content if isinstance(content, dict) else {}})
    except ConfigError as error:
        assert "space=mine" in str(error)
